"""Map a study's history to Optuna's storage and MLflow: names, tags, parameters, points, states.

All times are the ledger's, in milliseconds since 1970. Points with the same name, value, time and step are one point for MLflow,
so everything can be written repeatedly.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

from pipeline.config import SHAPES_TRAINING, to_tree
from pipeline.epochs import MEASURES
from pipeline.lineage import digest, without_password
from pipeline.tracking import Dataset, epoch_metrics, flatten, number, tag_text
from study.state.history import ENDED, History, Run
from study.state.ledger import Event
from study.state.objective import OBJECTIVES
from study.state.records import Epoch, content_of
from study.state.spec import MAY_CHANGE

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
WAITING = "SCHEDULED"  # MLflow's status of a run that is neither running nor ended
OUTCOME = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
CURVE = "validation/accuracy"  # stands for all metrics, as the points of an epoch are written together
REPORTED = 10  # approximate number of a trial's intermediate values in Optuna's storage: each costs a transaction


class Point(NamedTuple):
    """One point of a curve; metrics of a run as a whole are at step 0."""

    name: str
    value: float
    time: int
    step: int = 0


def identity(created: Event) -> str:
    """Return 16 hex digits that identify a study, independent of its folder; studies of equal name differ."""
    return digest([created["time"], created["spec"]["name"], created["spec"]["tree"], created["spec"]["fingerprint"]])


def slug(name: str) -> str:
    """Return a name that MLflow accepts: ``model.conv.0.out`` for ``model.conv[0].out``."""
    return re.sub(r"[^/\w.\- :]", "_", re.sub(r"\[(\d+)\]", r".\1", name))[:250]


# -- the study as a whole


def study_tags(history: History) -> dict[str, str]:
    """Return the tags of the parent run; they hold the study settings that a session may change, as parameters cannot change."""
    spec, lineage = history.spec, history.lineage
    study = flatten({"study": to_tree(spec.params)["study"]})
    tags = {
        "kind": "study",
        "study": spec.name,
        "space": spec.space,
        "sampler": spec.study.sampler,
        "pruner": spec.study.pruner,
        "objectives": ", ".join(spec.study.objectives),
        "data_fingerprint": spec.fingerprint,
        "git_commit": lineage.git_commit,
        "git_dirty": lineage.git_dirty,
        **{f"study.{key}": study[f"study.{key}"] for key in MAY_CHANGE if f"study.{key}" in study},
    }
    return {name: tag_text(value) for name, value in tags.items() if value is not None} | _source(history, "study")


def study_params(history: History) -> dict[str, str]:
    """Return the base configuration of the trials and the search settings."""
    tree = to_tree(history.spec.params)
    tree["study"] = {key: value for key, value in tree["study"].items() if key not in MAY_CHANGE}
    return flatten({section: tree[section] for section in (*SHAPES_TRAINING, "study")})


def study_inputs(history: History) -> list[Dataset]:
    """Return the train and validation splits; a search sees no other images."""
    info, folder = history.lineage.dataset, history.lineage.data
    if not info.counts:
        return []

    def split(name: str, context: Literal["training", "validation"]) -> Dataset:
        return Dataset(info.name, context, info.fingerprint, folder, (info.images[name], *info.shape), len(info.classes))

    return [split("train", "training"), split("validation", "validation")]


def study_status(history: History, alive: bool = True) -> str:
    """Return MLflow's status of a study; ``alive``: its coordinator is running (a killed one has not closed the session)."""
    last = history.sessions[-1] if history.sessions else None
    if last is not None and last["kind"] == "closed":
        return OUTCOME[last["outcome"]]
    return "RUNNING" if alive else "KILLED"


def study_end(history: History) -> int:
    """Return the time of the study's last session event."""
    return int(history.sessions[-1]["time"]) if history.sessions else history.created


def study_points(history: History) -> list[Point]:
    """Return the results of the study after its last session."""
    values: dict[str, float] = {
        "trials": len(history.members),
        "trials/complete": history.count("COMPLETE"),
        "trials/pruned": history.count("PRUNED"),
        "trials/failed": history.count("FAIL"),
        "seconds": sum(run.seconds for run in history.runs.values()),
    }
    best = history.best()
    if best is not None and best.values:
        values |= {f"best/{name}": value for name, value in zip(history.spec.study.objectives, best.values, strict=True)}
        values["best/trial"] = best.trial
    values |= {f"winner/{name}": value for name, value in _winning(history).items()}
    if history.test:
        values |= {
            f"test/{name}": value for name, value in content_of(history.test).items() if _is_number(value) and name != "trial"
        }
    return [Point(name, number(value), study_end(history)) for name, value in values.items()]


def note(history: History) -> str:
    """Return the description of the study's run: the winner or best trial, and the numbers of trials."""
    spec, best = history.spec, history.best()
    states = Counter(run.state for run in history.members)
    counts = f"{states.total()} {spec.kind.noun}s: " + ", ".join(f"{states[state]} {state.lower()}" for state in sorted(states))
    if history.winner and history.winner.summary:
        head = f"**{history.winner.summary}**"
    elif best is not None and best.values:
        values = ", ".join(f"{name} {value:.4g}" for name, value in zip(spec.study.objectives, best.values, strict=True))
        head = f"**Best so far: trial {best.trial}**, {values}; one training, not confirmed on other seeds."
    elif spec.kind.plan:
        head = f"**{spec.title}**"
    else:
        head = "**No trial has completed.**"
    last = history.sessions[-1] if history.sessions else {}
    why = [f"It stopped: {last['reason']}"] if last.get("reason") else []
    how = "" if spec.kind.plan else f"Space {spec.space}, {spec.study.sampler}, {spec.study.pruner}. "
    return "\n\n".join([head, f"{how}{counts.rstrip(': ')}.", *why])


