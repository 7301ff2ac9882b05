"""The lineage of one training: from the report row by study, trial, seed, code and data to the bytes of its model."""

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
IDS = "mlflow.json"  # in a study's folder: the MLflow ids of its runs
WEIGHTS = "weights.safetensors"
NOTHING = "–"
SAME = "same configuration and data"


class TraceError(UsageError):
    """A text that names no result here; the message lists the possible forms."""


@dataclass(frozen=True)
class Step:
    """One link of the chain. note : a remark; link : address of its page"""

    name: str
    value: str
    note: str = ""
    link: str | None = None


@dataclass(frozen=True)
class Trace:
    """The lineage of one training."""

    title: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)


def render(traced: Trace) -> Text:
    """Return the lineage for a terminal; print it with ``soft_wrap``, so that digests and addresses can be copied."""
    width = max(len(step.name) for step in traced.steps) + 2
    text = Text(f"{traced.title}\n", style="bold")
    lines = Text()
    for step in traced.steps:
        lines.append(f"{step.name:<{width}}", style="dim").append(
            f"{step.value}\n", style=f"link {step.link}" if step.link else ""
        )
        for extra in (step.note, step.link):
            if extra:
                lines.append(f"{'':<{width}}{extra}\n", style="dim")
    lines.right_crop(1)
    return Text.assemble(text, lines)


def of_study(name: str, key: str | None, root: Path) -> Trace:
    """Return the lineage of a study's run; ``key`` None: the winner, else the best trial. Raises TraceError."""
    history = history_of(name, root)
    if key is None:
        default = history.runs.get(str(history.winner.trial)) if history.winner else history.best()
        if default is None:
            raise TraceError(f"{name} has no complete trial yet; give one of its runs: {_keys(name, history)}")
        key = default.key
    if key not in history.runs:
        raise TraceError(f"{name} has no run {key}; it has {_keys(name, history)}")
    run = history.runs[key]
    lineage, folder = history.lineage, root / STUDIES / name / "runs" / key
    recorded = ids(root / STUDIES / name)
    steps = (
        _report_row(name, run, root),
        _mlflow(recorded | {"run_id": recorded["runs"].get(key)}, f"not recorded; see `study status {name} --verify`"),
        Step("run", _relative(folder, root), _promoted(run, history, root)),
        Step("trial", f"{run.key}, {run.state}", _standing(run, history)),
        _study(history, recorded),
        Step("configuration", _config_hash(run, history), f"without its seed {run.group}; proposed by {run.origin}"),
        Step("seed", str(run.seed), f"split seed {lineage.dataset.split_seed}"),
        _commit(lineage),
        _data(run.fingerprint or history.spec.fingerprint, history.spec.params.data.name, root),
        _model(folder, root),
    )
    return Trace(f"{name}/{key}", steps)


def of_current(root: Path) -> Trace:
    """Return the lineage of ``models/current``. Raises TraceError if there is none."""
    about = current(root)
    if not about:
        raise TraceError(f"there is no model in {artifacts.MODEL}; train one with `dvc repro`")
    trials = [f"{name}/{run.key}" for name, run in _same_configuration(about, root)]
    steps = (
        Step("report row", artifacts.REPORT.as_posix(), "" if (root / artifacts.REPORT).exists() else "not written yet"),
        _mlflow(about, "not tracked"),
        Step("run", artifacts.MODEL.as_posix(), f"{about['state']}, started {about['started']}"),
        Step("trial", ", ".join(trials) or NOTHING, SAME if trials else "no trial here has its configuration and data"),
        Step("study", ", ".join(dict.fromkeys(trial.partition("/")[0] for trial in trials)) or NOTHING),
        Step("configuration", about["config_hash"]),
        Step("seed", str(about["seed"]), f"split seed {about['params']['data']['seed']}"),
        _commit(Lineage.of(about)),
        _data(about["data_fingerprint"], about["params"]["data"]["name"], root),
        _model(root / artifacts.MODEL, root),
    )
    return Trace(f"{artifacts.MODEL} ({about['name']})", steps)


