"""Parameters as axes: where their values lie, and what people call them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import optuna

from pipeline.report import formats


@dataclass(frozen=True)
class Axis:
    """Where the values of one parameter lie.

    choices : JSON of each choice, in the space's order; empty for numbers
    low, high : of numbers; of choices 0 and the last index
    """

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        return [_label(json.loads(choice)) for choice in self.choices]

    def number(self, value: Any) -> float:
        """The value itself, or the index of the choice."""
        return float(self.choices.index(json.dumps(value))) if self.choices else float(value)

    def place(self, numbers: np.ndarray) -> np.ndarray:
        """Where numbers lie between the ends, in [0, 1]."""
        ends = np.array([self.low, self.high])
        numbers, ends = (np.log(numbers), np.log(ends)) if self.log else (numbers, ends)
        return np.clip((numbers - ends[0]) / ((ends[1] - ends[0]) or 1.0), 0.0, 1.0)


@lru_cache(maxsize=1024)
def distribution(text: str) -> optuna.distributions.BaseDistribution:
    """An Optuna distribution from its JSON; few differ, and a study has thousands of them."""
    return optuna.distributions.json_to_distribution(text)


def axis_of(name: str, found: optuna.distributions.BaseDistribution) -> Axis:
    """The axis of what an Optuna distribution draws."""
    if isinstance(found, optuna.distributions.CategoricalDistribution):
        return Axis(name, 0.0, len(found.choices) - 1.0, choices=tuple(json.dumps(choice) for choice in found.choices))
    assert isinstance(found, optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution)
    whole = isinstance(found, optuna.distributions.IntDistribution)
    return Axis(name, float(found.low), float(found.high), log=found.log, whole=whole)


def _label(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return json.dumps(value).replace('"', "")
    return f"{value:g}" if isinstance(value, float) else formats.scalar(value)


def cell(value: Any) -> Any:
    """A value as a table of numbers holds it."""
    return (
        value if isinstance(value, int | float | str) and not isinstance(value, bool) else "" if value is None else _label(value)
    )


def short_name(name: str) -> str:
    """A parameter as people say it: without its section, as there is one train and one model, the option it belongs to behind."""
    option, _, key = name.rpartition(":")
    key = key.removeprefix("train.").removeprefix("model.")
    if key in ("conv", "dense"):  # of a list of blocks, how many
        key = f"{key} blocks"
    return f"{key} ({option})" if option else key
