"""A whole comparison: sides, what differs in their configuration, and what separates each from the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.dataset import Split
from study.experiments.comparison.contrasts import Contrast, answers, contrast, corrected, pairs_of
from study.experiments.comparison.resolve import read, resolve
from study.experiments.comparison.settings import Setting, differences
from study.experiments.comparison.sides import Side, Training

TOLERANCE = 0.002  # of accuracy, between two devices; two images at least


@dataclass(frozen=True)
class Comparison:
    """Everything that is computed; nothing is drawn or written here.

    sides : the first is the reference that every other is compared with
    settings : what differs in their configurations
    contrasts : of each other side that was trained on the same images
    left_out : of the others, by label, why there is no contrast
    unlike : trainings whose weights do not give the accuracy that was recorded, with the one they give
    images : the validation images of the first side; None where nothing is compared on them
    """

    sides: tuple[Side, ...]
    by_seed_group: bool
    settings: tuple[Setting, ...]
    contrasts: tuple[Contrast, ...]
    left_out: Mapping[str, str]
    unlike: Mapping[str, float]
    images: Split | None

    @property
    def first(self) -> Side:
        return self.sides[0]

    def contrast_of(self, side: Side) -> Contrast | None:
        return next((item for item in self.contrasts if item.second is side), None)


def compare(words: Sequence[str], root: Path, environ: Mapping[str, str], by_seed_group: bool = False) -> Comparison:
    """Compare runs, studies or rows of ablations; all on validation images, test stays closed.

    Parameters
    ----------
    words : at least two, see :func:`study.experiments.comparison.resolve.resolve`
    root : of the project
    by_seed_group : whether a training stands for all that have its configuration

    Raises
    ------
    UsageError
        Fewer than two, one twice, a word that names nothing, or a training without weights.
    DataError
        Images have to be prepared again, and cannot be.
    """
    mirror = environ.get("STUDYLINE_MIRROR") or None
    sides = resolve(words, root, mirror, by_seed_group)
    comparable, left_out = _split(sides)
    data = read(sides[0].images, root, mirror) if comparable else None
    if comparable and data is None:
        left_out |= {side.label: f"the images of {sides[0].label} are no longer here" for side in comparable}
        comparable = []
    images = data.validation if data else None
    contrasts, unlike = _contrasts(sides, comparable, images) if images else ((), {})
    return Comparison(sides, by_seed_group, tuple(differences(sides)), contrasts, left_out, unlike, images)


def _split(sides: Sequence[Side]) -> tuple[list[Side], dict[str, str]]:
    """Return the others that share the first one's images, and why the rest do not."""
    first, *others = sides
    comparable = [side for side in others if side.same_images(first)]
    return comparable, {side.label: _why(first, side) for side in others if side not in comparable}


def _why(first: Side, other: Side) -> str:
    """Say in what their data differ."""
    here, there = first.images, other.images
    if here.name != there.name:
        return f"{other.label} was trained on {there.name}, {first.label} on {here.name}"
    if here.classes != there.classes:
        return f"{other.label} has {_classes(there.classes)}, {first.label} {_classes(here.classes)}"
    what = f"{there.validation:,} against {here.validation:,}" if there.validation != here.validation else "another split"
    return f"{other.label} was trained and validated on other images of {there.name} than {first.label} ({what})"


def _classes(names: Sequence[str]) -> str:
    return f"{len(names)} classes ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"


def _contrasts(sides: Sequence[Side], others: Sequence[Side], images: Split) -> tuple[tuple[Contrast, ...], dict[str, float]]:
    """Contrast the first side with each of the others; return the networks that do not give the recorded accuracy, too."""
    first, labels = sides[0], np.asarray(images.labels)
    needed: dict[str, Training] = {
        training.name: training for side in others for pair in pairs_of(first, side) for training in pair
    }
    given = {name: answers(training, images.images) for name, training in needed.items()}
    measured = {name: float((answer.predictions == labels).mean()) for name, answer in given.items()}
    allowed = max(TOLERANCE, 2 / len(labels)) + 1e-9
    unlike = {name: value for name, value in measured.items() if abs(value - needed[name].accuracy) > allowed}
    return corrected([contrast(sides.index(side), first, side, given, labels) for side in others]), unlike
