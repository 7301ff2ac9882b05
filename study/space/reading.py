"""Build the nodes of a space from its YAML; report an error in one line."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from study.space.keys import SpaceError, refusal, takes_fractions, to_path, to_text
from study.space.nodes import Choice, Fixed, Node, Path, Range, Repeat

FORMS = {  # the forms of an entry by their first key, with their other keys
    "groups": (),
    "choices": ("when",),
    "repeat": ("each", "shared"),
    "low": ("high", "log", "step"),
    "high": ("low", "log", "step"),
    "value": (),
}
HOW = "a range {low, high}, {choices: […]}, {repeat, each}, {groups} or a value; a mapping as value is written {value: {…}}"
MOST = 10**4  # blocks; more would be a typing error

Tree = dict[str, Any]
Chain = tuple[tuple[int, str], ...]  # the options that activate an entry: number of the choice, label of the option


def label(option: Any) -> str:
    """Return an option as a YAML key: ``null``, ``true``, ``0.1``."""
    if isinstance(option, bool) or option is None:
        return {None: "null", True: "true", False: "false"}[option]
    return str(option)


def resolve(parameters: Any, included: Callable[[str], Tree], base: Path = ()) -> Tree:
    """Return parameters as the ledger stores them: includes expanded, keys as text, 0 as 0.0 where the key takes floats.

    included : the parameters of another space, by name
    base : path of the block that contains the keys
    """
    if not isinstance(parameters, Mapping):
        raise SpaceError(f"{to_text(base) or 'parameters'}: must be a mapping of keys to what is searched, got {parameters!r}")
    result: Tree = {}
    for key, entry in parameters.items():
        if key == "include" and not base:
            result = included(str(entry)) | result
            continue
        path = (*base, *to_path(str(key)))
        result[str(key)] = _resolve_entry(entry, path, included, base)
    return result


def _resolve_entry(entry: Any, path: Path, included: Callable[[str], Tree], base: Path) -> Any:
    if not isinstance(entry, Mapping):
        return _number(entry, path)
    entry = dict(entry)
    for key in ("low", "high", "step", "value"):
        if key in entry:
            entry[key] = _number(entry[key], path)
    if isinstance(entry.get("choices"), Mapping):
        entry["choices"] = {label(option): _number(value, path) for option, value in entry["choices"].items()}
    elif isinstance(entry.get("choices"), list):
        entry["choices"] = [_number(value, path) for value in entry["choices"]]
    for key in ("groups", "when"):
        if isinstance(entry.get(key), Mapping):
            entry[key] = {label(option): resolve(inner, included, base) for option, inner in entry[key].items()}
    for key in ("each", "shared"):
        if key in entry:
            entry[key] = resolve(entry[key], included, (*path, 0))
    return entry


def _number(value: Any, path: Path) -> Any:
    return float(value) if type(value) is int and takes_fractions(path) else value


@dataclass(frozen=True)
class _Entry:
    """A key that the space sets: the options that activate it, and the lists of the space that contain it."""

    path: Path
    chain: Chain
    lists: tuple[Path, ...]


@dataclass
class _Builder:
    """Builds nodes and collects their keys and names, which must not conflict.

    levels : by name, the number of option labels put before it, to distinguish equal names
    """

    levels: Mapping[str, int]
    entries: list[_Entry] = field(default_factory=list)
    named: list[tuple[str, Chain, BaseDistribution]] = field(default_factory=list)
    choices: int = 0
    shared: Path | None = None  # the list whose shared parameters are being built

    def nodes(self, parameters: Any, base: Path = (), chain: Chain = (), lists: tuple[Path, ...] = ()) -> tuple[Node, ...]:
        if not isinstance(parameters, Mapping):
            raise SpaceError(
                f"{to_text(base) or 'parameters'}: must be a mapping of keys to what is searched, got {parameters!r}"
            )
        return tuple(self._node(entry, (*base, *to_path(key)), base, chain, lists) for key, entry in parameters.items())

    def _node(self, entry: Any, path: Path, base: Path, chain: Chain, lists: tuple[Path, ...]) -> Node:
        form = _form(entry, to_text(path))
        if form == "groups":
            return self._group(entry["groups"], path, base, chain, lists)
        if reason := refusal(path):
            raise SpaceError(f"{to_text(path)}: {reason}")
        self.entries.append(_Entry(path, chain, lists))
        if form in ("low", "high"):
            distribution = _range(entry, to_text(path))
            return Range(self._name(path, chain, distribution), path, distribution)
        if form == "choices":
            return self._choice(entry, path, base, chain, lists)
        if form == "repeat":
            return self._repeat(entry, path, chain, lists)
        return Fixed(path, entry["value"] if form == "value" else entry)

    def _name(self, path: Path, chain: Chain, distribution: BaseDistribution) -> str:
        depth = len(self.shared or ())
        name = to_text(path) if self.shared is None else f"{to_text(self.shared)}[*].{to_text(path[depth + 1 :])}"
        self.named.append((name, chain, distribution))
        return qualified(name, chain, self.levels.get(name, 0))

    def _group(self, groups: Any, path: Path, base: Path, chain: Chain, lists: tuple[Path, ...]) -> Choice:
        where = to_text(path)
        if len(path) != len(base) + 1:
            raise SpaceError(f"{where}: the name of groups must be one word, like family, and not a key of params.yaml")
        if not isinstance(groups, Mapping) or not groups:
            raise SpaceError(f"{where}: groups must be a mapping of names to parameters, got {groups!r}")
        return self._branches(None, path, tuple(groups), tuple(groups), groups, base, chain, lists)

    def _choice(self, entry: Tree, path: Path, base: Path, chain: Chain, lists: tuple[Path, ...]) -> Choice:
        where, choices, when = to_text(path), entry["choices"], entry.get("when", {})
        if not isinstance(choices, list | Mapping) or not choices:
            raise SpaceError(f"{where}: choices must be a list, or a mapping of labels to values, not empty, got {choices!r}")
        options = tuple(choices)
        values = tuple(choices.values()) if isinstance(choices, Mapping) else options
        for value in options:
            if isinstance(value, Mapping | list):
                raise SpaceError(f"{where}: a choice that is not a single value needs a label: {{choices: {{label: {value}}}}}")
        for one, other in itertools.combinations(options, 2):
            if one == other:
                raise SpaceError(f"{where}: choices must differ, got {other!r} twice")
        if not isinstance(when, Mapping):
            raise SpaceError(f"{where}: when must be a mapping of choices to parameters, got {when!r}")
        for option in when:
            if option not in map(label, options):
                raise SpaceError(f"{where}: when must name one of {', '.join(map(label, options))}, got {option}")
        return self._branches(path, path, options, values, when, base, chain, lists)

    def _branches(
        self,
        key: Path | None,
        path: Path,
        options: tuple[Any, ...],
        values: tuple[Any, ...],
        inner: Mapping[str, Any],
        base: Path,
        chain: Chain,
        lists: tuple[Path, ...],
    ) -> Choice:
        self.choices += 1
        mark = self.choices
        branches = tuple(
            self.nodes(inner.get(label(option), {}), base, (*chain, (mark, label(option))), lists) for option in options
        )
        choice = Choice("", key, options, values, branches)
        return Choice(self._name(path, chain, choice.distribution), key, options, values, branches)

    def _repeat(self, entry: Tree, path: Path, chain: Chain, lists: tuple[Path, ...]) -> Repeat:
        where, count = to_text(path), entry["repeat"]
        counts = _range({"low": count, "high": count} if isinstance(count, int) else _as_range(count, where), f"{where}: repeat")
        if not isinstance(counts, IntDistribution) or not 0 <= counts.low <= counts.high <= MOST:
            raise SpaceError(f"{where}: repeat must be a number of blocks or a range, 0 to {MOST}, got {count}")
        name = self._name(path, chain, counts) if counts.low < counts.high else where
        inside = (*lists, path)
        self.shared = path
        shared = self.nodes(entry.get("shared", {}), (*path, 0), chain, inside)
        self.shared = None
        blocks = tuple(self.nodes(entry.get("each", {}), (*path, index), chain, inside) for index in range(counts.high))
        return Repeat(name, path, counts, blocks, shared)


def build(parameters: Any) -> tuple[Node, ...]:
    """Build the nodes of resolved parameters. Raises SpaceError if they break a rule.

    A key with different ranges in several branches gets a name per branch, with the option's label:
    ``adamw:train.weight_decay``; so each name has one distribution.
    """
    builder = _Builder({})
    builder.nodes(parameters)
    _refuse_overlaps(builder.entries)
    return _Builder(_levels(builder.named)).nodes(parameters)


def qualified(name: str, chain: Chain, level: int) -> str:
    return ":".join([*(option for _, option in chain[len(chain) - min(level, len(chain)) :]), name])


def _levels(named: list[tuple[str, Chain, BaseDistribution]]) -> dict[str, int]:
    """Return for each name the smallest number of labels that gives it one distribution."""
    levels: dict[str, int] = {}
    for name in {name for name, _, _ in named}:
        places = [(chain, distribution) for other, chain, distribution in named if other == name]
        for level in itertools.count():
            by_name: dict[str, BaseDistribution] = {}
            if all(by_name.setdefault(qualified(name, chain, level), one) == one for chain, one in places):
                levels[name] = level
                break
            if level > max(len(chain) for chain, _ in places):
                raise SpaceError(f"{name}: two branches of the same name search it in different ranges; name them differently")
    return levels


def _refuse_overlaps(entries: list[_Entry]) -> None:
    """Raise SpaceError if a key can be set twice at the same time."""
    for one, other in itertools.combinations(entries, 2):
        outer, inner = sorted((one, other), key=lambda entry: len(entry.path))
        if inner.path[: len(outer.path)] != outer.path or outer.path in inner.lists:
            continue
        taken = dict(outer.chain)
        if all(taken.get(mark, option) == option for mark, option in inner.chain):
            if inner.path == outer.path:
                raise SpaceError(f"{to_text(inner.path)}: is set twice; remove one of the two")
            raise SpaceError(f"{to_text(inner.path)}: is part of {to_text(outer.path)}, which the space sets as a whole")


def _form(entry: Any, where: str) -> str | None:
    """Return the form of an entry, a key of FORMS; None for a plain value."""
    if not isinstance(entry, Mapping):
        return None
    form = next((key for key in FORMS if key in entry), None)
    if form is None:
        raise SpaceError(f"{where}: must be {HOW}, got a mapping of {', '.join(map(str, entry)) or 'nothing'}")
    for key in entry:
        if key not in (valid := (form, *FORMS[form])):
            near = difflib.get_close_matches(str(key), valid, n=1)
            raise SpaceError(
                f"{where}: no such key {key}; " + (f"did you mean {near[0]}?" if near else f"valid here: {', '.join(valid)}")
            )
    return form


def _as_range(count: Any, where: str) -> Tree:
    if not isinstance(count, Mapping):
        raise SpaceError(f"{where}: repeat must be a number of blocks or a range {{low, high}}, got {count!r}")
    return dict(count)


def _range(entry: Mapping[str, Any], where: str) -> IntDistribution | FloatDistribution:
    for key in ("low", "high"):
        if key not in entry:
            raise SpaceError(f"{where}: a range needs low and high; {key} is missing")
    for key in ("low", "high", *(["step"] if entry.get("step") is not None else [])):
        if isinstance(entry[key], bool) or not isinstance(entry[key], int | float) or not math.isfinite(entry[key]):
            raise SpaceError(f"{where}: {key} must be a number, got {entry[key]!r}")
    low, high, step, log = entry["low"], entry["high"], entry.get("step"), entry.get("log", False)
    if not isinstance(log, bool):
        raise SpaceError(f"{where}: log must be true or false, got {log!r}")
    if low > high:
        raise SpaceError(f"{where}: low must not be above high, got low {low}, high {high}")
    if log and low <= 0:
        raise SpaceError(f"{where}: low of a log range must be above 0, got {low}; raise it, or remove log")
    if log and step is not None:
        raise SpaceError(f"{where}: a range must have log or step, not both; remove one")
    if step is not None and (step <= 0 or abs((high - low) / step - round((high - low) / step)) > 1e-8):
        raise SpaceError(f"{where}: step must be above 0 and lead from low to high, got low {low}, high {high}, step {step}")
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None):
        return IntDistribution(low, high, log=log, step=1 if step is None else step)
    return FloatDistribution(low, high, log=log, step=step)
