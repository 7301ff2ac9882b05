"""What the page, its verdicts and its figures are about: the trials of a study, grouped, measured and on axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pipeline.evaluation.statistics import Proportion, mean_interval
from pipeline.report.table import Estimate
from study.report.axes import Axis, axis_of, cell, distribution
from study.space.space import Space
from study.state.best import non_dominated
from study.state.history import ENDED, History, Run
from study.state.objective import OBJECTIVES, Objective, costs
from study.state.records import WinnerTest

TOP = 20  # rows of the leader board
WORDS = {"COMPLETE": "complete", "PRUNED": "stopped early", "PAUSED": "paused", "RUNNING": "running", "FAIL": "failed"}


@dataclass(frozen=True)
class Group:
    """One configuration: a trial and its replicates.

    runs : those that are complete if there are any, else those that were trained at all; never empty
    value : mean of the study's quality over them
    accuracy : on the validation images
    """

    runs: tuple[Run, ...]
    value: float
    accuracy: Estimate

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def complete(self) -> bool:
        return self.first.state == "COMPLETE"


def estimate(accuracies: Sequence[float], images: int) -> Estimate:
    """Return one training's Wilson interval over the images, or the t interval of several's mean, both within [0, 1]."""
    if len(accuracies) == 1:
        share = Proportion.of(round(accuracies[0] * images), images)
        return Estimate(share.value, share.low, share.high, share.n, "Wilson")
    mean = mean_interval(accuracies, 1 / images)
    return Estimate(mean.value, max(mean.low, 0.0), min(mean.high, 1.0), mean.n, "t")


@dataclass(frozen=True)
class Facts:
    """A study as the page sees it; nothing here is drawn or worded yet."""

    history: History
    space: Space

    @property
    def quality(self) -> Objective:
        return self.history.spec.quality

    @cached_property
    def images(self) -> int:
        """Validation images."""
        return self.history.lineage.dataset.images["validation"]

    @cached_property
    def measured(self) -> list[Run]:
        """Trials that were trained and did not fail, by number: what importances and effects are read from."""
        return [run for run in self.history.trials if run.state != "FAIL" and self.quality.value(run) is not None]

    @cached_property
    def values(self) -> np.ndarray:
        """Of :attr:`measured`: the study's quality as far as each trial went, float (n,)."""
        return np.array([self.quality.value(run) for run in self.measured], dtype=float)

    @cached_property
    def even(self) -> tuple[int, np.ndarray]:
        """An epoch that at least half of :attr:`measured` reached, the last such, and their quality as it stood there.

        So all have had the same budget; NaN where a trial did not get so far. Float (n,).
        """
        lengths = sorted((len(run.epochs) for run in self.measured), reverse=True)
        epoch = lengths[(len(lengths) - 1) // 2] if lengths else 0
        values = [self.quality_at(run, epoch) if reached(run, epoch) else math.nan for run in self.measured]
        return epoch, np.array(values, dtype=float)

    def quality_at(self, run: Run, epoch: int) -> float:
        """As it stood after this epoch; of a training that ended by its own rule before, at its end."""
        return self.quality.value(run, epoch) or 0.0

    @cached_property
    def complete(self) -> list[Run]:
        return [run for run in self.history.trials if run.state == "COMPLETE" and run.best is not None]

    @cached_property
    def best(self) -> Run | None:
        """The complete trial of the best quality; of equals the smaller network, then the earlier."""
        sign = self.quality.sign
        return min(
            self.complete, key=lambda run: (-sign * (self.quality.value(run) or 0.0), run.parameters, run.trial), default=None
        )

    @cached_property
    def groups(self) -> list[Group]:
        """Configurations, the complete ones first, then by quality."""
        members: dict[str, list[Run]] = {}
        for run in self.measured:
            members.setdefault(run.group, []).append(run)
        groups = [self._group(runs) for runs in members.values()]
        return sorted(groups, key=lambda group: (not group.complete, -self.quality.sign * group.value, group.first.parameters))

    def _group(self, runs: Sequence[Run]) -> Group:
        chosen = tuple(run for run in runs if run.state == "COMPLETE") or tuple(runs)
        accuracies = [run.accuracy or 0.0 for run in chosen]
        value = float(np.mean([self.quality.value(run) for run in chosen]))
        return Group(chosen, value, self.range(accuracies))

    def range(self, accuracies: Sequence[float]) -> Estimate:
        return estimate(accuracies, self.images)

    def proportion(self, accuracy: float) -> Proportion:
        return Proportion.of(round(accuracy * self.images), self.images)

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """Of every parameter that a trained trial had, in the order of their first use; without those that never varied."""
        written: dict[str, str] = {}
        for run in self.measured:
            written |= {name: text for name, text in run.distributions.items() if name not in written}
        axes = {name: axis_of(name, distribution(text)) for name, text in written.items()}
        return {name: axis for name, axis in axes.items() if axis.high > axis.low}

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """Of :attr:`measured`, a row each: what each parameter was (NaN where the trial had none), as :meth:`Axis.number`."""
        columns = {
            name: [axis.number(run.params[name]) if name in run.params else math.nan for run in self.measured]
            for name, axis in self.axes.items()
        }
        return pd.DataFrame(columns, index=pd.Index([run.trial for run in self.measured], name="trial"), dtype=float)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Of :attr:`measured`, a row each, as people write it: what is saved beside the figures of effects."""
        head = {
            "trial": [run.trial for run in self.measured],
            f"validation_{self.quality.name}": self.values,
            "state": [run.state for run in self.measured],
            "epochs": [len(run.epochs) for run in self.measured],
        }
        params = {name: [cell(run.params.get(name)) for run in self.measured] for name in self.axes}
        return pd.DataFrame(head | params)

    @cached_property
    def front(self) -> list[Run]:
        """Complete trials that no other beats in one respect without being worse in another, the best quality first."""
        return pareto(self.complete, self.respects)

    @cached_property
    def respects(self) -> list[str]:
        """What the front is over: the objectives, or quality and parameters where there is but one."""
        objectives: list[str] = list(self.history.spec.study.objectives)
        return [self.quality.name, "parameters"] if len(objectives) == 1 else objectives

    @property
    def tested(self) -> WinnerTest | None:
        """What the winner scored on test; None where it was read for another winner only, before the study went on."""
        told, winner = self.history.tested, self.history.winner
        return None if told and winner and told.group != winner.group else told

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to come: the last session says so, or all that was asked for is done."""
        history, study = self.history, self.history.spec.study
        last = history.sessions[-1] if history.sessions else {}
        if any(run.state not in ENDED for run in history.runs.values()):
            return False
        if last.get("kind") == "closed":
            return bool(last["outcome"] == "done")
        enough = len(history.trials) >= study.trials or study.sampler == "grid"
        return history.winner is not None or bool(history.trials and enough and not study.finalists.top)


def reached(run: Run, epoch: int) -> bool:
    """A training that ended by its own rule before has what it would have later."""
    return len(run.epochs) >= epoch or run.state == "COMPLETE"


def respect(run: Run, name: str) -> float:
    """What a complete run is in one respect, as people write it."""
    value = OBJECTIVES[name].value(run)
    return math.nan if value is None else float(value)


def pareto(runs: Sequence[Run], respects: Sequence[str]) -> list[Run]:
    """Those that no other run dominates, the best in the first respect first."""
    points = [costs([respect(run, name) for name in respects], [OBJECTIVES[name] for name in respects]) for run in runs]
    kept = [(point, run.trial, run) for point, run, keep in zip(points, runs, non_dominated(points), strict=True) if keep]
    return [run for *_, run in sorted(kept, key=lambda item: item[:2])]
