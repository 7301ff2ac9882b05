"""Draw training and the test metrics. Each function takes arrays and returns a :class:`Drawing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.evaluation.calibration import Reliability
from pipeline.evaluation.drawing import ACCENT, INK, PALETTE, SHADE, TRAIN, VALIDATION, Drawing, short, styled
from pipeline.evaluation.metrics import Curve, PerClass
from pipeline.evaluation.statistics import Proportion

CURVES = 10  # classes drawn; if there are more, those with the smallest area
MARKED = 20  # up to this many epochs each has a marker
ROWS = 30  # classes in the figure of scores; if there are more, those with the lowest F1
UNSEEN = "\u200b"  # zero-width space; Matplotlib omits labels that begin with an underscore
VERSUS_REST = "Each class against the rest, over all thresholds."
CELLS = 20  # up to this many classes a confusion matrix prints its counts


@styled
def learning(history: pd.DataFrame, run: Mapping[str, Any]) -> Drawing:
    """Draw loss and accuracy by epoch; ``history`` has the columns of ``history.csv``, ``run`` is the content of ``run.json``."""
    best_epoch, kept_epoch = run["best_epoch"], run["kept_epoch"]
    figure, few = Figure(figsize=(9, 3.4)), len(history) <= MARKED
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, colour, marker in (("train", TRAIN, "o"), ("validation", VALIDATION, "s")):
            values = history[f"{split}_{quantity}"]
            axes.plot(history["epoch"], values, color=colour, marker=marker if few else None, markersize=3.5, label=split)
        axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", label=f"lowest validation loss (epoch {best_epoch})")
        if kept_epoch != best_epoch:
            axes.axvline(kept_epoch, color=INK, linewidth=0.8, linestyle="--", label=f"weights kept (epoch {kept_epoch})")
        _epochs(axes, history["epoch"].iloc[-1])
        axes.set_ylabel(loss_label(run["params"]["train"]) if quantity == "loss" else quantity)
        axes.legend()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    best = history.set_index("epoch").loc[best_epoch]
    caption = (
        f"Loss and accuracy over {len(history)} epochs. Lowest validation loss {best['validation_loss']:.4f} at epoch "
        f"{best_epoch}, with validation accuracy {best['validation_accuracy']:.2%}."
    )
    if kept_epoch != best_epoch:
        caption += f" The weights of epoch {kept_epoch} are kept."
    return Drawing("learning", "Learning curves", caption, figure, history.drop(columns=["lr", "seconds"]))


def loss_label(train: Mapping[str, Any]) -> str:
    """Return the name of the loss in section ``train``, with its unit if it has one."""
    if train["label_smoothing"]:
        return f"loss ({train['loss']}, smoothing {train['label_smoothing']:g})"
    return f"loss ({train['loss']})" + (", nats per image" if train["loss"] in ("cross_entropy", "nll") else "")


@styled
def learning_rate(history: pd.DataFrame) -> Drawing:
    """Draw the learning rate by epoch."""
    figure = Figure(figsize=(4.5, 2.6))
    axes = figure.subplots()
    axes.plot(history["epoch"], history["lr"], color=VALIDATION, marker="o" if len(history) <= MARKED else None, markersize=3.5)
    _epochs(axes, history["epoch"].iloc[-1])
    axes.set_ylabel("learning rate, per step")
    axes.set_ylim(bottom=0)
    caption = f"Learning rate from {history['lr'].iloc[0]:.3g} in the first epoch to {history['lr'].iloc[-1]:.3g} in the last."
    return Drawing("learning_rate", "Learning rate", caption, figure, history[["epoch", "lr"]])


@styled
def confusion(counts: np.ndarray, classes: Sequence[str]) -> Drawing:
    """Draw a confusion matrix: ``counts`` int (n_classes, n_classes), rows true; colour is the share of the row."""
    n_classes = len(classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(3.6, 0.42 * n_classes + 1.4), 9.5)
    figure = Figure(figsize=(side, side))
    draw_confusion(figure.subplots(), counts, classes)
    errors = counts - np.diag(np.diag(counts))
    caption = f"{np.trace(counts)} of {counts.sum()} test images on the diagonal; a cell's colour is its share of the row."
    if errors.any():
        row, column = np.unravel_index(errors.argmax(), errors.shape)
        caption += f" Most frequent confusion: {classes[row]} taken for {classes[column]}, {errors[row, column]} times."
    cells = [(classes[i], classes[j], counts[i, j], shares[i, j]) for i, j in np.ndindex(counts.shape)]
    numbers = pd.DataFrame(cells, columns=["true", "predicted", "images", "share_of_true"])
    return Drawing("confusion", "Confusion matrix", caption, figure, numbers)


def draw_confusion(axes: Axes, counts: np.ndarray, classes: Sequence[str]) -> None:
    """Draw the cells of a confusion matrix: ``counts`` (n_classes, n_classes), rows true, or means of counts."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap=SHADE, vmin=0, vmax=1)
    if len(classes) <= CELLS:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.65 else INK
            axes.text(
                column, row, f"{counts[row, column]:.1f}".removesuffix(".0"), ha="center", va="center", color=colour, fontsize=8
            )
    _class_ticks(axes, classes)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)


