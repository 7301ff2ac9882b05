"""The lineage of one training: from where people see it, by study, trial, seed, code and data, down to the bytes of its model."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from pipeline import artifacts
from pipeline.config import to_tree
from pipeline.lineage import digest, without_password
from pipeline.report.provenance import run_link
from study.lineage.promote import STAY
from study.state.errors import UsageError
from study.state.history import History, Run, fold
from study.state.ledger import NAME, STUDIES, read
from study.state.records import Lineage

REPORTS = Path("reports/studies")
IDS = "mlflow.json"  # in a study's folder: which run of MLflow is whose
WEIGHTS = "weights.safetensors"
NOTHING = "–"
SAME = "same configuration and data"


class TraceError(UsageError):
    """What was given names no result here: one line that says what is possible."""


@dataclass(frozen=True)
class Step:
    """One link of the chain. note : what to know of it; link : a page of it"""

    name: str
    value: str
    note: str = ""
    link: str | None = None


@dataclass(frozen=True)
class Trace:
    """The lineage of one training, from where people see it down to the bytes."""

    title: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)


def render(traced: Trace) -> Text:
    """For a terminal, to be printed with ``soft_wrap``: digests and addresses stay whole, so that they can be copied."""
    width = max(len(step.name) for step in traced.steps) + 2
    text = Text(f"{traced.title}\n", style="bold")
    shown = Text()
    for step in traced.steps:
        shown.append(f"{step.name:<{width}}", style="dim").append(
            f"{step.value}\n", style=f"link {step.link}" if step.link else ""
        )
        for extra in (step.note, step.link):
            if extra:
                shown.append(f"{'':<{width}}{extra}\n", style="dim")
    shown.right_crop(1)
    return Text.assemble(text, shown)


def of_study(name: str, key: str | None, root: Path) -> Trace:
    """The lineage of a study's run; of the winner, or else of the best trial, where ``key`` is None. Raises TraceError."""
    history = history_of(name, root)
    if key is None:
        default = history.runs.get(str(history.winner.trial)) if history.winner else history.best()
        if default is None:
            raise TraceError(f"{name} has no complete trial yet; give one that was begun: {_keys(name, history)}")
        key = default.key
    if key not in history.runs:
        raise TraceError(f"{name} has no run {key}; it has {_keys(name, history)}")
    run = history.runs[key]
    lineage, folder = history.lineage, root / STUDIES / name / "runs" / key
    told = ids(root / STUDIES / name)
    steps = (
        _report_row(name, run, root),
        _mlflow(told | {"run_id": told["runs"].get(key)}, f"not recorded; see `study status {name} --verify`"),
        Step("run", _relative(folder, root), _promoted(run, history, root)),
        Step("trial", f"{run.key}, {run.state}", _standing(run, history)),
        _study(history, told),
        Step("configuration", _config_hash(run, history), f"without its seed {run.group}; proposed by {run.origin}"),
        Step("seed", str(run.seed), f"split seed {lineage.dataset.split_seed}"),
        _commit(lineage),
        _data(run.fingerprint or history.spec.fingerprint, history.spec.params.data.name, root),
        _model(folder, root),
    )
    return Trace(f"{name}/{key}", steps)


def of_current(root: Path) -> Trace:
    """The lineage of ``models/current``. Raises TraceError where there is none."""
    told = current(root)
    if not told:
        raise TraceError(f"there is no model in {artifacts.MODEL}; train one with `dvc repro`")
    trials = [f"{name}/{run.key}" for name, run in _same_configuration(told, root)]
    steps = (
        Step("report row", artifacts.REPORT.as_posix(), "" if (root / artifacts.REPORT).exists() else "not written yet"),
        _mlflow(told, "not tracked"),
        Step("run", artifacts.MODEL.as_posix(), f"{told['state']}, started {told['started']}"),
        Step("trial", ", ".join(trials) or NOTHING, SAME if trials else "no trial here has its configuration and data"),
        Step("study", ", ".join(dict.fromkeys(trial.partition("/")[0] for trial in trials)) or NOTHING),
        Step("configuration", told["config_hash"]),
        Step("seed", str(told["seed"]), f"split seed {told['params']['data']['seed']}"),
        _commit(Lineage.of(told)),
        _data(told["data_fingerprint"], told["params"]["data"]["name"], root),
        _model(root / artifacts.MODEL, root),
    )
    return Trace(f"{artifacts.MODEL} ({told['name']})", steps)


def _study(history: History, told: Mapping[str, Any]) -> Step:
    spec, parent = history.spec, told["parent"]
    note = f"space {spec.space}, {spec.study.sampler}, begun {_date(history.created)}"
    page = run_link(dict(told) | {"run_id": parent}) if parent else None
    return Step("study", spec.name, note + (f"; its run in MLflow {parent}" if parent else ""), page)


