"""Figures are looked at by people; what can be tested is that they can be drawn of anything, adapt, and stay small."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipeline import config
from pipeline.evaluation import drawing, figures, network_figures
from pipeline.evaluation.calibration import reliability
from pipeline.evaluation.drawing import ACCENT, INK, PALETTE, TRAIN, VALIDATION, Drawing
from pipeline.evaluation.metrics import score

KB = 1000


def run(best: int = 3, kept: int = 3, **train: Any) -> dict[str, Any]:
    section = config.to_tree(config.Train()) | train
    return {"best_epoch": best, "kept_epoch": kept, "params": {"train": section}}


def every_figure(n: int, n_classes: int, rng: np.random.Generator) -> list[Drawing]:
    classes = [f"class number {i}" for i in range(n_classes)] if n_classes != 10 else [str(i) for i in range(10)]
    labels = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += 4
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = score(probs, labels, classes)
    history = pd.DataFrame({"epoch": [1, 2, 3], "lr": [1e-3, 5e-4, 0.0], "seconds": 1.0})
    for column, values in (("loss", [1.0, 0.5, 0.4]), ("accuracy", [0.5, 0.8, 0.9])):
        history[f"train_{column}"] = history[f"validation_{column}"] = values
    kernels = {"conv1": rng.normal(size=(32, 3, 5, 5)), "conv2": rng.normal(size=(20, 32, 3, 3)), "conv3": np.zeros((1, 5, 1, 1))}
    maps = {"conv1": rng.normal(size=(32, 28, 28)), "conv2": rng.normal(size=(3, 14, 14)), "conv3": np.zeros((1, 7, 7))}
    return [
        figures.learning(history, run()),
        figures.learning_rate(history),
        figures.confusion(scores.confusion, classes),
        figures.roc(scores.roc, classes, scores.roc_auc),
        figures.precision_recall(scores.pr, classes, scores.average_precision),
        figures.reliability(reliability(probs, labels, 15, rng, replicates=10)),
        figures.per_class(scores.per_class, classes),
        network_figures.layers(["conv1", "relu", "head"], [100, 0, 5_000_000], [2_000_000, 0, 50]),
        network_figures.filters(kernels),
        network_figures.responses(maps, rng.integers(0, 256, (3, 28, 28), dtype=np.uint8)),
        network_figures.embeddings(rng.normal(size=(n, 2)), np.zeros((n, 2)), labels, classes, (0.5, 0.9)),
    ]


@pytest.mark.parametrize(("n", "n_classes"), [(1, 2), (2000, 10), (600, 120)])
def test_every_figure_is_small_well_formed_svg_that_follows_the_page(n: int, n_classes: int) -> None:
    for item in every_figure(n, n_classes, np.random.default_rng(0)):
        svg = drawing.to_svg(item)
        ElementTree.fromstring(svg)
        assert len(svg) < 60 * KB, item.name
        assert "currentColor" in svg, item.name
        assert INK not in svg, item.name
        assert "#000000" not in svg, item.name
        assert "font-family" not in svg, item.name
        assert "<metadata" not in svg, item.name
        assert len(item.numbers) or n == 1, item.name  # one image has no curves


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawing]:
    return {item.name: item for item in every_figure(50, 3, np.random.default_rng(0))}


def test_the_same_drawing_gives_the_same_bytes_and_its_numbers_lie_beside_it(drawn: dict[str, Drawing], tmp_path: Path) -> None:
    for folder in ("one", "two"):
        for item in drawn.values():
            drawing.save(item, tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 2 * 11
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    cells = pd.read_csv(tmp_path / "one" / "confusion.csv")
    assert cells["images"].sum() == 50


def test_numbers_in_the_text_keep_their_digits_while_coordinates_are_rounded(drawn: dict[str, Drawing]) -> None:
    svg = drawing.to_svg(drawn["roc"])
    assert len(re.findall(r"AUC [01]\.\d{4}<", svg)) == 3
    assert not re.search(r'd="[^"]*\d\.\d{3}', svg)


def test_ids_of_groups_are_gone_and_what_is_referred_to_is_there(drawn: dict[str, Drawing]) -> None:
    for item in drawn.values():
        svg = drawing.to_svg(item)
        assert '<g id="' not in svg
        assert set(re.findall(r"url\(#(\w+)\)", svg)) | set(re.findall(r'href="#(\w+)"', svg)) <= set(
            re.findall(r'id="(\w+)"', svg)
        )


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#16181d"])
@pytest.mark.parametrize("colour", [*PALETTE, TRAIN, VALIDATION, ACCENT])
def test_every_colour_stands_out_from_a_light_and_a_dark_page(colour: str, page: str) -> None:
    assert contrast(colour, page) >= 3


def test_a_png_for_other_readers_is_on_white() -> None:
    figure = Figure(figsize=(2, 1))
    image = Image.open(io.BytesIO(drawing.to_png(figure)))
    assert image.size == (288, 144)
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_mosaic_lays_tiles_row_by_row_with_gaps() -> None:
    tiles = np.arange(3)[:, None, None] * np.ones((3, 2, 2))
    nan = np.nan
    expected = [[0, 0, nan, 1, 1], [0, 0, nan, 1, 1], [nan] * 5, [2, 2, nan, nan, nan], [2, 2, nan, nan, nan]]
    np.testing.assert_array_equal(drawing.mosaic(tiles, columns=2), expected)


def test_of_many_classes_the_worst_are_drawn_and_the_caption_says_so() -> None:
    items = {item.name: item for item in every_figure(600, 40, np.random.default_rng(0))}
    assert items["per_class"].caption.endswith("Only the 30 of 40 classes with the lowest F1 are drawn.")
    assert items["roc"].caption.endswith("Only the 10 of 40 classes with the smallest area are drawn.")
    labels = [tick.get_text() for tick in items["per_class"].figure.axes[0].get_yticklabels()]
    scores = items["per_class"].numbers
    assert len(labels) == 30
    assert len(scores) == 40
    drawn = scores["class"].map(drawing.short).isin(labels)
    assert scores["f1"][drawn].max() <= scores["f1"][~drawn].min()


def test_long_names_are_shortened_where_they_seldom_differ() -> None:
    assert drawing.short("rows") == "rows"
    assert drawing.short("class number 12") == "class n…ber 12"


@pytest.mark.parametrize(
    ("train", "label"),
    [
        ({}, "loss (cross_entropy), nats per image"),
        ({"loss": "nll"}, "loss (nll), nats per image"),
        ({"loss": "mse"}, "loss (mse)"),
        ({"loss": "multi_margin"}, "loss (multi_margin)"),
        ({"label_smoothing": 0.1}, "loss (cross_entropy, smoothing 0.1)"),
    ],
)
def test_the_axis_of_the_loss_names_it_and_has_a_unit_only_where_it_has_one(train: dict[str, Any], label: str) -> None:
    history = pd.DataFrame({"epoch": [1, 2], "lr": 0.1, "seconds": 1.0})
    for column in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        history[column] = [0.5, 0.4]
    assert figures.learning(history, run(2, 2, **train)).figure.axes[0].get_ylabel() == label


def test_the_epoch_whose_weights_are_kept_is_marked_where_it_is_not_the_best(drawn: dict[str, Drawing]) -> None:
    history = drawn["learning"].numbers
    item = figures.learning(history.assign(lr=0.1, seconds=1.0), run(best=2, kept=3))
    names = [text.get_text() for text in item.figure.axes[0].get_legend().get_texts()]
    assert names == ["train", "validation", "lowest validation loss (epoch 2)", "weights kept (epoch 3)"]
    assert item.caption.endswith("The weights of epoch 3 are kept.")
    assert "kept" not in drawn["learning"].caption


def test_names_of_classes_are_drawn_as_they_are() -> None:
    rng = np.random.default_rng(0)
    classes = [r"$\foo$", "_under", "a$b$_"]
    labels, probs = np.arange(60) % 3, rng.dirichlet(np.ones(3), 60)
    scores = score(probs, labels, classes)
    items = [
        figures.confusion(scores.confusion, classes),
        figures.roc(scores.roc, classes, scores.roc_auc),
        figures.precision_recall(scores.pr, classes, scores.average_precision),
        figures.per_class(scores.per_class, classes),
        network_figures.embeddings(rng.normal(size=(60, 2)), rng.normal(size=(60, 2)), labels, classes, (0.5, 0.9)),
    ]
    for item in items:
        texts = "".join(ElementTree.fromstring(drawing.to_svg(item)).itertext())
        assert all(name in texts for name in classes), item.name
        assert drawing.to_png(item.figure)


def test_ticks_are_plain_numbers(drawn: dict[str, Drawing]) -> None:
    for item in drawn.values():
        assert "mathdefault" not in drawing.to_svg(item), item.name


def test_captions_carry_the_numbers() -> None:
    counts = np.array([[8, 2, 0], [0, 9, 1], [0, 5, 5]])
    caption = figures.confusion(counts, ["a", "b", "c"]).caption
    assert caption.startswith("22 of 30 test images on the diagonal")
    assert caption.endswith("Most frequent confusion: c taken for b, 5 times.")
