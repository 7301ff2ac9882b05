"""What is told of a training: the content of ``run.json``, and the tags, metrics and headline of its MLflow run."""

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
from pipeline.tracking import Dataset, Recorded, epoch_metrics
from pipeline.training.loop import Training
from pipeline.verdict import Verdict

Account = dict[str, Any]
Context = Literal["training", "validation", "testing"]

CONTEXTS: dict[str, Context] = {"train": "training", "validation": "validation", "test": "testing"}
COLUMNS = {field.name: int if field.name == "epoch" else float for field in fields(Epoch)}


def before(params: Params, info: DatasetInfo, device: torch.device) -> Account:
    """All that is known when training starts.

    ``config_hash`` names the configuration; ``key`` all that a checkpoint must share with the training that continues it:
    network, settings, data, device, code and PyTorch.
    """
    tree = to_tree(params)
    tree["data"]["mirror"] = params.data.mirror and lineage.without_password(params.data.mirror)
    config_hash = lineage.digest({section: tree[section] for section in SHAPES_TRAINING})
    layers = plan(params.model, info.shape, len(info.classes))
    commit, dirty = lineage.git_state(Path.cwd())
    return {
        "name": f"{info.name} {describe(params.model)} #{config_hash[:4]}",
        "key": lineage.digest(
            [
                tree["model"],
                tree["train"],
                info.fingerprint,
                device.type,
                lineage.code_digest("training", "models"),
                torch.__version__,
            ]
        ),
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
    """What training came to."""
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
    """Where the MLflow run is; all null where there is none."""
    return {name: value for name, value in asdict(recorded).items() if name != "problem"}


def describe(model: Model) -> str:
    """A short name of an architecture: ``conv 16-8-4, dense 50``."""
    widths = {"conv": [block.out for block in model.conv], "dense": [block.out for block in model.dense]}
    return ", ".join(f"{kind} {'-'.join(map(str, outs))}" for kind, outs in widths.items() if outs) or "linear"


def datasets(info: DatasetInfo, splits: Mapping[str, Path]) -> list[Dataset]:
    """The splits that a run reads, by name, with the folders they are in."""
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
    """Lineage, as MLflow tags."""
    names = ("config_hash", "data_fingerprint", "git_commit", "git_dirty", "seed", "parameters", "device", "device_name")
    told = {name: str(about[name]).lower() if isinstance(about[name], bool) else str(about[name]) for name in names}
    dvc = {f"dvc.{name}": environ[f"DVC_{name.upper()}"] for name in ("stage", "exp_name") if f"DVC_{name.upper()}" in environ}
    return {**told, **dvc, "kind": "train"}


def metrics(epoch: Epoch) -> dict[str, float]:
    """An epoch's numbers under MLflow's names."""
    return epoch_metrics({name: value for name, value in asdict(epoch).items() if name != "epoch" and value is not None})


def write_history(history: Sequence[Epoch], folder: Path) -> None:
    pd.DataFrame([asdict(epoch) for epoch in history], columns=list(COLUMNS)).to_csv(folder / "history.csv", index=False)


def read_history(folder: Path) -> pd.DataFrame:
    """One row per epoch; none, but columns of numbers all the same, where training diverged in its first."""
    return pd.read_csv(folder / "history.csv", dtype=COLUMNS)


def headline(training: Training) -> str:
    """One line for people."""
    if training.diverged:
        return f"Diverged: {training.diverged}. A lower train.lr usually helps."
    kept = training.history[training.kept_epoch - 1]
    early = ", stopped early" if training.stopped_early else ""
    return f"Validation accuracy {kept.validation_accuracy:.2%} at epoch {kept.epoch} of {len(training.history)}{early}."


def note(metrics: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    """The text at the head of an evaluated run's page in MLflow, as markdown."""
    test, validation = metrics["accuracy"], metrics["validation_accuracy"]
    lines = [
        f"**Test accuracy {test['value']:.2%}**, 95 % interval {test['low']:.2%} to {test['high']:.2%}, n = {test['n']:,}. "
        f"Validation accuracy {validation['value']:.2%}.",
        *(f"- {verdict.level}: **{verdict.title}.** {verdict.evidence}" for verdict in verdicts),
    ]
    return "\n\n".join((lines[0], "\n".join(lines[1:])))
