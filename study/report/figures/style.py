"""Scales and colours that the figures of a study share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.axis import Axis as Scale
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.evaluation.drawing import ACCENT, TRAIN, VALIDATION
from study.report.axes import Axis, short_name
from study.report.facts import Facts

STATES = {
    "COMPLETE": VALIDATION,
    "PRUNED": "#8b9098",
    "PAUSED": "#b48c1e",
    "RUNNING": "#1e8f5f",
    "FAIL": "#d6453d",
    "finalists": ACCENT,
}
FAINT = "#8b9098"
AGE = LinearSegmentedColormap.from_list("age", [TRAIN, "#b8578f", VALIDATION])  # first trial → last
MANY = 400  # marks above which a figure's points are a picture inside it, not a shape each
TICKS = (0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 1)
STEPS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_TICKS = 7
STRETCHED = "The axis is stretched towards 100 %: equal steps are equal factors in errors."


def quality_axis(panel: Panel, facts: Facts, values: Sequence[float] | np.ndarray, which: str = "y") -> None:
    """Scale an axis for the study's quality: accuracy by the logarithm of the errors, loss by its own.

    values : all that is drawn
    """
    getattr(panel, f"set_{which}label")(f"validation {facts.quality.title}")
    if facts.quality.stretched:
        accuracy_axis(panel, values, facts.images, which)
        return
    low, high = float(np.min(values)), float(np.max(values))
    if low > 0:
        getattr(panel, f"set_{which}scale")("log")
        margin = (high / low) ** 0.05
        getattr(panel, f"set_{which}lim")(low / margin, high * margin)
        log_ticks(getattr(panel, f"{which}axis"), low / margin, high * margin, MOST_TICKS)


def accuracy_axis(panel: Panel, values: Sequence[float] | np.ndarray, images: int, which: str = "y") -> None:
    """Scale an axis of accuracies over so many images by the logarithm of the errors.

    values : all that is drawn
    """
    axis, set_scale = getattr(panel, f"{which}axis"), getattr(panel, f"set_{which}scale")
    low, high = float(np.min(values)), float(np.max(values))
    least = 0.5 / images  # half an image, so that no error has a place too
    set_scale(
        "function", functions=(lambda value: -np.log10(np.maximum(1 + least - value, least / 10)), lambda t: 1 + least - 10**-t)
    )
    ends = -np.log10(1 + least - np.array([low, high]))
    margin = max(0.06 * (ends[1] - ends[0]), 0.02)
    limits = 1 + least - 10 ** -(ends + np.array([-margin, margin]))
    limits = np.clip(limits, None, 1 + 0.8 * least)
    getattr(panel, f"set_{which}lim")(*limits)
    axis.set_major_locator(FixedLocator(accuracy_ticks(float(limits[0]), float(limits[1]), images)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))


def accuracy_ticks(low: float, high: float, images: int) -> list[float]:
    """Accuracies to write on a stretched axis: round ones, apart enough to be read, none finer than an image; ascending."""
    least = 0.5 / images
    inside = [tick for tick in TICKS if low <= tick <= high and (tick == 1 or tick <= 1 - 2 * least)]
    if len(inside) < 3:  # a narrow range: even steps of it
        step = next(step for step in STEPS if (min(high, 1) - low) / step <= 6)
        inside = [float(tick) for tick in np.arange(np.ceil(low / step), np.floor(high / step) + 0.5) * step if tick <= 1]
    place = {tick: -np.log10(1 + least - tick) for tick in (low, high, *inside)}
    apart = (place[high] - place[low]) / MOST_TICKS
    kept: list[float] = []
    for tick in reversed(inside):
        if not kept or place[kept[-1]] - place[tick] >= apart:
            kept.append(tick)
    return kept[::-1]


def parameter_axis(panel: Panel, axis: Axis, which: str = "x") -> None:
    """Scale and label an axis for the values of one parameter."""
    getattr(panel, f"set_{which}label")(short_name(axis.name))
    drawn = getattr(panel, f"{which}axis")
    if axis.choices:
        labels = [label if len(label) <= 9 else f"{label[:8]}…" for label in axis.labels]
        tilt = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, labels)) > 18 else {}
        getattr(panel, f"set_{which}ticks")(range(len(labels)), labels, **(tilt if which == "x" else {}))
        getattr(panel, f"set_{which}lim")(-0.5, len(labels) - 0.5)
        return
    if axis.log:
        getattr(panel, f"set_{which}scale")("log")
        log_ticks(drawn, axis.low, axis.high)
    elif axis.whole:
        drawn.get_major_locator().set_params(integer=True, nbins=5)
    else:
        drawn.get_major_locator().set_params(nbins=4)


def log_ticks(axis: Scale, low: float, high: float, most: int = 4) -> None:
    """Few ticks on a logarithmic axis, as plain text: mathematical text is off, as names may hold dollars."""
    low, high = low * (1 - 1e-9), high * (1 + 1e-9)
    digits = (1, 2, 5) if high / low < 300 else (1,)
    inside = [tick for power in range(-12, 13) for digit in digits if low <= (tick := digit * 10.0**power) <= high]
    axis.set_major_locator(FixedLocator(inside[:: max(-(-len(inside) // most), 1)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_text(value)))


def power_text(value: float) -> str:
    """``0.01``, ``200``, ``50k``, ``10⁻⁵``."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    if 1e4 <= value < 1e9:
        return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if mantissa == "1" else f"{mantissa}·10{raised}"


def grid(count: int, columns: int = 4) -> tuple[int, int]:
    """Rows and columns of panels."""
    columns = min(columns, max(count, 1))
    return -(-count // columns), columns