def _study(history: History, recorded: Mapping[str, Any]) -> Step:
    spec, parent = history.spec, recorded["parent"]
    note = f"space {spec.space}, {spec.study.sampler}, begun {_date(history.created)}"
    page = run_link(dict(recorded) | {"run_id": parent}) if parent else None
    return Step("study", spec.name, note + (f"; its run in MLflow {parent}" if parent else ""), page)


def _report_row(name: str, run: Run, root: Path) -> Step:
    page = REPORTS / name / "index.html"
    rows = rows_of(root / page.with_name("leaderboard.csv"))
    rank = next((number for number, trials in enumerate(rows, 1) if str(run.trial) in trials), None)
    if not (root / page).exists():
        return Step("report row", NOTHING, f"no report yet; `study report {name}` writes it")
    place = f"row {rank} of {len(rows)} of the leader board" if rank else "not on the leader board when it was written"
    return Step("report row", f"{page}#{run.trial}", place)


def _mlflow(recorded: Mapping[str, Any], missing: str) -> Step:
    if not recorded.get("run_id"):
        return Step("MLflow run", NOTHING, missing)
    return Step("MLflow run", recorded["run_id"], f"in {without_password(recorded['tracking_uri'])}", run_link(recorded))


def _standing(run: Run, history: History) -> str:
    """Return the role and result of a run in its study."""
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
    """Return the digest of a run's configuration, as in ``run.json`` and MLflow's tags."""
    data = to_tree(history.spec.params.data)
    data["mirror"] = data["mirror"] and without_password(data["mirror"])
    return digest({"data": data, **run.config.tree})


def _promoted(run: Run, history: History, root: Path) -> str:
    about = current(root)
    same = (
        bool(about)
        and about["data_fingerprint"] == history.spec.fingerprint
        and _recipe(about["params"]) == _recipe(run.config.tree)
    )
    return f"{artifacts.MODEL} has the {SAME}" if same else ""


def _same_configuration(about: Mapping[str, Any], root: Path) -> Iterator[tuple[str, Run]]:
    """Yield the trials of all studies here with the configuration and data of the current model."""
    recipe = _recipe(about["params"])
    for name in studies(root):
        history = history_of(name, root)
        if history.spec.fingerprint == about["data_fingerprint"]:
            yield from ((name, run) for run in history.trials if _recipe(run.config.tree) == recipe)


def _recipe(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the sections model and train, without the keys that promotion does not change."""
    return config["model"], {name: value for name, value in config["train"].items() if name not in STAY}


def studies(root: Path) -> list[str]:
    """Return the names of all studies here."""
    return sorted(path.parent.name for path in (root / STUDIES).glob(f"*/{NAME}"))


def history_of(name: str, root: Path) -> History:
    """Return the history of a study. Raises TraceError if it does not exist."""
    history = fold(read(root / STUDIES / name))
    if history is None:
        raise TraceError(f"there is no study {name} here; studies: {', '.join(studies(root)) or 'none yet'}")
    return history


def ids(folder: Path) -> dict[str, Any]:
    """Return the MLflow ids of a study and its runs, which the recorder wrote beside the ledger."""
    path = folder / IDS
    nothing: dict[str, Any] = {"tracking_uri": "", "experiment_id": None, "parent": None, "runs": {}}
    return artifacts.read_sealed(path) if path.exists() else nothing


def current(root: Path) -> dict[str, Any]:
    """Return the content of the current model's ``run.json``; empty if there is none."""
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
    """Return the trials in each row of a leader board; empty without a report."""
    if not path.exists():
        return []
    artifacts.verified(path.parent)
    with path.open(newline="") as file:
        return [row["trials"].split() for row in csv.DictReader(file)]
