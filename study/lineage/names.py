"""Find the lineage of a name on the command line: a report row, MLflow run, trial, study or the current model."""

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
    """Return the lineage of a result by its name, see :data:`POSSIBLE`; a study stands for its winner, else its best trial.

    root : of the project

    Raises TraceError if the name is unknown or ambiguous.
    """
    name = text.strip().removesuffix("/")
    if name in ("current", artifacts.MODEL.as_posix()) or re.search(rf"(^|/){artifacts.REPORT}(#.*)?$", name):
        return of_current(root)
    if match := re.search(rf"{REPORTS}/([^/#]+)(?:/index\.html)?(?:#(.+))?$", name):
        return of_study(match[1], match[2], root)
    if match := re.fullmatch(r"([^/#]+)#(\d+)", name):
        return of_study(match[1], _key_of_row(match[1], int(match[2]), root), root)
    if match := re.fullmatch(rf"(?:{STUDIES}/)?([^/#]+)(?:/(?:runs/)?([\w.-]+))?", name):
        if match[2] or match[1] in studies(root):
            return of_study(match[1], match[2], root)
        if re.fullmatch(r"[0-9a-f]{6,32}", name.lower()):
            return _of_run_id(name.lower(), root)
    raise TraceError(_unknown(name, root))


def _of_run_id(prefix: str, root: Path) -> Trace:
    matches = [(run_id, name, key) for run_id, name, key in _known_ids(root) if run_id.startswith(prefix)]
    if not matches:
        raise TraceError(_unknown(prefix, root))
    if len({run_id for run_id, *_ in matches}) > 1:
        several = ", ".join(f"{run_id} ({f'{name}/{key}' if key else name})" for run_id, name, key in matches[:5])
        raise TraceError(f"{len(matches)} runs begin with {prefix}; give more characters: {several}")
    _, name, key = matches[0]
    return of_study(name, key, root) if name != "current" else of_current(root)


def _known_ids(root: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield all known MLflow runs: id, study or ``current``, and key of the run (None for a study's parent run)."""
    for name in studies(root):
        recorded = ids(root / STUDIES / name)
        yield from ((run_id, name, key) for key, run_id in recorded["runs"].items())
        if recorded["parent"]:
            yield recorded["parent"], name, None
    run_id = current(root).get("run_id")
    if run_id:
        yield run_id, "current", None


def _key_of_row(name: str, row: int, root: Path) -> str:
    """Return the first trial in a row of the leader board of the last report."""
    history_of(name, root)
    path = root / REPORTS / name / "leaderboard.csv"
    rows = rows_of(path)
    if not rows:
        raise TraceError(f"{name} has no leader board yet: write it with `study report {name}`, or give {name}/12")
    if not 1 <= row <= len(rows):
        raise TraceError(f"the leader board of {name} has rows 1 to {len(rows)}, got {row}")
    return rows[row - 1][0]


def _unknown(name: str, root: Path) -> str:
    return f"nothing here is named {name!r}; give {POSSIBLE}; studies: {', '.join(studies(root)) or 'none yet'}"
