"""Figures of a reproduction: reported beside ours, and the failure that was made on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from pipeline.evaluation import figures
from pipeline.evaluation.drawing import TRAIN, VALIDATION, Drawing, styled
from pipeline.report.formats import NARROW
from study.experiments.reproduction.failure import Demonstration
from study.experiments.reproduction.judge import Judged, RecipeResult, RowResult
from study.experiments.reproduction.measure import CLASSES, TEST
from study.report.figures.style import FAINT, STRETCHED, accuracy_axis

COLOURS = {"reproduced": "#1e8f5f", "better": VALIDATION, "worse": "#d6453d", "not comparable": FAINT}
PANELS = ("validation_accuracy", "test_accuracy")
FLOOR = 0.03  # accuracies that lie closer to each other than this are drawn over so much


def draw(results: Sequence[RecipeResult], demonstration: Demonstration | None) -> list[Drawing]:
    """Draw all figures that have something to show, in the page's order."""
    drawings = [drawing for result in results for drawing in (forest(result), *confusions(result)) if drawing is not None]
    return [*drawings, *([recalls(demonstration), broken_confusion(demonstration)] if demonstration else [])]


@styled
def forest(result: RecipeResult) -> Drawing | None:
    """Draw what each row reports beside ours, for validation and for test as far as the source prints them."""
    rows = [(row, figure) for row in result.rows for figure in row.figures if figure.name in PANELS]
    rows = [(row, figure) for row, figure in rows if row.row.later is None and figure.ours is not None]
    if not rows:
        return None
    drawn = [name for name in PANELS if any(figure.name == name for _, figure in rows)]
    names = [name for name in drawn if any(figure.name == name and figure.reported for _, figure in rows)] or drawn
    rows = [(row, figure) for row, figure in rows if figure.name in names]
    order = list(dict.fromkeys(row.row.name for row, _ in rows))[::-1]
    canvas = Canvas(figsize=(9, 1.4 + 0.27 * len(order)))
    panels = canvas.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        _panel(panel, name, [(order.index(row.row.name), figure) for row, figure in rows if figure.name == name])
    panels[0].set_yticks(range(len(order)), order)
    panels[0].set_ylim(-0.7, len(order) - 0.3)
    _legend(canvas)
    bar = f"where a single training lies in 95{NARROW}% of cases"
    if not any(figure.ours and figure.ours.prediction for _, figure in rows):
        bar = f"its 95{NARROW}% Wilson interval, from which the reported share, uncertain too, may be a little apart by chance"
    caption = f"Cross: as reported. Dot: ours, the mean over seeds; bar: {bar}. Its colour is the verdict. {STRETCHED}"
    title = f"{result.recipe.source}: reported and ours"
    return Drawing(f"forest-{result.recipe.source}", title, caption, canvas, _numbers(rows))


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
    least = max(drawn) - FLOOR * (1 - max(drawn))  # all the same: something to either side
    accuracy_axis(panel, [*drawn, least], TEST, "x")
    panel.set_xlabel(name.replace("_", " "))
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _legend(canvas: Canvas) -> None:
    """Name all verdicts, whether or not they occur, so that the figures of all sources read alike."""
    panel = canvas.axes[0]
    handles = [panel.plot([], [], "x", color=TRAIN, markersize=6, markeredgewidth=1.5, label="reported")[0]]
    handles += [panel.plot([], [], "o", color=colour, markersize=5, label=word)[0] for word, colour in COLOURS.items()]
    canvas.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _numbers(rows: Sequence[tuple[RowResult, Judged]]) -> pd.DataFrame:
    columns = ["row", "figure", "reported", "ours", "n", "prediction_low", "prediction_high", "verdict"]
    content = []
    for row, figure in rows:
        assert figure.ours is not None
        ends = figure.ours.prediction or (None, None)
        mine = (figure.ours.value, figure.ours.n, *ends)
        reported = figure.reported.value if figure.reported else None
        content.append((row.row.name, figure.name, reported, *mine, figure.verdict))
    return pd.DataFrame(content, columns=columns)


def confusions(result: RecipeResult) -> list[Drawing]:
    """Draw the confusion matrices that the source prints, beside ours."""
    return [
        _confusion(f"confusion-{result.recipe.source}-{row.row.name}", row, np.array(printed), ours)
        for row in result.rows
        if (printed := row.row.confusion) is not None and (ours := row.confusion) is not None
    ]


@styled
def _confusion(name: str, row: RowResult, printed: np.ndarray, ours: np.ndarray) -> Drawing:
    groups = row.row.params.data.merge or [[label] for label in range(CLASSES)]
    classes = ["+".join(map(str, group)) for group in groups]
    canvas = Canvas(figsize=(7.5, 3.8))
    panels = canvas.subplots(1, 2, sharey=True)
    for panel, title, counts in zip(panels, ("reported", "ours"), (printed, ours), strict=True):
        figures.draw_confusion(panel, counts, classes)
        panel.set_title(title)
    panels[1].set_ylabel("")
    errors, mine = (round(counts.sum() - np.trace(counts)) for counts in (printed, ours))
    seeds = f", mean over {len(row.complete)} seeds" if len(row.complete) > 1 else ""
    caption = (
        f"Wrong are {errors} of {printed.sum():,} test images as reported, {mine} of {round(ours.sum()):,} of ours{seeds}. "
        "A cell's colour is its share of the row."
    )
    cells = [(classes[i], classes[j], printed[i, j], ours[i, j]) for i, j in np.ndindex(printed.shape)]
    numbers = pd.DataFrame(cells, columns=["true", "predicted", "reported", "ours"])
    return Drawing(name, f"Confusion matrix, {row.row.title}", caption, canvas, numbers)


@styled
def recalls(demonstration: Demonstration) -> Drawing:
    """Draw recall per class on the test images as they are and as the broken pipeline reads them."""
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
    caption = (
        f"Share of each class's images that {demonstration.network} recognises. With the labels of "
        f"{', '.join(demonstration.broken_names)} exchanged, these fall to "
        f"{max(broken[list(demonstration.broken_labels)]):.1%} at most; the others stay."
    )
    numbers = pd.DataFrame({"class": demonstration.classes, "recall": whole, "recall_broken": broken})
    return Drawing("recalls", "Recall per class, whole and broken", caption, canvas, numbers)


def broken_confusion(demonstration: Demonstration) -> Drawing:
    """Draw the confusion matrix that the broken pipeline would print."""
    drawing = figures.confusion(np.array(demonstration.broken.confusion), demonstration.classes)
    return replace(drawing, name="broken-confusion", title="Confusion matrix of the broken reading")
