"""Sizes, channels, statistics and the fingerprint."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pipeline.data import convert as module
from pipeline.data.convert import SMALLEST_STD, convert, fingerprint, statistics
from pipeline.data.dataset import Split
from pipeline.data.digits import on_canvas

IMAGES = st.sampled_from([1, 3]).flatmap(
    lambda channels: hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.just(channels), st.integers(2, 6), st.integers(2, 6)))
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a handful of images takes several blocks."""
    monkeypatch.setattr(module, "BLOCK", 50)


@given(IMAGES)
def test_statistics_are_those_of_the_floating_point_copy(images: np.ndarray) -> None:
    mean, std = statistics(images)
    scaled = images / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(std, np.maximum(scaled.std(axis=(0, 2, 3)), SMALLEST_STD), atol=1e-9)


def test_a_channel_that_never_varies_can_be_divided_by_its_deviation() -> None:
    assert statistics(np.full((3, 1, 4, 4), 9, np.uint8)) == ((9 / 255,), (SMALLEST_STD,))


@given(IMAGES, st.sampled_from([None, 1, 3]), st.sampled_from([None, 3, 8]))
def test_the_result_has_the_size_and_channels_asked_for(images: np.ndarray, channels: int | None, size: int | None) -> None:
    n, have, height, width = images.shape
    result = convert(images, size, channels)
    assert result.shape == (n, channels or have, size or height, size or width)
    assert result.dtype == np.uint8
    if result.shape == images.shape:
        assert result is images


@given(IMAGES, st.integers(0, 255))
def test_a_blank_image_stays_blank_at_any_size_and_number_of_channels(images: np.ndarray, value: int) -> None:
    images[:] = value
    for channels in (1, 3):
        assert (convert(images, 5, channels) == value).all()


def test_colour_becomes_grey_as_pillow_does_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 9, 9), np.uint8)
    grey = np.stack([np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in images])
    assert np.abs(convert(images, None, 1)[:, 0].astype(int) - grey).max() <= 1  # Pillow rounds in fixed point


def test_scaling_down_averages_as_pillow_does_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 24, 24), np.uint8)
    pillow = [Image.fromarray(image[0]).resize((8, 8), Image.Resampling.BILINEAR) for image in images]
    assert np.abs(convert(images, 8, None)[:, 0].astype(int) - np.stack([np.asarray(one) for one in pillow])).max() <= 1


def split(seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (4, 1, 3, 3), np.uint8), rng.integers(0, 2, 4))


def test_the_fingerprint_is_stable() -> None:
    fixed = Split(np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2), np.array([0, 1]))
    assert fingerprint([fixed], ("a", "b")) == "70cc0929da20907f4552a65da5c03de8"


def test_anything_that_differs_changes_the_fingerprint() -> None:
    base = split()
    pixel, label = split(), split()
    pixel.images[0, 0, 0, 0] ^= 1
    label.labels[0] ^= 1
    flat = Split(base.images.reshape(4, 1, 1, 9), base.labels)
    variants = [
        ([base, base], ("a", "b")),
        ([base, base], ("a", "c")),
        ([base, base], ("ab",)),
        ([base], ("a", "b")),
        *(([base, other], ("a", "b")) for other in (pixel, label, flat)),
        *(([other, base], ("a", "b")) for other in (pixel, label)),
    ]
    digests = [fingerprint(splits, classes) for splits, classes in variants]
    assert len(set(digests)) == len(variants)
    assert all(len(digest) == 32 for digest in digests)


def test_digits_fill_the_middle_of_the_canvas_and_keep_their_darkest_and_lightest() -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[1] = 16
    canvas = on_canvas(images)
    assert canvas.shape == (2, 1, 28, 28)
    assert canvas.dtype == np.uint8
    assert not canvas[0].any()
    assert (canvas[1, 0, 4:24, 4:24] == 255).all()
    assert torch.from_numpy(canvas[1, 0]).count_nonzero() == 400
