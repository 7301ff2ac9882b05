"""Pages of HTML in the look of the pipeline's report: a heading, sections, figures, one file that needs no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import atomic_folder
from pipeline.evaluation.drawing import Drawing, to_png, to_svg
from pipeline.report import document
from pipeline.report.table import Table

PAGE = "index.html"


@dataclass(frozen=True)
class Report:
    """A page with the files beside it; nothing is drawn before :meth:`write`.

    draw : makes the figures, which the page places by name
    files : tables that are written as CSV
    name, tree : of the JSON file and its content, plain data
    copies : files that are copied, by where they go
    """

    page: document.Page
    draw: Callable[[], list[Drawing]]
    files: Sequence[Table]
    name: str
    tree: Mapping[str, Any]
    copies: Mapping[str, Path] = field(default_factory=dict)

    def html(self, drawings: Sequence[Drawing]) -> str:
        return document.render(self.page, [figure(drawing) for drawing in drawings])

    def write(self, folder: Path) -> None:
        """Put the report in place of what ``folder`` held.

        ``index.html`` (complete by itself), ``TABLE.csv``, ``NAME.json``, ``figures/NAME.png`` and ``figures/NAME.csv`` (what is
        drawn).
        """
        drawings = self.draw()
        with atomic_folder(folder) as made:
            (made / "figures").mkdir()
            (made / PAGE).write_text(self.html(drawings), encoding="utf-8")
            for drawing in drawings:
                (made / "figures" / f"{drawing.name}.png").write_bytes(to_png(drawing.figure))
                (made / "figures" / f"{drawing.name}.csv").write_text(_csv(drawing.numbers), encoding="utf-8")
            for table in self.files:
                (made / f"{table.name}.csv").write_text(_csv(table.frame()), encoding="utf-8")
            tree = json.dumps(self.tree, indent=2, allow_nan=False, default=float)
            (made / f"{self.name}.json").write_text(f"{tree}\n", encoding="utf-8")
            for place, origin in self.copies.items():
                (made / place).parent.mkdir(parents=True)
                shutil.copyfile(origin, made / place)


def _csv(numbers: pd.DataFrame) -> str:
    return numbers.to_csv(index=False, float_format="%.6g")


def figure(drawing: Drawing) -> document.Figure:
    """A drawing as an element of the page, its numbers as a download."""
    return document.Figure.of(drawing.name, drawing.title, drawing.caption, to_svg(drawing), _csv(drawing.numbers))
