"""One call of ``study run``: create the study or go on with it, search, confirm, read test once, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pipeline import artifacts
from pipeline.config import Params, parse
from pipeline.data.dataset import open_test
from pipeline.tracking import TrackingError
from study.engine import finalists, halving
from study.engine.arrays import Arrays, arrays
from study.engine.coordinator import Coordinator
from study.engine.proposals import Proposer
from study.engine.request import Request, changed, kept, known_points, lineage_of, name_of, read_tree, refusal
from study.engine.session import Result, Session, begin, end, places, running
from study.space.checks import check, most_epochs
from study.space.space import Space
from study.state.errors import StudyError, UsageError
from study.state.history import History, fold
from study.state.journal import Journal
from study.state.ledger import STUDIES, Event, held, read
from study.state.records import content_of
from study.state.spec import Spec, differences
from study.stores.addresses import locate_storage, storage_problem

Report = Callable[[History, Space], Path]


def run(request: Request, root: Path, environ: Mapping[str, str], report: Report) -> Result:
    """Run a study to its end, or until it is interrupted.

    report : writes the report of a study that has come to its end, and returns the path of its page

    Raises
    ------
    ConfigError, SpaceError, UsageError, StudyError, DataError, ArchitectureError, TrackingError
        Before anything starts.
    """
    base = read_tree(root / "params.yaml")
    folder = root / STUDIES / name_of(request, base, root)
    try:
        return _run(request, base, folder, root, environ, report)
    finally:
        with suppress(OSError):  # it is not empty: the study has begun
            folder.rmdir()


def _run(
    request: Request, base: Mapping[str, Any], folder: Path, root: Path, environ: Mapping[str, str], report: Report
) -> Result:
    name = folder.name
    if held(folder):
        raise StudyError(running(name))
    asked = parse(changed(base, request.changes))
    history = fold(read(folder))
    found = None if history or request.new else _found(name, asked, root, environ)
    history = fold(found) if found else history
    changes = {**(history.changes if history else {}), **request.changes}
    params = parse(changed(base, changes))
    place = arrays(params.data, root, params.data.mirror or environ.get("STUDYLINE_MIRROR") or None)
    space = Space.load(params.study.space)
    spec = Spec(name, params.study.space, space.tree, params, place.info.fingerprint)
    seeds = [point for origin in request.seed_from for point in known_points(origin, root, space)]
    if history is None:
        check(space, params, place.info.shape, len(place.info.classes))
    elif different := differences(history.spec, spec, space.paths):
        raise UsageError(refusal(name, different))
    store, url = places(params, folder, request.changes, root, environ)
    if found:
        from study.stores.optuna_database import restore

        restore(folder, found)
        print(f"{name} is not in {STUDIES} but in the storage; it goes on from there")
    if history is None or not url.startswith("sqlite:"):
        _refuse_strangers(url, folder)
    with ExitStack() as stack:
        session = begin(
            stack,
            folder,
            params,
            created=lambda: {"spec": spec.to_tree(), "lineage": lineage_of(place, root)},
            opened={"changes": kept(changes), "seeds": seeds},
            stores=(store, url),
        )
        return _search(session, space, place, root, report)


def _found(name: str, params: Params, root: Path, environ: Mapping[str, str]) -> list[Event] | None:
    """The events of a study that the storage knows and this machine does not."""
    url = locate_storage(params.study, environ, root)
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists():
        return None
    from study.stores.optuna_database import adopt  # SQLAlchemy takes its time, and mostly there is a ledger

    if why := storage_problem(url):
        raise TrackingError(why)
    return adopt(url, name)


def _refuse_strangers(url: str, folder: Path) -> None:
    """Raise where another machine runs this study, or where the storage holds another study of its name."""
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists():
        return
    from study.stores.optuna_database import holder, identity_problem

    if elsewhere := holder(url, folder.name):
        raise StudyError(f"{folder.name} runs on {elsewhere}; stop it there, or wait a minute if that machine is gone")
    if why := identity_problem(url, folder):
        raise UsageError(why)


def _search(session: Session, space: Space, place: Arrays, root: Path, report: Report) -> Result:
    journal, history = session.journal, session.journal.history
    study = history.spec.study
    proposer = Proposer(history.spec, space, history)
    for seed in history.seeds:
        if all(run.params != seed["params"] for run in history.trials):
            proposer.enqueue(seed["params"], seed["origin"])
    ladder = halving.rungs(most_epochs(space, history.spec.params.train.epochs), study.first_rung, study.reduction)
    coordinator = Coordinator(journal, proposer, session.executor, lambda run: place.search, session.limits, ladder)
    outcome, reason = coordinator.search()
    if outcome == "done" and study.finalists.top:
        outcome, why = coordinator.confirm()
        reason = why or reason
        if outcome == "done" and history.winner and not history.test:
            read_test(journal, place, root)
    return end(session, outcome, reason, lambda history: report(history, space) if outcome == "done" else None)


def read_test(journal: Journal, place: Arrays, root: Path) -> None:
    """Open test, once for this winner, and write down what its trainings score there."""
    history = journal.history
    assert history.winner is not None
    reader = f"study {history.spec.name}, winner {history.winner.trial}"
    test, openings = open_test(place.test, root / artifacts.TEST_OPENINGS, history.spec.fingerprint, reader)
    journal.record("tested", **content_of(finalists.test_read(history, journal.folder, test, openings)))
