"""The page itself: views of the inputs, laid out by templates."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import formats, headline, inline, provenance, results
from pipeline.report.inputs import Inputs
from pipeline.verdict import LEVELS

TITLES = {
    "verdicts": "What to know first",
    "training": "Training",
    "classes": "Results per class",
    "thresholds": "ROC and precision–recall",
    "calibration": "Calibration",
    "gallery": "Right and wrong",
    "outputs": "Sample outputs",
    "network": "The network",
    "embedding": "How the classes come apart",
    "data": "The data",
    "config": "Configuration",
    "lineage": "Lineage",
}


def render(inputs: Inputs) -> str:
    """The report as one HTML file that refers to nothing outside itself, save a link to the run in MLflow.

    The same inputs give the same bytes.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= formats.FILTERS
    templates = resources.files("pipeline.report") / "templates"
    script = (templates / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    view = _view(inputs)
    page = environment.get_template("page.html.jinja").render(
        view,
        sections=[{"id": name, "title": title} for name, title in TITLES.items() if _present(name, view)],
        css=Markup((templates / "page.css").read_text()),
        script=Markup(script),
        script_digest=digest,
        version=importlib.metadata.version("studyline"),
    )
    return page.lstrip()


@dataclass(frozen=True)
class Drawn:
    """A figure on the page; ``broad`` ones scroll sideways on a phone rather than shrink beyond reading."""

    name: str
    title: str
    label: str
    svg: Markup
    csv: str
    width: int
    broad: bool


def _view(inputs: Inputs) -> dict[str, Any]:
    metrics, run, dataset = inputs.metrics, inputs.run, inputs.dataset
    params = run["params"] | {"evaluate": metrics["settings"]}  # that may have changed since the training
    settings = provenance.settings(params)
    floor = results.recall_floor(metrics["per_class"])
    return {
        "dataset": dataset,
        "run": run,
        "metrics": metrics,
        "history": inputs.history,
        "checks": inputs.checks,
        "files": inputs.files,
        "figures": {name: _drawn(name, inputs) for name in inputs.figures if name != "learning_rate" or _lr_moves(inputs)},
        "headline": headline.view(inputs),
        "level_names": {level: " ".join(words) for level, words in LEVELS.items()},
        "verdicts": headline.order(inputs.verdicts),
        "verdict_summary": headline.verdict_summary(inputs.verdicts),
        "training_summary": headline.training(run),
        "per_class": results.per_class(metrics["per_class"], floor),
        "recall_floor": floor,
        "confusions": results.confusions(metrics["confusion"], dataset.classes),
        "calibration_summary": results.calibration(metrics["calibration"]),
        "galleries": results.galleries(metrics["gallery"], inputs.gallery, dataset.classes),
        "outputs": results.outputs(inputs.gallery["samples"], metrics["gallery"]["samples"], dataset.classes),
        "layers": metrics["layers"],
        "kinds": headline.KINDS,
        "network_summary": headline.network(run),
        "class_counts": provenance.class_counts(dataset, inputs.checks["examples"]),
        "findings": provenance.findings(inputs.checks),
        "source": inputs.source if len(inputs.source["files"]) <= provenance.MOST_FILES else None,
        "source_summary": provenance.source_summary(inputs.source),
        "data_summary": provenance.data_summary(dataset, metrics["test_openings"]),
        "config": settings,
        "changed": [row for rows in settings.values() for row in rows if row.changed],
        "params_uri": inline.data_uri(provenance.yaml_text(params).encode(), "application/yaml"),
        "lineage": provenance.lineage(run, dataset),
        "commands": provenance.commands(run),
        "reproduce_note": provenance.reproduce_note(run),
    }


def _drawn(name: str, inputs: Inputs) -> Drawn:
    svg, csv = inputs.figures[name]
    words = inputs.metrics["figures"][name]
    width = round(inline.width(svg))
    return Drawn(
        name=name,
        title=words["title"],
        label=words["caption"],
        svg=inline.figure(svg, name, f"{words['title']}. {words['caption']}"),
        csv=inline.data_uri(csv.encode(), "text/csv"),
        width=width,
        broad=width > 600,
    )


def _lr_moves(inputs: Inputs) -> bool:
    """A constant learning rate stands in the text; a picture of a level line says no more."""
    return len({row["lr"] for row in inputs.history}) > 1


def _present(section: str, view: Mapping[str, Any]) -> bool:
    """Whether a section has anything to show."""
    needed = {
        "verdicts": view["verdicts"],
        "thresholds": view["figures"].keys() & {"roc", "precision_recall"},
        "gallery": view["galleries"],
        "outputs": view["outputs"]["rows"],
        "embedding": "embeddings" in view["figures"],
    }
    return bool(needed.get(section, True))
