"""The top of the page: by how much they differ, and whether that can be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.evaluation.statistics import ALPHA, p_text
from pipeline.report import formats
from pipeline.report.document import Key, strip
from pipeline.report.table import Estimate
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.contrasts import Contrast
from study.experiments.comparison.verdicts import interval, method, points


def view(comparison: Comparison, now: int) -> dict[str, Any]:
    """All that the template of the headline needs; ``now`` in milliseconds since 1970."""
    labels = [side.label for side in comparison.sides]
    single = comparison.contrasts[0] if len(labels) == 2 and comparison.contrasts else None
    images = comparison.first.images.validation
    shown = [comparison.first, *(item.second for item in comparison.contrasts)] if comparison.contrasts else []
    rows = {side.label: Estimate(**vars(comparison.ranges[comparison.sides.index(side)]) | {"n": images}) for side in shown}
    return {
        "name": "comparison" + (" by seed group" if comparison.by_seed_group else ""),
        "page_title": f"{' vs '.join(labels)} – studyline",
        "date": datetime.fromtimestamp(now / 1000, UTC).strftime("%-d %b %Y, %H:%M UTC"),
        "datetime": datetime.fromtimestamp(now / 1000, UTC).isoformat(),
        "number": points(single.main.value) if single else None,
        "value": single.main.value if single else None,
        "title": title(comparison, single),
        "strip": strip(rows) if rows else None,
        "lede": lede(comparison, single),
        "figures": keys(comparison, single),
    }


def title(comparison: Comparison, single: Contrast | None) -> str:
    if single:
        chance = "more than chance" if single.p_holm < ALPHA else "which may be chance"
        return f"validation accuracy of {single.second.label} against {single.first.label}, {chance}"
    first, *others = comparison.sides
    if not comparison.contrasts:
        named = others[0].label if len(others) == 1 else f"{len(others)} others"
        return f"{first.label} and {named}, not on the same images"
    return f"{len(others)} others against {first.label}"


def lede(comparison: Comparison, single: Contrast | None) -> str:
    """What is compared, how, and on what."""
    sentences = [f"{side.label} is {side.what}." for side in comparison.sides[:4]]
    if single:
        sentences.insert(0, formats.sentence(f"{interval(single)}, {method(single, 1)}"))
    elif comparison.contrasts:
        sentences.insert(0, f"Against {comparison.first.label}: {_standing(comparison.contrasts)}.")
    if comparison.contrasts:
        images = comparison.first.images
        sentences.append(f"All on the {images.validation:,} validation images of {images.name}; test stays closed.")
    return " ".join(sentences)


def _standing(contrasts: Sequence[Contrast]) -> str:
    """Who is better than the first, who worse, and who cannot be told apart from it."""
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "not told apart from it": []}
    for item in contrasts:
        kind = "not told apart from it" if item.p_holm >= ALPHA else "better" if item.main.value > 0 else "worse"
        kinds[kind].append(item.second.label)
    return "; ".join(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {kind}" for kind, names in kinds.items() if names)


def keys(comparison: Comparison, single: Contrast | None) -> list[Key]:
    """The figures below the headline."""
    settings = len(comparison.settings)
    found = [Key("Settings that differ", settings, f"{settings}", "of data, network and training")]
    if not single:
        n = sum(len(side.trainings) for side in comparison.sides)
        return [Key("Sides", len(comparison.sides), f"{len(comparison.sides)}", "the first is the reference"),
                Key("Trainings", n, f"{n}", "in all"), *found]  # fmt: skip
    one, two, pair = single.first.first, single.second.first, single.pairs[0]
    test = f"paired t test, {single.main.n} seeds" if single.seeds else f"McNemar, {single.main.n:,} images"
    changed = sum(change.p_holm < ALPHA for change in single.classes)
    here, there = (sum(each.seconds for each in side.trainings) / len(side.trainings) for side in comparison.sides)
    return [
        Key("p", single.p_holm, p_text(single.p_holm), test),
        Key("Images apart", pair.test.only_first + pair.test.only_second,
            f"{pair.test.only_first} : {pair.test.only_second}", f"only {pair.second.name} right : only {pair.first.name}"),
        Key("Classes that change", changed, f"{changed} of {len(single.classes)}", "in recall, more than chance"),
        *found,
        _times("Parameters", one.parameters, two.parameters, formats.count),
        _times("Multiply-adds", one.multiply_adds, two.multiply_adds, formats.short),
        _times("Weights", one.bytes, two.bytes, formats.size),
        _times("Time of a training", here, there, formats.duration),
    ]  # fmt: skip


def _times(name: str, first: float, second: float, shown: Callable[[Any], str]) -> Key:
    text = f"× {second / first:.2f}" if first and second else formats.NOTHING
    return Key(name, second / first if first else None, text, f"{shown(second)} against {shown(first)}")
