"""What the trainings of the finalists say: intervals, differences to the leader, who ties. Pure; needs scipy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.evaluation.statistics import ALPHA, holm, mean_interval, paired_difference, prediction_interval
from study.state.objective import Objective
from study.state.records import Difference, Finalist, Spread


def spread(values: Sequence[float], resolution: float) -> Spread:
    """Return mean, interval and prediction of values."""
    if len(values) < 2:
        return Spread(n=len(values), mean=values[0] if values else None)
    mean, prediction = mean_interval(values, resolution), list(prediction_interval(values, resolution))
    return Spread(n=mean.n, mean=mean.value, low=mean.low, high=mean.high, std=mean.std, prediction=prediction)


def compare(able: Sequence[Finalist], resolution: float) -> list[Finalist]:
    """Those that may win, the leader first, each with its difference to the leader, Holm-corrected."""
    leader, *others = able
    others = [against(item, leader, resolution) for item in others]
    corrected = holm([1.0 if item.p_value is None else item.p_value for item in others])
    compared = [replace(item, p_holm=p, ties=p >= ALPHA) for item, p in zip(others, corrected, strict=True)]
    return [replace(leader, ties=True), *compared]


def against(item: Finalist, leader: Finalist, resolution: float) -> Finalist:
    """With its difference to the leader; without one where they have fewer than two seeds in common."""
    both = [(own, led) for own, led in zip(item.values, leader.values, strict=True) if own is not None and led is not None]
    if len(both) < 2:
        return item
    part = paired_difference([own for own, _ in both], [led for _, led in both], resolution)
    return replace(item, difference=Difference(part.value, part.low, part.high), p_value=part.p_value)


def shown(values: Spread, objective: Objective) -> str:
    """``98.90% ± 0.20 over 5 seeds``; what is no share with its name."""
    seeds_ = f"over {values.n} seeds" if values.n > 1 else "of one seed"
    half = None if values.low is None or values.high is None else (values.high - values.low) / 2
    name = "" if objective.name == "accuracy" else f"{objective.title} "
    either = "" if half is None else f" ± {100 * half:.2f}" if objective.share else f" ± {half:.4f}"
    return f"{name}{objective.short(values.mean)}{either} {seeds_}"


def summary(winner: Finalist, ties: Sequence[Finalist], judged: Sequence[Finalist], objective: Objective) -> str:
    """Who won and over whom, in one line; those that could not win, for trainings that failed, are named as such."""
    out = [item for item in judged if item.excluded(winner.failures)]
    able = len(judged) - len(out)
    text = f"trial {winner.trial} wins: {shown(winner, objective)}; "
    if len(judged) == 1:
        text += "it was the only finalist"
    elif able == 1:
        text += "no other finalist could be compared with it"
    elif len(ties) == 1:
        others = "the other finalist" if able == 2 else f"the other {able - 1} finalists"
        text += f"chance does not explain its lead over {others}" + (" that could win" if out else "")
    else:
        text += f"{len(ties)} of {able} finalists{' that could win' if out else ''} tie; the smallest of them is chosen"
    lost = ", ".join(f"trial {item.trial} ({item.failures} of {len(item.values)})" for item in out)
    return text + (f"; out for trainings that failed: {lost}" if out else "")
