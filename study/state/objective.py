"""What a study may be after: each objective once, with its direction, how it is shown, and its value of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.epochs import MEASURES, Epoch
from pipeline.report import formats


class Trained(Protocol):
    """A training as far as objectives look at it; a network's sizes and its latency are attributes of these names."""

    def kept(self, upto: int | None = None) -> Epoch | None: ...


@dataclass(frozen=True)
class Objective:
    """One number of a training.

    title : as people read it
    more : whether more of it is better
    share : whether it lies in [0, 1] and is shown in percent
    example : of a limit to it
    measured : on the validation images after each epoch; else the network's own
    """

    name: str
    title: str
    example: str
    more: bool = False
    share: bool = False
    measured: bool = False

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.more else -1

    @property
    def label(self) -> str:
        """The title of an axis or a column."""
        return f"validation {self.title}" if self.measured else self.title

    @property
    def stretched(self) -> bool:
        """Whether axes are stretched towards 100 %, where the good ones crowd; others have logarithms."""
        return self.share and self.more

    @property
    def limit(self) -> str:
        """A limit as people may write it."""
        return f"{self.name}{'>=' if self.more else '<='}{self.example}"

    def cost(self, value: float | None) -> float:
        """Return the value turned so that less is better; without one there is nothing worse."""
        return float("inf") if value is None else -self.sign * value

    def value(self, run: Trained, upto: int | None = None) -> float | None:
        """Return a training's value up to an epoch, of the weights that were kept then; None where there is none.

        upto : epochs done, >= 1; a training that ended before has its last value; None: as things stand
        """
        if not self.measured:
            size: float | None = getattr(run, self.name)
            return size
        epoch = run.kept(upto)
        return None if epoch is None else self.of(epoch)

    def of(self, epoch: Epoch) -> float | None:
        """Return the value of one epoch; None where it was written by a version that did not measure it."""
        value: float | None = getattr(epoch, f"validation_{self.name}")
        return value

    def resolution(self, images: int) -> float:
        """Return the step of the values over so many validation images: one image for an accuracy; others have none."""
        return 1 / images if self.name == "accuracy" else 0.0

    def short(self, value: float | None) -> str:
        """Return a value as a terminal shows it."""
        if value is None:
            return formats.NOTHING
        return f"{value:.2%}" if self.share else f"{value:.4f}" if self.measured else f"{value:g}"

    def shown(self, run: Trained) -> str:
        """Return a training's value as a terminal shows it."""
        return self.short(self.value(run))

    def text(self, value: float | None, images: int) -> str:
        """Return a value as a page shows it.

        images : in the validation split; a percentage has as many digits as they carry
        """
        if self.share:
            return formats.percent(value, formats.digits_for(images))
        if self.measured:
            return formats.decimal(value, 4)
        return formats.milliseconds(value) if self.name == "latency" else formats.count(value)

    def plain(self, value: float, images: int) -> str:
        """Return it without its unit, as the first of two."""
        return self.text(value, images).removesuffix(f"{formats.NARROW}%")

    def signed(self, difference: float) -> str:
        """Return a difference of two values with its sign: in percentage points, or as it is."""
        return formats.signed(difference) if self.share else f"{difference:+.4f}".replace("-", "\u2212")

    def points(self, difference: float) -> str:
        """Return the same with its unit."""
        return self.signed(difference) + (" points" if self.share else "")


OBJECTIVES = {
    name: Objective(name, one.title, "0.98" if one.more else "0.1", one.more, one.share, measured=True)
    for name, one in MEASURES.items()
} | {
    "parameters": Objective("parameters", "parameters", "5000"),
    "multiply_adds": Objective("multiply_adds", "multiply-adds", "100000"),
    "latency": Objective("latency", "latency, ms", "1.5"),
}


def costs(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return values of objectives turned so that less is better."""
    return tuple(one.cost(value) for one, value in zip(objectives, values, strict=True))
