"""Figures of a comparison, each a :class:`pipeline.evaluation.drawing.Drawing`; those that have nothing to show are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.evaluation.drawing import INK, PALETTE, SIGNED, TRAIN, VALIDATION, Drawing, short, styled
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.contrasts import Contrast
from study.experiments.comparison.sides import Side
from study.report.figures.style import FAINT, STRETCHED, accuracy_axis, log_ticks

ROWS = 30  # classes that are drawn; of more those that change most
CELLS = 20  # classes up to which a confusion matrix prints its numbers
DARK = "#1c1e22"  # on the colours of a cell, whatever the page's


def draw(comparison: Comparison) -> list[Drawing]:
    """Draw all figures that have something to show, in the page's order."""
    contrasts = [drawing for item in comparison.contrasts for drawing in (classes(item), confusion(item))]
    return [drawing for drawing in (accuracies(comparison), curves(comparison), *contrasts) if drawing]


@styled
def accuracies(comparison: Comparison) -> Drawing | None:
    """Draw each training of each side; lines join trainings on one seed. Only of sides that share their images."""
    sides = [comparison.first, *(item.second for item in comparison.contrasts)]
    if max(len(side.trainings) for side in sides) < 2 or len(sides) < 2:
        return None
    figure = Figure(figsize=(min(3.2 + 1.5 * len(sides), 9), 3.6))
    panel = figure.subplots()
    seeds = {seed: None for side in sides for seed in (training.seed for training in side.trainings)}
    for seed in seeds:
        places = [
            (place, training.accuracy) for place, side in enumerate(sides) for training in side.trainings if training.seed == seed
        ]
        panel.plot(*zip(*places, strict=True), "o-", color=INK, linewidth=0.8, markersize=3.5, alpha=0.45)
    for place, side in enumerate(sides):
        colour, ends = _colour(comparison, side), [side.accuracy.low, side.accuracy.high]
        panel.plot([place, place], ends, color=colour, linewidth=6, alpha=0.3)
        panel.plot(place, side.accuracy.value, "D", color=colour, markersize=7)
    panel.set_xticks(range(len(sides)), [_label(side) for side in sides], rotation=20 if len(sides) > 4 else 0)
    panel.set_xlim(-0.5, len(sides) - 0.5)
    values = [value for side in sides for value in side.accuracies]
    ends = [end for side in sides for end in (side.accuracy.low, side.accuracy.high)]
    accuracy_axis(panel, [*values, *ends], comparison.first.images.validation)
    rows = [(side.label, training.name, training.seed, training.accuracy) for side in sides for training in side.trainings]
    caption = (
        "Dots: single trainings, joined where they are on the same seed; a line that rises: this seed does better there. "
        f"Diamonds: means; bars: 95 % intervals. {STRETCHED}"
    )
    numbers = pd.DataFrame(rows, columns=["side", "training", "seed", "validation_accuracy"])
    return Drawing("accuracies", "Accuracy by seed", caption, figure, numbers)


@styled
def curves(comparison: Comparison) -> Drawing:
    """Draw validation accuracy and loss by epoch: every training thin, the mean of a side bold."""
    figure = Figure(figsize=(9, 3.8))
    for panel, quantity in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        drawn: list[float] = []
        for side in comparison.sides:
            lines = [[getattr(epoch, f"validation_{quantity}") for epoch in training.epochs] for training in side.trainings]
            drawn += [value for line in lines for value in line]
            _lines(panel, lines, _colour(comparison, side), _label(side))
        longest = max(len(training.epochs) for side in comparison.sides for training in side.trainings)
        panel.set(xlabel="epoch", xlim=(0.5, longest + 0.5))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_ylabel(f"validation {quantity}")
        if quantity == "accuracy":
            accuracy_axis(panel, drawn, comparison.first.images.validation)
        elif min(drawn) > 0 and max(drawn) > 3 * min(drawn):
            panel.set_yscale("log")
            low, high = panel.get_ylim()
            log_ticks(panel.yaxis, low, high, 6)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(comparison.sides), 4))
    several = any(len(side.trainings) > 1 for side in comparison.sides)
    what = "Thin: single trainings; bold: their mean, as far as all of them go. " if several else ""
    caption = f"On the validation images, after each epoch. {what}{_losses(comparison.sides)}{STRETCHED}"
    return Drawing("curves", "Learning curves", caption, figure, _epochs(comparison.sides))


def _lines(panel: Panel, lines: Sequence[Sequence[float]], colour: str, label: str) -> None:
    several = len(lines) > 1
    for line in lines:
        panel.plot(range(1, len(line) + 1), line, color=colour, linewidth=0.7 if several else 1.8, alpha=0.4 if several else 1.0)
    shortest = min(map(len, lines))
    mean = np.mean([line[:shortest] for line in lines], axis=0)
    panel.plot(
        range(1, shortest + 1), mean, "o" if shortest == 1 else "-", color=colour, linewidth=2.2, markersize=4, label=label
    )


