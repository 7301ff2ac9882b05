"""One call of ``study ablate`` or ``study reproduce``: train what a plan lists and its ledger lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import Data, Params
from study.engine.arrays import Arrays, arrays
from study.engine.coordinator import Coordinator
from study.engine.plan import Plan
from study.engine.request import lineage_of
from study.engine.session import Result, begin, end, places, running
from study.state.errors import StudyError
from study.state.history import History, Run, fold
from study.state.journal import Journal
from study.state.ledger import STUDIES, held, read
from study.state.spec import Spec

After = Callable[[Journal, "Places"], bool]
Report = Callable[[History], "Path | None"]


@dataclass(frozen=True)
class Places:
    """Where the arrays of a plan's data sections are."""

    of: Mapping[Data, Arrays]

    @classmethod
    def prepare(cls, plan: Plan, root: Path, mirror: str | None) -> Places:
        """Prepare the data of every row, where that was not done yet. Raises DataError as the stages do."""
        sections = dict.fromkeys(row.data for row in plan.rows)
        return cls({section: arrays(section, root, mirror) for section in sections})

    def of_run(self, run: Run) -> Arrays:
        return self.of[data_of(run)]


def data_of(run: Run) -> Data:
    """Section data of a planned training."""
    assert run.config.data is not None
    return run.config.data


def carry_out(
    plan: Plan,
    settings: Params,
    changes: Mapping[str, Any],
    root: Path,
    environ: Mapping[str, str],
    after: After = lambda journal, places: True,
    report: Report = lambda history: None,
) -> Result:
    """Train every row on every seed, as far as its ledger lacks them, on all workers; then ``after``.

    Parameters
    ----------
    settings : how and where: sections study (workers, engine, timeouts), tracking, and the mirror of data
    changes : keys of ``settings`` that the command line has set
    after : what a complete plan is followed by, before its session is closed; whether it came to its end
    report : writes the report of what there is by now; its page, which MLflow gets with the folder that it is in; None: no report

    Raises
    ------
    UsageError
        The study of this name holds other rows.
    StudyError, ConfigError, DataError, TrackingError
        As ``study run``, before anything starts.
    """
    folder = root / STUDIES / plan.name
    if held(folder):
        raise StudyError(running(plan.name))
    mirror = settings.data.mirror or environ.get("STUDYLINE_MIRROR") or None
    found = Places.prepare(plan, root, mirror)
    tasks = list(plan.tasks({section: place.info for section, place in found.of.items()}))
    known = fold(read(folder))
    if known is not None:
        plan.refuse_others(known, tasks)
    params = _params(plan, settings, len(tasks))
    stores = places(params, folder, changes, root, environ)
    first = found.of[plan.rows[0].data]

    def created() -> dict[str, Any]:
        spec = Spec(plan.name, plan.kind, {"title": plan.title}, params, first.info.fingerprint)
        return {"spec": spec.to_tree(), "lineage": lineage_of(first, root)}

    with ExitStack() as stack:
        session = begin(stack, folder, params, created, opened={}, stores=stores)
        journal, executor = session.journal, session.executor
        coordinator = Coordinator(journal, None, executor, lambda run: found.of_run(run).search, session.limits, ladder=())
        outcome, reason = coordinator.carry_out(tasks)
        executor.close()
        if outcome == "done" and not after(journal, found):
            outcome = "stopped"
        return end(session, outcome, reason, report)


def _params(plan: Plan, settings: Params, trainings: int) -> Params:
    """What the study shows as its configuration: of the first row, and of this call how it runs."""
    first = plan.rows[0]
    study = replace(settings.study, space=plan.kind, trials=trainings, pruner="none", objectives=("accuracy",))
    return replace(settings, data=first.data, model=first.params.model, train=first.params.train, study=study)
