"""The page of a comparison and its files: tables and pictures of what was computed, laid out by templates."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic_folder
from pipeline.data.dataset import Split
from pipeline.evaluation.drawing import Drawing, to_png
from pipeline.evaluation.statistics import p_text
from pipeline.lineage import digest
from pipeline.report import formats, inline
from study.experiments.comparison import figures, headline
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.contrasts import Contrast, Disagreement
from study.experiments.comparison.numbers import tables, to_tree
from study.experiments.comparison.verdicts import judge, points
from study.report import frame

REPORTS = Path("reports/comparisons")
LONGEST = 100  # characters of a folder's name
TITLES = {
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
    """Write ``reports/comparisons/A-vs-B/``, in place of what was there; where its page is.

    ``index.html`` (complete by itself), ``comparison.json`` (verdicts and numbers), ``settings.csv``, ``trainings.csv``,
    ``checkpoints.csv``, ``images.csv``, and ``figures/NAME.png`` and ``.csv`` (what is drawn).
    """
    folder = root / REPORTS / slug(comparison)
    drawings = figures.draw(comparison)
    with atomic_folder(folder) as made:
        (made / "figures").mkdir()
        (made / "index.html").write_text(render(comparison, drawings, time.time_ns() // 1_000_000))
        for drawing in drawings:
            (made / "figures" / f"{drawing.name}.png").write_bytes(to_png(drawing.figure))
            drawing.numbers.to_csv(made / "figures" / f"{drawing.name}.csv", index=False, float_format="%.6g")
        for name, table in tables(comparison).items():
            table.to_csv(made / f"{name}.csv", index=False, float_format="%.6g")
        (made / "comparison.json").write_text(json.dumps(to_tree(comparison), indent=2, allow_nan=False, default=float) + "\n")
    return folder / "index.html"


def slug(comparison: Comparison) -> str:
    """A folder's name: ``mine-12-vs-current``; of a long one the beginning and a digest."""
    labels = [re.sub(r"[^\w.-]+", "-", side.label) for side in comparison.sides]
    text = "-vs-".join(labels) + ("-by-seed-group" if comparison.by_seed_group else "")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 17]}-{digest(text)}"


def render(comparison: Comparison, drawings: Sequence[Drawing], now: int) -> str:
    """The page as one HTML file that refers to nothing outside itself, save links to runs in MLflow."""
    view = _view(comparison, now)
    names = {drawing.name for drawing in drawings}
    needed = {"classes": comparison.contrasts, "images": view["galleries"], "curves": "curves" in names}
    titles = {name: title for name, title in TITLES.items() if needed.get(name, True)}
    return frame.render("study.experiments.comparison", "comparison", titles, view, drawings)


def _view(comparison: Comparison, now: int) -> dict[str, Any]:
    labels = [side.label for side in comparison.sides]
    return {
        "headline": headline.view(comparison, now),
        "origin": f" from {', '.join(labels[:-1])} and {labels[-1]}",
        "verdicts": [asdict(verdict) for verdict in judge(comparison)],
        "sides": [_side(comparison, number) for number in range(len(labels))],
        "several": len(comparison.contrasts) > 1,
        "contrasts": comparison.contrasts,
        "left_out": comparison.left_out,
        "settings": comparison.settings,
        "galleries": _galleries(comparison),
        "images": comparison.first.images.validation,
        "points": points,
        "p_text": p_text,
    }


def _side(comparison: Comparison, number: int) -> dict[str, Any]:
    """A row of the tables of accuracy, cost and lineage."""
    side, told = comparison.sides[number], comparison.ranges[number]
    seconds = [training.seconds for training in side.trainings]
    epochs = [len(training.epochs) for training in side.trainings]
    return {
        "label": side.label,
        "what": side.what,
        "range": told,
        "trainings": side.trainings,
        "contrast": comparison.contrast_of(side),
        "images": side.images,
        "parameters": side.first.parameters,
        "multiply_adds": side.first.multiply_adds,
        "bytes": side.first.bytes,
        "epochs": f"{min(epochs)}" if min(epochs) == max(epochs) else f"{min(epochs)} to {max(epochs)}",
        "of_epochs": side.first.config.train.epochs,
        "seconds": sum(seconds) / len(seconds),
        "per_epoch": sum(seconds) / sum(epochs),
        "devices": ", ".join(dict.fromkeys(training.device for training in side.trainings)),
        "commit": side.source.git_commit,
        "dirty": side.source.git_dirty,
    }


def _galleries(comparison: Comparison) -> list[dict[str, Any]]:
    """Of each contrast the images that only one network of its first pair has right; empty ones are left out."""
    if comparison.images is None:
        return []
    found = []
    for item in comparison.contrasts:
        pair = item.pairs[0]
        for winner, loser, shown, total in (
            (pair.second, pair.first, item.only_second, pair.test.only_first),
            (pair.first, pair.second, item.only_first, pair.test.only_second),
        ):
            if shown:
                pictures = [_picture(one, item, comparison.images) for one in shown]
                found.append({"winner": winner.name, "loser": loser.name, "pictures": pictures, "total": total})
                found[-1] |= {"pairs": len(item.pairs), "second_wins": winner is pair.second}
    return found


def _picture(one: Disagreement, item: Contrast, images: Split) -> dict[str, Any]:
    names, pair, pixels = item.first.images.classes, item.pairs[0], images.images[one.index]
    first, second = names[one.first], names[one.second]
    alt = (
        f"Validation image {one.index}: {names[one.label]}; {pair.first.name} says {first} "
        f"({formats.probability(one.first_probability)}), {pair.second.name} {second} "
        f"({formats.probability(one.second_probability)})"
    )
    return {
        "uri": inline.picture(pixels),
        "width": pixels.shape[2],
        "height": pixels.shape[1],
        "alt": alt,
        "pairs": one.pairs,
    } | {
        "label": names[one.label],
        "first": first,
        "second": second,
        "first_probability": one.first_probability,
        "second_probability": one.second_probability,
    }
