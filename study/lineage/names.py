"""What a word on the command line names: a report row, an MLflow run, a trial, a study, the current model; and its lineage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline import artifacts
from study.lineage.chain import (
    REPORTS,
    Step,
    Trace,
    TraceError,
    current,
    history_of,
    ids,
    of_current,
    of_study,
    render,
    rows_of,
    studies,
)
from study.state.ledger import STUDIES

__all__ = ["Step", "Trace", "TraceError", "render", "trace"]

POSSIBLE = (
    "an MLflow run id (6 characters or more), NAME, NAME/12, NAME/12.s3, NAME#3 (row of its leader board), "
    "a report row like reports/studies/NAME/index.html#12, or current"
)


def trace(text: str, root: Path) -> Trace:
    """The lineage of what ``text`` names, see :data:`POSSIBLE`; of a study alone, its winner or else its best trial.

    root : of the project

    Raises
    ------
    TraceError
        Nothing here has this name, or several things have.
    """
    asked = text.strip().removesuffix("/")
    if asked in ("current", artifacts.MODEL.as_posix()) or re.search(rf"(^|/){artifacts.REPORT}(#.*)?$", asked):
        return of_current(root)
    if found := re.search(rf"{REPORTS}/([^/#]+)(?:/index\.html)?(?:#(.+))?$", asked):
        return of_study(found[1], found[2], root)
    if found := re.fullmatch(r"([^/#]+)#(\d+)", asked):
        return of_study(found[1], _key_of_row(found[1], int(found[2]), root), root)
    if found := re.fullmatch(rf"(?:{STUDIES}/)?([^/#]+)(?:/(?:runs/)?([\w.-]+))?", asked):
        if found[2] or found[1] in studies(root):
            return of_study(found[1], found[2], root)
        if re.fullmatch(r"[0-9a-f]{6,32}", asked.lower()):
            return _of_run_id(asked.lower(), root)
    raise TraceError(_unknown(asked, root))


def _of_run_id(prefix: str, root: Path) -> Trace:
    found = [(run_id, name, key) for run_id, name, key in _known_ids(root) if run_id.startswith(prefix)]
    if not found:
        raise TraceError(_unknown(prefix, root))
    if len({run_id for run_id, *_ in found}) > 1:
        several = ", ".join(f"{run_id} ({f'{name}/{key}' if key else name})" for run_id, name, key in found[:5])
        raise TraceError(f"{len(found)} runs begin with {prefix}; give more of the one that you mean: {several}")
    _, name, key = found[0]
    return of_study(name, key, root) if name != "current" else of_current(root)


def _known_ids(root: Path) -> Iterator[tuple[str, str, str | None]]:
    """All MLflow run ids that are known here: id, study or ``current``, key of the run; the key is None for the study itself."""
    for name in studies(root):
        told = ids(root / STUDIES / name)
        yield from ((run_id, name, key) for key, run_id in told["runs"].items())
        if told["parent"]:
            yield told["parent"], name, None
    run_id = current(root).get("run_id")
    if run_id:
        yield run_id, "current", None


def _key_of_row(name: str, row: int, root: Path) -> str:
    """The first trial in a row of the leader board, as its report was written."""
    history_of(name, root)
    path = root / REPORTS / name / "leaderboard.csv"
    rows = rows_of(path)
    if not rows:
        raise TraceError(f"{name} has no leader board yet: write it with `study report {name}`, or give {name}/12")
    if not 1 <= row <= len(rows):
        raise TraceError(f"the leader board of {name} has rows 1 to {len(rows)}, got {row}")
    return rows[row - 1][0]


def _unknown(asked: str, root: Path) -> str:
    return f"nothing here is named {asked!r}; give {POSSIBLE}; studies: {', '.join(studies(root)) or 'none yet'}"
