"""Keys of ``params.yaml``: their paths, their types, and whether a space may vary them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pipeline.config import ConfigError, parse, schema
from study.space.nodes import MISSING, Path


class SpaceError(ConfigError):
    """A search space that breaks a rule; one line with place, rule, value and remedy."""


FIXED = {  # keys that cannot be searched, with the reason
    "data": "trials are compared on the same validation images; only keys of model and train may vary",
    "evaluate": "it changes nothing in training",
    "tracking": "it changes nothing in training",
    "study": "it changes nothing in training",
    "train.seed": "every trial has a seed of its own, from study.seed",
    "train.device": "it changes how fast a training is, not what it computes",
    "train.threads": "it changes how fast a training is, not what it computes",
}


def to_path(text: str) -> Path:
    """Return the path of a key: ("model", "conv", 0, "out") for ``model.conv[0].out``.

    Raises SpaceError if the text has another form.
    """
    if not re.fullmatch(r"\w+(\[\d+\])*(\.\w+(\[\d+\])*)*", text):
        raise SpaceError(f"{text}: a parameter must be a key like train.lr or model.conv[0].out")
    return tuple(int(step) if step.isdigit() else step for step in re.findall(r"\w+", text))


def to_text(path: Path) -> str:
    """Return the text of a path; the inverse of :func:`to_path`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def refusal(path: Path) -> str | None:
    """Return why :data:`FIXED` excludes a key from the search, or None."""
    for fixed, reason in FIXED.items():
        if path[: len(prefix := to_path(fixed))] == prefix:
            return f"cannot be searched: {reason}"
    return None


def get(tree: Any, path: Path) -> Any:
    """Return the value at a path, or MISSING."""
    for step in path:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return tree


def put(tree: Any, path: Path, value: Any) -> None:
    """Set the value at a path; create missing mappings on the way.

    Raises SpaceError if a list on the path is too short, or the path leads through a value.
    """
    for index, step in enumerate(path[:-1]):
        if isinstance(tree, dict) and tree.get(step) is None:
            tree[step] = {}
        tree = _child(tree, path, index)
    if isinstance(tree, list):
        _child(tree, path, len(path) - 1)
    tree[path[-1]] = value


def _child(tree: Any, path: Path, index: int) -> Any:
    try:
        return tree[path[index]]
    except (KeyError, IndexError, TypeError):
        blocks = f", which has {len(tree)} blocks" if isinstance(tree, list) else ""
        raise SpaceError(f"{to_text(path)}: there is no {to_text(path[: index + 1])} in params.yaml{blocks}") from None


def problem(path: Path, value: Any) -> str | None:
    """Return the rule that a value breaks by itself, in one line that begins with the key, or None.

    Rules between keys are ignored: they depend on the rest of the configuration.
    """
    try:
        parse(_alone(path, value))
    except ConfigError as error:
        text = str(error)
        own = re.match(rf"{re.escape(to_text(path))}[\].:[]", text)
        return text if own or not _types(path) else None
    return None


def _alone(path: Path, value: Any) -> Any:
    """Return a configuration of this key alone, with the required key of a block."""
    if not path:
        return value
    if isinstance(path[0], int):
        blocks: list[Any] = [{"out": 1} for _ in range(path[0] + 1)]
        inner = _alone(path[1:], value)
        blocks[-1] = {"out": 1, **inner} if isinstance(inner, Mapping) else inner
        return blocks
    return {path[0]: _alone(path[1:], value)}


def takes_fractions(path: Path) -> bool:
    """Return whether the key takes floats, so that 0 means 0.0; False for unknown keys."""
    types = _types(path)
    return "number" in types and "integer" not in types


@cache
def _types(path: Path) -> frozenset[str]:
    """Return the JSON types of a key; none for an unknown key."""
    tree = schema()
    branches: list[Any] = [tree]
    for step in path:
        plain = [plain for branch in branches for plain in _plain(branch, tree["$defs"])]
        if isinstance(step, int):
            branches = [branch["items"] for branch in plain if "items" in branch]
        else:
            branches = [branch["properties"][step] for branch in plain if step in branch.get("properties", {})]
    return frozenset(kind.get("type", "any") for branch in branches for kind in _plain(branch, tree["$defs"]))


def _plain(branch: Any, definitions: Any) -> list[Any]:
    """Return the alternatives of a part of a JSON schema, with references resolved."""
    if "$ref" in branch:
        return _plain(definitions[branch["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in branch:
        return [plain for inner in branch["anyOf"] for plain in _plain(inner, definitions)]
    return [branch]
