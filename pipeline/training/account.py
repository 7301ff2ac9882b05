"""The summary of a training: the content of ``run.json``, and the tags, metrics and headline of its MLflow run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from pipeline import lineage
from pipeline.config import SHAPES_TRAINING, Model, Params, to_tree
from pipeline.data.dataset import DatasetInfo
from pipeline.epochs import Epoch
from pipeline.models.plan import plan
from pipeline.tracking import Dataset, Recorded, epoch_metrics, tag_text
from pipeline.training.loop import Training
from pipeline.verdict import Verdict

Account = dict[str, Any]
Context = Literal["training", "validation", "testing"]

CONTEXTS: dict[str, Context] = {"train": "training", "validation": "validation", "test": "testing"}
COLUMNS = {field.name: int if field.name == "epoch" else float for field in fields(Epoch)}


def before(params: Params, info: DatasetInfo, device: torch.device) -> Account:
    """Return the part of ``run.json`` that is known before training.

    ``config_hash`` identifies the configuration; ``key`` identifies all that a resumed training must share with its checkpoint:
    network, settings, data, device, code and PyTorch.
    """
    tree = to_tree(params)
    tree["data"]["mirror"] = params.data.mirror and lineage.without_password(params.data.mirror)
    config_hash = lineage.digest({section: tree[section] for section in SHAPES_TRAINING})
    layers = plan(params.model, info.shape, len(info.classes))
    commit, dirty = lineage.git_state(Path.cwd())
    code = lineage.code_digest("training", "models")
    return {
        "name": f"{info.name} {describe(params.model)} #{config_hash[:4]}",
        "key": lineage.digest([tree["model"], tree["train"], info.fingerprint, device.type, code, torch.__version__]),
        "params": tree,
        "config_hash": config_hash,
        "data_fingerprint": info.fingerprint,
        "git_commit": commit,
        "git_dirty": dirty,
        "seed": params.train.seed,
        "parameters": layers.parameters,
        "trainable_parameters": layers.parameters,
        "multiply_adds": layers.multiply_adds,
        "device": device.type,
        "device_name": lineage.device_name(device),
        "threads": params.train.threads,
        "environment": lineage.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def after(training: Training) -> Account:
    """Return the part of ``run.json`` that describes the outcome of training."""
    seconds = sum(epoch.seconds for epoch in training.history)
    return {
        "state": "diverged" if training.diverged else "finished",
        "reason": training.diverged,
        "best_epoch": training.best_epoch,
        "kept_epoch": training.kept_epoch,
        "epochs_run": len(training.history),
        "stopped_early": training.stopped_early,
        "seconds": seconds,
        "images_per_second": len(training.history) * training.epoch_images / seconds if seconds else None,
    }


def record(recorded: Recorded) -> Account:
    """Return the part of ``run.json`` that identifies the MLflow run; all null without one."""
    return {name: value for name, value in asdict(recorded).items() if name != "problem"}


def describe(model: Model) -> str:
    """Return a short description of an architecture: ``conv 16-8-4, dense 50``."""
    widths = {"conv": [block.out for block in model.conv], "dense": [block.out for block in model.dense]}
    return ", ".join(f"{kind} {'-'.join(map(str, outs))}" for kind, outs in widths.items() if outs) or "linear"


def datasets(info: DatasetInfo, splits: Mapping[str, Path]) -> list[Dataset]:
    """Return the splits that a run reads, for MLflow; ``splits`` maps their names to their folders."""
    return [
        Dataset(
            info.name,
            CONTEXTS[split],
            info.fingerprint,
            str(folder),
            (sum(info.counts[split]), *info.shape),
            len(info.classes),
        )
        for split, folder in splits.items()
    ]


def tags(about: Account, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the lineage of a training as MLflow tags."""
    names = ("config_hash", "data_fingerprint", "git_commit", "git_dirty", "seed", "parameters", "device", "device_name")
    own = {name: tag_text(about[name]) for name in names}
    dvc = {f"dvc.{name}": environ[f"DVC_{name.upper()}"] for name in ("stage", "exp_name") if f"DVC_{name.upper()}" in environ}
    return {**own, **dvc, "kind": "train"}


def metrics(epoch: Epoch) -> dict[str, float]:
    """Return the metrics of an epoch by MLflow's names."""
    return epoch_metrics({name: value for name, value in asdict(epoch).items() if name != "epoch" and value is not None})


def write_history(history: Sequence[Epoch], folder: Path) -> None:
    pd.DataFrame([asdict(epoch) for epoch in history], columns=list(COLUMNS)).to_csv(folder / "history.csv", index=False)


def read_history(folder: Path) -> pd.DataFrame:
    """Return one row per epoch, all columns numeric; no rows if training diverged in its first epoch."""
    return pd.read_csv(folder / "history.csv", dtype=COLUMNS)


def headline(training: Training) -> str:
    """Return the result of a training as one sentence."""
    if training.diverged:
        return f"Diverged: {training.diverged}. A lower train.lr usually helps."
    kept = training.history[training.kept_epoch - 1]
    early = ", stopped early" if training.stopped_early else ""
    return f"Validation accuracy {kept.validation_accuracy:.2%} at epoch {kept.epoch} of {len(training.history)}{early}."


def note(metrics: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    """Return the description of an evaluated run for MLflow, as Markdown."""
    test, validation = metrics["accuracy"], metrics["validation_accuracy"]
    lines = [
        f"**Test accuracy {test['value']:.2%}**, 95 % interval {test['low']:.2%} to {test['high']:.2%}, n = {test['n']:,}. "
        f"Validation accuracy {validation['value']:.2%}.",
        *(f"- {verdict.level}: **{verdict.title}.** {verdict.evidence}" for verdict in verdicts),
    ]
    return "\n\n".join((lines[0], "\n".join(lines[1:])))
