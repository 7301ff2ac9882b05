"""Figures of how a study went: best so far, learning curves, rungs over time, epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.drawing import INK, PALETTE, Drawing, styled
from pipeline.report import formats
from study.report.cost import Span
from study.report.facts import WORDS
from study.report.figures.style import FAINT, MANY, STATES, STRETCHED, quality_axis
from study.report.findings import Findings
from study.state.history import Run

BEST = 5  # trials whose curves are drawn in colour
UNITS = ((120.0, "s", 1.0), (7200.0, "min", 60.0), (float("inf"), "h", 3600.0))


def clock(spans: Sequence[Span], times: np.ndarray) -> np.ndarray:
    """Milliseconds since 1970 as seconds of sessions: the time between two sessions counts nothing."""
    seconds = np.zeros(len(times))
    for span in spans:
        seconds += np.clip(times - span.began, 0, span.ended - span.began) / 1000
    return seconds


def unit(seconds: float) -> tuple[str, float]:
    """The unit that so long a time is best shown in, and its length in seconds."""
    return next((name, length) for limit, name, length in UNITS if seconds <= limit)


@styled
def history(findings: Findings) -> Drawing | None:
    """The best so far against the number of trials and against time, each trial at its last epoch."""
    facts = findings.facts
    if not facts.measured:
        return None
    sign = facts.quality.sign
    numbers = pd.DataFrame(
        {
            "trial": [run.trial for run in facts.measured],
            "seconds": clock(findings.cost.spans, np.array([_time(run) for run in facts.measured], float)),
            f"validation_{facts.quality.name}": facts.values,
            "state": [run.state for run in facts.measured],
        }
    )
    name, length = unit(max(findings.cost.seconds, 1e-9))
    figure = Figure(figsize=(9, 3.6))
    panels = figure.subplots(1, 2, sharey=True)
    for panel, column, scale in ((panels[0], "trial", 1.0), (panels[1], "seconds", length)):
        ordered = numbers.sort_values(column, kind="stable")
        for state, rows in ordered.groupby("state"):
            mark = "o" if state == "COMPLETE" else "."
            panel.plot(
                rows[column] / scale, rows.iloc[:, 2], mark, color=STATES[str(state)], markersize=4, alpha=0.65,
                label=WORDS[str(state)], rasterized=len(rows) > MANY,
            )  # fmt: skip
        best = sign * np.maximum.accumulate(sign * ordered.iloc[:, 2].to_numpy())
        panel.step(ordered[column] / scale, best, where="post", color=INK, linewidth=1.2, label="best so far")
        quality_axis(panel, facts, facts.values)
    panels[0].set_xlabel("trial number")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set(xlabel=f"time in sessions, {name}", ylabel="")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=6)
    caption = f"{len(numbers)} trained trials, each with what it had reached when it ended, was stopped, or now."
    caption = f"{caption} {STRETCHED}" if facts.quality.stretched else caption
    return Drawing("history", "Best so far", caption, figure, numbers)


def _time(run: Run) -> int:
    return run.epochs[-1].time


@styled
def curves(findings: Findings) -> Drawing | None:
    """Validation by epoch, every trial a line."""
    facts = findings.facts
    long = [run for run in facts.measured if len(run.epochs) > 1]
    if not long:
        return None
    best = [group.first for group in facts.groups[:BEST]]
    column = f"validation_{facts.quality.name}"
    lines = {run.trial: np.array([(epoch.epoch, facts.quality.of(epoch)) for epoch in run.epochs]) for run in facts.measured}
    figure = Figure(figsize=(7.5, 3.4))
    panel = figure.subplots()
    others = [line for trial, line in lines.items() if trial not in {run.trial for run in best}]
    panel.add_collection(LineCollection(others, colors=FAINT, alpha=0.35, linewidths=0.7, rasterized=len(others) > 100))
    stopped = np.array([line[-1] for line in others]).reshape(-1, 2)
    panel.plot(*stopped.T, ".", color=FAINT, markersize=3, alpha=0.6, rasterized=len(others) > 100)
    for run, colour in zip(best, PALETTE, strict=False):
        panel.plot(*lines[run.trial].T, color=colour, linewidth=1.5, label=f"trial {run.trial}")
    drawn = np.concatenate([line[:, 1] for line in lines.values()])
    panel.set(xlabel="epoch", xlim=(0.5, max(len(run.epochs) for run in facts.measured) + 0.5))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    quality_axis(panel, facts, drawn)
    panel.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    rows = [(trial, int(epoch), value) for trial, line in lines.items() for epoch, value in line]
    caption = f"Every trained trial ({len(lines)}); a dot is where it ended or was stopped. The {len(best)} best are in colour."
    return Drawing("curves", "Learning curves", caption, figure, pd.DataFrame(rows, columns=["trial", "epoch", column]))


@styled
def timeline(findings: Findings) -> Drawing | None:
    """What each slot did when: a bar a segment, coloured by what became of the run."""
    told = findings.cost
    if not told.bars:
        return None
    slots = list(told.slots)
    edges = clock(told.spans, np.array([[bar.began, bar.ended] for bar in told.bars], float).ravel()).reshape(-1, 2)
    name, length = unit(max(told.seconds, 1e-9))
    figure = Figure(figsize=(9, 1.3 + 0.34 * len(slots)))
    panel = figure.subplots()
    kinds = ["finalists" if bar.run.phase == "final" else bar.run.state for bar in told.bars]
    many = len(told.bars) > MANY
    for row, slot in enumerate(reversed(slots)):
        for kind, colour in STATES.items():
            chosen = [index for index, bar in enumerate(told.bars) if bar.slot == slot and kinds[index] == kind]
            spans = [(edges[index, 0] / length, (edges[index, 1] - edges[index, 0]) / length) for index in chosen]
            panel.broken_barh(spans, (row - 0.36, 0.72), facecolors=colour, alpha=0.85, linewidth=0, rasterized=many)
            paused = [edges[index, 1] / length for index in chosen if told.bars[index].why == "paused"]
            if many:  # strokes that touch would hide the bars
                continue
            panel.vlines(paused, row - 0.36, row + 0.36, color=INK, linewidth=0.9)
    for border in clock(told.spans, np.array([span.ended for span in told.spans[:-1]], float)):
        panel.axvline(border / length, color=INK, linewidth=0.8, linestyle=":")
    shown = [kind for kind in STATES if kind in kinds]
    handles = [Patch(color=STATES[kind], alpha=0.85, label=WORDS.get(kind, kind)) for kind in shown]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    panel.set_yticks(range(len(slots)), slots[::-1])
    panel.set(xlabel=f"time in sessions, {name}", xlim=(0, max(told.seconds / length, 1e-9)), ylim=(-0.6, len(slots) - 0.4))
    panel.grid(visible=False, axis="y")
    strokes = not many and any(bar.why == "paused" for bar in told.bars)
    rows = [(bar.run.key, bar.slot, kind, *edge, bar.why) for bar, kind, edge in zip(told.bars, kinds, edges, strict=True)]
    numbers = pd.DataFrame(rows, columns=["run", "slot", "state", "began_s", "ended_s", "then"])
    caption = (
        f"{formats.plural(len(told.bars), 'segment')} on {formats.plural(len(slots), 'slot')}"
        f"{'; a black stroke ends a segment that was paused, at a rung mostly' if strokes else ''}; blank is idle time."
    )
    if len(told.spans) > 1:
        caption += f" {len(told.spans)} sessions one after the other, dotted lines between them."
    return Drawing("timeline", "Slots over time", caption, figure, numbers)


@styled
def epochs(findings: Findings) -> Drawing | None:
    """How far trials were trained."""
    facts = findings.facts
    trained = [run for run in facts.history.trials if run.epochs]
    if not trained:
        return None
    most = max(run.config.train.epochs for run in trained)
    figure = Figure(figsize=(7, 2.6))
    panel = figure.subplots()
    edges = np.arange(0.5, most + 1) if most <= 60 else np.linspace(0.5, most + 0.5, 41)
    states = [state for state in WORDS if any(run.state == state for run in trained)]
    counts = [[len(run.epochs) for run in trained if run.state == state] for state in states]
    panel.hist(
        counts,
        bins=list(edges),
        stacked=True,
        color=[STATES[state] for state in states],
        label=[WORDS[state] for state in states],
        rwidth=0.85,
    )
    panel.set(xlabel="epochs", ylabel="trials", xlim=(0.4, most + 0.6))
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(loc="upper center")
    caption = f"How many epochs each of {len(trained)} trials was trained, of at most {most}."
    rows = [(run.trial, len(run.epochs), run.state) for run in trained]
    return Drawing("epochs", "Epochs per trial", caption, figure, pd.DataFrame(rows, columns=["trial", "epochs", "state"]))
