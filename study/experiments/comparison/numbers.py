"""The numbers of a comparison as tables and as plain data: what is written beside its page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.contrasts import Contrast
from study.experiments.comparison.verdicts import judge

TRAININGS = ["side", "training", "seed", "state", "validation_accuracy", "epochs", "seconds", "device", "parameters"]
TRAININGS += ["multiply_adds", "bytes"]
CHECKPOINTS = ["first", "second", "first_seed", "second_seed", "both_right", "only_first_right", "only_second_right"]
CHECKPOINTS += ["both_wrong", "difference", "low", "high", "p_value"]
IMAGES = ["first", "second", "index", "label", "first_prediction", "second_prediction", "first_probability"]
IMAGES += ["second_probability", "pairs"]


def tables(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """What is written as CSV, by name."""
    labels = [side.label for side in comparison.sides]
    settings = [(setting.key, *setting.values) for setting in comparison.settings]
    trainings = [
        (side.label, one.name, one.seed, one.state, one.accuracy, len(one.epochs), one.seconds, one.device, one.parameters,
         one.multiply_adds, one.bytes)
        for side in comparison.sides
        for one in side.trainings
    ]  # fmt: skip
    pairs = [
        (pair.first.name, pair.second.name, pair.first.seed, pair.second.seed, pair.both_right, pair.test.only_second,
         pair.test.only_first, pair.both_wrong, pair.test.value, pair.test.low, pair.test.high, pair.test.p_value)
        for item in comparison.contrasts
        for pair in item.pairs
    ]  # fmt: skip
    images = [
        (item.pairs[0].first.name, item.pairs[0].second.name, one.index, names[one.label], names[one.first], names[one.second],
         one.first_probability, one.second_probability, one.pairs)
        for item in comparison.contrasts
        for names in [item.first.images.classes]
        for one in (*item.only_first, *item.only_second)
    ]  # fmt: skip
    return {
        "settings": pd.DataFrame(settings, columns=["setting", *labels]),
        "trainings": pd.DataFrame(trainings, columns=TRAININGS),
        "checkpoints": pd.DataFrame(pairs, columns=CHECKPOINTS),
        "images": pd.DataFrame(images, columns=IMAGES),
    }


def to_tree(comparison: Comparison) -> dict[str, Any]:
    """The numbers as plain data, the content of ``comparison.json``."""
    return {
        "verdicts": [asdict(verdict) for verdict in judge(comparison)],
        "by_seed_group": comparison.by_seed_group,
        "sides": [
            {
                "label": side.label,
                "what": side.what,
                "trainings": [training.name for training in side.trainings],
                "seeds": [training.seed for training in side.trainings],
                "lost": list(side.lost),
                "accuracy": asdict(told),
                "data": {"name": side.images.name, "fingerprint": side.images.fingerprint},
            }
            for side, told in zip(comparison.sides, comparison.ranges, strict=True)
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
        "classes": [asdict(change) for change in item.classes],
        "confusion": item.confusion.tolist(),
    }
