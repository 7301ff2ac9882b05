"""The page of a comparison and its files: what was computed, as head, tables, figures and pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data.dataset import Split
from pipeline.evaluation.statistics import ALPHA, p_text
from pipeline.lineage import digest
from pipeline.report import formats, inline
from pipeline.report.document import Head, Key, Page
from pipeline.report.formats import listed, signed
from study.experiments.comparison import figures, tables
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.contrasts import Contrast, Disagreement
from study.experiments.comparison.verdicts import interval, judge, method
from study.report.frame import PAGE, Report

REPORTS = Path("reports/comparisons")
LONGEST = 100  # characters of a folder's name
SECTIONS = {
    "verdicts": "What to know first",
    "accuracy": "Accuracy",
    "settings": "What differs in the configuration",
    "curves": "Learning curves",
    "classes": "Class by class",
    "images": "Images that only one has right",
    "cost": "Cost and size",
    "lineage": "Lineage",
}


def write(comparison: Comparison, root: Path) -> Path:
    """Write ``reports/comparisons/A-vs-B/`` in place of what was there; return where its page is."""
    folder = root / REPORTS / slug(comparison)
    build(comparison, time.time_ns() // 1_000_000).write(folder)
    return folder / PAGE


def slug(comparison: Comparison) -> str:
    """Return a folder's name: ``mine-12-vs-current``; of a long one the beginning and a digest."""
    labels = [re.sub(r"[^\w.-]+", "-", side.label) for side in comparison.sides]
    text = "-vs-".join(labels) + ("-by-seed-group" if comparison.by_seed_group else "")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 17]}-{digest(text)}"


def build(comparison: Comparison, now: int) -> Report:
    """Compute the report; ``now`` in milliseconds since 1970 is printed as the page's date."""
    settings, checkpoints = tables.settings(comparison), tables.checkpoints(comparison)
    page = Page(
        packages=("study.experiments.comparison",),
        kind="comparison",
        head=head(comparison, now),
        sections=SECTIONS,
        verdicts=judge(comparison),
        tables=(
            tables.accuracy(comparison),
            checkpoints,
            settings,
            *map(tables.classes, comparison.contrasts),
            tables.cost(comparison),
            tables.lineage(comparison),
        ),
        origin=f" from {listed([side.label for side in comparison.sides])}",
        view={
            "contrasts": comparison.contrasts,
            "galleries": list(_galleries(comparison)),
            "images": comparison.first.images.validation,
        },
    )
    files = [settings, tables.trainings(comparison), checkpoints, tables.images(comparison)]
    return Report(page, partial(figures.draw, comparison), files, "comparison", _tree(comparison))


def head(comparison: Comparison, now: int) -> Head:
    """Return by how much the sides differ, and whether that can be told."""
    single = comparison.contrasts[0] if len(comparison.sides) == 2 and comparison.contrasts else None
    images = comparison.first.images.validation
    compared = [comparison.first, *(item.second for item in comparison.contrasts)] if comparison.contrasts else []
    return Head(
        name="comparison" + (" by seed group" if comparison.by_seed_group else ""),
        window=f"{' vs '.join(side.label for side in comparison.sides)} – studyline",
        when=formats.moment(now),
        title=_title(comparison, single),
        lede=_lede(comparison, single),
        keys=_keys(comparison, single),
        number=(single.main.value, signed(single.main.value), "points") if single else None,
        intervals={side.label: replace(side.accuracy, n=images) for side in compared},
    )


def _title(comparison: Comparison, single: Contrast | None) -> str:
    if single:
        chance = "more than chance" if single.p_holm < ALPHA else "which may be chance"
        return f"validation accuracy of {single.second.label} against {single.first.label}, {chance}"
    first, *others = comparison.sides
    if not comparison.contrasts:
        named = others[0].label if len(others) == 1 else f"{len(others)} others"
        return f"{first.label} and {named}, not on the same images"
    return f"{len(others)} others against {first.label}"


