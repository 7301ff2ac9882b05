"""Figures of an ablation: every row against the base, each factor by its levels, and the grid of two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure

from pipeline.evaluation.drawing import ACCENT, INK, SHADE, TRAIN, VALIDATION, Drawing, short, styled
from pipeline.evaluation.statistics import p_equals
from pipeline.report import formats
from study.experiments.ablation.crossing import Crossing
from study.experiments.ablation.grammar import MARGIN
from study.experiments.ablation.results import Effect, Result, Results
from study.report.figures.style import FAINT, STRETCHED, log_ticks, quality_axis

WIDE = 20.0  # largest over smallest value, from which an axis is logarithmic
APART = 0.05  # of the axis: levels that are closer stand side by side instead of at their values


def draw(results: Results) -> list[Drawing]:
    """All figures that there is something to draw for."""
    found = [differences(results), *(factor(results, effect) for effect in results.effects), grid(results)]
    return [drawing for drawing in found if drawing is not None]


def factor_figure(effect: Effect) -> str:
    """The name of a factor's figure."""
    return "factor-" + re.sub(r"[^A-Za-z0-9]+", "-", effect.factor.name).strip("-").lower()


@styled
def differences(results: Results) -> Drawing | None:
    """What each row changes against the base, in points, with intervals and single seeds."""
    rows = [result for result in results.rows.values() if result.gap is not None]
    if not rows:
        return None
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(rows)))
    panel = figure.subplots()
    panel.axvspan(-100 * MARGIN, 100 * MARGIN, color=FAINT, alpha=0.14, linewidth=0)
    panel.axvline(0, color=INK, linewidth=0.8)
    numbers = []
    for place, result in enumerate(reversed(rows)):
        colour = _colour(result)
        seeds = _gaps(result, results.base)
        if result.difference is not None:
            ends = [100 * result.difference.low, 100 * result.difference.high]
            panel.plot(ends, [place, place], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
        panel.plot([100 * gap for _, gap in seeds], np.full(len(seeds), place), "|", color=colour, markersize=8)
        panel.plot(100 * (result.gap or 0.0), place, "o", color=colour, markersize=6)
        numbers += [(result.row.name, seed, gap) for seed, gap in seeds]
    panel.set_yticks(range(len(rows)), [_title(result) for result in reversed(rows)])
    panel.set_ylim(-0.7, len(rows) - 0.3)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel("difference to the base in validation accuracy, points")
    caption = (
        "Dot: mean over the seeds; bar: its 95 % t interval, paired with the base; strokes: single seeds. Blue is better than "
        f"the base and orange worse, told apart among all rows (Holm); the band is ±{100 * MARGIN:g} points."
    )
    columns = ["row", "seed", "difference"]
    return Drawing("differences", "Every row against the base", caption, figure, pd.DataFrame(numbers, columns=columns))


def _title(result: Result) -> str:
    """A row as an axis has room for it."""
    return result.row.title if len(result.row.title) <= 44 else f"{result.row.title[:43]}…"


def _colour(result: Result) -> str:
    if not result.told_apart or result.gap is None:
        return FAINT
    return VALIDATION if result.gap > 0 else TRAIN


def _gaps(result: Result, base: Result) -> list[tuple[int, float]]:
    """Seed by seed the difference to the base."""
    pairs = enumerate(zip(result.values, base.values, strict=True))
    return [(seed, own - other) for seed, (own, other) in pairs if own is not None and other is not None]


@styled
def factor(results: Results, effect: Effect) -> Drawing | None:
    """Accuracy at every level of a factor: means with intervals, seeds as faint lines."""
    shown = [index for index, result in enumerate(effect.results) if result.accuracy is not None]
    if not shown:
        return None
    figure = Figure(figsize=(5.6, 3.5))
    panel = figure.subplots()
    labels = [effect.factor.levels[index].label for index in range(len(effect.results))]
    places = _level_axis(panel, effect, labels)
    drawn = list(_seeds(panel, effect, places))
    for index in shown:
        drawn += _mean(panel, effect.results[index], places[index], ACCENT if effect.factor.levels[index].is_base else VALIDATION)
    means = [(places[index], found.value) for index in shown if (found := effect.results[index].accuracy)]
    panel.plot(*zip(*means, strict=True), color=VALIDATION, linewidth=1.2, alpha=0.7, zorder=2)
    base = effect.of(effect.factor.base).accuracy
    if base is not None:
        panel.axhline(base.value, color=ACCENT, linewidth=0.8, linestyle=":", zorder=1)
    panel.set_xlabel(effect.factor.name)
    quality_axis(panel, results.facts, drawn)
    caption = f"{_told(effect)} Violet is the base; faint lines are single seeds. {STRETCHED}"
    return Drawing(factor_figure(effect), effect.factor.name, caption, figure, _numbers(effect))


def _level_axis(panel: Panel, effect: Effect, labels: Sequence[str]) -> list[float]:
    """Where the levels stand: numbers at their values, unless these would touch; all others side by side."""
    values = [level.number for level in effect.factor.levels]
    if all(value is not None for value in values):
        numbers = np.array(values, dtype=float)  # ascending
        log = numbers[0] > 0 and numbers[-1] >= WIDE * numbers[0]
        placed = np.log(numbers) if log else numbers
        if np.diff(placed).min() >= APART * (placed[-1] - placed[0]):
            if log:
                panel.set_xscale("log")
                log_ticks(panel.xaxis, numbers[0], numbers[-1])
            panel.set_xticks(numbers, labels)
            panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            return list(numbers)
    short_labels = [short(label) for label in labels]
    tilt: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, short_labels)) > 40 else {}
    panel.set_xticks(range(len(labels)), short_labels, **tilt)
    panel.set_xlim(-0.5, len(labels) - 0.5)
    return [float(index) for index in range(len(labels))]


