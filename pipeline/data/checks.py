"""Check the splits for duplicates, label conflicts, imbalance and blank images; report verdicts with their evidence."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data.dataset import Split
from pipeline.data.duplicates import NEAR, Pair, Place, across, groups, near
from pipeline.verdict import Verdict

IMBALANCE = 3.0  # largest over smallest class
LEAK = 0.01  # share of a held-out split; from here on its accuracy cannot be trusted
SHOWN = 6  # examples of each finding
PER_CLASS = 8  # example images
THUMBNAIL = 64  # pixels


class Gallery:
    """Describes single images: place, name, class and thumbnail."""

    def __init__(self, splits: Mapping[str, Split], origins: Mapping[str, Sequence[str]], classes: Sequence[str]) -> None:
        self.splits, self.origins, self.classes = splits, origins, classes

    def name(self, place: Place) -> str:
        return f"{place.split}[{place.index}] ({self.origins[place.split][place.index]})"

    def label(self, place: Place) -> int:
        return int(self.splits[place.split].labels[place.index])

    def show(self, place: Place) -> dict[str, Any]:
        picture = thumbnail(self.splits[place.split].images[place.index])
        origin = self.origins[place.split][place.index]
        return {**asdict(place), "origin": origin, "class": self.classes[self.label(place)], "png": picture}


def check(splits: Mapping[str, Split], origins: Mapping[str, Sequence[str]], classes: Sequence[str]) -> dict[str, Any]:
    """Check the three splits.

    Parameters
    ----------
    splits : train, validation, test, in this order
    origins : by split, for each image its file or its place in the published data

    Returns
    -------
    The content of ``checks.json``: ``verdicts``; ``counts`` per class and split; ``duplicates`` with ``exact``, ``near`` and
    ``conflicting``, each ``{"count", "examples": [[image, image, similarity]]}``; ``constant`` ``{"count", "examples"}``;
    ``examples``: base64 PNGs by class.
    """
    gallery, train = Gallery(splits, origins, classes), splits["train"]
    same = groups(splits)
    exact, alike = across(same), _near(splits)
    conflicting = [_conflict(group, gallery) for group in same if len({gallery.label(place) for place in group}) > 1]
    constant = [
        Place(name, int(index))
        for name, split in splits.items()
        for index in np.flatnonzero(split.images.min(axis=(1, 2, 3)) == split.images.max(axis=(1, 2, 3)))
    ]
    counts = {name: np.bincount(split.labels, minlength=len(classes)) for name, split in splits.items()}
    return {
        "verdicts": [
            asdict(verdict)
            for verdict in (
                _exact_verdict(exact, gallery),
                _near_verdict(alike, gallery),
                _conflict_verdict(conflicting, gallery),
                _balance_verdict(counts["train"], classes),
                _constant_verdict(constant, gallery),
            )
        ],
        "counts": {name: dict(zip(classes, count.tolist(), strict=True)) for name, count in counts.items()},
        "duplicates": {
            name: {"count": len(pairs), "examples": [_show(pair, gallery) for pair in pairs[:SHOWN]]}
            for name, pairs in (("exact", exact), ("near", alike), ("conflicting", conflicting))
        },
        "constant": {"count": len(constant), "examples": [gallery.show(place) for place in constant[:SHOWN]]},
        "examples": {
            name: [thumbnail(train.images[index]) for index in np.flatnonzero(train.labels == label)[:PER_CLASS]]
            for label, name in enumerate(classes)
        },
    }


def thumbnail(image: np.ndarray) -> str:
    """Return a uint8 image (1 or 3, height, width) as base64 PNG, at most 64 pixels in each direction."""
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _near(splits: Mapping[str, Split]) -> list[Pair]:
    """Return the near duplicates of each split in earlier splits, at most one pair per image and earlier split."""
    names = list(splits)
    return sorted(
        (
            Pair(Place(later, a), Place(earlier, b), similarity)
            for position, later in enumerate(names)
            for earlier in names[:position]
            for a, b, similarity in near(splits[earlier], splits[later])
        ),
        key=lambda pair: -pair.similarity,
    )


def _conflict(group: Sequence[Place], gallery: Gallery) -> Pair:
    first = group[0]
    return Pair(next(place for place in group if gallery.label(place) != gallery.label(first)), first, 1.0)


def _exact_verdict(pairs: Sequence[Pair], gallery: Gallery) -> Verdict:
    if not pairs:
        return Verdict("good", "No image is in two splits", f"{_total(gallery)} images compared pixel by pixel")
    remedy = "Remove the copies, or put all copies of an image into the same split"
    title = f"Validation and test hold {_copies(pairs)} of images in an earlier split"
    return Verdict(_severity(pairs, gallery), title, _evidence(pairs, gallery), remedy)


def _near_verdict(pairs: Sequence[Pair], gallery: Gallery) -> Verdict:
    rule = f"correlation r with r² >= {NEAR**2:.2f}, brightness and contrast removed"
    if not pairs:
        return Verdict("good", "Validation and test hold no near copy of images in an earlier split", f"no pair reaches {rule}")
    remedy = "Look at the pairs; put pictures of the same thing (bursts, crops, recompressed copies) into the same split"
    title = f"Validation and test hold {_copies(pairs, 'near ')} of images in an earlier split"
    return Verdict(_severity(pairs, gallery), title, f"{rule}; {_evidence(pairs, gallery)}", remedy)


def _conflict_verdict(pairs: Sequence[Pair], gallery: Gallery) -> Verdict:
    if not pairs:
        return Verdict("good", "No image has two different labels", "all exact copies agree")
    listed = [
        f"{gallery.name(p.earlier)} is {gallery.classes[gallery.label(p.earlier)]}, "
        f"{gallery.name(p.held_out)} is {gallery.classes[gallery.label(p.held_out)]}"
        for p in pairs[:SHOWN]
    ]
    return Verdict(
        "warn", f"{_images(len(pairs))} with different labels", _list(listed, len(pairs)), "Decide which label is right"
    )


def _balance_verdict(counts: np.ndarray, classes: Sequence[str]) -> Verdict:
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    ratio = counts[largest] / counts[smallest]
    spread = f"{counts[smallest]} ({classes[smallest]}) to {counts[largest]} ({classes[largest]}), {ratio:.1f} to 1"
    share = f"always answering {classes[largest]} would be right for {counts[largest] / counts.sum():.1%} of them"
    evidence = f"training images per class: {spread if ratio > 1 else counts[largest]}; {share}"
    if ratio <= IMBALANCE:
        return Verdict("good", "The classes are balanced", evidence)
    remedy = f"Judge by balanced accuracy and by the scores of each class; collect more images of {classes[smallest]}"
    return Verdict("warn", "The classes differ greatly in size", evidence, remedy)


def _constant_verdict(places: Sequence[Place], gallery: Gallery) -> Verdict:
    if not places:
        return Verdict("good", "No image is blank", f"all {_total(gallery)} images have at least two different pixels")
    listed = [gallery.name(place) for place in places[:SHOWN]]
    title = f"{_images(len(places))} of one single colour"
    return Verdict(
        "warn", title, _list(listed, len(places)), "Remove or replace them: they have a label but nothing to learn it from"
    )


def _severity(pairs: Sequence[Pair], gallery: Gallery) -> Any:
    """Return "bad" if at least 1 % of a held-out split leaked, else "warn"."""
    shares = [
        len({pair.held_out for pair in pairs if pair.held_out.split == name}) / len(split)
        for name, split in gallery.splits.items()
        if name != "train"
    ]
    return "bad" if max(shares) >= LEAK else "warn"


def _evidence(pairs: Sequence[Pair], gallery: Gallery) -> str:
    counts = {name: len({p.held_out for p in pairs if p.held_out.split == name}) for name in gallery.splits if name != "train"}
    shares = ", ".join(f"{name} {count} of {len(gallery.splits[name])}" for name, count in counts.items())
    listed = [f"{gallery.name(pair.held_out)} = {gallery.name(pair.earlier)}" for pair in pairs[:SHOWN]]
    return f"{shares}: {_list(listed, len(pairs))}"


def _copies(pairs: Sequence[Pair], kind: str = "") -> str:
    count = len({pair.held_out for pair in pairs})
    return f"1 {kind}copy" if count == 1 else f"{count} {kind}copies"


def _show(pair: Pair, gallery: Gallery) -> list[Any]:
    return [gallery.show(pair.held_out), gallery.show(pair.earlier), round(pair.similarity, 4)]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _list(examples: Sequence[str], count: int) -> str:
    return ", ".join(examples) + (f" and {count - len(examples)} more" if count > len(examples) else "")


def _total(gallery: Gallery) -> int:
    return sum(len(split) for split in gallery.splits.values())
