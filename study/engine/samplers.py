"""Optuna's samplers, such that a proposal depends on nothing but the seed, its number, and the trials before it.

A sampler here is made anew for each proposal, from a seed of its own, and keeps nothing. So a study that was interrupted goes
on with the very proposals that it would have made. Three things had to change for that, and for spaces with conditions:

- Which parameters are sampled together is known from the space, not guessed from the trials seen so far. TPE gets groups of
  parameters that are active together; QMC a dimension for each parameter that may be active; GP and CMA-ES the parameters that
  every trial has. The others are drawn at random by GP and CMA-ES.
- NSGA-II and III take as parents the elite of all trials so far, not of a generation that is written down beside the trials.
  Parameters with conditions are inherited too, where a parent has them.
- CMA-ES is fed all trials from the start at each proposal, in their order, a population at a time.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import cmaes
import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.search_space import group_decomposed
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from study.space.nodes import fraction_of, value_at
from study.space.space import Space

POPULATION = 16  # of NSGA: Optuna's 50 would make a study of 40 trials a random search
LISTED = 100_000  # points of a grid, at most, that are put in order at once
Distributions = dict[str, BaseDistribution]


def make_sampler(name: str, space: Space, seed: int, number: int, draw: int = 0) -> BaseSampler:
    """The sampler for one proposal.

    name : of study.sampler, but grid, which is no sampler of Optuna's
    seed : of the study; number : of the trial; draw : how many draws for it were thrown away; qmc has but one
    """
    own = int(np.random.SeedSequence([seed, number, 1, *([draw] if draw else [])]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return Tpe(space, own)
            case "gp":
                return Gp(space, own)
            case "cmaes":
                return CmaEs(space, own)
            case "nsga2":
                return Nsga2(space, own)
            case "nsga3":
                return Nsga3(space, own)
            case "qmc":
                return Qmc(space, seed % 2**32, number)
            case "random":
                return RandomSampler(seed=own)
    raise ValueError(f"no sampler {name}")


class Tpe(TPESampler):
    """Multivariate TPE over each group of parameters; running trials count as bad ones (constant liar)."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True, group=True, constant_liar=True)
        self._groups = space.together

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        group = group_decomposed._SearchSpaceGroup()
        group._search_spaces = self._groups
        self._search_space_group = group
        return {name: one for names in self._groups for name, one in names.items()}


class Gp(GPSampler):
    """Gaussian process over the parameters that every trial has; knows running trials."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed, warn_independent_sampling=False)
        self._always = space.always

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        return dict(self._always)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Distributions) -> dict[str, Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the workers have the other cores: threads that wait for one made a proposal ten times slower
        try:
            return super().sample_relative(study, trial, search_space)
        finally:
            torch.set_num_threads(threads)


class Qmc(QMCSampler):
    """Scrambled Sobol sequence; the trial's number is the index in it."""

    def __init__(self, space: Space, seed: int, number: int) -> None:
        super().__init__(seed=seed, scramble=True, warn_independent_sampling=False)
        self._all = {name: one for name, one in sorted(space.parameters.items()) if not one.single()}
        self._number = number

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        return dict(self._all)

    def _find_sample_id(self, study: Study, search_space: Distributions) -> int:
        return self._number


class CmaEs(BaseSampler):
    """CMA-ES over the ranges that every trial has, each on a scale from 0 to 1; the rest is drawn at random.

    Source: N. Hansen 2016, "The CMA Evolution Strategy: A Tutorial", as implemented in the package cmaes.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._ranges = {name: one for name, one in space.always.items() if isinstance(one, IntDistribution | FloatDistribution)}
        self._seed = seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        return dict(self._ranges) if len(self._ranges) > 1 else {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Distributions) -> dict[str, Any]:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not trials or not search_space:
            return {}
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        n = len(self._ranges)
        optimizer = cmaes.CMA(np.full(n, 0.5), 1 / 6, bounds=np.tile((0.0, 1.0), (n, 1)), seed=self._seed)
        size = optimizer.population_size
        for start in range(0, len(trials) - size + 1, size):
            optimizer.tell([(self._point(one), sign * one.values[0]) for one in trials[start : start + size]])
        fractions = optimizer.ask()
        return {name: value_at(one, float(part)) for (name, one), part in zip(self._ranges.items(), fractions, strict=True)}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _point(self, trial: FrozenTrial) -> np.ndarray:
        return np.array([fraction_of(one, trial.params[name]) for name, one in self._ranges.items()])


class _Elite:
    """What both NSGA samplers have in common: no generations, and conditions are no obstacle to heredity."""

    _always: Distributions
    _chance: float  # of a mutation
    _parents: list[FrozenTrial]

    def _begin(self, space: Space) -> None:
        self._always, self._chance, self._parents = space.always, 1 / max(len(space.parameters), 1), []

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        return dict(self._always)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Distributions) -> dict[str, Any]:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(trials) < POPULATION:
            return {}
        self._parents = self._elite_population_selection_strategy(study, trials)  # type: ignore[attr-defined]
        return self._child_generation_strategy(study, search_space, self._parents)  # type: ignore[attr-defined]

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        rng = self._rng.rng  # type: ignore[attr-defined]
        donors = [parent for parent in self._parents if param_name in parent.params and param_name not in self._always]
        if donors and rng.rand() >= self._chance:
            return donors[rng.choice(len(donors))].params[param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)  # type: ignore[misc]


class Nsga2(_Elite, NSGAIISampler):
    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(population_size=POPULATION, seed=seed)
        self._begin(space)


class Nsga3(_Elite, NSGAIIISampler):
    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(population_size=POPULATION, seed=seed)
        self._begin(space)


def grid_order(size: int, seed: int) -> Iterator[int]:
    """Yield the indices of a grid in random order; of a grid too large to list, random indices without end, seldom one twice."""
    generator = random.Random(seed)
    if size > LISTED:
        while True:
            yield generator.randrange(size)
    order = list(range(size))
    generator.shuffle(order)
    yield from order
