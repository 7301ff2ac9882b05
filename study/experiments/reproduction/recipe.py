"""A published system as data: a base, rows that replace parts of it, and the figures that its source prints."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import ConfigError, Params, parse, to_tree
from pipeline.verdict import Level
from study.engine.plan import NAME, Plan, Row
from study.engine.request import changed
from study.experiments.reproduction.figure import Figure, kind_of
from study.state.errors import UsageError

T = TypeVar("T")

FOLDER = Path(__file__).with_name("recipes")
QUICK_IMAGES, QUICK_EPOCHS = 10_000, 3  # of a quick look, at most: enough to see that every row trains
SECTIONS = ("data", "model", "train")
RECIPE = ("source", "title", "assumed", "base", "rows", "claims", "findings", "failure")
ROW = ("title", "set", "parameters", "reported", "confusion", "assumed", "not_comparable", "later")
CLAIM = ("text", "rows", "figure")
FINDING = ("level", "title", "evidence", "remedy", "ours")
FAILURE = ("row", "classes", "printed")


@dataclass(frozen=True)
class Claim:
    """A statement of the source that its figures, or ours, can be held against.

    rows : names of the rows that it is about, one at least; the earlier is what the later is compared with
    figure : the name of a figure, or ``parameters``
    """

    text: str
    rows: tuple[str, ...]
    figure: str


@dataclass(frozen=True)
class Finding:
    """What the printed figures say by themselves, as a verdict.

    ours : what is added of our own trainings, a name in :data:`study.experiments.reproduction.sources.OURS`
    """

    level: Level
    title: str
    evidence: str
    remedy: str = ""
    ours: str = ""


@dataclass(frozen=True)
class Failure:
    """A failure of the source, to be made on purpose by losing classes on a row's network; ``printed``: its own words on test."""

    row: str
    classes: tuple[int, ...]
    printed: str


@dataclass(frozen=True)
class RecipeRow:
    """One system, variant or row of a table.

    params : complete
    changes : dotted paths of params.yaml and what they hold in place of the base's values
    parameters : trainable values as the source prints them; None where it does not
    reported : figures as printed, by name
    confusion : as printed, rows actual; None where it is not
    assumed : what the source leaves open of this row, and what we took
    not_comparable : figures that say nothing, and why
    later : why the row is listed and not trained; None: it is trained
    """

    name: str
    title: str
    params: Params
    changes: Mapping[str, Any]
    parameters: int | None
    reported: Mapping[str, Figure]
    confusion: tuple[tuple[int, ...], ...] | None
    assumed: tuple[str, ...]
    not_comparable: Mapping[str, str]
    later: str | None

    def same_configuration(self, other: RecipeRow) -> bool:
        """Return whether both are the same as far as the source describes them."""
        mine, theirs = self.params, other.params
        return (mine.data, mine.model, mine.train) == (theirs.data, theirs.model, theirs.train)


@dataclass(frozen=True)
class Recipe:
    """All rows of one source.

    assumed : what the source leaves open of all rows, and what we took
    base : complete, on the defaults of the schema
    """

    source: str
    title: str
    assumed: tuple[str, ...]
    base: Params
    rows: tuple[RecipeRow, ...]
    claims: tuple[Claim, ...]
    findings: tuple[Finding, ...] = ()
    failure: Failure | None = None

    def row(self, name: str) -> RecipeRow:
        """Return the row of a name. Raises UsageError where there is none."""
        return _pick(name, {row.name: row for row in self.rows}, f"recipe {self.source} has no row")

    def plan(self, seeds: int, limit: int | None = None, quick: bool = False) -> Plan:
        """Plan the rows that are trained here, each on ``seeds`` seeds.

        limit : at most this many training and validation images, and as many test images; None: all, or 10,000 if ``quick``
        quick : at most three epochs

        Raises UsageError where ``seeds`` or ``limit`` is impossible.
        """
        if seeds < 1:
            raise UsageError(f"--seeds must be at least 1, got {seeds}")
        rows = [_planned(row, limit, quick) for row in self.rows if row.later is None]
        name = f"reproduce-{self.source}" + "-quick" * quick + (f"-limit{limit}" if limit is not None else "")
        return Plan(name, "reproduction", f"{self.source}: {self.title}", tuple(rows), seeds)