def _report_row(name: str, run: Run, root: Path) -> Step:
    page = REPORTS / name / "index.html"
    rows = rows_of(root / page.with_name("leaderboard.csv"))
    rank = next((number for number, trials in enumerate(rows, 1) if str(run.trial) in trials), None)
    if not (root / page).exists():
        return Step("report row", NOTHING, f"no report yet; `study report {name}` writes it")
    place = f"row {rank} of {len(rows)} of the leader board" if rank else "not on the leader board when it was written"
    return Step("report row", f"{page}#{run.trial}", place)


def _mlflow(told: Mapping[str, Any], missing: str) -> Step:
    if not told.get("run_id"):
        return Step("MLflow run", NOTHING, missing)
    return Step("MLflow run", told["run_id"], f"in {without_password(told['tracking_uri'])}", run_link(told))


def _standing(run: Run, history: History) -> str:
    """What a run is in its study."""
    value = "" if run.accuracy is None else f"validation accuracy {run.accuracy:.2%} after {len(run.epochs)} epochs"
    parts = {"final": f"seed {run.replicate} of finalist {run.trial}", "planned": f"seed {run.replicate} of row {run.origin}"}
    part = parts.get(run.phase, "")
    tested = "" if run.test is None else f"test accuracy {run.test.accuracy:.2%}"
    won = "the winner" if history.winner and history.winner.trial == run.trial else ""
    return "; ".join(text for text in (part, won, value, tested, run.reason or "") if text)


def _commit(source: Lineage) -> Step:
    commit = source.git_commit
    return Step("commit", commit, source.dirty) if commit else Step("commit", NOTHING, "not in a git repository")


def _data(fingerprint: str, name: str, root: Path) -> Step:
    path = root / artifacts.SEARCH / "dataset.json"
    present = artifacts.read_json(path)["fingerprint"] if path.exists() else None
    if present == fingerprint:
        note = f"{name}; {artifacts.SEARCH} holds these data now"
    elif present is None:
        note = f"{name}; nothing is prepared in {artifacts.SEARCH}"
    else:
        note = f"{name}; {artifacts.SEARCH} holds other data now, {present}"
    return Step("data", fingerprint, note)


def _model(folder: Path, root: Path) -> Step:
    path = folder / WEIGHTS
    if not path.exists():
        return Step("model", NOTHING, f"there is no {_relative(path, root)}")
    return Step("model", f"sha256 {artifacts.sha256(path)}", _relative(path, root))


def _config_hash(run: Run, history: History) -> str:
    """As ``run.json`` and the tags in MLflow have it."""
    data = to_tree(history.spec.params.data)
    data["mirror"] = data["mirror"] and without_password(data["mirror"])
    return digest({"data": data, **run.config.tree})


def _promoted(run: Run, history: History, root: Path) -> str:
    told = current(root)
    same = (
        bool(told)
        and told["data_fingerprint"] == history.spec.fingerprint
        and _recipe(told["params"]) == _recipe(run.config.tree)
    )
    return f"{artifacts.MODEL} has the {SAME}" if same else ""


def _same_configuration(told: Mapping[str, Any], root: Path) -> Iterator[tuple[str, Run]]:
    """The trials of all studies here that have the configuration and the data of the current model."""
    recipe = _recipe(told["params"])
    for name in studies(root):
        history = history_of(name, root)
        if history.spec.fingerprint == told["data_fingerprint"]:
            yield from ((name, run) for run in history.trials if _recipe(run.config.tree) == recipe)


def _recipe(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Network and training without what promotion leaves alone."""
    return config["model"], {name: value for name, value in config["train"].items() if name not in STAY}


def studies(root: Path) -> list[str]:
    """The names of all studies here."""
    return sorted(path.parent.name for path in (root / STUDIES).glob(f"*/{NAME}"))


def history_of(name: str, root: Path) -> History:
    """Raises TraceError where there is no such study."""
    history = fold(read(root / STUDIES / name))
    if history is None:
        raise TraceError(f"there is no study {name} here; studies: {', '.join(studies(root)) or 'none yet'}")
    return history


def ids(folder: Path) -> dict[str, Any]:
    """Which run of MLflow is whose, as the recorder wrote it beside the ledger."""
    path = folder / IDS
    nothing: dict[str, Any] = {"tracking_uri": "", "experiment_id": None, "parent": None, "runs": {}}
    return artifacts.read_sealed(path) if path.exists() else nothing


def current(root: Path) -> dict[str, Any]:
    """The content of the current model's ``run.json``; empty where there is none."""
    path = root / artifacts.MODEL / "run.json"
    return artifacts.read_json(artifacts.verified(path.parent) / path.name) if path.exists() else {}


def _keys(name: str, history: History) -> str:
    if not history.runs:
        return "none yet"
    members, finals = history.members, [run.key for run in history.finals]
    return f"{name}/{members[0].key} to {name}/{members[-1].key}" + (
        f" and finals {name}/{finals[0]} to {finals[-1]}" if finals else ""
    )


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def rows_of(path: Path) -> list[list[str]]:
    """The trials in each row of a leader board; none where there is no report."""
    if not path.exists():
        return []
    artifacts.verified(path.parent)
    with path.open(newline="") as file:
        return [row["trials"].split() for row in csv.DictReader(file)]
