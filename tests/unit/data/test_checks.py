"""What is planted is found, what is not there is not found, and each finding says where and what to do."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.checks import check, thumbnail
from pipeline.data.dataset import Split
from pipeline.data.duplicates import NEAR, Place, across, groups, near

CLASSES = ("a", "b")
NAMES = ("train", "validation", "test")


def noise(n: int, seed: int, shape: tuple[int, int, int] = (1, 12, 12)) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (n, *shape), np.uint8), np.arange(n, dtype=np.int64) % 2)


@pytest.fixture
def splits() -> dict[str, Split]:
    return {"train": noise(60, 0), "validation": noise(10, 1), "test": noise(20, 2)}


def verdicts(splits: dict[str, Split]) -> list[dict[str, str]]:
    return checked(splits)["verdicts"]


def checked(splits: dict[str, Split]) -> dict[str, Any]:
    origins = {name: [f"{name}/{index}.png" for index in range(len(split))] for name, split in splits.items()}
    return check(splits, origins, CLASSES)


def test_clean_data_say_so(splits: dict[str, Split]) -> None:
    found = checked(splits)
    assert [verdict["level"] for verdict in found["verdicts"]] == ["good"] * 5
    assert {kind: pairs["count"] for kind, pairs in found["duplicates"].items()} == {"exact": 0, "near": 0, "conflicting": 0}
    assert found["counts"] == {"train": {"a": 30, "b": 30}, "validation": {"a": 5, "b": 5}, "test": {"a": 10, "b": 10}}
    assert {name: len(pictures) for name, pictures in found["examples"].items()} == {"a": 8, "b": 8}


def test_an_image_of_train_that_is_also_in_test_is_bad_and_named(splits: dict[str, Split]) -> None:
    splits["test"].images[4] = splits["train"].images[6]
    found = checked(splits)
    verdict = found["verdicts"][0]
    assert verdict["level"] == "bad"  # one of twenty
    assert verdict["title"] == "Validation and test hold 1 copy of images in an earlier split"
    assert verdict["evidence"] == "validation 0 of 10, test 1 of 20: test[4] (test/4.png) = train[6] (train/6.png)"
    assert verdict["remedy"]
    ((held_out, earlier, similarity),) = found["duplicates"]["exact"]["examples"]
    assert (held_out["split"], held_out["index"], held_out["class"]) == ("test", 4, "a")
    assert (earlier["split"], earlier["index"], similarity) == ("train", 6, 1.0)
    assert held_out["png"] == earlier["png"] == thumbnail(splits["train"].images[6])
    assert found["duplicates"]["near"]["count"] == 0  # said once, not twice


def test_a_leak_below_one_percent_is_a_warning() -> None:
    splits = {"train": noise(30, 0), "validation": noise(10, 1), "test": noise(101, 2)}
    splits["test"].images[0] = splits["train"].images[0]
    assert verdicts(splits)[0]["level"] == "warn"


@pytest.mark.parametrize(
    "alter",
    [
        lambda image: image * 0.5 + 40,
        lambda image: 255 - (255 - image) * 0.7,
        lambda image: image + np.random.default_rng(5).normal(0, 4, image.shape),
    ],
    ids=["darker", "lighter", "noisy"],
)
def test_a_copy_that_differs_in_brightness_contrast_or_noise_is_near(alter, splits: dict[str, Split]) -> None:
    splits["test"].images[4] = alter(splits["train"].images[6].astype(float)).clip(0, 255).astype(np.uint8)
    exact, alike, *_ = verdicts(splits)
    assert exact["level"] == "good"
    assert alike["level"] == "bad"
    assert "test[4] (test/4.png) = train[6] (train/6.png)" in alike["evidence"]


def test_near_agrees_with_comparing_every_pair_at_full_size() -> None:
    rng = np.random.default_rng(3)
    earlier, held_out = noise(80, 0, (3, 20, 20)), noise(50, 1, (3, 20, 20))
    for index in range(0, 50, 2):  # from certain duplicates to certain strangers
        strength = index / 150
        mixed = (1 - strength) * earlier.images[index] + strength * held_out.images[index] * rng.uniform(0.5, 1)
        held_out.images[index] = mixed.astype(np.uint8)
    a, b = (images.reshape(len(images), -1).astype(float) for images in (held_out.images, earlier.images))
    slow = np.corrcoef(a, b)[: len(a), len(a) :]
    slow[(a[:, None] == b).all(-1)] = 0
    expected = {int(index): int(slow[index].argmax()) for index in np.flatnonzero(slow.max(1) >= NEAR)}
    found = near(earlier, held_out)
    assert len(expected) >= 3
    assert {held: other for held, other, _ in found} == expected
    for held, other, similarity in found:
        assert similarity == pytest.approx(slow[held, other], abs=1e-5)


def test_blank_images_are_never_near_anything() -> None:
    blank = Split(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(5, 2).repeat(5, 3), np.array([0, 1]))
    assert near(blank, Split(blank.images[::-1].copy(), blank.labels)) == []


def test_copies_are_counted_once_an_image_and_lead_to_the_earliest_split(splits: dict[str, Split]) -> None:
    for name, index in (("train", 5), ("validation", 1), ("test", 2)):
        splits[name].images[index] = splits["train"].images[3]
    (group,) = groups(splits)
    assert group == [Place("train", 3), Place("train", 5), Place("validation", 1), Place("test", 2)]
    assert [(pair.held_out, pair.earlier) for pair in across([group])] == [
        (Place("validation", 1), Place("train", 3)),
        (Place("test", 2), Place("train", 3)),
    ]


def test_copies_with_different_labels_are_named_with_both(splits: dict[str, Split]) -> None:
    splits["train"].images[3] = splits["train"].images[0]
    verdict = verdicts(splits)[2]
    assert verdict["level"] == "warn"
    assert verdict["evidence"] == "train[0] (train/0.png) is a, train[3] (train/3.png) is b"


def test_a_rare_class_is_a_warning_with_its_numbers(splits: dict[str, Split]) -> None:
    splits["train"].labels[:] = [1] * 15 + [0] * 45
    assert verdicts(splits)[3]["level"] == "good"  # three to one
    splits["train"].labels[:] = [1] * 12 + [0] * 48
    verdict = verdicts(splits)[3]
    assert verdict["level"] == "warn"
    assert verdict["evidence"] == (
        "training images per class: 12 (b) to 48 (a), 4.0 to 1; always answering a would be right for 80.0% of them"
    )


def test_blank_images_are_counted_and_the_first_are_named(splits: dict[str, Split]) -> None:
    splits["train"].images[:8] = np.arange(8).reshape(8, 1, 1, 1)
    found = checked(splits)
    assert found["verdicts"][4]["level"] == "warn"
    assert found["verdicts"][4]["title"] == "8 images of one single colour"
    assert found["verdicts"][4]["evidence"].startswith("train[0] (train/0.png), train[1]")
    assert found["verdicts"][4]["evidence"].endswith(" and 2 more")
    assert found["constant"]["count"] == 8


@pytest.mark.parametrize("shape", [(1, 12, 9), (3, 12, 9), (3, 200, 100)])
def test_a_thumbnail_is_the_image_at_no_more_than_64_pixels(shape: tuple[int, int, int]) -> None:
    image = noise(1, 0, shape).images[0]
    opened = Image.open(io.BytesIO(base64.b64decode(thumbnail(image))))
    assert max(opened.size) <= 64
    if max(shape) <= 64:
        pixels = np.asarray(opened).reshape(*shape[1:], shape[0])
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), image)