def _winning(history: History) -> dict[str, float]:
    entry = history.winner and (history.winner.own or history.winner)
    kept = ("trial", "mean", "low", "high", "n", "parameters", "optimism")
    return {name: getattr(entry, name) for name in kept if _is_number(getattr(entry, name, None))}


# -- one training


KINDS = {"search": "trial", "final": "finalist", "planned": "planned"}


def run_name(run: Run) -> str:
    if run.phase == "planned":
        return f"{run.origin}, seed {run.seed}"
    return f"trial {run.trial}" if run.phase == "search" else f"finalist {run.trial}, seed {run.replicate}"


def run_tags(history: History, run: Run) -> dict[str, str]:
    """Return the tags of a training that are known at its start."""
    tags = {
        "kind": KINDS[run.phase],
        "study": history.spec.name,
        "trial": run.trial,
        "family": "cnn" if run.config.tree["model"]["conv"] else "mlp",
        "seed_group": run.group,
        "replicate": run.replicate,
        "origin": run.origin,
        "seed": run.seed,
        "parameters": run.parameters,
        "multiply_adds": run.multiply_adds,
        "config_hash": digest({"data": _data(history), **run.config.tree}),
        "data_fingerprint": run.fingerprint or history.spec.fingerprint,
        "git_commit": history.lineage.git_commit,
    }
    return {name: tag_text(value) for name, value in tags.items() if value is not None} | _source(history, run.phase)


def state_tags(run: Run) -> dict[str, str]:
    """Return the tags of a training's state, with cause and reason if there are any."""
    tags = {"state": run.state, "cause": run.cause, "reason": run.reason, "kept_epoch": run.kept_epoch}
    return {name: tag_text(value) for name, value in tags.items() if value is not None}


def run_params(run: Run) -> dict[str, str]:
    """Return the searched parameters and the resulting configuration by name; a searched value has precedence."""
    config = {slug(name): value for name, value in flatten(run.config.tree).items()}
    return config | {slug(name): value for name, value in flatten(run.params).items()}


def curve(run: Run, after: int = 0) -> list[Point]:
    """Return the points of all epochs after the first ``after``."""
    return [
        Point(name, number(value), epoch.time, epoch.epoch)
        for epoch in run.epochs[after:]
        for name, value in epoch_metrics(_measured(epoch)).items()
    ]


def _measured(epoch: Epoch) -> dict[str, float]:
    return {name: value for name, value in asdict(epoch).items() if name not in ("epoch", "time") and value is not None}


def results(run: Run) -> list[Point]:
    """Return the results of an ended training."""
    values: dict[str, float | None] = {"seconds": run.seconds, "epochs": len(run.epochs), "latency_ms": run.latency}
    values |= {f"best/validation_{name}": OBJECTIVES[name].value(run) for name in MEASURES}
    return [Point(name, number(value), run.ended or 0) for name, value in values.items() if value is not None]


def scores(run: Run) -> list[Point]:
    """Return the test scores of a reproduction's training."""
    values = content_of(run.test) if run.test else {}
    return [
        Point(f"test/{name}", number(value), run.test.time) for name, value in values.items() if run.test and _is_number(value)
    ]


def run_status(run: Run, open_session: bool) -> str:
    """Return MLflow's status of a training; without an open session an unfinished one is waiting."""
    return STATUS.get(run.state, "RUNNING" if open_session else WAITING)


def models(history: History) -> list[Run]:
    """Return the trainings that get an MLflow model: exporting one takes as long as a short trial.

    The first seed of each finalist, all seeds of the winner, and after the session the best trial; or all trainings.
    """
    done = [run for run in history.runs.values() if run.state == "COMPLETE"]
    if history.spec.params.tracking.models == "all":
        return done
    winner = history.winner.trial if history.winner else None
    closed = bool(history.sessions) and history.sessions[-1]["kind"] == "closed"
    best = history.best() if closed else None
    finals = [run for run in done if run.phase == "final" and (run.replicate == 0 or run.trial == winner)]
    return finals + ([best] if best else [])


# -- Optuna


def reported(history: History, run: Run) -> dict[int, float]:
    """Return the intermediate values for Optuna's storage by epoch: about ten, and one at each end of a segment.

    Each is the first objective of the weights kept then; none with several objectives, which Optuna does not support.
    """
    if len(history.spec.study.objectives) > 1:
        return {}
    stride = math.ceil(run.config.train.epochs / REPORTED)
    stops = {segment.last for segment in run.segments} | ({len(run.epochs)} if run.state in ENDED else set())
    return {
        reached: number(value)
        for reached, kept in enumerate(run.course(), 1)
        if (reached % stride == 0 or reached in stops) and (value := history.spec.quality.of(kept)) is not None
    }


def _data(history: History) -> dict[str, Any]:
    """Return section data as the stages digest it: without the password of a mirror."""
    tree = to_tree(history.spec.params)["data"]
    return tree | {"mirror": tree["mirror"] and without_password(tree["mirror"])}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _source(history: History, entry: str) -> dict[str, str]:
    commit = history.lineage.git_commit
    git = {"mlflow.source.git.commit": commit} if commit else {}
    return {"mlflow.source.name": f"study run ({entry})", "mlflow.source.type": "LOCAL", **git}