def _seeds(panel: Panel, effect: Effect, places: Sequence[float]) -> Iterator[float]:
    """Draws each seed as a line from level to level, broken where a training is missing; yields what it draws."""
    for seed in range(len(effect.results[0].values)):
        values = [result.values[seed] for result in effect.results]
        line = [np.nan if value is None else value for value in values]
        panel.plot(places, line, "o-", color=FAINT, markersize=3, linewidth=0.7, alpha=0.55, zorder=1)
        yield from (value for value in values if value is not None)


def _mean(panel: Panel, result: Result, place: float, colour: str) -> list[float]:
    found = result.accuracy
    assert found is not None
    panel.plot([place, place], [found.low, found.high], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt", zorder=3)
    panel.plot(place, found.value, "o", color=colour, markersize=7, zorder=4)
    return [found.low, found.value, found.high]


def _told(effect: Effect) -> str:
    """The main numbers of a factor, a sentence."""
    if effect.best is None or effect.worst is None or effect.spread is None:
        return "Mean validation accuracy with its 95 % interval, as far as there is one."
    return (
        f"Best at {effect.best.label}, worst at {effect.worst.label}: {100 * effect.spread.value:.2f} points apart "
        f"(n = {effect.spread.n}). Bars: 95 % t intervals of the means."
    )


def _numbers(effect: Effect) -> pd.DataFrame:
    rows = [
        {"level": level.label, "base": level.is_base, "seed": seed, "validation_accuracy": value}
        for level, result in zip(effect.factor.levels, effect.results, strict=True)
        for seed, value in enumerate(result.values)
        if value is not None
    ]
    return pd.DataFrame(rows)


@styled
def grid(results: Results) -> Drawing | None:
    """Mean accuracy of every cell, coloured by what the two factors do together beyond adding up."""
    crossed = results.crossing
    if crossed is None or not np.isfinite(crossed.means).any():
        return None
    first, second = crossed.first, crossed.second
    figure = Figure(figsize=(min(2.2 + 1.25 * len(second.levels), 9), 1.3 + 0.55 * len(first.levels)))
    panel = figure.subplots()
    low, high = float(np.nanmin(crossed.means)), float(np.nanmax(crossed.means))
    reach = 2 * max(high - low, MARGIN)  # the lighter half of the colours, so that the text on them can be read
    panel.imshow(crossed.means, cmap=SHADE, vmin=low, vmax=low + reach, aspect="auto")
    for (row, column), mean in np.ndenumerate(crossed.means):
        text = "–" if np.isnan(mean) else formats.percent(mean, formats.digits_for(results.images))
        if crossed.residuals is not None:
            text += f"\n{formats.signed(float(crossed.residuals[row, column]))}"
        panel.text(column, row, text, ha="center", va="center", fontsize=9)
    panel.set_xticks(range(len(second.levels)), [short(level.label) for level in second.levels])
    panel.set_yticks(range(len(first.levels)), [short(level.label) for level in first.levels])
    panel.set_xlabel(second.name)
    panel.set_ylabel(first.name)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    return Drawing("grid", f"{first.name} by {second.name}", _grid_caption(crossed), figure, grid_numbers(crossed))


def _grid_caption(crossed: Crossing) -> str:
    told = crossed.interaction
    tail = "" if told is None else f" Interaction {p_equals(told.p_value)} (n = {told.n})."
    if crossed.residuals is None:
        return f"Mean validation accuracy of each cell; no seed has them all.{tail}"
    return (
        "Mean validation accuracy of each cell, the bluer the better; below it how many points it lies above what the two "
        f"factors give if they only add up.{tail}"
    )


def grid_numbers(crossed: Crossing) -> pd.DataFrame:
    rows = [
        {
            crossed.first.name: crossed.first.levels[row].label,
            crossed.second.name: crossed.second.levels[column].label,
            "validation_accuracy": mean,
            "n": int(crossed.counts[row, column]),
            "beyond_adding_up": np.nan if crossed.residuals is None else crossed.residuals[row, column],
        }
        for (row, column), mean in np.ndenumerate(crossed.means)
    ]
    return pd.DataFrame(rows)
