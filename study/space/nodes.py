"""A search space as a tree of nodes, and the walks over it: suggest, configure, invert, enumerate the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Path = tuple[str | int, ...]  # ("model", "conv", 0, "out")
Ask = Callable[[str, BaseDistribution], Any]  # the value of a parameter, by name
Put = Callable[[Path, Any], None]
Get = Callable[[Path], Any]  # the value in a configuration, or MISSING
Params = dict[str, Any]

MISSING = object()


class Node(Protocol):
    """One entry of a space."""

    def walk(self, ask: Ask, put: Put) -> None:
        """Ask for the active parameters and put the resulting values into the configuration."""

    def invert(self, get: Get) -> Iterator[Params]:
        """Yield the parameters that can give this configuration; none if it lies outside the space."""

    def size(self, steps: int) -> int:
        """Return the number of grid points below this node."""

    def point(self, index: int, steps: int) -> Params:
        """Return a grid point by its index."""


@dataclass(frozen=True)
class Fixed:
    """A key that the space sets to one value."""

    path: Path
    value: Any

    def walk(self, ask: Ask, put: Put) -> None:
        put(self.path, self.value)

    def invert(self, get: Get) -> Iterator[Params]:
        if same(get(self.path), self.value):
            yield {}

    def size(self, steps: int) -> int:
        return 1

    def point(self, index: int, steps: int) -> Params:
        return {}


@dataclass(frozen=True)
class Range:
    """A key that takes a number from a range."""

    name: str
    path: Path
    distribution: IntDistribution | FloatDistribution

    def walk(self, ask: Ask, put: Put) -> None:
        put(self.path, ask(self.name, self.distribution))

    def invert(self, get: Get) -> Iterator[Params]:
        value = get(self.path)
        if contains(self.distribution, value):
            yield {self.name: value}

    def size(self, steps: int) -> int:
        return len(grid(self.distribution, steps))

    def point(self, index: int, steps: int) -> Params:
        return {self.name: grid(self.distribution, steps)[index]}


@dataclass(frozen=True)
class Choice:
    """A choice of options, each with its own parameters.

    path : of the key that takes the chosen value; None for a group, which is not a key
    options : the values in Optuna: those of the key, or their labels
    values : of the key, one per option
    branches : parameters of each option
    """

    name: str
    path: Path | None
    options: tuple[Any, ...]
    values: tuple[Any, ...]
    branches: tuple[tuple[Node, ...], ...]

    @property
    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self.options)

    def walk(self, ask: Ask, put: Put) -> None:
        index = position(self.options, ask(self.name, self.distribution))
        if self.path is not None:
            put(self.path, self.values[index])
        for node in self.branches[index]:
            node.walk(ask, put)

    def invert(self, get: Get) -> Iterator[Params]:
        for option, value, branch in zip(self.options, self.values, self.branches, strict=True):
            if self.path is None or same(get(self.path), value):
                for params in invert_all(branch, get):
                    yield {self.name: option, **params}

    def size(self, steps: int) -> int:
        return sum(size_of(branch, steps) for branch in self.branches)

    def point(self, index: int, steps: int) -> Params:
        for option, branch in zip(self.options, self.branches, strict=True):
            if index < (size := size_of(branch, steps)):
                return {self.name: option, **point_of(branch, index, steps)}
            index -= size
        raise IndexError


@dataclass(frozen=True)
class Repeat:
    """A list of blocks: their number, the parameters of each, and shared parameters.

    counts : the possible numbers of blocks
    blocks : parameters of each possible block
    shared : parameters with one value for all blocks; their paths are those in block 0
    """

    name: str
    path: Path
    counts: IntDistribution
    blocks: tuple[tuple[Node, ...], ...]
    shared: tuple[Node, ...]

    @property
    def searched(self) -> bool:
        return self.counts.low < self.counts.high

    def walk(self, ask: Ask, put: Put) -> None:
        count = ask(self.name, self.counts) if self.searched else self.counts.low
        put(self.path, [{} for _ in range(count)])
        depth = len(self.path)

        def put_everywhere(path: Path, value: Any) -> None:
            for index in range(count):
                put((*self.path, index, *path[depth + 1 :]), value)

        if count:
            for node in self.shared:
                node.walk(ask, put_everywhere)
        for block in self.blocks[:count]:
            for node in block:
                node.walk(ask, put)

    def invert(self, get: Get) -> Iterator[Params]:
        value = get(self.path)
        if isinstance(value, Sequence) and contains(self.counts, len(value)):
            own = {self.name: len(value)} if self.searched else {}
            for params in invert_all(self.active(len(value)), get):
                yield own | params

    def size(self, steps: int) -> int:
        return sum(size_of(self.active(count), steps) for count in self._numbers())

    def point(self, index: int, steps: int) -> Params:
        for count in self._numbers():
            if index < (size := size_of(self.active(count), steps)):
                return ({self.name: count} if self.searched else {}) | point_of(self.active(count), index, steps)
            index -= size
        raise IndexError

    def _numbers(self) -> range:
        return range(self.counts.low, self.counts.high + 1, self.counts.step)

    def active(self, count: int) -> tuple[Node, ...]:
        """Return the nodes that are active with ``count`` blocks."""
        shared = self.shared if count else ()
        return (*shared, *(node for block in self.blocks[:count] for node in block))


def invert_all(nodes: Sequence[Node], get: Get) -> Iterator[Params]:
    """Yield all parameters with which these nodes together give a configuration."""
    if not nodes:
        yield {}
        return
    for params in nodes[0].invert(get):
        for rest in invert_all(nodes[1:], get):
            yield params | rest


def size_of(nodes: Sequence[Node], steps: int) -> int:
    return math.prod(node.size(steps) for node in nodes)


def point_of(nodes: Sequence[Node], index: int, steps: int) -> Params:
    """Return a point on the grid of all these nodes; the last node varies fastest."""
    params: Params = {}
    for node in reversed(nodes):
        index, digit = divmod(index, node.size(steps))
        params = node.point(digit, steps) | params
    return params


def grid(distribution: BaseDistribution, steps: int) -> list[Any]:
    """Return ``steps`` evenly spaced values of a range, ends included (in the logarithm for log ranges); all if fewer."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution) and (high - low) // distribution.step < steps:
        return list(range(int(low), int(high) + 1, distribution.step))
    if low == high:
        return [low]
    return list(dict.fromkeys(value_at(distribution, index / (steps - 1)) for index in range(steps)))