@styled
def roc(curves: Sequence[Curve], classes: Sequence[str], mean_area: float) -> Drawing:
    """Draw the ROC curve of each class against the rest, whole and its upper left corner."""
    figure, whole, corner = _two_views(curves, classes, "AUC", x="false positive rate", y="true positive rate")
    whole.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    corner.set(title="upper left corner", xlim=(0, 0.1), ylim=(0.9, 1.002))
    caption = f"Mean area under the curves {_or_undefined(mean_area)}; chance is 0.5.{_selection(curves)}"
    numbers = _table(curves, classes, "false_positive_rate", "true_positive_rate")
    return Drawing("roc", "ROC curves", f"{VERSUS_REST} {caption}", figure, numbers)


@styled
def precision_recall(curves: Sequence[Curve], classes: Sequence[str], mean_area: float) -> Drawing:
    """Draw the precision–recall curve of each class against the rest, whole and its upper right corner."""
    figure, whole, corner = _two_views(curves, classes, "AP", x="recall", y="precision")
    whole.set(ylim=(0, 1.02))
    corner.set(title="upper right corner", xlim=(0.9, 1.002), ylim=(0.9, 1.002))
    caption = f"Mean average precision (AP) {_or_undefined(mean_area)}.{_selection(curves)}"
    numbers = _table(curves, classes, "recall", "precision")
    return Drawing("precision_recall", "Precision and recall", f"{VERSUS_REST} {caption}", figure, numbers)


@styled
def reliability(diagram: Reliability) -> Drawing:
    """Draw the share of right predictions by stated probability, above the number of images in each bin."""
    figure = Figure(figsize=(4.6, 4.6))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = np.diff(diagram.edges)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="perfect")
    full = np.flatnonzero(diagram.counts)
    shares = [Proportion.of(round(diagram.accuracy[i] * diagram.counts[i]), diagram.counts[i]) for i in full]
    reach = np.array([(part.value - part.low, part.high - part.value) for part in shares]).T
    axes.errorbar(
        diagram.confidence[full], diagram.accuracy[full], yerr=reach, fmt="o", color=VALIDATION, markersize=4, label="share, 95 %"
    )
    axes.set(ylabel="share right", ylim=(-0.02, 1.02), xlim=(0, 1))
    axes.legend(loc="upper left")
    below.bar(diagram.edges[:-1], diagram.counts, width * 0.92, align="edge", color=VALIDATION, alpha=0.7)
    below.set(xlabel="highest probability", ylabel="images", yscale="symlog")
    below.set_ylim(bottom=0)
    below.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    caption = (
        f"Expected calibration error {diagram.ece:.4f}; a perfectly calibrated model would show {diagram.chance_mean:.4f} on as "
        f"many images. Mean probability {diagram.mean_confidence:.2%}, accuracy {diagram.mean_accuracy:.2%}."
    )
    bins = {"low": diagram.edges[:-1], "high": diagram.edges[1:], "images": diagram.counts}
    numbers = pd.DataFrame(bins | {"mean_probability": diagram.confidence, "share_right": diagram.accuracy})
    return Drawing("reliability", "Reliability", caption, figure, numbers)


