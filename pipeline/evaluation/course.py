"""Verdicts on the course of a training: diverged, learned nothing, not finished, over-fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.evaluation.statistics import p_equals
from pipeline.verdict import Verdict

LITTLE = 0.05  # of the way from guessing to perfect
FALLING = 0.20  # of the loss, still to be won at the present slope; the curve bends, so that less will be
TREND = 0.05  # p-value below which a loss counts as falling
RISE = 0.10  # of the lowest loss


def diverged(run: Mapping[str, Any]) -> Verdict | None:
    """Bad if the training stopped on a loss that is not finite, as ``run.json`` says."""
    if run["state"] != "diverged":
        return None
    kept = "in the first epoch; what is judged here are the initial weights"
    if run["epochs_run"]:
        epochs = "1 epoch" if run["epochs_run"] == 1 else f"{run['epochs_run']} epochs"
        kept = f"after {epochs}; what is judged here are the weights of epoch {run['kept_epoch']}"
    return Verdict(
        "bad",
        "Training diverged",
        f"{run['reason']}, {kept}.",
        "Lower train.lr, add train.schedule.warmup_epochs, or set model.batch_norm: true.",
    )


def learned_nothing(history: pd.DataFrame, counts: Sequence[int]) -> Verdict | None:
    """Bad if train accuracy never gets further than 5 % of the way from the majority class to perfect.

    The share of the largest class needs no look at an image; thousands of training images make the noise of the accuracy
    far smaller than the margin, and every network worth the name passes it in its first epochs.

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
    """Warn if the validation loss is still falling at the last epoch; info if its lowest value is just the last.

    Falling: over the last third of the epochs, at least four, the slope of a straight line is below 0 (one-sided t test,
    p < 0.05), and as many epochs again at that slope would save at least 20 % of the loss. A run that stopped early is
    finished by its own rule, one that diverged is not for lack of epochs, and from a loss of 0 nothing is left to win.
    """
    loss = history["validation_loss"].to_numpy()
    window = max(4, -(-len(loss) // 3))
    if run["stopped_early"] or run["state"] == "diverged" or len(loss) < 2 or loss[-1] <= 0:
        return None
    remedy = "Raise train.epochs, or train.lr, and set train.early_stopping so that it ends by itself."
    if len(loss) >= window:
        fit = stats.linregress(np.arange(window), loss[-window:], alternative="less")
        saved = -fit.slope * window / loss[-1]
        if fit.pvalue < TREND and saved >= FALLING:
            share = f"{saved:.0%}" if saved < 1 else "all"
            evidence = (
                f"Validation loss falls by {-fit.slope:.4f} per epoch over the last {window} of {len(loss)} epochs "
                f"({p_equals(fit.pvalue)}). At that slope as many epochs again would save {share} of the {loss[-1]:.4f} "
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
    """Warn, or info where the weights of the best epoch were kept, if validation got worse while training got better.

    The median of the last three validation losses is at least 10 % above the lowest, which lies before them; the train
    loss is lower at the end than at that epoch. The median keeps one unlucky epoch from counting.
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
