"""Verdicts on the course of a training: diverged, learned nothing, unfinished, over-fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.evaluation.statistics import p_equals
from pipeline.verdict import Verdict

LITTLE = 0.05  # fraction of the way from guessing to perfect
FALLING = 0.20  # fraction of the loss to be gained at the present slope; curves bend, so the real gain is less
TREND = 0.05  # p-value below which a loss counts as falling
RISE = 0.10  # of the lowest loss


def diverged(run: Mapping[str, Any]) -> Verdict | None:
    """Return bad if the loss of the training became infinite or NaN; ``run`` is the content of ``run.json``."""
    if run["state"] != "diverged":
        return None
    kept = "in the first epoch; this report judges the initial weights"
    if run["epochs_run"]:
        epochs = "1 epoch" if run["epochs_run"] == 1 else f"{run['epochs_run']} epochs"
        kept = f"after {epochs}; this report judges the weights of epoch {run['kept_epoch']}"
    return Verdict(
        "bad",
        "Training diverged",
        f"{run['reason']}, {kept}.",
        "Lower train.lr, add train.schedule.warmup_epochs, or set model.batch_norm: true.",
    )


def learned_nothing(history: pd.DataFrame, counts: Sequence[int]) -> Verdict | None:
    """Return bad if train accuracy never exceeds 5 % of the way from the share of the largest class to 1.

    With thousands of training images the noise of the accuracy is far below this margin, and a working network passes it in its
    first epochs.

    counts : training images per class
    """
    majority = max(counts) / sum(counts)
    best = float(history["train_accuracy"].max())
    if best >= majority + LITTLE * (1 - majority):
        return None
    return Verdict(
        "bad",
        "The network learned nothing",
        f"Best train accuracy {best:.2%} in {len(history)} epochs; always answering the largest class gives {majority:.2%}. "
        f"Train loss {history['train_loss'].iloc[0]:.4f} to {history['train_loss'].iloc[-1]:.4f}.",
        "Try train.lr ten times lower and ten times higher; with sigmoid or tanh in many layers use relu or batch norm.",
    )


def unfinished(history: pd.DataFrame, run: Mapping[str, Any]) -> Verdict | None:
    """Return warn if the validation loss is still falling at the last epoch; info if its lowest value is the last one.

    Falling: over the last third of the epochs, at least four, the slope of a straight line is below 0 (one-sided t test,
    p < 0.05), and as many further epochs at that slope would save at least 20 % of the loss. Trainings that stopped early or
    diverged, and a loss of 0, give no verdict.
    """
    loss = history["validation_loss"].to_numpy()
    window = max(4, -(-len(loss) // 3))
    if run["stopped_early"] or run["state"] == "diverged" or len(loss) < 2 or loss[-1] <= 0:
        return None
    remedy = "Raise train.epochs or train.lr, and set train.early_stopping, which ends training in time."
    if len(loss) >= window:
        fit = stats.linregress(np.arange(window), loss[-window:], alternative="less")
        saved = -fit.slope * window / loss[-1]
        if fit.pvalue < TREND and saved >= FALLING:
            share = f"{saved:.0%}" if saved < 1 else "all"
            evidence = (
                f"Validation loss falls by {-fit.slope:.4f} per epoch over the last {window} of {len(loss)} epochs "
                f"({p_equals(fit.pvalue)}). At that slope as many further epochs would save {share} of the {loss[-1]:.4f} "
                "reached; as curves bend, expect less."
            )
            return Verdict("warn", "The validation loss is still falling at the last epoch", evidence, remedy)
    if loss.argmin() == len(loss) - 1:
        evidence = (
            f"Validation loss {loss[-1]:.4f} at epoch {len(loss)} of {len(loss)}, before that at best {loss[:-1].min():.4f}."
        )
        return Verdict("info", "The best epoch is the last", evidence, remedy)
    return None


def over_fitted(history: pd.DataFrame, run: Mapping[str, Any]) -> Verdict | None:
    """Return warn if the validation loss rose while the train loss fell; info if the weights of the best epoch were kept.

    Rose: the median of the last three validation losses is at least 10 % above an earlier minimum. Fell: the last train loss is
    below that of the minimum's epoch. The median ignores a single unlucky epoch.
    """
    train, validation = (history[f"{split}_loss"].to_numpy() for split in ("train", "validation"))
    best = int(validation.argmin())
    if best >= len(validation) - 3:
        return None
    end = float(np.median(validation[-3:]))
    if end < (1 + RISE) * validation[best] or train[-1] >= train[best]:
        return None
    kept = run["kept_epoch"] == history["epoch"].iloc[best]
    evidence = (
        f"Validation loss rises from {validation[best]:.4f} at epoch {best + 1} to {end:.4f} (median of the last three epochs), "
        f"while train loss falls from {train[best]:.4f} to {train[-1]:.4f}."
    )
    remedy = "Set train.early_stopping, or add model.dropout, train.weight_decay, train.augment or more images."
    if kept:
        return Verdict(
            "info", "The network over-fits after its best epoch", f"{evidence} The best epoch's weights are kept.", remedy
        )
    return Verdict("warn", "The network is over-fitted", evidence, f"Set train.keep: best. {remedy}")
