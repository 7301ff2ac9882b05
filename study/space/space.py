"""A search space: suggest a point, turn it into a configuration, and invert that."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as File
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import ConfigError, parse, to_tree
from pipeline.config.parsing import yaml_problem
from study.space.keys import SpaceError, get, problem, put, to_text
from study.space.nodes import (
    Choice,
    Node,
    Path,
    Range,
    Repeat,
    fraction_of,
    invert_all,
    point_of,
    position,
    same,
    size_of,
    value_at,
)
from study.space.reading import build, resolve
from study.space.structure import Condition, certain, conditions, distribution_of, paths_of, searched

FOLDER = File(__file__).with_name("spaces")
SHIPPED = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
EDGE = 0.02  # fraction of a range's width
GRID = 3  # grid values per range


@dataclass(frozen=True)
class Space:
    """A search space.

    name : as given by the user; tree : description and parameters, plain data as in the ledger
    """

    name: str
    tree: dict[str, Any]

    @classmethod
    def load(cls, name_or_path: str) -> Space:
        """Read a shipped space by name, or a YAML file.

        Raises SpaceError if the space does not exist or breaks a rule.
        """
        return cls.of(name_or_path, _read(name_or_path, ()))

    @classmethod
    def of(cls, name: str, tree: Mapping[str, Any]) -> Space:
        """Return a space from its tree in the ledger. Raises SpaceError if its structure breaks a rule."""
        space = cls(name, dict(tree))
        try:
            if not space.nodes:
                raise SpaceError("parameters: must name at least one key")
        except SpaceError as error:
            raise SpaceError(f"space {name}: {error}") from None
        return space

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return build(self.tree["parameters"])

    @cached_property
    def paths(self) -> frozenset[str]:
        """Keys that the space may set, at their outermost: ``{"train.lr", "model.dense"}``."""
        return frozenset(to_text(path) for node in self.nodes for path in paths_of(node))

    @cached_property
    def parameters(self) -> dict[str, BaseDistribution]:
        """Every parameter that can be active, by name; each name has one distribution."""
        return {node.name: distribution_of(node) for node in searched(self.nodes)}

    @cached_property
    def always(self) -> dict[str, BaseDistribution]:
        """The parameters of every point, without those of one value."""
        names = certain(self.nodes)
        return {name: one for name, one in self.parameters.items() if name in names and not one.single()}

    @cached_property
    def together(self) -> list[dict[str, BaseDistribution]]:
        """All parameters, grouped by the points at which they are active, without those of one value."""
        needed: dict[str, set[Condition]] = {}
        for name, condition in conditions(self.nodes, ()):
            needed.setdefault(name, set()).add(condition)
        groups: dict[frozenset[Condition], dict[str, BaseDistribution]] = {frozenset({()}): self.always}
        for name, distribution in self.parameters.items():
            if name not in certain(self.nodes) and not distribution.single():
                groups.setdefault(frozenset(needed[name]), {})[name] = distribution
        return [group for group in groups.values() if group]

    def suggest(self, trial: optuna.trial.Trial) -> dict[str, Any]:
        """Suggest every active parameter to a trial; return the parameters by name."""

        def ask(name: str, distribution: BaseDistribution) -> Any:
            match distribution:
                case CategoricalDistribution():
                    return trial.suggest_categorical(name, distribution.choices)
                case IntDistribution(low=low, high=high, step=step, log=log):
                    return trial.suggest_int(name, low, high, step=step, log=log)
                case FloatDistribution(low=low, high=high, step=step, log=log):
                    return trial.suggest_float(name, low, high, step=step, log=log)

        for node in self.nodes:
            node.walk(ask, _discard)
        return dict(trial.params)

    def distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Return the distributions of the active parameters.

        Raises SpaceError if a parameter is missing, is not active, or lies outside its range.
        """
        active: dict[str, BaseDistribution] = {}

        def ask(name: str, distribution: BaseDistribution) -> Any:
            active[name] = distribution
            return _value(name, distribution, params)

        for node in self.nodes:
            node.walk(ask, _discard)
        if extra := params.keys() - active.keys():
            raise SpaceError(f"space {self.name}: {', '.join(sorted(extra))}: not active at this point")
        return active

    def configure(self, base: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration at a point. Raises SpaceError if the parameters are not a point of this space.

        Keys of options that were not chosen stay as in ``base``, except those that a choice rules out (momentum with adam), which
        take their neutral value.

        base : a complete tree of Params, or of its sections model and train
        params : by name, as :meth:`suggest` returns them
        """
        tree = copy.deepcopy(dict(base))
        written: set[Path] = set()

        def write(path: Path, value: Any) -> None:
            written.add(path)
            put(tree, path, copy.deepcopy(value))

        for node in self.nodes:
            node.walk(lambda name, distribution: _value(name, distribution, params), write)
        _reset_what_is_ruled_out(tree, written)
        return tree

    def params_of(self, tree: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the point that gives this configuration, the inverse of :meth:`configure`; None if it lies outside the space.

        Keys that the space does not set are ignored.
        """
        try:
            complete = to_tree(parse({name: tree[name] for name in ("model", "train") if name in tree}))
        except ConfigError:
            return None
        for params in invert_all(self.nodes, lambda path: get(complete, path)):
            try:
                configured = to_tree(parse(self.configure(complete, params)))
            except ConfigError:
                continue
            if all(same(configured[name], complete[name]) for name in ("model", "train")):
                return params
        return None

    def edges(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Return the parameters at an end of their range, which a wider range might improve: ``{"train.lr": "low"}``.

        At an end means within 2 % of the (logarithmic) width, or the last value of an integer. Limits of the key itself, like
        dropout 0, do not count; choices have no ends.
        """
        ends = {}
        for node in searched(self.nodes):
            if node.name in params and node.name not in ends and (end := _edge(node, params[node.name])):
                ends[node.name] = end
        return ends

    def size(self, steps: int = GRID) -> int:
        """Return the number of points of the grid."""
        return size_of(self.nodes, steps)

    def point(self, index: int, steps: int = GRID) -> dict[str, Any]:
        """Return a grid point by its index, 0 to ``size(steps) - 1``."""
        return point_of(self.nodes, index, steps)

    def points(self, steps: int = GRID) -> Iterator[dict[str, Any]]:
        """Return all grid points: every choice, and ``steps`` (at least 2) values of each range, ends included."""
        return (self.point(index, steps) for index in range(self.size(steps)))


def _read(name_or_path: str, outer: tuple[str, ...]) -> dict[str, Any]:
    """Return the resolved content of a space; ``outer`` names the spaces that include it."""
    if name_or_path in outer:
        raise SpaceError(f"space {outer[0]}: include: {' includes '.join((*outer, name_or_path))}, without end")
    file = FOLDER / f"{name_or_path}.yaml" if name_or_path in SHIPPED else File(name_or_path)
    if not file.is_file():
        near = difflib.get_close_matches(name_or_path, SHIPPED, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise SpaceError(f"study.space: no space {name_or_path}; {hint}there are {', '.join(SHIPPED)}; or give a YAML file")
    try:
        content = YAML(typ="safe").load(file)
    except YAMLError as error:
        raise SpaceError(f"space {name_or_path}{yaml_problem(error)}") from None
    if not isinstance(content, Mapping) or content.keys() - {"description"} != {"parameters"}:
        raise SpaceError(f"space {name_or_path}: must have the keys description and parameters, and no other")
    try:
        parameters = resolve(content["parameters"], lambda inner: _read(inner, (*outer, name_or_path))["parameters"])
    except SpaceError as error:
        text = str(error)
        raise SpaceError(text if text.startswith(("space ", "study.space")) else f"space {name_or_path}: {text}") from None
    return {"description": str(content.get("description", "")), "parameters": parameters}


def _discard(path: Path, value: Any) -> None:
    """Discard a value; the caller only needs the parameters."""


def _value(name: str, distribution: BaseDistribution, params: Mapping[str, Any]) -> Any:
    """Return the value of a parameter. Raises SpaceError if it is missing or outside its range."""
    if name not in params:
        raise SpaceError(f"{name}: missing from the point")
    value = params[name]
    try:
        if isinstance(distribution, CategoricalDistribution):
            position(distribution.choices, value)
            return value
        if distribution._contains(distribution.to_internal_repr(value)):
            return value
    except ValueError:
        pass
    raise SpaceError(f"{name}: {value!r} lies outside {distribution}")


def _edge(node: Range | Choice | Repeat, value: Any) -> str | None:
    distribution = distribution_of(node)
    if not isinstance(distribution, IntDistribution | FloatDistribution) or distribution.single():
        return None
    whole = isinstance(distribution, IntDistribution)
    fraction = fraction_of(distribution, value)
    near = 0.0 if whole else EDGE
    assert node.path is not None
    for end, distance, bound in (("low", fraction, distribution.low), ("high", 1 - fraction, distribution.high)):
        if distance <= near:
            width = value_at(distribution, EDGE) - distribution.low or distribution.high - distribution.low
            beyond = bound + (-1 if end == "low" else 1) * (1 if whole else width)
            if isinstance(node, Repeat):
                return end if beyond >= 0 else None
            return None if problem(node.path, beyond) else end
    return None


def _reset_what_is_ruled_out(tree: dict[str, Any], written: set[Path]) -> None:
    """Reset keys that the chosen options rule out (see Train) and that the space has not set at this point."""
    train = tree["train"]

    def reset(key: str, neutral: Any, section: dict[str, Any] = train, path: Path = ("train",)) -> None:
        if (*path, key) not in written and key in section:
            section[key] = neutral

    if train["optimizer"] not in ("sgd", "rmsprop"):
        reset("momentum", 0.0)
    if train["optimizer"] != "sgd" or not train["momentum"]:
        reset("nesterov", False)
    if train["loss"] != "cross_entropy":
        reset("label_smoothing", 0.0)
    if train["schedule"]["name"] == "one_cycle":
        reset("warmup_epochs", 0.0, train["schedule"], ("train", "schedule"))
