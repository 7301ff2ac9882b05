"""The frame of every page: a head, sections, tables and figures as one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import formats, inline
from pipeline.report.table import Estimate, Table
from pipeline.verdict import LEVELS, Verdict, summary

STEPS = tuple(digit * 10.0**power for power in range(-5, 0) for digit in (1, 2, 5))  # between ticks, as shares


@dataclass(frozen=True)
class Key:
    """One figure below the headline: the exact value, as shown, and what it means in a few words."""

    name: str
    value: float | None
    text: str
    meaning: str


@dataclass(frozen=True)
class Head:
    """The top of a page.

    name : what the page is about, small above all; window : title of the browser's window
    number : the page's main value with its text and unit, None where it has none; title : what the number is, or a claim
    intervals : values that are drawn below on one axis of accuracy, the first in colour
    lede : a few sentences; keys : figures below it
    """

    name: str
    window: str
    when: datetime
    title: str
    lede: str
    keys: Sequence[Key] = ()
    number: tuple[float, str, str] | None = None
    intervals: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def strip(self) -> dict[str, Any] | None:
        return strip(self.intervals) if self.intervals else None


@dataclass(frozen=True)
class Page:
    """What a page holds; :func:`render` lays it out.

    packages, kind : whose ``templates/KIND/`` have a template for each section, and ``interval.html.jinja``, an explanation below
        the head; sections of all pages are in ``templates/shared/``
    sections : titles by name, in order; a section that comes out empty is left out
    tables : placed by name; origin : ends the footer's sentence; view : what else the templates read
    """

    packages: Sequence[str]
    kind: str
    head: Head
    sections: Mapping[str, str]
    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    origin: str
    view: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure on a page; ``broad`` ones scroll sideways on a phone rather than shrink beyond reading."""

    name: str
    title: str
    label: str
    svg: Markup
    csv: str
    width: int

    @property
    def broad(self) -> bool:
        return self.width > 600

    @classmethod
    def of(cls, name: str, title: str, label: str, svg: str, csv: str) -> Figure:
        """From the text of an SVG and of a CSV file."""
        element = inline.figure(svg, name, f"{title}. {label}")
        return cls(name, title, label, element, inline.data_uri(csv.encode(), "text/csv"), round(inline.width(svg)))


def render(page: Page, figures: Sequence[Figure]) -> str:
    """Lay out a page as one HTML file that refers to nothing outside itself, save links of its cells.

    The same page gives the same bytes.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*page.packages, "pipeline.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= formats.FILTERS
    templates = resources.files("pipeline.report") / "templates"
    script = (templates / "page.js").read_text()
    environment.globals |= {
        **page.view,
        "head": page.head,
        "kind": page.kind,
        "origin": page.origin,
        "verdicts": page.verdicts,
        "verdict_summary": summary(page.verdicts),
        "level_names": {level: " ".join(words) for level, words in LEVELS.items()},
        "figures": {figure.name: figure for figure in figures},
        "tables": {table.name: table for table in page.tables},
    }
    sections = []
    for name, title in page.sections.items():
        template = environment.select_template([f"{page.kind}/{name}.html.jinja", f"shared/{name}.html.jinja"])
        if (body := template.render()).strip():
            sections.append({"id": name, "title": title, "body": Markup(body)})
    text = environment.get_template("frame.html.jinja").render(
        sections=sections,
        css=Markup((templates / "page.css").read_text()),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=importlib.metadata.version("studyline"),
    )
    return text.lstrip()


def strip(intervals: Mapping[str, Estimate]) -> dict[str, Any]:
    """Intervals on one axis, in percent of its width: for each name left, width and dot; and the ticks."""
    low = min(item.low for item in intervals.values())
    high = max(item.high for item in intervals.values())
    margin = 0.4 * (high - low)
    step = next(step for step in STEPS if high - low + 2 * margin <= 6 * step)
    first = max(0, math.floor(round((low - margin) / step, 6)))
    last = min(round(1 / step), math.ceil(round((high + margin) / step, 6)))

    def place(value: float) -> float:
        return round(100 * (value / step - first) / (last - first), 2)

    digits = max(0, -math.floor(math.log10(step)) - 2)
    rows = [
        {"name": name, "left": place(item.low), "width": round(place(item.high) - place(item.low), 2), "dot": place(item.value)}
        for name, item in intervals.items()
    ]
    ticks = [{"left": place(number * step), "text": formats.percent(number * step, digits)} for number in range(first, last + 1)]
    label = "; ".join(f"{name.lower()} accuracy {item}" for name, item in intervals.items())
    return {"rows": rows, "ticks": ticks, "label": label}
