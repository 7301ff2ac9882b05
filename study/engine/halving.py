"""Asynchronous successive halving: which paused trial goes on.

Source: L. Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2. A trial trains to a rung and is
paused there; it goes on to the next as soon as it is among the best 1/reduction of those that have reached its rung. It goes
on from its checkpoint: nothing is trained twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from study.state.history import Run
from study.state.objective import Objective


def rungs(epochs: int, first: int, reduction: int) -> tuple[int, ...]:
    """The epochs after which trials are compared, ascending; the last is ``epochs``: 30, 1, 3 → (1, 3, 10, 30)."""
    found = {epochs}
    budget = epochs / reduction
    while round(budget) >= max(first, 1):
        found.add(round(budget))
        budget /= reduction
    return tuple(sorted(found))


def next_stop(run: Run, ladder: Iterable[int]) -> int:
    """The epoch at which this run is to be compared next: the first rung above those it has passed, or its own end."""
    epochs = run.config.train.epochs
    done = len(run.epochs)
    # A run that was interrupted may have done a rung's last epoch without having been paused and compared there.
    passed = done - 1 if run.waits == "interrupted" else done
    return min((rung for rung in ladder if max(passed, 0) < rung < epochs), default=epochs)


def promotable(trials: Iterable[Run], ladder: tuple[int, ...], reduction: int, objective: Objective) -> Run | None:
    """The paused trial that has earned its next rung; the highest rung is looked at first, then the best value."""
    trials = list(trials)
    # What was paused when a search ended was ended then. With a raised total a new bracket begins: those cannot go on.
    closed = max((run.trial for run in trials if run.cause == "asha"), default=-1)
    trials = [run for run in trials if run.trial > closed]
    for rung in reversed(ladder[:-1]):
        reached = [run for run in trials if len(run.epochs) >= rung or (run.state == "COMPLETE" and run.epochs)]
        reached.sort(key=lambda run: (objective.cost(objective.value(run, rung)), run.trial))
        for run in reached[: len(reached) // reduction]:
            if run.state == "PAUSED" and len(run.epochs) == rung:
                return run
    return None
