"""What a study tries next: Optuna's samplers over the trials in the ledger, and its pruners."""

from __future__ import annotations

import json
import warnings
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import to_tree
from pipeline.lineage import digest
from study.engine.optuna_memory import Shown, frozen
from study.engine.samplers import grid_order, make_sampler
from study.space.checks import Fit, fit
from study.space.space import Space
from study.state.history import History, Run
from study.state.spec import Spec

AVOID = ("diverged", "memory", "impossible")  # causes that speak against a region of the space
DRAWS = 100  # for one trial, at most
DRAWN_ONCE = ("grid", "qmc")  # samplers whose points are fixed
NEED_VALUES = ("gp", "cmaes", "nsga2", "nsga3")  # samplers that look at completed trials only


@dataclass(frozen=True)
class Proposal:
    """A trial to be run.

    params, distributions : by name; distributions as JSON of Optuna
    config : sections model and train, complete, with the trial's own seed
    group, replicate : digest of the configuration without its seed, and how many trials had it before
    origin : sampler, replicate, or whence the point was known
    problem : why this combination is impossible; parameters and multiply_adds are 0 then
    """

    trial: int
    params: dict[str, Any]
    distributions: dict[str, str]
    config: dict[str, Any]
    group: str
    replicate: int
    seed: int
    origin: str
    parameters: int
    multiply_adds: int
    problem: str | None


