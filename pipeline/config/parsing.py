"""Parse ``params.yaml`` into frozen sections; report an error in one line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config.sections import Params


class ConfigError(ValueError):
    """A configuration that breaks a rule; one line with key, rule, value and, if one is near, the valid key."""


SYNONYMS = {"learning_rate": "lr"}  # common names too dissimilar to be matched

_ADAPTER = TypeAdapter(Params)


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check ``params.yaml``.

    Raises ConfigError if the file is missing, is not YAML, or breaks a rule.
    """
    try:
        tree = YAML(typ="safe").load(Path(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; run from the repository's root") from None
    except YAMLError as error:
        raise ConfigError(f"{path}{yaml_problem(error)}") from None
    return parse({} if tree is None else tree)


def yaml_problem(error: YAMLError) -> str:
    """Return the line and problem of a YAML error, to follow the name of the file: `` line 3: not valid YAML: …``."""
    mark = getattr(error, "problem_mark", None)
    place = f" line {mark.line + 1}" if mark else ""
    return f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}"


def parse(tree: Any) -> Params:
    """Return plain mappings, lists and scalars as :class:`Params`; absent keys take their defaults.

    Raises ConfigError for an unknown key, a wrong type or an impossible value.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"params must be a mapping of sections {_keys(())}, got {tree!r}")
    # JSON keeps types strict but lets a list fill a tuple; YAML dates and integer keys become text.
    try:
        text = json.dumps(tree, default=str)
    except (TypeError, ValueError, RecursionError):
        raise ConfigError("params must be plain keys and values; a list cannot be a key, and nothing can hold itself") from None
    tree = json.loads(text)
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise ConfigError(_one_line(error, tree)) from None


def to_tree(params: Any) -> Any:
    """Return :class:`Params` or a section as plain dicts, lists and scalars; the inverse of :func:`parse`."""
    return TypeAdapter(type(params)).dump_python(params, mode="json")


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``params.yaml``, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_ADAPTER.json_schema(), "title": "studyline params.yaml"}


def _one_line(error: ValidationError, tree: Mapping[str, Any]) -> str:
    """Return the first broken rule as ``key: rule, got value``; unknown keys come first, as they often explain the others."""
    errors = sorted(error.errors(), key=lambda item: item["type"] != "unexpected_keyword_argument")
    path, value = _walk(tree, errors[0]["loc"])
    key = _dotted(path)
    if errors[0]["type"] == "unexpected_keyword_argument":
        near = _nearest(path)
        return f"{key}: no such key; " + (f"did you mean {near}?" if near else f"valid here: {', '.join(_keys(path[:-1]))}")
    if errors[0]["type"] == "missing":
        return f"{_dotted(errors[0]['loc'])}: this key is required"
    rules = [_rule(item["msg"]) for item in errors if _walk(tree, item["loc"])[0] == path]
    got = "" if isinstance(value, Mapping) else f", got {json.dumps(value, default=str)}"
    return f"{key or 'params'}: {' or '.join(dict.fromkeys(rules))}{got}"


def _rule(message: str) -> str:
    message = (
        message.removeprefix("Value error, ")
        .replace("Input should", "must")
        .replace("must be an object", "must be a mapping of keys")
        .replace("must be a valid array", "must be a list")
    )
    return re.sub(r"^(Tuple|String) should have at least (\d+) (\w+).*", r"must have at least \2 \3", message)


def _walk(tree: Any, loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], Any]:
    """Return the part of an error location that is a path in the tree, without pydantic's union branches, and its value."""
    path: list[str | int] = []
    for step in loc:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            break
        path.append(step)
    return tuple(path), tree


def _dotted(path: Sequence[str | int]) -> str:
    """Return the text of a path: ``model.conv[0].out`` for ``("model", "conv", 0, "out")``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _keys(path: Sequence[str | int]) -> list[str]:
    """Return the valid keys of the mapping at ``path``."""
    definitions = _ADAPTER.json_schema()["$defs"]
    node: dict[str, Any] = _ADAPTER.json_schema()
    for step in (*path, None):
        while "properties" not in node and "items" not in node:
            if "$ref" in node:
                node = definitions[node["$ref"].rsplit("/", 1)[-1]]
            else:  # a union: the branch that is a mapping or a list
                node = next(branch for branch in node["anyOf"] if branch.keys() & {"$ref", "items"})
        if isinstance(step, str):
            node = node["properties"][step]
        elif isinstance(step, int):
            node = node["items"]
    return list(node["properties"])


def _nearest(path: Sequence[str | int]) -> str | None:
    """Return the valid key closest to an unknown one: the same name in another section first, then a similar name beside it."""
    name = SYNONYMS.get(str(path[-1]), str(path[-1]))
    for section in _keys(()):
        if name in _keys((section,)):
            return f"{section}.{name}"
    beside = _keys(path[:-1])
    near = difflib.get_close_matches(name, beside, n=1, cutoff=0.5)
    return _dotted((*path[:-1], near[0])) if near else None