def _lede(comparison: Comparison, single: Contrast | None) -> str:
    """Say what is compared, how, and on what."""
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
    """Say who is better than the first, who worse, and who cannot be told apart from it."""
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "not told apart from it": []}
    for item in contrasts:
        kind = "not told apart from it" if item.p_holm >= ALPHA else "better" if item.main.value > 0 else "worse"
        kinds[kind].append(item.second.label)
    return "; ".join(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {kind}" for kind, names in kinds.items() if names)


def _keys(comparison: Comparison, single: Contrast | None) -> list[Key]:
    differing = len(comparison.settings)
    settings = Key("Settings that differ", differing, f"{differing}", "of data, network and training")
    if not single:
        sides, n = len(comparison.sides), sum(len(side.trainings) for side in comparison.sides)
        return [Key("Sides", sides, f"{sides}", "the first is the reference"), Key("Trainings", n, f"{n}", "in all"), settings]
    one, two, pair = single.first.first, single.second.first, single.pairs[0]
    test = f"paired t test, {single.main.n} seeds" if single.seeds else f"McNemar, {single.main.n:,} images"
    changed = sum(change.p_holm < ALPHA for change in single.classes)
    return [
        Key("p", single.p_holm, p_text(single.p_holm), test),
        Key("Images apart", pair.test.only_first + pair.test.only_second,
            f"{pair.test.only_first} : {pair.test.only_second}", f"only {pair.second.name} right : only {pair.first.name}"),
        Key("Classes that change", changed, f"{changed} of {len(single.classes)}", "in recall, more than chance"),
        settings,
        _times("Parameters", one.parameters, two.parameters, formats.count),
        _times("Multiply-adds", one.multiply_adds, two.multiply_adds, formats.short),
        _times("Weights", one.bytes, two.bytes, formats.size),
        _times("Time of a training", single.first.seconds, single.second.seconds, formats.duration),
    ]  # fmt: skip


def _times(name: str, first: float, second: float, show: Callable[[Any], str]) -> Key:
    factor = second / first if first else None
    text = f"× {factor:.2f}" if factor else formats.NOTHING
    return Key(name, factor, text, f"{show(second)} against {show(first)}")


def _galleries(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield, for each contrast, the images that only one network of its first pair has right; empty ones are left out."""
    for item in comparison.contrasts if comparison.images else ():
        pair, seeds = item.pairs[0], len(item.pairs)
        for winner, loser, images, total in (
            (pair.second, pair.first, item.only_second, pair.test.only_first),
            (pair.first, pair.second, item.only_first, pair.test.only_second),
        ):
            if not images:
                continue
            few = f"{len(images)} of {total:,}" if len(images) < total else "All"
            order = f"those on which most of the {seeds} seeds agree" if seeds > 1 else f"those that {loser.name} is surest of"
            assert comparison.images
            yield {
                "title": f"Only {winner.name} is right, {loser.name} is wrong",
                "note": f"{few} such validation images, first {order}: true class → what {loser.name} takes it for; how sure "
                f"it is, and how sure {winner.name} is of the true class.",
                "pictures": [_picture(one, item, comparison.images, winner is pair.second) for one in images],
            }


def _picture(one: Disagreement, item: Contrast, images: Split, second_wins: bool) -> dict[str, Any]:
    names, pair, pixels = item.first.images.classes, item.pairs[0], images.images[one.index]
    first, second = (names[one.first], one.first_probability), (names[one.second], one.second_probability)
    wrong, right = (first, second) if second_wins else (second, first)
    says = [f"{name} says {label} ({formats.probability(sure)})"
            for name, (label, sure) in ((pair.first.name, first), (pair.second.name, second))]  # fmt: skip
    return {
        "uri": inline.picture(pixels),
        "width": pixels.shape[2],
        "height": pixels.shape[1],
        "alt": f"Validation image {one.index}: {names[one.label]}; {', '.join(says)}",
        "label": names[one.label],
        "wrong": wrong[0],
        "sure": f"{formats.probability(wrong[1])}; {formats.probability(right[1])}",
        "seeds": f"{one.pairs} of {len(item.pairs)} seeds" if len(item.pairs) > 1 else "",
    }


def _tree(comparison: Comparison) -> dict[str, Any]:
    """Return the numbers as plain data, the content of ``comparison.json``."""
    return {
        "verdicts": [asdict(verdict) for verdict in judge(comparison)],
        "by_seed_group": comparison.by_seed_group,
        "sides": [
            {
                "label": side.label,
                "what": side.what,
                "trainings": side.names,
                "seeds": side.seeds,
                "lost": list(side.lost),
                "accuracy": asdict(side.accuracy),
                "data": {"name": side.images.name, "fingerprint": side.images.fingerprint},
            }
            for side in comparison.sides
        ],
        "settings": {setting.key: list(setting.values) for setting in comparison.settings},
        "contrasts": [_contrast(item) for item in comparison.contrasts],
        "left_out": dict(comparison.left_out),
        "unlike": dict(comparison.unlike),
    }


def _contrast(item: Contrast) -> dict[str, Any]:
    return {
        "first": item.first.label,
        "second": item.second.label,
        "test": "paired t test over seeds" if item.seeds else "McNemar",
        "difference": {name: getattr(item.main, name) for name in ("value", "low", "high", "p_value", "n")},
        "p_holm": item.p_holm,
        "checkpoints": [
            {"first": pair.first.name, "second": pair.second.name, "both_right": pair.both_right, "both_wrong": pair.both_wrong}
            | asdict(pair.test)
            for pair in item.pairs
        ],
        "classes": tables.classes(item).records(),
        "confusion": item.confusion.tolist(),
    }