class Proposer:
    """Proposes trials. What it proposes is a function of the study's seed and the trials so far, nothing else.

    Samplers are shown the trials in a form that they make the right use of; the true states are in the ledger:

    - paused at a rung: as pruned, with its values so far, and as running again when it is promoted. A running trial counts as
      bad with TPE's constant liar, and one that waits for its promotion may be the best;
    - diverged, out of memory, impossible: as pruned without a value, the worst there is. Other failures are not shown;
    - gp, cmaes and nsga look at completed trials only, of which early stopping leaves few. They are shown stopped and paused
      ones as completed with the value so far, those without one with the worst value seen.
    """

    def __init__(self, spec: Spec, space: Space, history: History) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.spec, self.space = spec, space
        dataset = history.lineage.dataset
        self.shape, self.n_classes = tuple(dataset.shape), len(dataset.classes)
        self._base = to_tree(spec.params)
        self._groups: Counter[str] = Counter()
        self._queue: deque[tuple[dict[str, Any], str]] = deque()
        self._tried: set[str] = set()  # points, for the grid
        self._grid = grid_order(space.size(), spec.study.seed)
        self._storage = Shown()
        self._pruner = _pruner(spec)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=spec.name,
            directions=["maximize" if one.more else "minimize" for one in spec.objectives],
            pruner=self._pruner,
        )
        for run in sorted(history.trials, key=lambda run: run.trial):
            self._take_in(run)

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials as samplers and pruners see them, by number."""
        return self._study.get_trials(deepcopy=False)

    def propose(self) -> Proposal | None:
        """The next trial, which is shown to the sampler as running from now on; None where the grid is exhausted."""
        number = len(self._storage)
        params, origin, fitted = self._drawn(number)
        if params is None or fitted is None:
            return None
        distributions = self.space.distributions(params)
        seed = trial_seed(self.spec.study.seed, number)
        config = {**fitted.config, "train": {**fitted.config["train"], "seed": seed}}
        group = digest({**config, "train": {name: value for name, value in config["train"].items() if name != "seed"}})
        replicate = self._groups[group]
        self._remember(number, group, params, distributions)
        return Proposal(
            trial=number,
            params=params,
            distributions={name: distribution_to_json(one) for name, one in distributions.items()},
            config=config,
            group=group,
            replicate=replicate,
            seed=seed,
            origin="replicate" if replicate else origin,
            parameters=fitted.plan.parameters if fitted.plan else 0,
            multiply_adds=fitted.plan.multiply_adds if fitted.plan else 0,
            problem=fitted.problem,
        )

    def tell(self, run: Run) -> None:
        """Take in the present state of a trial that was proposed. Telling the same again changes nothing."""
        self._storage.show(self._shown(run))

    def should_prune(self, run: Run) -> bool:
        """Whether the pruner gives the trial up, as it was last told; False for asha, which is not decided here."""
        if isinstance(self._pruner, NopPruner):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(self._pruner.prune(self._study, self._storage.get_trial(run.trial)))

    def enqueue(self, params: Mapping[str, Any], origin: str) -> None:
        """Propose this point before any that a sampler draws.

        Raises
        ------
        SpaceError
            It lies outside the space.
        """
        self.space.distributions(params)
        self._queue.append((dict(params), origin))

    def _drawn(self, number: int) -> tuple[dict[str, Any] | None, str, Fit | None]:
        """A point, its origin, and whether it fits. One whose network is too large is drawn again, as long as that can help."""
        for draw in range(DRAWS):
            params, origin = self._point(number, draw)
            if params is None:
                return None, origin, None
            tree = self.space.configure(self._base, params)
            fitted = fit(tree, self.shape, self.n_classes, self.spec.study.max_parameters)
            too_large = fitted.problem is not None and fitted.plan is not None
            if not too_large or origin != "sampler" or self.spec.study.sampler in DRAWN_ONCE:
                break
            if draw < DRAWS - 1:
                self._storage.take_back()
        return params, origin, fitted

    def _point(self, number: int, draw: int) -> tuple[dict[str, Any] | None, str]:
        if self._queue:
            return self._queue.popleft()
        if self.spec.study.sampler == "grid":
            return self._grid_point(), "sampler"
        self._study.sampler = make_sampler(self.spec.study.sampler, self.space, self.spec.study.seed, number, draw)
        with self._storage.lending(self._values_to_lend()):
            trial = self._study.ask()
            return {name: _plain(value) for name, value in self.space.suggest(trial).items()}, "sampler"

    def _grid_point(self) -> dict[str, Any] | None:
        """The next point of the grid, in an order that the seed gives, that was not tried yet."""
        for index in self._grid:
            params = self.space.point(index)
            if _key(params) not in self._tried:
                return params
        return None

    def _remember(self, number: int, group: str, params: dict[str, Any], distributions: dict[str, BaseDistribution]) -> None:
        self._groups[group] += 1
        self._tried.add(_key(params))
        self._storage.show(frozen(number, TrialState.RUNNING, params, distributions))

    def _take_in(self, run: Run) -> None:
        """A trial of the ledger. Rungs that it has passed are found again by asking the pruner epoch by epoch."""
        assert run.trial == len(self._storage), f"trial {len(self._storage)} is missing from the ledger, {run.trial} follows"
        shown = self._shown(run)
        self._remember(run.trial, run.group, run.params, shown.distributions)
        if isinstance(self._pruner, HyperbandPruner):
            values = dict(shown.intermediate_values)
            for epoch in values:
                reached = {step: value for step, value in values.items() if step <= epoch}
                self._storage.show(frozen(run.trial, TrialState.RUNNING, run.params, shown.distributions, reached))
                self.should_prune(run)
        self._storage.show(shown)

    def _shown(self, run: Run) -> FrozenTrial:
        """A trial as samplers and pruners are to see it."""
        distributions = {name: json_to_distribution(text) for name, text in run.distributions.items()}
        values, intermediate = None, self._course(run)
        if run.state == "RUNNING" or (run.state == "PAUSED" and run.waits == "interrupted"):
            state = TrialState.RUNNING
        elif run.state == "COMPLETE":
            state, values = TrialState.COMPLETE, run.values
        elif run.cause in AVOID:
            state, intermediate = TrialState.PRUNED, {}
        else:
            state = TrialState.FAIL if run.state == "FAIL" else TrialState.PRUNED
        return frozen(run.trial, state, run.params, distributions, intermediate, values)

    def _course(self, run: Run) -> dict[int, float]:
        """The objective after each epoch, of the weights that would be kept then. Optuna wants none with several objectives."""
        if len(self.spec.study.objectives) > 1:
            return {}
        return {number: self.spec.quality.of(kept) or 0.0 for number, kept in enumerate(run.course(), 1)}

    def _values_to_lend(self) -> dict[int, FrozenTrial]:
        """Stopped and paused trials as completed ones, for samplers that know no others."""
        if self.spec.study.sampler not in NEED_VALUES:
            return {}
        trials = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        own = {trial.number: _value_so_far(trial) for trial in trials}
        seen = [values for values in own.values() if values]
        if not seen:
            return {}
        worst = [max(column, key=one.cost) for column, one in zip(zip(*seen, strict=True), self.spec.objectives, strict=True)]
        return {
            trial.number: frozen(
                trial.number, TrialState.COMPLETE, trial.params, trial.distributions, values=own[trial.number] or worst
            )
            for trial in trials
            if trial.state == TrialState.PRUNED
        }


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of a trial's training."""
    return int(np.random.SeedSequence([study_seed, trial]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _pruner(spec: Spec) -> BasePruner:
    study = spec.study
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match study.pruner:
            case "median":
                return MedianPruner(n_warmup_steps=study.first_rung + 1)  # the first step at which one may be stopped
            case "hyperband":
                return HyperbandPruner(
                    min_resource=study.first_rung, max_resource=spec.params.train.epochs, reduction_factor=study.reduction
                )
            case "wilcoxon":
                return WilcoxonPruner()
    return NopPruner()


def _value_so_far(trial: FrozenTrial) -> list[float] | None:
    if trial.state == TrialState.COMPLETE:
        return trial.values
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        return [trial.intermediate_values[max(trial.intermediate_values)]]
    return None


def _plain(value: Any) -> Any:
    """A value as JSON has it, where a sampler gives one of NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
