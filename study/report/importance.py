"""Which parameters mattered: PED-ANOVA and fANOVA, over all trials that were trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna

from study.report.axes import distribution
from study.report.facts import Facts

FEWEST = 20  # trials: of fewer, the best tenth, which PED-ANOVA compares with all, is a single trial
MOST = 300  # trials that fANOVA's forest is grown from; its time grows faster than its number of trials
TREES = 64
LITTLE = 0.05  # share below which a parameter is said to have had no visible effect


@dataclass(frozen=True)
class Importances:
    """Shares of each method that sum to 1, the largest first.

    ped : PED-ANOVA (Watanabe et al. 2023, extended to conditional parameters): how differently a parameter is distributed
        among the best tenth and among all trials; of every parameter
    fanova : fANOVA (Hutter et al. 2014): share of the variance of a random forest; of parameters that every trial had
    left_out : conditional parameters, which fANOVA cannot take
    n : trials; stopped : of them those that were not trained to their end; sampled : trials of fANOVA
    missing : why there are none, a sentence; empty where there are some
    """

    ped: dict[str, float]
    fanova: dict[str, float]
    left_out: tuple[str, ...] = ()
    n: int = 0
    stopped: int = 0
    sampled: int = 0
    missing: str = ""

    @property
    def names(self) -> list[str]:
        return list(self.ped)

    @property
    def little(self) -> list[str]:
        """Parameters below :data:`LITTLE` with every method that knows them."""
        return [name for name in self.ped if self.ped[name] < LITTLE and self.fanova.get(name, 0.0) < LITTLE]


def importances(facts: Facts) -> Importances:
    """Of the trials with the values that they had when they ended or were stopped.

    A stopped trial counts with what it had reached, which is less than it would have: leaving these out would keep the good
    region alone, where nothing seems to matter. So what decides how fast a network begins looks a little more important.
    """
    n, values = len(facts.measured), facts.values
    stopped = sum(run.state != "COMPLETE" for run in facts.measured)
    if n < FEWEST:
        return Importances({}, {}, missing=f"importances need at least {FEWEST} trained trials, there are {n}")
    if not facts.axes:
        return Importances({}, {}, missing="no parameter was ever varied")
    if np.ptp(values) == 0:
        return Importances({}, {}, missing="all trials came to the same value")
    shared = [name for name in facts.axes if facts.numbers[name].notna().all()]
    chosen = np.arange(n) if n <= MOST else np.sort(np.random.default_rng(0).choice(n, MOST, replace=False))
    ped = _evaluate(facts, np.arange(n), list(facts.axes), optuna.importance.PedAnovaImportanceEvaluator())
    forest = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    fanova = _evaluate(facts, chosen, shared, forest) if shared and np.ptp(values[chosen]) > 0 else {}
    left_out = tuple(name for name in facts.axes if name not in shared)
    return Importances(_shares(ped), _shares(fanova), left_out, n, stopped, len(chosen))


def _evaluate(
    facts: Facts, chosen: np.ndarray, names: Sequence[str], evaluator: optuna.importance.BaseImportanceEvaluator
) -> dict[str, float]:
    with _quiet():
        study = optuna.create_study(direction="minimize")
        study.add_trials([_trial(facts, int(index)) for index in chosen])
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(names), normalize=False)
    return {name: float(value) for name, value in found.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's news of a study made, of experimental classes, and of constant columns, which get 0."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _trial(facts: Facts, index: int) -> optuna.trial.FrozenTrial:
    run = facts.measured[index]
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE,
        value=-facts.quality.sign * facts.values[index],
        params=run.params,
        distributions={name: distribution(text) for name, text in run.distributions.items()},
    )


def _shares(found: dict[str, float]) -> dict[str, float]:
    total = sum(found.values())
    shares = {name: value / total if total > 0 else 0.0 for name, value in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