@styled
def per_class(scores: PerClass, classes: Sequence[str]) -> Drawing:
    """Draw precision, recall with its interval, and F1 of each class, as points, so that the axis may start above 0."""
    drawn = np.sort(np.argsort(np.nan_to_num(scores.f1, nan=2.0), kind="stable")[:ROWS])
    place = np.arange(len(drawn))
    recall, precision, f1 = scores.recall[drawn], scores.precision[drawn], scores.f1[drawn]
    figure = Figure(figsize=(5.2, max(2.6, 0.36 * len(drawn) + 1.0)))
    axes = figure.subplots()
    reach = np.abs(np.stack([scores.recall_low[drawn], scores.recall_high[drawn]]) - recall)
    axes.errorbar(
        recall, place - 0.2, xerr=reach, fmt="o", color=VALIDATION, markersize=4.5, elinewidth=1.2, label="recall, 95 %"
    )
    axes.plot(precision, place, "D", color=TRAIN, markersize=4, label="precision")
    axes.plot(f1, place + 0.2, "s", color=ACCENT, markersize=4, label="F1")
    axes.set_yticks(place, [short(classes[label]) for label in drawn])
    axes.set(xlabel="score", ylim=(len(drawn) - 0.5, -0.5), xlim=(None, 1 + 0.02 * (1 - axes.get_xlim()[0])))
    figure.legend(loc="outside upper center", ncols=3)
    worst = int(np.nanargmin(scores.f1))
    caption = f"Lowest F1: {classes[worst]} with {scores.f1[worst]:.3f} on {scores.support[worst]} test images."
    if len(drawn) < len(classes):
        caption += f" Only the {ROWS} of {len(classes)} classes with the lowest F1 are drawn."
    return Drawing("per_class", "Scores per class", caption, figure, pd.DataFrame({"class": list(classes)} | vars(scores)))


def _epochs(axes: Axes, last: int) -> None:
    axes.set(xlabel="epoch", xlim=(0.6, last + 0.4))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _class_ticks(axes: Axes, classes: Sequence[str]) -> None:
    step = -(-len(classes) // 50)
    place, names = np.arange(0, len(classes), step), [short(name) for name in classes[::step]]
    axes.set_xticks(place, names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(place, names)


def _curves(axes: Axes, curves: Sequence[Curve], classes: Sequence[str], area: str) -> None:
    order = [int(label) for label in np.argsort([curve.area for curve in curves], kind="stable") if len(curves[label].x)]
    for colour, label in zip(PALETTE, sorted(order[:CURVES]), strict=False):
        name = f"{short(classes[label])} · {area} {curves[label].area:.4f}"
        if name.startswith("_"):
            name = f"{UNSEEN}{name}"
        axes.plot(curves[label].x, curves[label].y, color=colour, linewidth=1.2, label=name)


def _two_views(curves: Sequence[Curve], classes: Sequence[str], area: str, x: str, y: str) -> tuple[Figure, Axes, Axes]:
    """Draw the curves twice, for the whole range and for a corner, with one legend; return the figure and both axes."""
    figure = Figure(figsize=(9, 3.8))
    whole, corner = figure.subplots(1, 2)
    for axes in (whole, corner):
        _curves(axes, curves, classes, area)
        axes.set(xlabel=x, ylabel=y)
    whole.set_title("whole")
    figure.legend(*whole.get_legend_handles_labels(), loc="outside right center")
    return figure, whole, corner


def _table(curves: Sequence[Curve], classes: Sequence[str], x: str, y: str) -> pd.DataFrame:
    parts = [pd.DataFrame({"class": name, x: c.x, y: c.y}) for name, c in zip(classes, (c.thin() for c in curves), strict=True)]
    return pd.concat(parts, ignore_index=True)


def _selection(curves: Sequence[Curve]) -> str:
    return f" Only the {CURVES} of {len(curves)} classes with the smallest area are drawn." if len(curves) > CURVES else ""


def _or_undefined(area: float) -> str:
    return "undefined (all test images are of one class)" if np.isnan(area) else f"{area:.4f}"
