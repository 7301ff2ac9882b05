"""Promote a trial to ``params.yaml``: copy its network and training, so that ``dvc repro`` trains it as the model."""

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

STAY = ("seed", "device", "threads")  # keys of section train that promotion does not change


class PromoteError(StudyError):
    """A trial that cannot become the model; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Promotion:
    """A proposed change of ``params.yaml``.

    before, after : the whole text; equal if the file already describes the trial
    changes : a line for each value: ``train.lr: 0.001 → 0.0023``
    warning : why the trial's value may be too optimistic; None for the winner
    """

    run: Run
    path: Path
    before: str
    after: str
    changes: tuple[str, ...]
    warning: str | None

    @property
    def diff(self) -> str:
        """The unified diff with three lines of context; empty if nothing changes."""
        names = (self.path.name, f"{self.path.name} (trial {self.run.trial})")
        return "".join(
            line if line.endswith("\n") else f"{line}\n"
            for line in difflib.unified_diff(self.before.splitlines(True), self.after.splitlines(True), *names)
        )

    @property
    def summary(self) -> str:
        """The change in one sentence."""
        if not self.changes:
            return f"{self.path.name} already describes trial {self.run.trial}; `dvc repro` trains it"
        values = "1 value" if len(self.changes) == 1 else f"{len(self.changes)} values"
        return f"{self.path.name}: {values} of trial {self.run.trial}; `dvc repro` trains it"

    @property
    def text(self) -> str:
        """The diff, the warning and the summary."""
        parts = (self.diff.rstrip("\n"), f"warning: {self.warning}" if self.warning else "", self.summary)
        return "\n".join(part for part in parts if part)

    def write(self) -> None:
        """Change the file, whole or not at all.

        Raises PromoteError if the file has changed since the change was planned.
        """
        if _read(self.path) != self.before:
            raise PromoteError(f"{self.path.name} was changed in the meantime; run `study promote` again")
        if self.changes:
            with artifacts.atomic_path(self.path.resolve()) as temporary:  # a link stays one
                temporary.write_bytes(self.after.encode())


def default_run(history: History) -> Run:
    """Return the trial to promote by default: the winner, else the best trial.

    Raises PromoteError if no trial is complete.
    """
    run = history.runs[str(history.winner.trial)] if history.winner else history.best()
    if run is None:
        raise PromoteError(f"{history.spec.name}: no trial is complete yet; see `study status {history.spec.name}`")
    return run


def plan(history: History, run: Run | None, params_path: Path, data_fingerprint: str | None) -> Promotion:
    """Plan the change that makes ``params.yaml`` describe a run; write nothing.

    run : None for :func:`default_run`
    data_fingerprint : of the prepared data, ``data/search/dataset.json``; None if there are none

    Raises
    ------
    PromoteError
        No trial is complete, the run's configuration was never trained to its end, the data are not the study's, or the
        file cannot be changed value by value.
    ConfigError
        The file breaks a rule.
    """
    run = default_run(history) if run is None else run
    if not _trained_to_its_end(history, run):
        raise PromoteError(
            f"a promoted trial must be COMPLETE, or a finalist with a complete training, got trial {run.key}, {run.state}; "
            "choose another with --trial"
        )
    present = load(params_path)
    _check_data(history, present.data, data_fingerprint)
    before, tree = _read(params_path), to_tree(present)
    wanted = tree | {name: dict(run.config.tree[name]) for name in ("model", "train")}
    wanted["train"] |= {name: tree["train"][name] for name in STAY}
    changes = _changes(tree, wanted)
    after = rewrite(before, tree, wanted) if changes else before
    if not _describes(after, parse(wanted)):
        raise PromoteError(f"{params_path.name} cannot be changed value by value (anchors?); set by hand {'; '.join(changes)}")
    return Promotion(run, params_path, before, after, changes, warning(history, run))


def warning(history: History, run: Run) -> str | None:
    """Return why a trial's value may be too optimistic; None for the winner."""
    if history.winner is None:
        return f"trial {run.trial} is not confirmed on fresh seeds: expect less than its value in the search"
    winner = history.winner.trial
    if run.trial == winner or run.group == history.winner.group:
        return None
    if any(item.trial == run.trial for item in history.winner.finalists):
        return f"trial {run.trial} was a finalist, but trial {winner} won"
    return f"trial {run.trial} was no finalist: expect less than its value in the search; trial {winner} won"


def _trained_to_its_end(history: History, run: Run) -> bool:
    """Return whether the run, or a finalist of its configuration, is complete: a winner may have been paused in the search."""
    return run.state == "COMPLETE" or any(final.group == run.group and final.state == "COMPLETE" for final in history.finals)


def _read(path: Path) -> str:
    return path.read_bytes().decode()  # with its own line ends


def _describes(text: str, wanted: Params) -> bool:
    try:
        return parse(YAML(typ="safe").load(text)) == wanted
    except (YAMLError, ConfigError):
        return False


def _changes(tree: dict[str, Any], wanted: dict[str, Any]) -> tuple[str, ...]:
    before, after = flat(tree), flat(wanted)
    names = [*after, *(name for name in before if name not in after)]
    return tuple(
        f"{name}: {_text(before, name)} → {_text(after, name)}" for name in names if _text(before, name) != _text(after, name)
    )


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name, "nothing")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _check_data(history: History, present: Data, fingerprint: str | None) -> None:
    """Raise PromoteError unless the prepared data, and those that ``dvc repro`` would prepare, are the study's."""
    study = history.spec.params.data
    ignored = {"mirror"} if study.name == present.name == "image_folder" else {"mirror", "path"}
    ours, theirs = to_tree(present), to_tree(study)
    keys = [f"data.{name}" for name in theirs if name not in ignored and ours[name] != theirs[name]]
    back = ", ".join(f"{key} back to {_text(theirs, key.removeprefix('data.'))}" for key in keys)
    if fingerprint == history.spec.fingerprint and not keys:
        return
    state = "not prepared" if fingerprint is None else fingerprint[:8]
    if fingerprint == history.spec.fingerprint:
        state = "about to change"
    remedy = " and ".join(part for part in (f"set {back}" if back else "", "run `dvc repro preprocess`") if part)
    raise PromoteError(f"params.yaml: make repro's data are {state}, the study's {history.spec.fingerprint[:8]}: {remedy}")
