"""Small real inputs that many tests share."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from pipeline.data.dataset import DatasetInfo, SearchData, Split

settings.register_profile("no clock", deadline=None)  # no test fails on a clock
settings.load_profile("no clock")


def striped_images(n: int, rng: np.random.Generator, size: int = 12) -> Split:
    """``n`` noisy grey images of three learnable classes: horizontal stripes, vertical stripes, a bright square."""
    labels = np.arange(n) % 3
    patterns = np.zeros((3, size, size))
    patterns[0, ::3] = patterns[1, :, ::3] = 200
    patterns[2, 3:-3, 3:-3] = 200
    images = patterns[labels] + rng.normal(20, 12, (n, size, size))
    return Split(images.clip(0, 255).astype(np.uint8)[:, None], labels.astype(np.int64))


@pytest.fixture
def tiny_data() -> SearchData:
    """150 training and 60 validation images, 12 x 12, three classes that a small network learns in a few epochs."""
    rng = np.random.default_rng(0)
    train, validation = striped_images(150, rng), striped_images(60, rng)
    scaled = train.images / 255
    info = DatasetInfo(
        name="stripes",
        classes=("rows", "columns", "square"),
        shape=(1, 12, 12),
        mean=(float(scaled.mean()),),
        std=(float(scaled.std()),),
        fingerprint="0" * 32,
        split_seed=0,
        counts={"train": (50, 50, 50), "validation": (20, 20, 20), "test": (20, 20, 20)},
    )
    return SearchData(info, train, validation)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets beside a checkout of the project; the test skips where there is none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder ../shared/data with real data sets beside this checkout")
    return folder
