"""How figures of a source and ours are written, in its own form: ``97.93 %`` beside ``98.01 %``, ``0.9070`` beside ``0.9712``."""

from __future__ import annotations

from pipeline.report import formats
from study.experiments.reproduction.figure import Figure, kind_of

NAMES = {
    "train_loss": "train loss",
    "train_accuracy": "train accuracy",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "test_recall_weighted": "test recall, weighted",
    "test_f1_weighted": "test F1, weighted",
    "epochs_run": "epochs run",
    "trainable_parameters": "trainable parameters",
    "photographs_accuracy": "accuracy on photographs",
    "photographs_loss": "loss on photographs",
}


def name(figure: str) -> str:
    """``validation accuracy, epoch 1`` for ``first_validation_accuracy``."""
    for prefix, suffix in (("first_", ", epoch 1"), ("before_training_", ", untrained")):
        if figure.startswith(prefix):
            return NAMES[figure.removeprefix(prefix)] + suffix
    return NAMES[figure]


def shown(figure: str, reported: Figure | None, value: float | None) -> str:
    """A value of ours as the source writes the same figure; what is unknown is an en dash."""
    if value is None:
        return formats.NOTHING
    kind = kind_of(figure)
    if kind == "count":
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    if kind == "loss" or (reported is not None and not reported.unit):
        return f"{value:.4f}"
    return formats.percent(value)


def joined(figure: str, reported: Figure | None, low: float, high: float) -> str:
    """``97.60 to 98.35 %``, the unit once."""
    first, second = shown(figure, reported, low), shown(figure, reported, high)
    return f"{first.removesuffix(f'{formats.NARROW}%')} to {second}"


def points(share: float) -> str:
    """A difference of shares in percentage points: ``+0.40``."""
    return f"{100 * share:+.2f}".replace("-", "\u2212")


def trainings(count: int) -> str:
    return "1 training" if count == 1 else f"{count} trainings"
