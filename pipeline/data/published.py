"""A data set as its authors give it out, before anything is chosen from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.data.dataset import Split


@dataclass(frozen=True)
class Published:
    """All images of a data set, in the parts in which they were published.

    classes : names, by label
    parts : "train", and where the authors made them "validation" and "test"
    files : of a folder of images, the file of each image, by part; else empty
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Split]
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
