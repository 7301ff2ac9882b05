"""What an ablation is: a base, factors that are changed one at a time, and a claim about each; read from YAML, made a plan."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, Params
from study.engine.plan import Plan, Row
from study.experiments.ablation import reading
from study.experiments.ablation.grammar import Claim
from study.experiments.ablation.grammar import parse as parse_claim
from study.experiments.ablation.reading import place
from study.space.reading import label as written
from study.state.errors import UsageError

SEEDS = 5  # trainings of each row, where the file does not say
BASE = "base"  # name of the row, and label of the level where no bundle is the base


@dataclass(frozen=True)
class Level:
    """One setting of a factor.

    label : as YAML writes it; of a bundle its name
    changes : dotted paths of params.yaml and their values; empty for the base's own setting
    params : the base with these changes, complete
    """

    label: str
    changes: Mapping[str, Any]
    params: Params

    @property
    def is_base(self) -> bool:
        return not self.changes

    @property
    def number(self) -> float | None:
        """The finite number that the label writes; None where it writes none."""
        try:
            number = float(self.label)
        except ValueError:
            return None
        return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Factor:
    """What is varied, one level at a time.

    name : a dotted path of params.yaml, or any name for bundles
    levels : at least two, of unlike labels, numbers in ascending order; exactly one is the base's
    hypothesis : for people, empty where there is none; claim : the same for the program
    """

    name: str
    levels: tuple[Level, ...]
    hypothesis: str = ""
    claim: Claim | None = None

    @property
    def base(self) -> Level:
        return next(level for level in self.levels if level.is_base)


@dataclass(frozen=True)
class Ablation:
    """One factor at a time around a base, each row on the same seeds; and where asked for two factors fully crossed.

    name : the stem of the file; file : as it was given; text : its content
    origin : of the base, for people: ``recipe 003/base``
    seeds : trainings of each row, >= 1
    grid : the two factors that are crossed
    """

    name: str
    file: str
    text: str
    description: str
    origin: str
    base: Params
    seeds: int
    factors: tuple[Factor, ...]
    grid: tuple[Factor, Factor] | None = None

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The base, then each other level of each factor, then what the grid adds; a configuration is there once."""
        rows: dict[Params, Row] = {self.base: Row(BASE, BASE, self.base, {})}
        taken = {BASE}
        for levels in self._combinations():
            params = self.configure(*(level for _, level in levels))
            if params in rows:
                continue
            name = _free("-".join(f"{_slug(factor.name)}-{_slug(level.label)}" for factor, level in levels), taken)
            title = ", ".join(f"{factor.name} {level.label}" for factor, level in levels)
            changes = {key: value for _, level in levels for key, value in level.changes.items()}
            rows[params] = Row(name, title, params, changes)
        return tuple(rows.values())

    def _combinations(self) -> Iterator[tuple[tuple[Factor, Level], ...]]:
        for factor in self.factors:
            yield from (((factor, level),) for level in factor.levels if not level.is_base)
        if self.grid:
            first, second = self.grid
            for one, other in itertools.product(first.levels, second.levels):
                if not (one.is_base or other.is_base):
                    yield (first, one), (second, other)

    def configure(self, *levels: Level) -> Params:
        """The configuration with these levels of different factors."""
        changed = [level for level in levels if not level.is_base]
        if len(changed) == 1:
            return changed[0].params
        return reading.configure(self.base, {key: value for level in changed for key, value in level.changes.items()})

    def row(self, *levels: Level) -> Row:
        """The row with these levels of different factors; the base where they are all its own."""
        params = self.configure(*levels)
        return next(row for row in self.rows if row.params == params)

    def plan(self, limit: int | None = None) -> Plan:
        """The trainings.

        limit : at most so many training and validation images in every row, for quick looks; None: as the rows say

        Raises
        ------
        UsageError
            The number of images is itself a factor.
        """
        rows = self.rows if limit is None else tuple(replace(row, params=self._limited(row.params, limit)) for row in self.rows)
        name = f"ablate-{_slug(self.name, '-')}" + (f"-limit{limit}" if limit is not None else "")
        return Plan(name, "ablation", self.description or self.name, rows, self.seeds)

    def _limited(self, params: Params, limit: int) -> Params:
        if params.data.limit != self.base.data.limit:
            raise UsageError(f"{self.file}: data.limit is a factor; run it without a limit of images for all rows")
        with place("--data-limit"):
            return reading.configure(params, {"data.limit": min(limit, params.data.limit or limit)})


def load(path: str | Path, root: Path) -> Ablation:
    """Read and check an ablation: nothing that can be known to fail is left to the trainings.

    Parameters
    ----------
    path : below ``root``; or the name of a shipped one

    Raises
    ------
    UsageError
        There is no such file, or it breaks a rule: one line with place, rule, value and remedy.
    """
    file = reading.locate(path, root)
    with place(str(path)):
        tree, text = reading.read(file)
        base = reading.read_base(tree["base"], tree.get("set"), root)
        with place("factors"):
            factors = _factors(reading.mapping(tree["factors"]), base)
        ablation = Ablation(
            name=file.stem,
            file=str(path),
            text=text,
            description=reading.text(tree, "description"),
            origin=_origin(tree),
            base=base,
            seeds=reading.seeds(tree.get("seeds", SEEDS)),
            factors=factors,
        )
        if tree.get("grid") is None:
            return ablation
        with place("grid"):
            return _crossed(ablation, tree["grid"])


