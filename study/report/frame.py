"""Pages of HTML in the look of the pipeline's report: a heading, sections, figures, one file that needs no network."""

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


def render(package: str, kind: str, titles: Mapping[str, str], view: Mapping[str, Any], drawings: Sequence[Drawing]) -> str:
    """A page as one HTML file that refers to nothing outside itself, save links that the view holds.

    Parameters
    ----------
    package : whose ``templates/KIND/`` holds ``headline.html.jinja`` and one template for each section
    titles : of the sections that have something to show, by name, in their order
    view : what the templates read; ``headline.page_title`` is the window's title, ``origin`` ends the footer's sentence
    drawings : figures, which the templates place by name
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("study.report"), PackageLoader("pipeline.report")]),
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
    page = environment.get_template("document.html.jinja").render(
        view,
        kind=kind,
        figures={drawing.name: drawn(drawing) for drawing in drawings},
        level_names=LEVELS,
        sections=[{"id": name, "title": title} for name, title in titles.items()],
        css=Markup((shared / "page.css").read_text() + (own / "document.css").read_text()),
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