def names() -> list[str]:
    """Return the sources that have recipes, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Recipe:
    """Return a shipped recipe. Raises UsageError where there is none of this name, or it breaks a rule."""
    return read(_pick(name, {known: FOLDER / f"{known}.yaml" for known in names()}, "there is no recipe"))


def read(path: Path) -> Recipe:
    """Return the recipe in a file. Raises UsageError, one line with file, row, rule and value, where it breaks a rule."""
    with _place(path.name):
        try:
            tree = YAML(typ="safe").load(path)
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f"line {mark.line + 1}: " if mark else ""
            problem = " ".join(str(getattr(error, "problem", None) or error).split())
            raise ConfigError(f"{line}not valid YAML: {problem}") from None
        return _recipe(_mapping(tree, RECIPE, ("source", "title", "base", "rows")))


def _recipe(tree: Mapping[str, Any]) -> Recipe:
    base, rows, failure = parse(_mapping(tree["base"], SECTIONS)), [], None
    for name, content in _mapping(tree["rows"]).items():
        with _place(f"row {name}"):
            if not NAME.fullmatch(name):
                raise ConfigError("a name must be letters, digits, _ and -")
            rows.append(_row(name, _mapping(content, ROW, ("title",)), base))
    claims = []
    for index, content in enumerate(_list(tree, "claims", dict)):
        with _place(f"claims[{index}]"):
            claims.append(_claim(_mapping(content, CLAIM, CLAIM), [row.name for row in rows]))
    if "failure" in tree:
        content = _mapping(tree["failure"], FAILURE, FAILURE)
        failure = Failure(_text(content, "row"), _list(content, "classes", int), _text(content, "printed"))
    return Recipe(
        source=_text(tree, "source"),
        title=_text(tree, "title"),
        assumed=_list(tree, "assumed", str),
        base=base,
        rows=tuple(rows),
        claims=tuple(claims),
        findings=tuple(map(_finding, _list(tree, "findings", dict))),
        failure=failure,
    )


def _row(name: str, tree: Mapping[str, Any], base: Params) -> RecipeRow:
    changes = copy.deepcopy(_mapping(tree.get("set") or {}))  # what the file writes once, rows may share
    for path in changes:
        if path.partition(".")[0] not in SECTIONS:
            raise ConfigError(f"set: {path}: must begin with {', '.join(SECTIONS)}")
    reported = {figure: Figure.of(figure, text) for figure, text in _mapping(tree.get("reported") or {}).items()}
    reasons = _mapping(tree.get("not_comparable") or {})
    for figure in reasons:
        _text(reasons, figure)
        if figure not in reported:
            raise ConfigError(f"not_comparable: {figure}: must be a figure that is reported: {', '.join(reported) or 'none is'}")
    parameters = tree.get("parameters")
    if parameters is not None and (type(parameters) is not int or parameters < 0):
        raise ConfigError(f"parameters: must be a whole number, got {parameters!r}")
    outer_first = sorted(changes.items(), key=lambda change: len(change[0]))  # model is replaced before model.batch_norm
    return RecipeRow(
        name=name,
        title=_text(tree, "title"),
        params=parse(changed(to_tree(base), copy.deepcopy(dict(outer_first)))),
        changes=changes,
        parameters=parameters,
        reported=reported,
        confusion=_confusion(tree.get("confusion")),
        assumed=_list(tree, "assumed", str),
        not_comparable=reasons,
        later=_text(tree, "later") if tree.get("later") is not None else None,
    )


def _claim(tree: Mapping[str, Any], known: Sequence[str]) -> Claim:
    rows = _list(tree, "rows", str)
    if not rows or not set(rows) <= set(known):
        raise ConfigError(f"rows: must name rows of the recipe, {', '.join(known)}; got {list(rows)}")
    figure = _text(tree, "figure")
    if figure != "parameters":
        kind_of(figure)
    return Claim(_text(tree, "text"), rows, figure)


def _finding(tree: Mapping[str, Any]) -> Finding:
    return Finding(**{key: _text(tree, key) for key in _mapping(tree, FINDING, FINDING[:3])})  # type: ignore[arg-type]


def _confusion(value: Any) -> tuple[tuple[int, ...], ...] | None:
    if value is None:
        return None
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, list) and len(line) == len(lines) and all(type(n) is int for n in line) for line in lines):
        raise ConfigError(f"confusion: must be as many rows as columns of whole numbers, got {value!r}")
    return tuple(map(tuple, lines))


def _planned(row: RecipeRow, limit: int | None, quick: bool) -> Row:
    """Return the row of the plan, cut short where that is asked for; what is cut is among its changes."""
    data, train = row.params.data, row.params.train
    cut: dict[str, Any] = {}
    if quick:
        epochs = min(train.epochs, QUICK_EPOCHS)
        cut = {"data.limit": min(data.limit or QUICK_IMAGES, QUICK_IMAGES), "train.epochs": epochs}
        if train.schedule.warmup_epochs >= epochs:
            cut["train.schedule.warmup_epochs"] = epochs / 2
    if limit is not None:
        cut["data.limit"] = limit
    with _place("--data-limit"):
        params = parse(changed(to_tree(row.params), cut))
    return Row(row.name, row.title, params, {**row.changes, **cut})


@contextmanager
def _place(where: str) -> Iterator[None]:
    """Put a place before what is wrong there, as in ``001.yaml: row exp1: …``."""
    try:
        yield
    except ConfigError as error:
        raise UsageError(f"{where}: {error}") from None


def _pick(name: str, known: Mapping[str, T], refusal: str) -> T:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"{refusal} {name}; {meant}there are {', '.join(known)}")


def _mapping(value: Any, keys: Sequence[str] = (), required: Sequence[str] = ()) -> dict[str, Any]:
    """Return a mapping with text as keys; only ``keys``, if there are any, and all that are required."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a mapping of {', '.join(keys) or 'names to values'}, got {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(f"{key!r}: a key must be text; write it in quotes")
        if keys and key not in keys:
            raise ConfigError(f"{key}: no such key; valid here: {', '.join(keys)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise ConfigError(f"{missing[0]}: this key is required")
    return dict(value)


def _text(tree: Mapping[str, Any], key: str) -> str:
    value = tree[key]
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key}: must be text, got {value!r}; write it in quotes")
    return value


def _list(tree: Mapping[str, Any], key: str, kind: type[T]) -> tuple[T, ...]:
    value = tree.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        what = {str: "sentences or names", int: "labels"}.get(kind, "mappings")
        raise ConfigError(f"{key}: must be a list of {what}, got {value!r}")
    return tuple(value)