def _factors(tree: Mapping[str, Any], base: Params) -> tuple[Factor, ...]:
    factors, claims = [], {}
    for name, content in tree.items():
        with place(name):
            content = reading.mapping(content, reading.FACTOR)
            levels = _levels(name, content, base)
            factors.append(Factor(name, levels, reading.text(content, "hypothesis")))
            claims[name] = reading.text(content, "claim")
    labels = {factor.name: [level.label for level in factor.levels] for factor in factors}
    found = []
    for factor in factors:  # after all are known, as a claim names its factor
        with place(factor.name):
            claim = parse_claim(claims[factor.name], labels) if claims[factor.name] else None
            if claim is not None and claim.factor != factor.name:
                raise ConfigError(f"claim: must be about this factor, got {claims[factor.name]!r}; move it to {claim.factor}")
            found.append(replace(factor, claim=claim))
    return tuple(found)


def _levels(name: str, content: Mapping[str, Any], base: Params) -> tuple[Level, ...]:
    if ("values" in content) == ("bundles" in content):
        raise ConfigError("must have either values or bundles")
    levels = _of_values(name, content["values"], base) if "values" in content else _of_bundles(content["bundles"], base)
    for one, other in itertools.combinations(levels, 2):
        if one.params == other.params:
            raise ConfigError(f"levels must differ, but {one.label} and {other.label} are the same configuration; take one out")
        if one.label == other.label:
            raise ConfigError(f"levels must have unlike names, got {one.label} twice; rename one")
    if len(levels) < 2:
        raise ConfigError(f"must have a level besides the base's own, got only {levels[0].label}")
    if all(level.number is not None for level in levels):
        levels = sorted(levels, key=lambda level: level.number or 0.0)
    return tuple(levels)


def _of_values(key: str, values: Any, base: Params) -> list[Level]:
    """A level for each value of one key, and the base's own."""
    reading.refuse_fixed(key)
    if not isinstance(values, list) or not values:
        raise ConfigError(f"values: must be a list with one value at least, got {values!r}")
    levels = []
    for value in values:
        if isinstance(value, Mapping | list):
            raise ConfigError(f"values: each must be a single value, got {value!r}; give it a name with bundles")
        params = reading.configure(base, {key: value})
        exact = reading.value_of(params, key)  # 0 as 0.0 where a fraction fits
        levels.append(Level(written(exact), {} if params == base else {key: exact}, params))
    return _with_base(levels, reading.value_of(base, key), base)


def _of_bundles(bundles: Any, base: Params) -> list[Level]:
    """A level for each named set of changes, and the base's own."""
    levels = []
    with place("bundles"):
        for name, changes in reading.mapping(bundles).items():
            with place(name):
                params = reading.configure(base, reading.mapping(changes) if changes else {})
                if name == BASE and params != base:
                    raise ConfigError("this name is the base's own, which has other values; rename the bundle")
                levels.append(Level(name, {} if params == base else dict(changes), params))
    return _with_base(levels, None, base)


def _with_base(levels: list[Level], value: Any, base: Params) -> list[Level]:
    if any(level.is_base for level in levels):
        return levels
    label = written(value) if isinstance(value, bool | int | float | str) else BASE
    return [Level(label, {}, base), *levels]


def _crossed(ablation: Ablation, grid: Any) -> Ablation:
    """With a grid whose cells can all be built."""
    names = [factor.name for factor in ablation.factors]
    if not isinstance(grid, list) or len(grid) != 2 or len({str(name) for name in grid}) != 2:
        raise ConfigError(f"must be a list of two factors, got {grid!r}")
    for name in grid:
        if name not in names:
            raise ConfigError(f"must name two of the factors {', '.join(names)}, got {name!r}")
    first, second = (ablation.factors[names.index(name)] for name in grid)
    both = {key for level in first.levels for key in level.changes} & {key for level in second.levels for key in level.changes}
    if both:
        raise ConfigError(f"its factors must change different keys, but both change {', '.join(sorted(both))}")
    crossed = replace(ablation, grid=(first, second))
    for one, other in itertools.product(first.levels, second.levels):
        with place(f"{first.name} {one.label}, {second.name} {other.label}"):
            crossed.configure(one, other)
    return crossed


def _origin(tree: Mapping[str, Any]) -> str:
    base = tree["base"]
    kind = next((kind for kind in ("recipe", "params") if kind in base), None)
    text = {"recipe": f"recipe {base.get('recipe')}", "params": str(base.get("params"))}.get(kind or "", "a base of its own")
    return text + (" with changes" if tree.get("set") else "")


def _slug(text: str, join: str = "_") -> str:
    """Letters, digits and ``join``; without the section of a key, as there is one train and one model."""
    short = text.removeprefix("train.").removeprefix("model.")
    return re.sub(r"[^A-Za-z0-9]+", join, short).strip(join) or "x"


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if there is one like it already; it is taken then."""
    names: Sequence[str] | Iterator[str] = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    free = next(one for one in names if one not in taken)
    taken.add(free)
    return free
