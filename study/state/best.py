"""Which trial is best: one objective decides by itself, several need a rule."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from study.state.errors import UsageError
from study.state.history import History, Run
from study.state.objective import OBJECTIVES, Objective, costs

SIZES = ("parameters", "multiply_adds")  # known of every trial, whether they are objectives or not


class BestError(UsageError):
    """There is no best trial, or several objectives and no rule: one line with the rules there are."""


def non_dominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """For each point whether no other is at least as low everywhere and lower somewhere; equal points leave each other in."""
    table = np.asarray(points, float)  # (n, objectives)
    return [not ((table <= point).all(axis=1) & (table < point).any(axis=1)).any() for point in table]


def front(history: History) -> list[Run]:
    """The complete trials that no other beats in every objective, best in the first objective first."""
    complete = _complete(history)
    objectives = history.spec.objectives
    kept = non_dominated([costs(run.values or (), objectives) for run in complete])
    chosen = [run for run, keep in zip(complete, kept, strict=True) if keep]
    return sorted(chosen, key=lambda run: (*costs(run.values or (), objectives), run.parameters, run.trial))


def best(history: History, rule: str | None = None) -> Run:
    """The best complete trial; of equals the smaller network, then the earlier.

    rule : ``accuracy``, the best in this objective; ``parameters<=5000`` or ``accuracy>=0.98``, of the trials within this limit
        the best in the first objective that the limit is not about; ``knee``, on the Pareto front the trial farthest below the
        plane through the best of each objective (Das 1999, Struct. Optim. 18, 107). None: the only objective decides

    Raises
    ------
    BestError
        No trial is complete, or within the limit; a rule is missing, or is none of these.
    """
    objectives = history.spec.study.objectives
    complete = _complete(history)
    if not complete:
        raise BestError(f"{history.spec.name}: no trial is complete yet; see `study status {history.spec.name}`")
    if rule is None and len(objectives) > 1:
        raise BestError(f"several objectives ({', '.join(objectives)}) need a rule to choose by: {_rules(objectives)}")
    text = "".join((rule or objectives[0]).split())
    if text == "knee":
        return _knee(front(history), history.spec.objectives)
    limit = re.fullmatch(r"(\w+)(<=|>=)(\d\S*)", text)
    name = limit[1] if limit else text
    if name not in {*objectives, *SIZES} or (limit and _number(limit[3]) is None):
        raise BestError(f"rule must be one of {_rules(objectives)}; got {rule}")
    if not limit:
        return min(complete, key=lambda run: (_cost(run, name, objectives), run.parameters, run.trial))
    bound = _number(limit[3]) or 0.0
    within = [run for run in complete if (_value(run, name, objectives) - bound) * (1 if limit[2] == "<=" else -1) <= 0]
    if not within:
        nearest = (min if limit[2] == "<=" else max)(_value(run, name, objectives) for run in complete)
        raise BestError(f"no complete trial has {name} {limit[2]} {limit[3]}; the nearest has {nearest:g}")
    decides = next((other for other in objectives if other != name), name)
    return min(within, key=lambda run: (_cost(run, decides, objectives), run.parameters, run.trial))


def _knee(runs: list[Run], objectives: Sequence[Objective]) -> Run:
    """Each objective runs from 0 to 1 over the front, so the trial farthest below the plane has the least sum."""
    table = np.array([costs(run.values or (), objectives) for run in runs])
    width = np.ptp(table, axis=0)
    sums = ((table - table.min(axis=0)) / np.where(width > 0, width, 1)).sum(axis=1)
    return min(zip(sums, runs, strict=True), key=lambda pair: (pair[0], pair[1].parameters, pair[1].trial))[1]


def _complete(history: History) -> list[Run]:
    return [run for run in history.trials if run.state == "COMPLETE" and run.values]


def _value(run: Run, name: str, objectives: Sequence[str]) -> float:
    return float((run.values or ())[objectives.index(name)]) if name in objectives else float(getattr(run, name))


def _cost(run: Run, name: str, objectives: Sequence[str]) -> float:
    return OBJECTIVES[name].cost(_value(run, name, objectives))


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _rules(objectives: Sequence[str]) -> str:
    named = dict.fromkeys((*objectives, "parameters"))
    return ", ".join((*objectives, *(OBJECTIVES[name].limit for name in named), "knee"))
