"""What random search would have found: from the draws at random that the study itself holds, at one epoch for all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from study.engine.samplers import POPULATION
from study.report.facts import Facts, reached
from study.state.history import Run

# Trials that must have ended or been paused before these samplers model anything (Optuna's defaults for tpe and gp).
STARTUP = {"tpe": 10, "gp": 10, "nsga2": POPULATION, "nsga3": POPULATION}
UNGUIDED = ("random", "qmc", "grid")
FEWEST = 5  # of both kinds, to be compared at all


@dataclass(frozen=True)
class Chance:
    """Guided against random trials.

    epoch : after which all are compared, the last that every compared trial reached; None: their whole trainings
    course : quality of all trials that got so far, whatever proposed them, float (n,), by number
    drawn, guided : of those drawn at random, and of those that the sampler proposed, float (n,), by number
    expected : expected best of k = 1 … n random draws, float (n,)
    better : share of all pairs in which the guided trial is better, a tie counting half; None where not compared
    p_value : Mann & Whitney 1947, one-sided: how often as much comes of two samples of one kind
    missing : why there is no comparison, a sentence; empty where there is one
    """

    epoch: int | None
    course: np.ndarray
    drawn: np.ndarray
    guided: np.ndarray
    expected: np.ndarray
    better: float | None = None
    p_value: float | None = None
    missing: str = ""

    @property
    def at(self) -> str:
        """`` after epoch 3, …``; empty where whole trainings are compared."""
        if self.epoch is None:
            return ""
        return f", all as they stood after epoch {self.epoch}, the last that every one of them reached"


def chance(facts: Facts) -> Chance:
    """Compare trial by trial what the sampler proposed with what it drew at random in the same study.

    All values are of the same epoch, as a trial that was stopped early has had a smaller budget than one that was not. Whatever
    was asked for before ten trials had ended or been paused, say, a sampler that models nothing before drew at random. What was
    seeded, or repeats a point, is of neither kind.
    """
    sampler = facts.history.spec.study.sampler
    epoch, values = _values(facts)
    course = np.array(list(values.values()))
    own = [run for run in facts.measured if run.trial in values and run.origin in (sampler, "sampler")]
    start = math.inf if sampler in UNGUIDED else STARTUP.get(sampler, 0)
    stops = np.sort([stop for run in facts.history.trials if (stop := _first_stop(run)) is not None])
    early = {run.trial for run in own if np.searchsorted(stops, run.asked, side="right") < start}
    drawn = np.array([values[run.trial] for run in own if run.trial in early])
    guided = np.array([values[run.trial] for run in own if run.trial not in early])
    expected = expected_best(drawn, facts.quality.sign)
    if sampler in UNGUIDED:
        why = {"random": "the study is itself a random search", "qmc": "the study spreads its points evenly, whatever it learns"}
        text = why.get(sampler, "the study tries a grid, whatever it learns")
        return Chance(epoch, course, drawn, guided, expected, missing=text)
    if min(len(drawn), len(guided)) < FEWEST:
        text = (
            f"there are {len(drawn)} trained trials drawn at random and {len(guided)} guided ones; at least {FEWEST} of each "
            "are needed to compare them"
        )
        return Chance(epoch, course, drawn, guided, expected, missing=text)
    sign = facts.quality.sign
    test = stats.mannwhitneyu(sign * guided, sign * drawn, alternative="greater")
    better = float(test.statistic) / (len(guided) * len(drawn))
    return Chance(epoch, course, drawn, guided, expected, better, float(test.pvalue))


def _values(facts: Facts) -> tuple[int | None, dict[int, float]]:
    """The last epoch that all trained trials reached that were stopped, None where none was; the quality there, by trial.

    A trial that still runs is among them once it has got so far; where none was stopped, once it is complete.
    """
    stopped = [len(run.epochs) for run in facts.measured if run.state == "PRUNED" or _at_rung(run)]
    epoch = min(stopped, default=None)
    if epoch is None:
        return None, {run.trial: facts.quality.value(run) or 0.0 for run in facts.measured if run.state == "COMPLETE"}
    return epoch, {run.trial: facts.quality_at(run, epoch) for run in facts.measured if reached(run, epoch)}


def _at_rung(run: Run) -> bool:
    return run.state == "PAUSED" and run.waits != "interrupted"


def _first_stop(run: Run) -> int | None:
    """When a sampler could first learn of a trial, in milliseconds since 1970."""
    return next((segment.ended for segment in run.segments if segment.ended is not None), run.ended)


def expected_best(values: np.ndarray, sign: int) -> np.ndarray:
    """The mean of the best of k values, over all ways to choose k of the n: float (n,), for k = 1 … n.

    Unbiased for the expected best of k draws from where the values come from; it says nothing of more than n draws.
    Source: Tang et al. 2020 (EMNLP, "Showing Your Work Doesn't Always Work"), equation 4.

    sign : 1 where more is better, -1 where less is
    """
    n = len(values)
    ordered = np.sort(sign * values)
    ranks = np.arange(1, n + 1)

    def mean_best(k: int) -> float:
        # The j-th smallest is the best of k when the other k - 1 are among the j - 1 below it.
        ways = np.array([math.comb(int(j) - 1, k - 1) / math.comb(n, k) for j in ranks])
        return float(ways @ ordered)

    return sign * np.array([mean_best(k) for k in range(1, n + 1)])
