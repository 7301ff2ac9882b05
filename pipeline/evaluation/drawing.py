"""The style of figures, and their files: SVG that adapts to a light or dark page, and the numbers as CSV."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from pipeline.artifacts import atomic_path

INK = "#010203"  # stands for the page's text colour until the SVG is written
TRAIN, VALIDATION, ACCENT = "#d55e00", "#0072b2", "#a0489c"
# Ten hues with a contrast of at least 3 : 1 on white and on #16181d; for colour-blind readers lines also carry names.
PALETTE = ("#0072b2", "#d55e00", "#1e8f5f", "#b8578f", "#8a7a00", "#2a8fa8", "#d6453d", "#7d6bc9", "#8b6d57", "#7a7f87")
_BLUE, _RED = (0.0, 0.447, 0.698), (0.835, 0.369, 0.0)
SHADE = LinearSegmentedColormap.from_list("shade", [(*_BLUE, 0.0), (*_BLUE, 1.0)])  # 0 is transparent
SIGNED = LinearSegmentedColormap.from_list("signed", [_RED, (0.92, 0.92, 0.92), _BLUE])

STYLE: Any = {
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "path.simplify_threshold": 0.4,
    "svg.fonttype": "none",
    "text.parse_math": False,  # class names may contain dollar signs
}
styled = mpl.rc_context(STYLE)  # decorator of functions that draw


@dataclass(frozen=True)
class Drawing:
    """A figure with its title, caption and numbers.

    name : of its files; title : a few words; caption : its content and main numbers, as sentences
    numbers : the drawn data, one row per mark
    """

    name: str
    title: str
    caption: str
    figure: Figure
    numbers: pd.DataFrame


def save(drawing: Drawing, folder: Path) -> None:
    """Write ``NAME.svg`` and ``NAME.csv`` (six significant digits); equal drawings give equal bytes."""
    with atomic_path(folder / f"{drawing.name}.svg") as path:
        path.write_text(to_svg(drawing))
    with atomic_path(folder / f"{drawing.name}.csv") as path:
        drawing.numbers.to_csv(path, index=False, float_format="%.6g")


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG on white, 144 dots per inch."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        _lay_out(figure)
        figure.savefig(buffer, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(drawing: Drawing) -> str:
    """Return the figure as SVG to embed in HTML: transparent, in the page's text colour and font, without group ids, which could
    clash."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context(STYLE | {"svg.hashsalt": drawing.name}):
        _lay_out(drawing.figure)
        drawing.figure.savefig(buffer, format="svg", dpi=144, transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<!--.*?-->\s*", "", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(?<=base64,)[^"]*', lambda match: _fewer_colours(match[0]), svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _two_decimals, tag[0]), svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _lay_out(figure: Figure) -> None:
    """Fix the layout, which otherwise moves slightly with each rendering."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _two_decimals(number: re.Match[str]) -> str:
    """Return a coordinate with two decimals; a hundredth of a point is finer than any screen."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _fewer_colours(encoded: str) -> str:
    """Return a base64 PNG with a palette of 64 colours: a fifth of the bytes, no visible difference."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    buffer = io.BytesIO()
    image.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def short(name: str) -> str:
    """Return a class name for an axis; a long name is shortened to its beginning and end."""
    return name if len(name) <= 14 else f"{name[:7]}…{name[-6:]}"


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Return tiles (n, height, width) as one float array, row by row, with NaN between neighbours and in empty places."""
    count, height, width = tiles.shape
    rows = -(-count // columns)
    padded = np.full((rows * columns, height + 1, width + 1), np.nan)
    padded[:count, :height, :width] = tiles
    padded = padded.reshape(rows, columns, height + 1, width + 1)
    return padded.swapaxes(1, 2).reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]
