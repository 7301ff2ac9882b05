"""Where a result comes from and how to get it again: data, configuration, run, commands."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from pipeline import config
from pipeline.data.dataset import DatasetInfo
from pipeline.report import formats, inline
from pipeline.report.table import Table, code, pairs, text
from pipeline.tracking.store import run_page

PAIRS = {
    "exact": "The same image in two splits",
    "near": "Nearly the same image in two splits",
    "conflicting": "The same image with two labels",
}
EXAMPLES = 5  # training images of each class
MOST_PICTURED = 30  # classes; of more, examples would outweigh the page
MOST_FILES = 12  # of the source that are listed one by one
LOCAL_UI = "http://127.0.0.1:5000"  # of `make ui`


def class_counts(dataset: DatasetInfo, examples: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Images per class and split, the share of all, ``relative`` to the largest class, and some training images."""
    totals = [sum(counts) for counts in zip(*dataset.counts.values(), strict=True)]
    shown = EXAMPLES if len(dataset.classes) <= MOST_PICTURED else 0
    return [
        {"class": name, "counts": [counts[k] for counts in dataset.counts.values()]}
        | {"share": totals[k] / sum(totals), "relative": totals[k] / max(totals)}
        | {"examples": [inline.thumbnail(png) for png in examples[name][:shown]]}
        for k, name in enumerate(dataset.classes)
    ]


def findings(checks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pictures behind what the data checks found: pairs of images that repeat each other."""
    return [
        {"title": PAIRS[kind], "count": found["count"], "pairs": [_pair(*pair) for pair in found["examples"]]}
        for kind, found in checks["duplicates"].items()
        if found["count"]
    ]


def _pair(held_out: Mapping[str, Any], earlier: Mapping[str, Any], similarity: float) -> dict[str, Any]:
    sides = [
        {
            "uri": inline.thumbnail(side["png"]),
            "name": f"{side['split']} {side['index']}: {side['class']}",
            "origin": side["origin"],
        }
        for side in (held_out, earlier)
    ]
    return {"sides": sides, "similarity": similarity}


def source_summary(source: Mapping[str, Any]) -> str:
    """How many files, of what size, from where."""
    files = source["files"]
    origins = sorted({file["from"].removesuffix(name).rstrip("/") for name, file in files.items()})
    total = formats.size(sum(file["bytes"] for file in files.values()))
    return f"{formats.plural(len(files), 'file')}, {total}, from {', '.join(origins)}."


def data_summary(dataset: DatasetInfo, openings: int) -> str:
    channels, height, width = dataset.shape
    colour = "grey" if channels == 1 else "colour"
    often = "once, for this report" if openings == 1 else f"{openings} times, this report included"
    return (
        f"{dataset.name}: {height} × {width} {colour} images of {len(dataset.classes)} classes, split with seed "
        f"{dataset.split_seed}. The test images of this data set have been opened {often}"
        f"{'.' if openings == 1 else '; each look makes it easier to choose what happens to fit them.'}"
    )


@dataclass(frozen=True)
class Setting:
    """One key of the configuration: its value as lines of text, its meaning, and whether it differs from the default."""

    key: str
    lines: list[str]
    meaning: str
    changed: bool


def settings(params: Mapping[str, Any]) -> dict[str, list[Setting]]:
    """The configuration, section by section."""
    schema = config.schema()
    meanings = dict(_meanings(schema, schema["$defs"]))
    defaults = dict(_leaves(config.to_tree(config.Params())))
    return {
        section: [
            Setting(key, _written(value), meanings.get(key, ""), defaults.get(key) != value)
            for key, value in _leaves(tree, f"{section}.")
        ]
        for section, tree in params.items()
    }


def _written(value: Any) -> list[str]:
    """A value as params.yaml writes it; a list one item a line, of blocks only what is set."""
    if not isinstance(value, list) or not value:
        return [formats.scalar(value)]
    return [
        ", ".join(f"{key} {formats.scalar(part)}" for key, part in _leaves(item) if part is not None)
        if isinstance(item, Mapping)
        else formats.scalar(item)
        for item in value
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _meanings(node: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, child in node["properties"].items():
        yield f"{prefix}{key}", child.get("description", "")
        if "$ref" in child:
            yield from _meanings(definitions[child["$ref"].rsplit("/", 1)[-1]], definitions, f"{prefix}{key}.")


def yaml_text(params: Mapping[str, Any]) -> str:
    """The configuration as a params.yaml that reproduces it."""
    yaml = YAML()
    yaml.default_flow_style = None  # a block of the network stays on one line
    stream = io.StringIO()
    yaml.dump(params, stream)
    return stream.getvalue()


def run_link(run: Mapping[str, Any]) -> str | None:
    """The run's page in MLflow, in the mode for model training; None for a run that was not tracked."""
    if not run["run_id"]:
        return None
    server = run["tracking_uri"] if run["tracking_uri"].startswith(("http://", "https://")) else LOCAL_UI
    return run_page(server, run["experiment_id"], run["run_id"])


def commands(run: Mapping[str, Any]) -> str:
    commit = f"git checkout {run['git_commit']}\n" if run["git_commit"] else ""
    return f"{commit}# put the params.yaml of this run, linked under Configuration, in place of the one there\nmake repro"


def reproduce_note(run: Mapping[str, Any]) -> str:
    same = f"The same seed ({run['params']['train']['seed']}) on the same device gives the same history, bit by bit."
    if run["git_dirty"]:
        return f"The working tree had changes that were not committed, so the commit alone does not give this result. {same}"
    return same


@dataclass(frozen=True)
class Origin:
    """One row of the lineage; ``code`` sets the text in a fixed-width face."""

    name: str
    text: str
    code: bool = False
    note: str = ""
    link: str | None = None


def lineage(run: Mapping[str, Any], dataset: DatasetInfo) -> Table:
    """What a result was made from and where it is kept."""
    tracked = run["run_id"] is not None
    dirty = "with changes that were not committed" if run["git_dirty"] else ""
    rows = [
        ("MLflow run", text(run["run_id"] or "not tracked", "opens while make ui runs" if tracked else "", run_link(run))),
        ("Tracking store", code(run["tracking_uri"] or formats.NOTHING)),
        ("Model in MLflow", code(run["model_uri"] or formats.NOTHING)),
        ("Git commit", code(run["git_commit"] or "not in a git repository", dirty)),
        ("Data fingerprint", code(dataset.fingerprint)),
        ("Configuration hash", code(run["config_hash"])),
        ("Seeds", text(f"training {run['params']['train']['seed']}, split {dataset.split_seed}")),
        ("Device", text(f"{run['device_name'] or run['device']}, {formats.plural(run['threads'], 'thread')}")),
        ("Environment", text(", ".join(f"{name} {version}" for name, version in run["environment"].items()))),
        ("Started", text(run["started"])),
    ]
    return pairs("lineage", "Lineage", rows)