def _losses(sides: Sequence[Side]) -> str:
    """Warn where the losses are not the same function."""
    kinds = {(side.first.config.train.loss, side.first.config.train.label_smoothing) for side in sides}
    return "The losses are not the same function, so only their shapes compare. " if len(kinds) > 1 else ""


def _epochs(sides: Sequence[Side]) -> pd.DataFrame:
    columns = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "lr", "seconds")
    rows = [
        (side.label, training.name, *(getattr(epoch, name) for name in columns))
        for side in sides
        for training in side.trainings
        for epoch in training.epochs
    ]
    return pd.DataFrame(rows, columns=["side", "training", *columns])


@styled
def classes(item: Contrast) -> Drawing:
    """Draw how much more of each class the second side finds, with 95 % intervals."""
    order = sorted(range(len(item.classes)), key=lambda index: -abs(item.classes[index].value))[:ROWS]
    changes = [item.classes[index] for index in sorted(order)]
    figure = Figure(figsize=(5.4, max(2.4, 0.34 * len(changes) + 1.1)))
    panel = figure.subplots()
    panel.axvline(0, color=INK, linewidth=0.8)
    for place, change in enumerate(changes):
        colour = VALIDATION if change.value > 0 else TRAIN if change.value < 0 else FAINT
        panel.plot(np.clip([change.low, change.high], -1, 1), [place, place], color=colour, linewidth=1.4)
        panel.plot(change.value, place, "o", color=colour, markersize=5)
    panel.set_yticks(range(len(changes)), [short(change.name) for change in changes])
    panel.set(xlabel="change of recall, points", ylim=(len(changes) - 0.5, -0.5))
    panel.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:+.6g}".replace("-", "\u2212") if value else "0")
    )
    panel.xaxis.set_major_locator(MaxNLocator(6))
    how = f"paired over {len(item.pairs)} seeds" if item.seeds else "of one network each"
    caption = (
        f"{item.second.label} minus {item.first.label}, {how}, with 95 % intervals; on the right {item.second.label} finds "
        "more of the class."
    )
    if len(changes) < len(item.classes):
        caption += f" Of {len(item.classes)} classes the {ROWS} that change most are drawn."
    return Drawing(
        f"classes-{item.number}", "Change per class", caption, figure, pd.DataFrame([vars(one) for one in item.classes])
    )


@styled
def confusion(item: Contrast) -> Drawing:
    """Draw where the second side's confusion matrix differs: blue is better, orange worse."""
    names = item.first.images.classes
    totals = {change.name: change.images for change in item.classes}
    images = np.array([totals.get(each, 0) for each in names])
    better = item.confusion * np.where(np.eye(len(names)) > 0, 1, -1) / np.maximum(images, 1)[:, None]
    limit = max(float(np.abs(better).max()), 1e-9)
    side = min(max(3.6, 0.42 * len(names) + 1.4), 9.5)
    figure = Figure(figsize=(side, side))
    panel = figure.subplots()
    panel.imshow(np.ma.masked_where(item.confusion == 0, better), cmap=SIGNED, vmin=-limit, vmax=limit)
    if len(names) <= CELLS:
        for row, column in np.argwhere(item.confusion):
            colour = "white" if abs(better[row, column]) > 0.6 * limit else DARK
            text = f"{item.confusion[row, column]:+.1f}".removesuffix(".0").replace("-", "\u2212")
            panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    step = -(-len(names) // 50)
    place, ticks = np.arange(0, len(names), step), [short(each) for each in names[::step]]
    panel.set_xticks(place, ticks, rotation=90 if max(map(len, ticks)) > 3 else 0)
    panel.set_yticks(place, ticks)
    panel.set(xlabel="predicted", ylabel="true", xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    panel.grid(visible=False)
    cells = [(names[i], names[j], item.confusion[i, j]) for i, j in np.ndindex(item.confusion.shape)]
    numbers = pd.DataFrame(cells, columns=["true", "predicted", "images_more"])
    return Drawing(f"confusion-{item.number}", "Difference of confusion", _confusion_caption(item, names), figure, numbers)


def _confusion_caption(item: Contrast, names: Sequence[str]) -> str:
    mean = f", mean over {len(item.pairs)} seeds" if len(item.pairs) > 1 else ""
    text = f"Images of each true class by what they are taken for, {item.second.label} minus {item.first.label}{mean}."
    errors = item.confusion - np.diag(np.diag(item.confusion))
    if not item.confusion.any():
        return f"{text} There is no difference."
    row, column = np.unravel_index(np.abs(errors).argmax(), errors.shape)
    change = errors[row, column]
    if change == 0:
        return text
    images = f"{abs(change):.1f}".removesuffix(".0") + f" {'more' if change > 0 else 'fewer'}"
    return f"{text} Largest change among mistakes: {names[row]} taken for {names[column]}, {images}."


def _label(side: Side) -> str:
    text = side.label if len(side.label) <= 26 else f"{side.label[:12]}…{side.label[-13:]}"
    return f"\u200b{text}" if text.startswith("_") else text  # matplotlib leaves what begins with an underscore out


def _colour(comparison: Comparison, side: Side) -> str:
    return PALETTE[comparison.sides.index(side) % len(PALETTE)]
