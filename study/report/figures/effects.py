"""Figures of what each parameter does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.evaluation.drawing import ACCENT, INK, SHADE, TRAIN, VALIDATION, Drawing, styled
from study.report.axes import Axis, short_name
from study.report.facts import Facts
from study.report.figures.style import AGE, FAINT, MANY, STRETCHED, grid, parameter_axis, quality_axis
from study.report.findings import Findings

FEWEST = 3  # trials with a parameter, to show what it does
BINS = 8
IN_A_BIN = 5  # trials at least, where there are as many
PARALLEL = 9  # parameters side by side
BEST = 0.1  # of the trials are drawn in colour,
MOST = 20  # so many at most
CELLS = 48  # on each side of the contour
LEVELS = 9  # of shade
NEAR = 0.08  # of a range: how far a trial speaks for its surroundings in the contour


@styled
def importances(findings: Findings) -> Drawing | None:
    """Shares of both methods, side by side."""
    told = findings.importances
    if not told.names:
        return None
    names = told.names[::-1]
    figure = Figure(figsize=(9, 1.1 + 0.24 * len(names)))
    left, right = figure.subplots(1, 2, sharey=True)
    for panel, shares, title in ((left, told.ped, "PED-ANOVA"), (right, told.fanova, "fANOVA")):
        values = [shares.get(name, 0.0) for name in names]
        panel.barh(range(len(names)), values, height=0.62, color=VALIDATION, alpha=0.85)
        for row, name in enumerate(names):
            known = name in shares
            text = f" {shares[name]:.0%}" if known else " not in every trial"
            panel.text(shares.get(name, 0.0), row, text, va="center", fontsize=8, alpha=1 if known else 0.6)
        panel.set(title=title, xlim=(0, max([*shares.values(), 0.1]) * 1.18), xlabel="share")
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panel.grid(visible=False, axis="y")
    left.set_yticks(range(len(names)), [short_name(name) for name in names])
    table = {"parameter": told.names, "ped_anova": [told.ped[name] for name in told.names]}
    numbers = pd.DataFrame(table | {"fanova": [told.fanova.get(name) for name in told.names]})
    caption = f"Shares that sum to 1, over {told.n} trials, {told.stopped} of them stopped early with what they had reached."
    if told.left_out:
        caption += f" fANOVA leaves out {len(told.left_out)} parameters that not every trial had."
    if told.sampled < told.n:
        caption += f" fANOVA: {told.sampled} of them, drawn at random."
    return Drawing("importances", "Importance of parameters", caption, figure, numbers)


def ranked(findings: Findings) -> list[Axis]:
    """Axes that some trials used, the most important first."""
    axes = findings.facts.axes
    names = [*findings.importances.names, *(name for name in axes if name not in findings.importances.ped)]
    used = findings.facts.numbers.notna().sum()
    return [axes[name] for name in names if used[name] >= FEWEST]


@styled
def slices(findings: Findings) -> Drawing | None:
    """Each parameter against the quality, a dot a trial, coloured by its number."""
    facts, axes = findings.facts, ranked(findings)
    if not axes:
        return None
    rows, columns = grid(len(axes))
    figure = Figure(figsize=(9, 1.9 * rows + 0.5))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    order = Normalize(0, max(int(facts.numbers.index.max()), 1))
    many = len(facts.values) * len(axes) > MANY
    sizes = [18 if run.state == "COMPLETE" else 7 for run in facts.measured]
    jitter = np.random.default_rng(0).uniform(-0.22, 0.22, len(facts.values))
    for panel, axis in zip(panels.flat, axes, strict=False):
        x = facts.numbers[axis.name].to_numpy() + (jitter if axis.choices else 0)
        panel.scatter(
            x, facts.values, c=facts.numbers.index, cmap=AGE, norm=order, s=sizes, alpha=0.75, linewidths=0, rasterized=many
        )
        parameter_axis(panel, axis)
    _finish(figure, panels, facts, len(axes), facts.values)
    bar = figure.colorbar(ScalarMappable(order, AGE), ax=panels, location="top", aspect=60, shrink=0.45, pad=0.01)
    bar.set_label("trial number", fontsize=9)
    bar.outline.set_visible(False)
    caption = (
        f"Each dot is a trial ({len(facts.values)}), with what it reached before it ended, or was stopped (small dots); the most "
        "important parameters first."
    )
    return Drawing("slices", "Every parameter, every trial", _stretched(caption, facts), figure, facts.table)


def _finish(figure: Figure, panels: np.ndarray, facts: Facts, used: int, drawn: Sequence[float] | np.ndarray) -> None:
    for panel in panels.flat[used:]:
        panel.set_visible(False)
    for panel in panels.flat[:used]:
        quality_axis(panel, facts, drawn)
        panel.set_ylabel("")
        panel.tick_params(labelsize=8)
        panel.xaxis.label.set_size(9)
    figure.supylabel(f"validation {facts.quality.title}", fontsize=9.5)


def _stretched(caption: str, facts: Facts) -> str:
    return f"{caption} {STRETCHED}" if facts.quality.stretched else caption


def _budget(facts: Facts) -> str:
    """At which epoch trials are compared."""
    epoch, values = facts.even
    return f"All at the same budget: what they had reached after epoch {epoch} ({(~np.isnan(values)).sum()} trials)."


def binned(numbers: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """Quartiles of ``values`` in bins of ``numbers``, as many in each as can be: at least five, and at most eight bins.

    numbers, values : float (n,), n >= 1, without NaN

    Returns
    -------
    ``at`` (median of the bin), ``low``, ``median``, ``high`` (quartiles), ``n``; at most eight different numbers are a bin each
    """
    kinds = np.unique(numbers)
    if len(kinds) <= BINS:
        labels = np.searchsorted(kinds, numbers)
    else:
        bins = int(np.clip(len(numbers) // IN_A_BIN, 1, BINS))
        labels = np.searchsorted(np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1]), numbers, side="right")
    groups = pd.DataFrame({"at": numbers, "value": values}).groupby(labels)
    quartiles = groups["value"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    quartiles.columns = pd.Index(["low", "median", "high"])
    return pd.concat([groups["at"].median(), quartiles, groups.size().rename("n")], axis=1).reset_index(drop=True)


@styled
def isolation(findings: Findings) -> Drawing | None:
    """The median of the quality along each numeric parameter, the others varying, with its quartiles."""
    facts = findings.facts
    reached = ~np.isnan(facts.even[1])
    axes = [
        axis for axis in ranked(findings) if not axis.choices and facts.numbers[axis.name][reached].notna().sum() >= 2 * IN_A_BIN
    ]
    if not axes:
        return None
    rows, columns = grid(len(axes))
    figure = Figure(figsize=(9, 1.9 * rows + 0.2))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    values = facts.even[1]
    tables, drawn = [], list[float]()
    for panel, axis in zip(panels.flat, axes, strict=False):
        there = facts.numbers[axis.name].notna().to_numpy() & ~np.isnan(values)
        bins = binned(facts.numbers[axis.name].to_numpy()[there], values[there])
        drawn += [*bins["low"], *bins["high"]]
        panel.fill_between(bins["at"], bins["low"], bins["high"], color=VALIDATION, alpha=0.18, linewidth=0)
        panel.plot(bins["at"], bins["median"], color=VALIDATION, marker="o", markersize=3.5)
        parameter_axis(panel, axis)
        tables.append(bins.assign(parameter=axis.name))
    _finish(figure, panels, facts, len(axes), drawn)
    caption = (
        "One numeric parameter at a time, whatever the others were: median of the trials in each bin, and the band that holds "
        f"the middle half of them. {_budget(facts)} A narrow, sloping band is an effect; a wide level one is none."
    )
    return Drawing("isolation", "One parameter at a time", _stretched(caption, facts), figure, pd.concat(tables))


@styled
def parallel(findings: Findings) -> Drawing | None:
    """Every trial as a line through its settings; the best tenth in colour."""
    facts = findings.facts
    axes = ranked(findings)[:PARALLEL]
    if len(axes) < 2 or len(facts.values) < IN_A_BIN:
        return None
    places = np.column_stack([axis.place(facts.numbers[axis.name].to_numpy()) for axis in axes])  # (trials, axes)
    ranks = np.argsort(np.argsort(-facts.quality.sign * facts.values, kind="stable"))
    best = ranks < min(max(3, round(BEST * len(ranks))), MOST)
    figure = Figure(figsize=(9, 3.9))
    panel = figure.subplots()
    for chosen, colour, alpha, width in ((~best, FAINT, 0.22, 0.7), (best, ACCENT, 0.85, 1.3)):
        lines = [np.column_stack([np.arange(len(axes)), row]) for row in places[chosen]]
        many = len(lines) * len(axes) > MANY
        panel.add_collection(LineCollection(lines, colors=colour, alpha=alpha, linewidths=width, rasterized=many))
    for index, axis in enumerate(axes):
        _parallel_axis(panel, index, axis)
    panel.set(xlim=(-0.3, len(axes) - 0.5), ylim=(-0.04, 1.04), xticks=range(len(axes)))
    panel.set_xticklabels([short_name(axis.name) for axis in axes], rotation=20, ha="right", fontsize=8.5)
    panel.set_yticks([])
    panel.grid(visible=False)
    panel.spines[["left", "bottom"]].set_visible(False)
    caption = (
        f"Each line is a trial; the {best.sum()} best of {len(best)} are violet. Where these meet, the setting matters; a line "
        "breaks where a trial had no such parameter."
    )
    return Drawing("parallel", "Settings of the best trials", caption, figure, facts.table)


def _parallel_axis(panel: Panel, index: int, axis: Axis) -> None:
    panel.axvline(index, color=INK, linewidth=0.6, alpha=0.6)
    labels = axis.labels if axis.choices else [f"{axis.low:.3g}", f"{axis.high:.3g}"]
    for place, label in zip(np.linspace(0, 1, len(labels)), labels, strict=True):
        panel.text(index + 0.04, place, label[:10], fontsize=7.5, va="center")


@styled
def contour(findings: Findings) -> Drawing | None:
    """The quality over the two most important numeric parameters, smoothed, where there were trials."""
    facts, values = findings.facts, findings.facts.even[1]
    axes = _smooth_axes(findings)
    names = [axis.name for axis in axes]
    there = facts.numbers[names].notna().all(axis=1).to_numpy() & ~np.isnan(values)
    if len(axes) < 2 or there.sum() < 2 * IN_A_BIN or np.ptp(values[there]) == 0:
        return None
    figure = _surface(facts, axes, there)
    numbers = facts.table[["trial", *names]][there].assign(**{f"validation_{facts.quality.name}": values[there]})
    caption = (
        f"{' and '.join(map(short_name, names))}, the two most important numeric parameters that most trials had: local mean of "
        f"{there.sum()} trials, whatever the rest was; blank where no trial is near. {_budget(facts)}"
    )
    return Drawing("contour", "The two that matter most", caption, figure, numbers)


def _surface(facts: Facts, axes: Sequence[Axis], there: np.ndarray) -> Figure:
    """The contour of two parameters from the trials ``there``, bool (n,), with a dot for each and a ring around the best."""
    names, points = [axis.name for axis in axes], facts.numbers[there]
    x, y = (axis.place(points[axis.name].to_numpy()) for axis in axes)
    figure = Figure(figsize=(6.6, 4.2))
    panel = figure.subplots()
    shades = SHADE if facts.quality.sign > 0 else SHADE.reversed()
    surface = smooth(x, y, facts.even[1][there])
    picture = panel.contourf(_centres(axes[0]), _centres(axes[1]), surface, levels=LEVELS, cmap=shades)
    panel.plot(*points[names].to_numpy().T, ".", color=INK, markersize=3, alpha=0.5, rasterized=there.sum() > MANY)
    best = facts.best or facts.groups[0].first
    if all(name in best.params for name in names):
        at = [[best.params[name]] for name in names]
        panel.plot(*at, "o", color=TRAIN, fillstyle="none", markersize=10, label="best trial")
        panel.legend(loc="upper left", bbox_to_anchor=(0, 1.12))
    for axis, which in zip(axes, "xy", strict=True):
        parameter_axis(panel, axis, which)
    panel.grid(visible=False)
    figure.colorbar(picture, ax=panel, label=f"validation {facts.quality.title}, local mean").outline.set_visible(False)
    return figure


def _smooth_axes(findings: Findings) -> list[Axis]:
    """The two most important parameters that have many values and that most trials had; none without importances."""
    numbers = findings.facts.numbers
    fine = [axis for axis in ranked(findings) if not axis.choices and not (axis.whole and axis.high - axis.low < BINS)]
    found = [axis for axis in fine if numbers[axis.name].notna().mean() > 0.5][:2]
    return found if findings.importances.names else []


def _centres(axis: Axis) -> np.ndarray:
    return np.geomspace(axis.low, axis.high, CELLS) if axis.log else np.linspace(axis.low, axis.high, CELLS)


def smooth(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Local means on a grid, float (CELLS, CELLS), rows y; NaN where less than one trial in all speaks for a place.

    x, y : places in [0, 1], float (n,); each trial weighs by a normal density of deviation :data:`NEAR` around it
    """
    centres = np.linspace(0, 1, CELLS)
    across = np.exp(-(((centres[:, None] - x) / NEAR) ** 2) / 2)  # (cells, n)
    up = np.exp(-(((centres[:, None] - y) / NEAR) ** 2) / 2)
    weights = up @ across.T
    means = (up * values) @ across.T / np.maximum(weights, 1e-12)
    return np.where(weights >= 0.25, means, np.nan)
