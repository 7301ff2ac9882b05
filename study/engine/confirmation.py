"""What the trainings of the finalists say: intervals, differences to the leader, who ties. Pure; needs scipy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.evaluation.statistics import ALPHA, holm, mean_interval, paired_difference, prediction_interval
from study.state.objective import Objective


@dataclass(frozen=True)
class Finalist:
    """What the trainings of one finalist came to. Values are those of the objective that decides.

    trial, group, parameters : of the configuration
    seeds, values : by index of the seed; None where the training failed, ``failures`` of them
    mean, low, high, std, n : of the values that there are, with 95 % t interval; None where n < 2 (mean: n < 1)
    prediction : where one more training, on another seed, lies in 95 % of cases; None where n < 2
    search_value : mean over the search's complete trials of this configuration; of one that asha left at a rung, as it stood
    optimism : by how much the search's value is better than the mean; positive: it promised too much; None without a
        complete trial
    difference : paired, this one minus the leader, ``{value, low, high}``, over the seeds that both have; None of the leader
    p_value : of the paired t test; p_holm : corrected for all finalists that may win
    ties : may win, and chance explains what separates it from the leader (the leader itself ties)
    """

    trial: int
    group: str
    parameters: int
    seeds: list[int]
    values: list[float | None]
    failures: int
    n: int
    mean: float | None
    low: float | None
    high: float | None
    std: float | None
    prediction: list[float] | None
    search_value: float
    optimism: float | None
    difference: dict[str, float] | None = None
    p_value: float | None = None
    p_holm: float | None = None
    ties: bool = False


def interval(values: Sequence[float], resolution: float) -> dict[str, Any]:
    """mean, low, high, std, n and prediction of values; None where there are too few."""
    if len(values) < 2:
        mean = values[0] if values else None
        return {"mean": mean, "low": None, "high": None, "std": None, "n": len(values), "prediction": None}
    part = asdict(mean_interval(values, resolution))
    return {"mean": part.pop("value"), **part, "prediction": list(prediction_interval(values, resolution))}


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
    return replace(item, difference={"value": part.value, "low": part.low, "high": part.high}, p_value=part.p_value)


def shown(told: Mapping[str, Any], objective: Objective) -> str:
    """``98.90% ± 0.20 over 5 seeds``; what is no share with its name."""
    seeds_ = f"over {told['n']} seeds" if told["n"] > 1 else "of one seed"
    half = None if told["low"] is None else (told["high"] - told["low"]) / 2
    name = "" if objective.name == "accuracy" else f"{objective.title} "
    spread = "" if half is None else f" ± {100 * half:.2f}" if objective.share else f" ± {half:.4f}"
    return f"{name}{objective.short(told['mean'])}{spread} {seeds_}"


def summary(winner: Finalist, ties: Sequence[Finalist], judged: Sequence[Finalist], objective: Objective) -> str:
    """Who won and over whom, in one line; those that could not win, for trainings that failed, are named as such."""
    out = [item for item in judged if excluded(vars(item), winner.failures)]
    able = len(judged) - len(out)
    text = f"trial {winner.trial} wins: {shown(vars(winner), objective)}; "
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


def excluded(item: Mapping[str, Any], fewest: int) -> bool:
    """Whether a finalist cannot win: more of its trainings failed than of another (``fewest``), or fewer than two are left."""
    return bool(item["failures"] > fewest or item["n"] < 2)
