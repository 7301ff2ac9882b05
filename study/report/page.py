"""The page of a study: what was computed, laid out by templates in the look of the pipeline's report."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.evaluation.drawing import Drawing, to_svg
from pipeline.report import formats, inline
from pipeline.report.page import LEVELS, Drawn

TITLES = {
    "verdicts": "What to know first",
    "board": "Leader board",
    "front": "Accuracy against size",
    "importances": "What mattered",
    "effects": "What each setting does",
    "course": "How the search went",
    "rungs": "Stopping early",
    "chance": "Against random search",
    "cost": "Cost",
    "failures": "Failures",
    "lineage": "Lineage",
}


def render(view: Mapping[str, Any], drawings: Sequence[Drawing]) -> str:
    """The report as one HTML file that refers to nothing outside itself, save links to runs in MLflow."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("study.report"), PackageLoader("pipeline.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= formats.FILTERS
    shared = resources.files("pipeline.report") / "templates"
    own = resources.files("study.report") / "templates"
    script = (shared / "page.js").read_text()
    names = {drawing.name for drawing in drawings}
    page = environment.get_template("study.html.jinja").render(
        view,
        figures={drawing.name: drawn(drawing) for drawing in drawings},
        level_names=LEVELS,
        sections=[{"id": name, "title": title} for name, title in TITLES.items() if _present(name, view, names)],
        css=Markup((shared / "page.css").read_text() + (own / "study.css").read_text()),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=importlib.metadata.version("studyline"),
    )
    return page.lstrip()


def drawn(drawing: Drawing) -> Drawn:
    """A figure as an element of the page, its numbers as a download."""
    svg = to_svg(drawing)
    width = round(inline.width(svg))
    return Drawn(
        name=drawing.name,
        title=drawing.title,
        label=drawing.caption,
        svg=inline.figure(svg, drawing.name, f"{drawing.title}. {drawing.caption}"),
        csv=inline.data_uri(drawing.numbers.to_csv(index=False, float_format="%.6g").encode(), "text/csv"),
        width=width,
        broad=width > 600,
    )


def _present(section: str, view: Mapping[str, Any], figures: set[str]) -> bool:
    """Whether a section has anything to show."""
    needed = {
        "verdicts": view["verdicts"],
        "board": view["board"],
        "front": view["front"],
        "importances": view["board"],
        "effects": figures & {"slices", "isolation", "parallel"},
        "course": "history" in figures,
        "rungs": figures & {"timeline", "epochs"},
        "chance": view["board"],
        "cost": view["costs"],
    }
    return bool(needed.get(section, True))
