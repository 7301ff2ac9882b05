"""A number as a source prints it: the text, its value, and how far rounding can have moved it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pipeline.config import ConfigError

# Figures by what they measure. After epoch 1 their names begin with first_, with the initial weights with before_training_.
SHARES = (
    "train_accuracy",
    "validation_accuracy",
    "test_accuracy",
    "test_recall_weighted",
    "test_f1_weighted",
    "photographs_accuracy",
)
LOSSES = ("train_loss", "validation_loss", "test_loss", "photographs_loss")
COUNTS = ("epochs_run", "trainable_parameters")
EARLIER = ("first_", "before_training_")
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
        """The figure of a name.

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
    plain = name
    for prefix in EARLIER:
        plain = plain.removeprefix(prefix)
    kinds = {"share": SHARES, "loss": LOSSES, "count": COUNTS}
    kind = next((kind for kind, known in kinds.items() if plain in known), None)
    if kind is None or (kind == "count" and plain != name):
        known = ", ".join((*SHARES, *LOSSES, *COUNTS))
        raise ConfigError(
            f"{name}: no such figure; there are {known}, shares and losses also with {' or '.join(EARLIER)} before it"
        )
    return kind


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
