"""What differs between configurations, a setting a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report import formats
from study.experiments.comparison.sides import Side

OF_THE_PLACE = ("data.mirror", "train.seed", "train.device", "train.threads")  # where and on which seed, not what is trained


@dataclass(frozen=True)
class Setting:
    """One key of params.yaml that is not the same everywhere.

    values : of each side, as text; of a block of layers only what differs, or an en dash where there is no such block
    """

    key: str
    values: tuple[str, ...]


def differences(sides: Sequence[Side]) -> list[Setting]:
    """Return the settings in which any side differs from another, in the order of params.yaml."""
    tables = [dict(_leaves({name: side.first.config.tree[name] for name in ("data", "model", "train")})) for side in sides]
    keys = sorted({key: None for table in tables for key in table}, key=_place)
    settings = {key: [table.get(key, formats.NOTHING) for table in tables] for key in keys if not _idle(key, sides)}
    return [
        Setting(key, tuple(_texts(values))) for key, values in settings.items() if any(value != values[0] for value in values)
    ]


def _place(key: str) -> tuple[int, str]:
    """Sort sections in their order; blocks of a list stay together, as sorting is stable and lists are short."""
    section = key.partition(".")[0]
    return ("data", "model", "train").index(section), key.partition("[")[0] if "[" in key else ""


def _idle(key: str, sides: Sequence[Side]) -> bool:
    """Return whether a key is irrelevant to the training: ``data.path`` is read for folders of images alone."""
    folders = any(side.first.config.tree["data"]["name"] == "image_folder" for side in sides)
    return key in OF_THE_PLACE or (key == "data.path" and not folders)


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted paths with their values; a list of blocks has one path for each block, any other list a value."""
    for name, value in tree.items():
        key = f"{path}.{name}" if path else name
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, key)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield from ((f"{key}[{index}]", block) for index, block in enumerate(value))
        elif name in ("conv", "dense") and not value:
            continue
        else:
            yield key, value


def _texts(values: Sequence[Any]) -> list[str]:
    """Write values as params.yaml does; of blocks what is not the same in all of them that there are."""
    blocks = [_block(value) for value in values if isinstance(value, Mapping)]
    same = {key for key in blocks[0] if len({block[key] for block in blocks}) == 1} if blocks else set()
    if blocks and len(same) == len(blocks[0]):  # one block, which the others lack
        same = {key for key in same if blocks[0][key] in ("null", "none")}

    def differing(block: Mapping[str, str]) -> str:
        return ", ".join(f"{key} {text}" for key, text in block.items() if key not in same)

    return [differing(_block(value)) if isinstance(value, Mapping) else _text(value) for value in values]


def _block(block: Mapping[str, Any]) -> dict[str, str]:
    return {key: _pool(value) if key == "pool" else _text(value) for key, value in block.items()}


def _pool(pool: Mapping[str, Any] | None) -> str:
    if pool is None:
        return "none"
    return f"{pool['kind']} {pool['kernel']}" + (f" stride {pool['stride']}" if pool["stride"] else "")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else formats.scalar(value)
