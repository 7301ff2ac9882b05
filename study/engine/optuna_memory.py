"""Trials as Optuna's samplers and pruners are shown them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # no sampler looks at the time


class Shown(InMemoryStorage):
    """Trials that may change in any way from one look to the next, as those of Optuna's own storages may not."""

    def __init__(self) -> None:
        super().__init__()
        self._lent: dict[int, FrozenTrial] = {}

    def __len__(self) -> int:
        return len(self._studies[0].trials)

    def show(self, trial: FrozenTrial) -> None:
        """Put a trial in the place of what was shown under its number, or at the end. What a pruner noted of it stays."""
        trials = self._studies[0].trials
        if trial.number == len(trials):
            self.create_new_trial(0)
        noted = {key: value for key, value in trials[trial.number].system_attrs.items() if key.startswith("completed_rung")}
        trial.system_attrs = noted
        trials[trial.number] = trial

    def take_back(self) -> None:
        """Forget the last trial: it was drawn, and shall not be."""
        trial = self._studies[0].trials.pop()
        del self._trial_id_to_study_id_and_number[trial.number]
        self._max_trial_id -= 1

    @contextmanager
    def lending(self, trials: dict[int, FrozenTrial]) -> Iterator[None]:
        """Show these in place of others for a while."""
        self._lent = trials
        try:
            yield
        finally:
            self._lent = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if states == (TrialState.WAITING,):
            return []  # none ever is: known points are no business of the storage
        trials = super().get_all_trials(study_id, deepcopy)
        shown = [self._lent.get(trial.number, trial) for trial in trials]
        return [trial for trial in shown if states is None or trial.state in states]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Return the best complete trial, which Optuna's pruners ask for; a storage in memory looks where ours are not."""
        complete = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("No trials are completed yet.")
        sign = -1 if self.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE else 1
        return min(complete, key=lambda trial: sign * trial.values[0])


def frozen(
    number: int,
    state: TrialState,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    intermediate: dict[int, float] | None = None,
    values: list[float] | None = None,
) -> FrozenTrial:
    """A trial of Optuna's."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=values,
        datetime_start=EPOCH,
        datetime_complete=EPOCH if state.is_finished() else None,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs={},
        system_attrs={},
        intermediate_values=intermediate or {},
    )
