"""Figures of what a study found: finalists, Pareto front, and random search beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure

from pipeline.evaluation.drawing import ACCENT, INK, TRAIN, VALIDATION, Drawing, styled
from study.report.facts import Facts, respect
from study.report.figures.style import FAINT, MANY, STRETCHED, grid, log_ticks, quality_axis
from study.report.findings import Findings
from study.state.objective import OBJECTIVES
from study.state.records import Finalist


@styled
def finalists(findings: Findings) -> Drawing | None:
    """Every training of every finalist, the mean with its interval, and what the search had promised."""
    facts, told = findings.facts, findings.facts.history.winner
    items = [item for item in told.finalists if item.mean is not None] if told else []
    if told is None or not items:
        return None
    figure = Figure(figsize=(9, 1.1 + 0.42 * len(items)))
    panel = figure.subplots()
    drawn: list[float] = []
    for row, item in enumerate(reversed(items)):
        values = [value for value in item.values if value is not None]
        colour = ACCENT if item.trial == told.trial else VALIDATION if item.ties else FAINT
        if item.low is not None and item.high is not None:
            ends = np.clip([item.low, item.high], 0, 1 if facts.quality.share else None)
            panel.plot(ends, [row, row], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
            drawn += ends.tolist()
        panel.plot(values, np.full(len(values), row), "|", color=colour, markersize=9, markeredgewidth=1.2)
        panel.plot(item.mean or 0.0, row, "o", color=colour, markersize=7)
        panel.plot(item.search_value, row, "x", color=TRAIN, markersize=6, markeredgewidth=1.4)
        drawn += [*values, item.search_value]
    panel.set_yticks(range(len(items)), [_finalist_name(item, told.trial) for item in reversed(items)])
    panel.set_ylim(-0.6, len(items) - 0.4)
    panel.grid(visible=False, axis="y")
    quality_axis(panel, facts, drawn, "x")
    seeds = [(item.trial, seed, value) for item in items for seed, value in zip(item.seeds, item.values, strict=True)]
    caption = (
        f"Dot: mean over fresh seeds; bar: its 95 % t interval; strokes: single trainings; cross: what the search had measured. "
        f"The winner, trial {told.trial}, is violet, what ties with the leader blue."
    )
    numbers = pd.DataFrame(seeds, columns=["trial", "seed", f"validation_{facts.quality.name}"])
    return Drawing("finalists", "Finalists on fresh seeds", caption, figure, numbers)


def _finalist_name(item: Finalist, winner: int) -> str:
    return f"trial {item.trial}" + (" (winner)" if item.trial == winner else "")


@styled
def pareto(findings: Findings) -> Drawing | None:
    """Quality against each other respect; what no trial beats in all of them is marked."""
    facts = findings.facts
    if not facts.complete:
        return None
    others = [name for name in facts.respects if name != facts.quality.name]
    rows, columns = grid(len(others), 2)
    figure = Figure(figsize=(9 if columns > 1 else 7, 3.6 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).flat
    numbers = pd.DataFrame(
        [{"trial": run.trial} | {name: respect(run, name) for name in facts.respects} for run in facts.complete]
    )
    front = {run.trial for run in facts.front}
    numbers["front"] = numbers["trial"].isin(front)
    for panel, name in zip(panels, others, strict=False):
        _front_panel(panel, facts, numbers, name)
    for panel in list(panels)[len(others) :]:
        panel.set_visible(False)
    named = " and ".join(OBJECTIVES[name].label for name in facts.respects)
    caption = (
        f"{len(front)} of {len(numbers)} complete trials are on the front of {named}: "
        "none is at least as good in all of them and better in one."
    )
    return Drawing("pareto", "Pareto front", f"{caption} {STRETCHED if facts.quality.stretched else ''}".strip(), figure, numbers)


def _front_panel(panel: Panel, facts: Facts, numbers: pd.DataFrame, name: str) -> None:
    quality = numbers[facts.quality.name]
    rest, best = numbers[~numbers["front"]], numbers[numbers["front"]].sort_values(name)
    panel.plot(rest[name], rest[facts.quality.name], "o", color=FAINT, markersize=4, alpha=0.6, rasterized=len(rest) > MANY)
    line = "-" if len(facts.respects) == 2 else ""
    panel.plot(
        best[name], best[facts.quality.name], f"o{line}", color=VALIDATION, markersize=5.5, drawstyle="steps-post", label="front"
    )
    if facts.best is not None:
        chosen = facts.history.winner.trial if facts.history.winner else facts.best.trial
        row = numbers[numbers["trial"] == chosen]
        label = f"{'winner' if facts.history.winner else 'best'}, trial {chosen}"
        if len(row):  # a winner that asha had left at a rung is no complete trial
            panel.plot(row[name], row[facts.quality.name], "o", color=ACCENT, markersize=10, fillstyle="none", label=label)
    if numbers[name].min() > 0 and numbers[name].max() > 5 * numbers[name].min():
        panel.set_xscale("log")
        margin = (numbers[name].max() / numbers[name].min()) ** 0.05
        panel.set_xlim(numbers[name].min() / margin, numbers[name].max() * margin)
        log_ticks(panel.xaxis, numbers[name].min() / margin, numbers[name].max() * margin, 6)
    panel.set_xlabel(OBJECTIVES[name].label)
    quality_axis(panel, facts, quality.to_numpy())
    panel.legend(loc="best")


@styled
def random_search(findings: Findings) -> Drawing | None:
    """The best so far against the expected best of as many random draws, as far as the study holds random draws."""
    facts, told = findings.facts, findings.chance
    if len(told.drawn) < 2:
        return None
    sign = facts.quality.sign
    best = sign * np.maximum.accumulate(sign * told.course)
    counts = np.arange(1, len(best) + 1)
    figure = Figure(figsize=(7, 3.2))
    panel = figure.subplots()
    panel.step(counts, best, where="post", color=VALIDATION, label="best so far in this study")
    panel.plot(np.arange(1, len(told.expected) + 1), told.expected, color=TRAIN, label="expected best of as many random draws")
    if len(told.drawn) < len(best):
        panel.axvline(len(told.drawn), color=INK, linewidth=0.8, linestyle=":")
        panel.hlines(told.expected[-1], len(told.drawn), len(best), color=TRAIN, linewidth=1, linestyle=":")
        panel.annotate(
            "more draws: not known", (len(told.drawn), told.expected[-1]), (6, -12), textcoords="offset points", fontsize=8.5
        )
    panel.set_xlabel("trained trials")
    quality_axis(panel, facts, [*best, *told.expected])
    if told.epoch is not None:
        panel.set_ylabel(f"validation {facts.quality.title} after epoch {told.epoch}")
    panel.legend(loc="lower right" if sign > 0 else "upper right")
    numbers = pd.DataFrame(
        {
            "trials": counts,
            "best_so_far": best,
            "expected_best_of_random": pd.Series(told.expected, counts[: len(told.expected)] - 1).reindex(counts - 1),
        }
    )
    caption = (
        "The study's best after so many trials, and what as many random draws give on average, from the "
        f"{len(told.drawn)} trials that were drawn at random. Beyond that number the study cannot tell: the dotted line is the "
        "best of them, and more draws would find at least that."
    )
    if len(told.drawn) == len(best):
        caption = f"The study's best after so many trials, and what as many random draws give on average, from all {len(best)}."
    if told.epoch is not None:
        caption += f" Trials count as they stood after epoch {told.epoch}, the last that every one of them reached."
    return Drawing("random", "Random search", caption, figure, numbers)
