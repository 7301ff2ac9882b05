"""A number as a source prints it: its value, how far rounding can have moved it, and ours in the same form."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pipeline.config import ConfigError
from pipeline.report import formats

KINDS = {  # of figures, each with its name for people
    "share": {
        "train_accuracy": "train accuracy",
        "validation_accuracy": "validation accuracy",
        "test_accuracy": "test accuracy",
        "test_recall_weighted": "test recall, weighted",
        "test_f1_weighted": "test F1, weighted",
        "photographs_accuracy": "accuracy on photographs",
    },
    "loss": {
        "train_loss": "train loss",
        "validation_loss": "validation loss",
        "test_loss": "test loss",
        "photographs_loss": "loss on photographs",
    },
    "count": {"epochs_run": "epochs run", "trainable_parameters": "trainable parameters"},
}
EARLIER = {"first_": ", epoch 1", "before_training_": ", untrained"}  # begins a name → ends it for people
NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?( %)?")
OF = re.compile(r"(\d+) of ([1-9]\d*)")


@dataclass(frozen=True)
class Figure:
    """A figure of a source.

    text : digit for digit; value : of a share in [0, 1], a loss >= 0, a whole number of a count
    half_unit : half of what the last printed digit counts, in the value's unit: the number lay within ± this; 0 for counts
    unit : ``%``, ``of 10``, or nothing
    """

    text: str
    value: float
    half_unit: float
    unit: str

    @classmethod
    def of(cls, name: str, text: object) -> Figure:
        """Read the figure of a name.

        Raises
        ------
        ConfigError
            There is no such figure, its text is no number in quotes, or its value cannot be.
        """
        kind = kind_of(name)
        if not isinstance(text, str):
            raise ConfigError(f"{name}: must be text in quotes, so that the printed digits are known, got {text!r}")
        figure = _read(text)
        if figure is None:
            raise ConfigError(f"{name}: must be a number like 0.0624, 97.93 % or 9 of 10, got {text!r}")
        if kind == "share" and figure.value > 1:
            raise ConfigError(f"{name}: must be a share like 97.93 % or 0.9793, got {text!r}")
        if kind != "share" and figure.unit:
            raise ConfigError(f"{name}: must be a number without unit, got {text!r}")
        if kind == "count" and figure.value % 1:
            raise ConfigError(f"{name}: must be a whole number, got {text!r}")
        return replace(figure, half_unit=0.0) if kind == "count" else figure


def kind_of(name: str) -> str:
    """``share``, ``loss`` or ``count``.

    Raises
    ------
    ConfigError
        There is no figure of this name.
    """
    plain, _ = _plain(name)
    kind = next((kind for kind, names in KINDS.items() if plain in names), None)
    if kind is None or (kind == "count" and plain != name):
        known = ", ".join(name for names in KINDS.values() for name in names)
        raise ConfigError(
            f"{name}: no such figure; there are {known}, shares and losses also with {' or '.join(EARLIER)} before it"
        )
    return kind


def _plain(name: str) -> tuple[str, str]:
    """Split a name into that of the last epoch's figure, and what tells the epoch."""
    return next(((name.removeprefix(prefix), end) for prefix, end in EARLIER.items() if name.startswith(prefix)), (name, ""))


def title(name: str) -> str:
    """``validation accuracy, epoch 1`` for ``first_validation_accuracy``."""
    plain, end = _plain(name)
    return KINDS[kind_of(name)][plain] + end


def written(name: str, reported: Figure | None, value: float | None) -> str:
    """Write a value of ours as the source writes the same figure; what is unknown is an en dash."""
    if value is None:
        return formats.NOTHING
    kind = kind_of(name)
    if kind == "count":
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    if kind == "loss" or (reported is not None and not reported.unit):
        return f"{value:.4f}"
    return formats.percent(value)


def interval(name: str, reported: Figure | None, ends: tuple[float, float] | None) -> str:
    """``97.60 to 98.35 %``, the unit once."""
    return formats.NOTHING if ends is None else formats.span(*ends, lambda value: written(name, reported, value))


def _read(text: str) -> Figure | None:
    if match := OF.fullmatch(text):
        right, total = map(int, match.groups())
        return Figure(text, right / total, 0.0, f"of {total}")
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, decimals, percent = match.groups()
    places = len(decimals or "") + (2 if percent else 0)
    digits = int(whole.replace(",", "") + (decimals or ""))
    return Figure(text, digits / 10**places, 0.5 / 10**places, "%" if percent else "")
