"""Columns of accuracies before and after training, as source 003 prints them: what guessing, rounding and chance explain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.statistics import ALPHA, Proportion, difference, holm, mean_interval, paired_difference
from pipeline.verdict import Verdict
from study.experiments.reproduction.judge import RecipeResult, RowResult
from study.experiments.reproduction.mnist import CLASSES, TEST
from study.experiments.reproduction.words import points

WHOLE = 0.005  # half a unit of a figure printed in whole percents


def before_training(result: RecipeResult) -> Verdict | None:
    """The column of accuracies before training: whether it is anything but guessing.

    Guessing is right in one of ``classes`` images on average. A single untrained network may lie further off than the sample of
    images explains, as its initial weights prefer some classes; what is tested is whether their mean differs from guessing.
    """
    name = "before_training_test_accuracy"
    printed = {found.row.title: figure for found in result.rows if (figure := found.row.reported.get(name))}
    values = [figure.value for figure in printed.values()]
    if len(values) < 2:
        return None
    guess = 1 / CLASSES
    mean = mean_interval(values, 2 * max(figure.half_unit for figure in printed.values()))
    images = Proportion.of(round(guess * TEST), TEST)
    lowest, highest = min(values), max(values)
    evidence = (
        f"{len(values)} rows print {100 * lowest:.0f} to {100 * highest:.0f} % before training, {100 * mean.value:.1f} % on "
        f"average (t interval {100 * mean.low:.1f} to {100 * mean.high:.1f}). Guessing scores {100 * guess:.0f} %; by the sample "
        f"of {TEST:,} images alone within {100 * images.low:.1f} to {100 * images.high:.1f} %, and by its random initial "
        f"weights, which prefer some classes, far wider.{_untrained_twins(result, name)}{_ours_untrained(result, name)}"
    )
    if not mean.low <= guess <= mean.high:
        title = f"{result.recipe.source}: its accuracies before training are not those of guessing"
        return Verdict("warn", title, evidence, "See whether these networks are really untrained.")
    title = f"{result.recipe.source}: its column before training is guessing and says nothing of a setting"
    return Verdict("warn", title, evidence, "Leave the column out; compare settings by what they score after training.")


def _untrained_twins(result: RecipeResult, name: str) -> str:
    """Rows that are one configuration and yet print unlike figures: how far apart guessing alone puts them."""
    rows = [found.row for found in result.rows if name in found.row.reported]
    for index, first in enumerate(rows):
        for second in rows[index + 1 :]:
            texts = first.reported[name].text, second.reported[name].text
            if first.same_configuration(second) and texts[0] != texts[1]:
                return f" One and the same configuration ({first.title}) is printed with {texts[0]} and with {texts[1]}."
    return ""


def _ours_untrained(result: RecipeResult, name: str) -> str:
    """How far our own untrained networks lie from guessing."""
    mine = [share for found in result.rows if not found.cut for share in found.by_seed(name).values()]
    if not mine:
        return ""
    return f" Ours, of {len(mine)} untrained networks: {100 * min(mine):.1f} to {100 * max(mine):.1f} %."


def rounded(result: RecipeResult) -> Verdict | None:
    """Of test figures in whole percents, which differences from the base are more than rounding and chance.

    The printed shares are moved towards each other by half a unit, as far as rounding allows; what is left is held against the
    test images (Newcombe's interval).
    """
    rows = [found for found in result.rows if found.row.later is None and "test_accuracy" in found.row.reported]
    whole = [found for found in rows if found.row.reported["test_accuracy"].half_unit >= WHOLE]
    others = [found for found in whole[1:] if not found.row.same_configuration(whole[0].row)]
    if not others:
        return None
    base = whole[0].row.reported["test_accuracy"]
    told: dict[bool, list[str]] = {True: [], False: []}
    for found in others:
        figure = found.row.reported["test_accuracy"]
        apart = figure.value - base.value
        told[_more_than_chance(figure.value, base.value, figure.half_unit + base.half_unit)].append(
            f"{found.row.title} {100 * apart:+.0f}".replace("-", "\u2212")
        )
    evidence = (
        f"Printed in whole percents, each is true to ± {100 * base.half_unit:.1f} points, so a difference to ± "
        f"{200 * base.half_unit:.0f}. From the base ({base.text}), in points: rounding and chance explain "
        f"{_some(told[False])}; they do not explain {_some(told[True])}. {_ours_apart(whole[0], others)}"
    )
    evidence = evidence.rstrip()
    level, word = ("warn", f"{len(told[False])} of {len(others)}") if told[False] else ("info", "none")
    title = f"{result.recipe.source}: of its differences after training rounding and chance explain {word}"
    return Verdict(level, title, evidence, "Print two decimals, and train each on several seeds.")  # type: ignore[arg-type]


def _more_than_chance(first: float, second: float, rounding: float) -> bool:
    left = max(abs(first - second) - rounding, 0.0)
    high, low = max(first, second) - rounding / 2, min(first, second) + rounding / 2
    if left <= 1e-9:
        return False
    return difference(*(Proportion.of(round(share * TEST), TEST) for share in (high, low))).low > 0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _ours_apart(base: RowResult, others: Sequence[RowResult]) -> str:
    """Our own paired differences from the base that chance does not explain, Holm-corrected."""
    start = base.by_seed("test_accuracy")
    pairs = {found.row.title: (found.by_seed("test_accuracy"), found.cut) for found in others}
    kept = {
        title: [values[seed] - start[seed] for seed in sorted(values.keys() & start.keys())]
        for title, (values, cut) in pairs.items()
        if not cut
    }
    kept = {title: apart for title, apart in kept.items() if len(apart) > 1}
    if not kept:
        return ""
    tested = {title: paired_difference(apart, [0.0] * len(apart), 1 / TEST) for title, apart in kept.items()}
    corrected = dict(zip(tested, holm([delta.p_value for delta in tested.values()]), strict=True))
    told = [f"{title} {points(tested[title].value)}" for title, p_value in corrected.items() if p_value < ALPHA]
    spread = [float(np.mean(apart)) for apart in kept.values()]
    return (
        f"Ours, paired over {max(map(len, kept.values()))} seeds, lie between {points(min(spread))} and {points(max(spread))}; "
        f"beyond chance (Holm): {_some(told)}."
    )
