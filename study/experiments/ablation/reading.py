"""From the YAML of an ablation to checked configurations, and in one line what is wrong with it."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import ConfigError, Data, Params, load, parse, to_tree
from study.space.checks import fit
from study.space.keys import get, put, to_path
from study.space.reading import label
from study.state.errors import UsageError

SHIPPED = Path(__file__).with_name("ablations")
KEYS = ("description", "base", "set", "seeds", "factors", "grid")
SECTIONS = ("data", "model", "train")
BASES = ("recipe", "params", *SECTIONS)
FACTOR = ("values", "bundles", "hypothesis", "claim")
FIXED = {  # why a key cannot be a factor
    "train.seed": "every row is trained on the same seeds, from the base's",
    "train.device": "it changes how fast a training is, not what it computes",
    "train.threads": "it changes how fast a training is, not what it computes",
    "data.mirror": "it says where the images come from, not which they are",
}

Tree = Mapping[str, Any]


@contextmanager
def place(where: str) -> Iterator[None]:
    """Puts a place before what is wrong there: ``003.yaml: factors: dropout: …``; every rule that breaks becomes a UsageError."""
    try:
        yield
    except ConfigError as error:
        text = str(error).removeprefix("params: ")
        raise UsageError(text if text.startswith(f"{where}: ") else f"{where}: {text}") from None


def locate(path: str | Path, root: Path) -> Path:
    """The file of an ablation: a path below ``root``, or the name of a shipped one.

    Raises
    ------
    UsageError
        There is neither.
    """
    file = root / path
    if file.is_file():
        return file
    names = sorted(shipped.stem for shipped in SHIPPED.glob("*.yaml"))
    if str(path) in names:
        return SHIPPED / f"{path}.yaml"
    raise UsageError(f"{path}: no such file; give a YAML file of an ablation, or one of {', '.join(names)}")


def read(file: Path) -> tuple[dict[str, Any], str]:
    """The content of a file, its keys known ones; and the text itself."""
    text = file.read_text()
    try:
        tree = YAML(typ="safe").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{line}not valid YAML: {problem}") from None
    tree = mapping(tree, KEYS)
    for key in ("base", "factors"):
        if key not in tree:
            raise ConfigError(f"{key}: this key is required")
    return tree, text


def mapping(value: Any, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A mapping with text as keys, each a known one if ``keys`` lists any. Raises ConfigError otherwise."""
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"must be a mapping of {', '.join(keys) or 'keys to values'}, got {value!r}")
    named = {label(key): inner for key, inner in value.items()}
    if len(named) < len(value):
        raise ConfigError(f"keys must differ as text, got {', '.join(map(repr, value))}")
    for key in named:
        if keys and key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            raise ConfigError(
                f"{key}: no such key; " + (f"did you mean {near[0]}?" if near else f"valid here: {', '.join(keys)}")
            )
    return named


def read_base(base: Any, changes: Any, root: Path) -> Params:
    """Sections data, model and train of the base, with ``changes`` at dotted paths."""
    with place("base"):
        tree = _base(mapping(base, BASES), root)
        params = parse({name: tree.get(name, {}) for name in SECTIONS})
        possible(params)
    if not changes:
        return params
    with place("set"):
        return configure(params, mapping(changes))


def _base(base: Tree, root: Path) -> Tree:
    if "recipe" in base or "params" in base:
        if len(base) > 1:
            raise ConfigError(f"must be one of recipe, params, or sections {', '.join(SECTIONS)}; got {', '.join(base)}")
        kind, name = next(iter(base.items()))
        if not isinstance(name, str):
            raise ConfigError(f"{kind}: must be a text, got {name!r}; write it in quotes")
        return to_tree(load(root / name)) if kind == "params" else to_tree(recipe(name))
    return base


def recipe(name: str) -> Params:
    """The configuration of a recipe's row, ``003/base``, or of its base, ``003``. Raises ConfigError where there is none."""
    from study.experiments.reproduction import recipe as recipes

    source, _, row = name.partition("/")
    found = recipes.load(source)
    if not row:
        return found.base
    chosen = found.row(row)
    if chosen.later:
        raise ConfigError(f"recipe: {name} cannot be trained yet: {chosen.later}; take another row")
    return chosen.params


def configure(base: Params, changes: Tree) -> Params:
    """The base with the values at dotted paths replaced.

    Raises
    ------
    ConfigError
        A key that does not exist or is no factor, a value that it does not take, or a network that cannot be built.
    """
    tree = to_tree(base)
    tree = {name: tree[name] for name in SECTIONS}
    for key, value in changes.items():
        refuse_fixed(key)
        put(tree, to_path(key), copy.deepcopy(value))
    params = parse(tree)
    possible(params)
    return params


def refuse_fixed(key: str) -> None:
    """Raise ConfigError for a key that no row may change."""
    if key in FIXED:
        raise ConfigError(f"{key}: cannot be changed: {FIXED[key]}; take it out")
    section = key.partition(".")[0].partition("[")[0]
    if section in to_tree(Params()) and section not in SECTIONS:
        raise ConfigError(f"{key}: cannot be changed: it changes nothing in training; keys of {', '.join(SECTIONS)} can")


def possible(params: Params) -> None:
    """Raise ConfigError where the network cannot be built on images of this data section."""
    classes = len(params.data.merge or range(10))
    if problem := fit(to_tree(params), shape_of(params.data), classes).problem:
        raise ConfigError(problem)


def shape_of(data: Data) -> tuple[int, int, int]:
    """(channels, height, width) of one image, as preprocessing makes it."""
    colour = data.name == "cifar10"
    size = data.image_size or (32 if colour else 28)
    return (data.channels or (3 if colour else 1), size, size)


def value_of(params: Params, key: str) -> Any:
    """What stands at a dotted path; MISSING where the way to it is not there, as with the pooling of a block without."""
    return get(to_tree(params), to_path(key))


def seeds(value: Any) -> int:
    """Trainings of each row. Raises ConfigError for what is no number of them."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"seeds: must be a whole number of at least 1, got {value!r}; 5 tell differences between seeds apart")
    return value


def text(tree: Tree, key: str) -> str:
    """What a key says, on one line; empty where it is not there. Raises ConfigError for what is no text."""
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key}: must be a text, got {value!r}; write it in quotes")
    return " ".join((value or "").split())