def value_at(distribution: IntDistribution | FloatDistribution, fraction: float) -> Any:
    """Return the value at a fraction of the range (0: low, 1: high), on its scale, rounded to its step."""
    low, high, step = distribution.low, distribution.high, distribution.step
    if fraction in (0, 1):
        return high if fraction else low
    value = low * (high / low) ** fraction if distribution.log else low + fraction * (high - low)
    if step is not None:
        value = low + round((value - low) / step) * step
    return min(max(value, low), high)


def fraction_of(distribution: IntDistribution | FloatDistribution, value: float) -> float:
    """Return the fraction of the range at a value; the inverse of :func:`value_at`; 0 in a range of one value."""
    low, high = distribution.low, distribution.high
    if low == high:
        return 0.0
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def contains(distribution: IntDistribution | FloatDistribution, value: Any) -> bool:
    """Return whether the range contains a value of its type."""
    kind = int if isinstance(distribution, IntDistribution) else float
    if isinstance(value, bool) or not isinstance(value, kind | int):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    steps = 0.0 if distribution.step is None else (value - distribution.low) / distribution.step
    return abs(steps - round(steps)) < 1e-8


def same(value: Any, option: Any) -> bool:
    """Return whether a value of a complete configuration matches an option; keys missing from the option match anything."""
    if isinstance(option, Mapping):
        return isinstance(value, Mapping) and all(same(value.get(key, MISSING), inner) for key, inner in option.items())
    if isinstance(option, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(option) and all(map(same, value, option))
    return bool(value == option) and isinstance(value, bool) == isinstance(option, bool)


def position(options: Sequence[Any], value: Any) -> int:
    """Return the index of an option; 1 and true differ.

    Raises ValueError if the value is not an option.
    """
    for index, option in enumerate(options):
        if same(value, option):
            return index
    raise ValueError(f"{value!r} is none of {', '.join(map(repr, options))}")
