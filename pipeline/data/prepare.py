"""Prepare a published data set for training and evaluation: merge, split, convert, check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import artifacts
from pipeline.config import Data
from pipeline.data.checks import check
from pipeline.data.convert import convert, fingerprint, statistics
from pipeline.data.dataset import DatasetInfo, Published, SearchData, Split
from pipeline.data.split import Choice, choose, merge
from pipeline.verdict import Verdict

ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class Prepared:
    """The output of the preprocess stage.

    checks : as :func:`pipeline.data.checks.check` returns
    """

    search: SearchData
    test: Split
    checks: dict[str, Any]

    def write(self, search: Path, test: Path, checks: Path) -> None:
        """Write everything or, on an error, nothing."""
        with artifacts.atomic_folder(search) as search_folder, artifacts.atomic_folder(test) as test_folder:
            self.search.write(search_folder)
            self.test.write(test_folder, "test")
            artifacts.write_sealed(checks, self.checks)


def prepare(published: Published, section: Data) -> Prepared:
    """Merge classes, split, convert, compute statistics and check.

    Raises DataError if the labels do not allow the merge, limit or split.
    """
    labels = {part: split.labels for part, split in published.parts.items()}
    classes = published.classes
    if section.merge is not None:
        labels, classes = merge(labels, classes, section.merge)
    chosen = choose(labels, classes, section)
    splits = {name: _take(published, labels, chosen[name], section) for name in ORDER}
    mean, std = statistics(splits["train"].images)
    _, channels, height, width = splits["train"].images.shape
    info = DatasetInfo(
        name=section.name,
        classes=classes,
        shape=(channels, height, width),
        mean=mean,
        std=std,
        fingerprint=fingerprint(splits.values(), classes),
        split_seed=section.seed,
        counts={name: tuple(np.bincount(split.labels, minlength=len(classes)).tolist()) for name, split in splits.items()},
    )
    checks = check(splits, {name: _origins(published, chosen[name]) for name in ORDER}, classes)
    checks["verdicts"] += [asdict(verdict) for verdict in _scope(published, splits, section)]
    return Prepared(SearchData(info, splits["train"], splits["validation"]), splits["test"], checks)


def _take(published: Published, labels: dict[str, np.ndarray], choice: Choice, section: Data) -> Split:
    images = published.parts[choice.part].images[choice.indices]
    return Split(convert(images, section.image_size, section.channels), labels[choice.part][choice.indices])


def _origins(published: Published, choice: Choice) -> Sequence[str]:
    if published.files:
        files = published.files[choice.part]
        return [files[index] for index in choice.indices]
    return [f"published {choice.part} image {index}" for index in choice.indices]


def _scope(published: Published, splits: dict[str, Split], section: Data) -> list[Verdict]:
    """Return verdicts on the number of images read and used."""
    total, used = (sum(map(len, parts.values())) for parts in (published.parts, splits))
    evidence = f"{total} images in {', '.join(published.parts)} as published"
    verdicts = [Verdict("good", "Every file is there, unchanged and readable", evidence)]
    if used < total:
        remedy = "Set data.limit: null for final numbers"
        verdicts.append(Verdict("info", f"Only {used} of {total} images are used", f"data.limit is {section.limit}", remedy))
    return verdicts
