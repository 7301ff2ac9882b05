"""Figures of a reproduction: reported beside ours, and the failure that was made on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.evaluation import figures
from pipeline.evaluation.drawing import TRAIN, VALIDATION, Drawing, styled
from pipeline.report.formats import NARROW
from study.experiments.reproduction.failure import Demonstration
from study.experiments.reproduction.judge import Judged, RecipeResult, RowResult
from study.experiments.reproduction.mnist import CLASSES, TEST
from study.report.figures.style import FAINT, accuracy_ticks

COLOURS = {"reproduced": "#1e8f5f", "better": VALIDATION, "worse": "#d6453d", "not comparable": FAINT}
PANELS = ("validation_accuracy", "test_accuracy")
LEAST = 0.5 / TEST  # half an image, so that no error has a place on the axis
FLOOR = 0.03  # accuracies that lie closer to each other than this are drawn over so much


def draw(results: Sequence[RecipeResult], demonstration: Demonstration | None) -> list[Drawing]:
    """All figures, in the order of the page; what has nothing to show is left out."""
    drawn = [drawing for result in results for drawing in (forest(result), *confusions(result).values())]
    shown = [drawing for drawing in drawn if drawing is not None]
    return [*shown, *([recalls(demonstration), broken_confusion(demonstration)] if demonstration else [])]


def name_of(result: RecipeResult) -> str:
    return f"forest-{result.recipe.source}"


@styled
def forest(result: RecipeResult) -> Drawing | None:
    """What each row reports and what ours came to, for validation and for test as far as the source prints them."""
    rows = [(found, figure) for found in result.rows for figure in found.figures if figure.name in PANELS]
    rows = [(found, figure) for found, figure in rows if found.row.later is None and figure.ours is not None]
    if not rows:
        return None
    drawn = [name for name in PANELS if any(figure.name == name for _, figure in rows)]
    names = [name for name in drawn if any(figure.name == name and figure.reported for _, figure in rows)] or drawn
    rows = [(found, figure) for found, figure in rows if figure.name in names]
    order = list(dict.fromkeys(found.row.name for found, _ in rows))[::-1]
    canvas = Canvas(figsize=(9, 1.4 + 0.27 * len(order)))
    panels = canvas.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        _panel(panel, name, [(order.index(found.row.name), figure) for found, figure in rows if figure.name == name])
    panels[0].set_yticks(range(len(order)), order)
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    _legend(canvas)
    bar = f"where a single training lies in 95{NARROW}% of cases"
    if not any(figure.ours and figure.ours.prediction for _, figure in rows):
        bar = f"its 95{NARROW}% Wilson interval, from which the reported share, uncertain too, may be a little apart by chance"
    caption = (
        f"Cross: as reported. Dot: ours, the mean over seeds; bar: {bar}. Its colour is the verdict. The axis is stretched "
        f"towards 100{NARROW}%: equal steps are equal factors in errors."
    )
    title = f"{result.recipe.source}: reported and ours"
    return Drawing(name_of(result), title, caption, canvas, _numbers(rows))


def _panel(panel: Axes, name: str, marks: Sequence[tuple[int, Judged]]) -> None:
    drawn: list[float] = []
    for place, figure in marks:
        assert figure.ours is not None
        colour = COLOURS[figure.verdict]
        low, high = figure.ours.prediction or (figure.ours.low, figure.ours.high)
        if low is not None and high is not None:
            panel.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
            drawn += [low, high]
        panel.plot(figure.ours.value, place, "o", color=colour, markersize=5)
        drawn.append(figure.ours.value)
        if figure.reported is not None:
            panel.plot(figure.reported.value, place, "x", color=TRAIN, markersize=6, markeredgewidth=1.5)
            drawn.append(figure.reported.value)
    _stretch(panel, drawn)
    panel.set_xlabel(name.replace("_", " "))
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _stretch(panel: Axes, values: Sequence[float]) -> None:
    """An axis of accuracies by the logarithm of the errors."""
    low, high = min(values), max(values)
    low = min(low, high - FLOOR * (1 - high))  # all the same: something to either side
    panel.set_xscale(
        "function", functions=(lambda x: -np.log10(np.maximum(1 + LEAST - x, LEAST / 10)), lambda t: 1 + LEAST - 10**-t)
    )
    ends = -np.log10(1 + LEAST - np.array([low, high]))
    margin = max(0.06 * (ends[1] - ends[0]), 0.02)
    limits = np.clip(1 + LEAST - 10 ** -(ends + np.array([-margin, margin])), None, 1 + 0.8 * LEAST)
    panel.set_xlim(*limits)
    panel.xaxis.set_major_locator(FixedLocator(accuracy_ticks(float(limits[0]), float(limits[1]), TEST)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))


def _legend(canvas: Canvas) -> None:
    """All verdicts, whether or not they occur, so that the figures of all sources read alike."""
    panel = canvas.axes[0]
    handles = [panel.plot([], [], "x", color=TRAIN, markersize=6, markeredgewidth=1.5, label="reported")[0]]
    handles += [panel.plot([], [], "o", color=colour, markersize=5, label=word)[0] for word, colour in COLOURS.items()]
    canvas.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _numbers(rows: Sequence[tuple[RowResult, Judged]]) -> pd.DataFrame:
    columns = ["row", "figure", "reported", "ours", "n", "prediction_low", "prediction_high", "verdict"]
    content = []
    for found, figure in rows:
        assert figure.ours is not None
        ends = figure.ours.prediction or (None, None)
        mine = (figure.ours.value, figure.ours.n, *ends)
        reported = figure.reported.value if figure.reported else None
        content.append((found.row.name, figure.name, reported, *mine, figure.verdict))
    return pd.DataFrame(content, columns=columns)


def confusions(result: RecipeResult) -> dict[str, Drawing]:
    """The confusion matrices that the source prints, beside ours, by row."""
    return {
        found.row.name: _confusion(f"confusion-{result.recipe.source}-{found.row.name}", found, np.array(printed), ours)
        for found in result.rows
        if (printed := found.row.confusion) is not None and (ours := found.confusion) is not None
    }


@styled
def _confusion(name: str, found: RowResult, printed: np.ndarray, ours: np.ndarray) -> Drawing:
    groups = found.row.params.data.merge or [[label] for label in range(CLASSES)]
    classes = ["+".join(map(str, group)) for group in groups]
    canvas = Canvas(figsize=(7.5, 3.8))
    panels = canvas.subplots(1, 2, sharey=True)
    for panel, title, counts in zip(panels, ("reported", "ours"), (printed, ours), strict=True):
        figures.draw_confusion(panel, counts, classes)
        panel.set_title(title)
    panels[1].set_ylabel("")
    errors, mine = (round(counts.sum() - np.trace(counts)) for counts in (printed, ours))
    seeds = f", mean over {len(found.complete)} seeds" if len(found.complete) > 1 else ""
    caption = (
        f"Wrong are {errors} of {printed.sum():,} test images as reported, {mine} of {round(ours.sum()):,} of ours{seeds}. "
        "A cell's colour is its share of the row."
    )
    cells = [(classes[i], classes[j], printed[i, j], ours[i, j]) for i, j in np.ndindex(printed.shape)]
    numbers = pd.DataFrame(cells, columns=["true", "predicted", "reported", "ours"])
    return Drawing(name, f"Confusion matrix, {found.row.title}", caption, canvas, numbers)


@styled
def recalls(demonstration: Demonstration) -> Drawing:
    """Recall per class on the test images as they are and as the broken pipeline reads them."""
    whole, broken = (
        np.array([np.nan if share is None else share for share in reading.recall], dtype=float)
        for reading in (demonstration.whole, demonstration.broken)
    )
    places = np.arange(len(demonstration.classes))
    canvas = Canvas(figsize=(6.5, 3))
    panel = canvas.subplots()
    panel.bar(places - 0.2, whole, 0.4, color=VALIDATION, label="as it is")
    panel.bar(places + 0.2, broken, 0.4, color=TRAIN, label="labels broken")
    panel.set_xticks(places, demonstration.classes)
    panel.set(xlabel="class", ylabel="recall", ylim=(0, 1.02))
    panel.grid(visible=False, axis="x")
    canvas.legend(loc="outside upper center", ncols=2)
    names = ", ".join(demonstration.classes[label] for label in demonstration.broken_labels)
    caption = (
        f"Share of each class's images that {demonstration.network} recognises. With the labels of {names} exchanged, these "
        f"fall to {max(broken[list(demonstration.broken_labels)]):.1%} at most; the others stay."
    )
    numbers = pd.DataFrame({"class": demonstration.classes, "recall": whole, "recall_broken": broken})
    return Drawing("recalls", "Recall per class, whole and broken", caption, canvas, numbers)


def broken_confusion(demonstration: Demonstration) -> Drawing:
    """The confusion matrix that the broken pipeline would print."""
    drawing = figures.confusion(np.array(demonstration.broken.confusion), demonstration.classes)
    return replace(drawing, name="broken-confusion", title="Confusion matrix of the broken reading")
