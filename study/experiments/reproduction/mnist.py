"""What the sources' figures are shares of: the parts of MNIST as published (LeCun, Cortes & Burges 1998)."""

from __future__ import annotations

from collections.abc import Sequence

TRAIN, TEST = 60_000, 10_000  # images
SHAPE = (1, 28, 28)  # of one, (channels, height, width)
CLASSES = 10
TEST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)  # test images of each digit


def n_classes(merge: Sequence[Sequence[int]] | None) -> int:
    """Classes that are left after a merge."""
    return CLASSES if merge is None else len(merge)
