"""From the winner of a study to ``params.yaml``: its network and its training, so that ``dvc repro`` makes it the model."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline import artifacts
from pipeline.config import ConfigError, Data, Params, load, parse, to_tree
from study.lineage.yaml_edit import rewrite
from study.state.errors import StudyError
from study.state.history import History, Run
from study.state.spec import flat

STAY = ("seed", "device", "threads")  # of section train: they are this file's, not the trial's


class PromoteError(StudyError):
    """A trial that cannot become the model: one line that says why and what to do."""


@dataclass(frozen=True)
class Promotion:
    """A change of ``params.yaml`` that has not been made yet.

    before, after : the whole text; the same where the file says already what the trial is
    changes : a line for each value: ``train.lr: 0.001 → 0.0023``
    warning : why the trial may do less well than it looks; None for the winner
    """

    run: Run
    path: Path
    before: str
    after: str
    changes: tuple[str, ...]
    warning: str | None

    @property
    def diff(self) -> str:
        """Unified, with three lines of context; empty where nothing differs."""
        names = (self.path.name, f"{self.path.name} (trial {self.run.trial})")
        return "".join(
            line if line.endswith("\n") else f"{line}\n"
            for line in difflib.unified_diff(self.before.splitlines(True), self.after.splitlines(True), *names)
        )

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.changes:
            return f"{self.path.name} already says what trial {self.run.trial} is; `dvc repro` trains it"
        values = "1 value" if len(self.changes) == 1 else f"{len(self.changes)} values"
        return f"{self.path.name}: {values} of trial {self.run.trial}; `dvc repro` trains it"

    @property
    def text(self) -> str:
        """All that there is to show: the diff, the warning, the summary."""
        told = (self.diff.rstrip("\n"), f"warning: {self.warning}" if self.warning else "", self.summary)
        return "\n".join(part for part in told if part)

    def write(self) -> None:
        """Change the file, whole or not at all.

        Raises
        ------
        PromoteError
            It is no longer what the change was made for.
        """
        if _read(self.path) != self.before:
            raise PromoteError(f"{self.path.name} was changed in the meantime; run `study promote` again")
        if self.changes:
            with artifacts.atomic_path(self.path.resolve()) as temporary:  # a link stays one
                temporary.write_bytes(self.after.encode())


def default_run(history: History) -> Run:
    """The trial to promote if none is named: the winner, or else the best trial.

    Raises
    ------
    PromoteError
        No trial is complete.
    """
    run = history.runs[str(history.winner.trial)] if history.winner else history.best()
    if run is None:
        raise PromoteError(f"{history.spec.name}: no trial is complete yet; see `study status {history.spec.name}`")
    return run


def plan(history: History, run: Run | None, params_path: Path, data_fingerprint: str | None) -> Promotion:
    """What of ``params.yaml`` has to change for it to describe this run. Nothing is written.

    run : None for :func:`default_run`
    data_fingerprint : of the prepared data, ``data/search/dataset.json``; None where there are none

    Raises
    ------
    PromoteError
        There is no complete trial, the run's configuration was never trained to its end, the data are not the study's, or the
        file cannot be changed value by value.
    ConfigError
        The file breaks a rule as it is.
    """
    run = default_run(history) if run is None else run
    if not _trained_to_its_end(history, run):
        raise PromoteError(
            f"a trial must be COMPLETE, or a finalist with a complete training, to be promoted, trial {run.key} is {run.state}; "
            "name another with --trial"
        )
    present = load(params_path)
    _check_data(history, present.data, data_fingerprint)
    before, tree = _read(params_path), to_tree(present)
    wanted = tree | {name: dict(run.config.tree[name]) for name in ("model", "train")}
    wanted["train"] |= {name: tree["train"][name] for name in STAY}
    changes = _changes(tree, wanted)
    after = rewrite(before, tree, wanted) if changes else before
    if not _says(after, parse(wanted)):
        raise PromoteError(f"{params_path.name} cannot be changed value by value (anchors?); set by hand {'; '.join(changes)}")
    return Promotion(run, params_path, before, after, changes, warning(history, run))


def warning(history: History, run: Run) -> str | None:
    """Why a trial may do less well than it looks; None for the winner."""
    if history.winner is None:
        return f"trial {run.trial} is not confirmed on fresh seeds: expect less than its value in the search"
    winner = history.winner.trial
    if run.trial == winner or run.group == history.winner.group:
        return None
    if any(item.trial == run.trial for item in history.winner.finalists):
        return f"trial {run.trial} was a finalist, but trial {winner} won"
    return f"trial {run.trial} was no finalist: expect less than its value in the search; trial {winner} won"


def _trained_to_its_end(history: History, run: Run) -> bool:
    """By itself, or as a finalist: one that asha left at a rung may have won."""
    return run.state == "COMPLETE" or any(final.group == run.group and final.state == "COMPLETE" for final in history.finals)


def _read(path: Path) -> str:
    return path.read_bytes().decode()  # with its own line ends


def _says(text: str, wanted: Params) -> bool:
    try:
        return parse(YAML(typ="safe").load(text)) == wanted
    except (YAMLError, ConfigError):
        return False


def _changes(tree: dict[str, Any], wanted: dict[str, Any]) -> tuple[str, ...]:
    before, after = flat(tree), flat(wanted)
    names = [*after, *(name for name in before if name not in after)]
    return tuple(
        f"{name}: {_shown(before, name)} → {_shown(after, name)}" for name in names if _shown(before, name) != _shown(after, name)
    )


def _shown(values: dict[str, Any], name: str) -> str:
    value = values.get(name, "nothing")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _check_data(history: History, present: Data, fingerprint: str | None) -> None:
    """Refuse other data than the study's: those prepared now, or those that ``dvc repro`` would prepare."""
    study = history.spec.params.data
    ignored = {"mirror"} if study.name == present.name == "image_folder" else {"mirror", "path"}
    ours, theirs = to_tree(present), to_tree(study)
    keys = [f"data.{name}" for name in theirs if name not in ignored and ours[name] != theirs[name]]
    back = ", ".join(f"{key} back to {_shown(theirs, key.removeprefix('data.'))}" for key in keys)
    if fingerprint == history.spec.fingerprint and not keys:
        return
    have = "not prepared" if fingerprint is None else fingerprint[:8]
    if fingerprint == history.spec.fingerprint:
        have = "about to change"
    remedy = " and ".join(part for part in (f"set {back}" if back else "", "run `dvc repro preprocess`") if part)
    raise PromoteError(f"params.yaml: make repro's data are {have}, the study's {history.spec.fingerprint[:8]}: {remedy}")
