"""How a claim is written: one line, of one factor.

``FACTOR: A beats B``                            A is more accurate than B
``FACTOR: A ties B [within 0.5 points]``         their accuracies differ by less than a margin, 0.5 points where none is given
``accuracy|loss rises|falls as FACTOR rises``    over all values of a factor, which are numbers

FACTOR is a dotted key of ``params.yaml`` or the name of a bundle; A and B are two of its values as YAML writes them.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from study.space.reading import label
from study.state.errors import UsageError

Measure = Literal["accuracy", "loss"]

MARGIN = 0.005  # of accuracy: half a point, within which two values tie, unless a claim names another
PAIR = re.compile(r"(?P<factor>[^:]+?)\s*:\s*(?P<first>.+?)\s+(?P<verb>beats|ties)\s+(?P<second>.+?)(\s+within (?P<margin>.+))?")
TREND = re.compile(r"(?P<measure>accuracy|loss)\s+(?P<way>rises|falls)\s+as\s+(?P<factor>.+?)\s+rises")
FORMS = "'FACTOR: A beats B', 'FACTOR: A ties B within 0.5 points', 'accuracy falls as FACTOR rises'"


@dataclass(frozen=True)
class Beats:
    """The first of two values is more accurate than the second.

    text : as it was written
    levels : the two values
    measure : what the claim speaks of, and is judged by
    """

    text: str
    factor: str
    levels: tuple[Any, Any]
    measure: Measure = "accuracy"


@dataclass(frozen=True)
class Ties:
    """The accuracies of two values differ by less than a margin, a share in (0, 1). Otherwise as :class:`Beats`."""

    text: str
    factor: str
    levels: tuple[Any, Any]
    margin: float
    measure: Measure = "accuracy"


@dataclass(frozen=True)
class Trend:
    """A measure rises, or falls, with a factor.

    levels : all values of the factor, rising, at least 2
    rises : else it falls
    """

    text: str
    factor: str
    levels: tuple[Any, ...]
    measure: Measure
    rises: bool


Claim = Beats | Ties | Trend


def parse(text: str, factors: Mapping[str, Sequence[Any]]) -> Claim:
    """Read a claim.

    Parameters
    ----------
    factors : by name the values of each factor, the base's included, or their labels; a claim's levels are the same objects

    Raises
    ------
    UsageError
        It is written otherwise, or speaks of a factor or a value that is not there.
    """
    text = " ".join(text.split())
    if trend := TREND.fullmatch(text):
        factor = _factor(trend["factor"], factors, text)
        measure: Measure = "accuracy" if trend["measure"] == "accuracy" else "loss"
        return Trend(text, factor, _rising(factors[factor], factor, text), measure, trend["way"] == "rises")
    pair = PAIR.fullmatch(text)
    if pair is None:
        raise UsageError(f"claim '{text}': must have one of the forms {FORMS}")
    factor = _factor(pair["factor"], factors, text)
    first, second = (_level(pair[name], factors[factor], factor, text) for name in ("first", "second"))
    if first == second:
        raise UsageError(f"claim '{text}': must compare two values that differ, got {label(first)} twice")
    if pair["verb"] == "ties":
        return Ties(text, factor, (first, second), _margin(pair["margin"], text))
    if pair["margin"]:
        raise UsageError(f"claim '{text}': only ties takes a margin; leave out 'within {pair['margin']}'")
    return Beats(text, factor, (first, second))


def _factor(name: str, factors: Mapping[str, Sequence[Any]], text: str) -> str:
    if name in factors:
        return name
    raise UsageError(f"claim '{text}': {name} is no factor of this ablation; {_instead(name, list(factors))}")


def _level(written: str, levels: Sequence[Any], factor: str, text: str) -> Any:
    """The value that is written so: as its label, or else as the same number."""
    word = written.strip("'\"")
    for level in levels:
        if label(level) == word:
            return level
    for level in levels:
        if _number(level) is not None and _number(level) == _number(word):
            return level
    raise UsageError(f"claim '{text}': {factor} has no value {word}; {_instead(word, [label(level) for level in levels])}")


def _rising(levels: Sequence[Any], factor: str, text: str) -> tuple[Any, ...]:
    numbers = [_number(level) for level in levels]
    if len(levels) < 2 or None in numbers:
        names = ", ".join(label(level) for level in levels)
        raise UsageError(f"claim '{text}': a trend needs 2 or more numbers, but {factor} has {names}; use beats or ties")
    return tuple(level for _, level in sorted(zip(numbers, levels, strict=True), key=lambda pair: pair[0] or 0.0))


def _margin(written: str | None, text: str) -> float:
    """Points as a share; the default where none are written."""
    if written is None:
        return MARGIN
    found = re.fullmatch(r"(\S+) points?", written)
    points = _number(found[1]) if found else None
    if points is None or not 0 < points < 100:
        raise UsageError(f"claim '{text}': a margin must be in (0, 100) points, got {written}; write it like 'within 0.5 points'")
    return points / 100


def _number(level: Any) -> float | None:
    """The finite number that a value is, or that a label writes; None for all others, true and false among them."""
    if isinstance(level, bool):
        return None
    try:
        number = float(level)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _instead(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}"
