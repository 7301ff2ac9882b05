"""Draw the network itself: its layers, filters, responses and embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.drawing import PALETTE, SIGNED, TRAIN, VALIDATION, Drawing, mosaic, short, styled

COLUMNS, ROWS = 16, 8  # kernels drawn per layer; COLUMNS is also the number of maps
ACROSS = 8  # response maps side by side
NAMED = 20  # up to this many classes the embedding names them
WIDTH = 7.5  # inches


@styled
def layers(names: Sequence[str], parameters: Sequence[int], multiply_adds: Sequence[int]) -> Drawing:
    """Draw the parameters and multiply-adds of each layer that has any."""
    table = pd.DataFrame({"layer": names, "parameters": parameters, "multiply_adds": multiply_adds})
    busy = table[(table["parameters"] > 0) | (table["multiply_adds"] > 0)]
    figure = Figure(figsize=(7, 0.32 * len(busy) + 1.1))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, colour in ((left, "parameters", VALIDATION), (right, "multiply_adds", TRAIN)):
        bars = axes.barh(busy["layer"], busy[name], color=colour, height=0.65)
        axes.bar_label(bars, labels=[f"{value:,}" for value in busy[name]], padding=3, fontsize=8)
        axes.set_xlim(0, max(busy[name].max(), 1) * 1.3)
        axes.set(xlabel=name.replace("_", "-") + (" per image" if colour == TRAIN else ""))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    left.invert_yaxis()
    caption = f"{sum(parameters):,} parameters and {sum(multiply_adds):,} multiply-adds per image in all."
    return Drawing("layers", "Where parameters and work are", caption, figure, table)


@styled
def filters(kernels: Mapping[str, np.ndarray]) -> Drawing:
    """Draw the kernels of each layer, float (out, in, kernel, kernel): an image per pair of filter and input channel."""
    drawn = {name: values[:ROWS, :COLUMNS] for name, values in kernels.items()}
    panels = {}
    for name, values in kernels.items():
        out, inputs, size, _ = values.shape
        title = f"{name} — {out} filters (across) of {inputs} × {size} × {size}"
        if inputs <= 3:  # image channels: the first filters side by side
            drawn[name] = values[:COLUMNS]
            panels[title] = _padded(drawn[name].swapaxes(0, 1))
        else:
            panels[title.replace("across", "down")] = _padded(drawn[name])
    caption = "Blue is positive, orange negative, grey 0; each layer has its own scale."
    if any(values.size < kernels[name].size for name, values in drawn.items()):
        caption += " Only the first filters and input channels are drawn."
    numbers = pd.concat([_long(name, v, ("filter", "channel", "row", "column")) for name, v in drawn.items()])
    return Drawing("filters", "Learned filters", caption, _panels(panels, COLUMNS), numbers)


@styled
def responses(maps: Mapping[str, np.ndarray], image: np.ndarray) -> Drawing:
    """Draw the output of each convolution for ``image``, uint8 (channels, height, width); maps float (out, height, width)."""
    panels = {f"{name} — {' × '.join(map(str, values.shape))}": values[:COLUMNS] for name, values in maps.items()}
    figure = _panels(panels, ACROSS, image)
    caption = "The image and the output of each convolution before its activation: blue positive, orange negative, grey 0."
    if any(len(values) > COLUMNS for values in maps.values()):
        caption += f" Only the first {COLUMNS} maps of each layer are drawn."
    rows = [
        {"layer": name, "map": i, "mean": m.mean(), "std": m.std(), "min": m.min(), "max": m.max()}
        for name, values in maps.items()
        for i, m in enumerate(values)
    ]
    return Drawing("responses", "Responses to one image", caption, figure, pd.DataFrame(rows))


@styled
def embeddings(
    first: np.ndarray, last: np.ndarray, labels: np.ndarray, classes: Sequence[str], agreement: tuple[float, float]
) -> Drawing:
    """Draw the t-SNE of the last hidden layer after epoch 1 and at the end, float (n, 2) each, side by side.

    agreement : share of the ten nearest neighbours in that layer that have the same label, after epoch 1 and at the end
    """
    figure = Figure(figsize=(9, 4.6))
    titles = (f"after epoch 1 — {agreement[0]:.1%} of neighbours agree", f"at the end — {agreement[1]:.1%} of neighbours agree")
    for axes, points, title in zip(figure.subplots(1, 2), (first, last), titles, strict=True):
        _scatter(axes, points, labels, classes)
        axes.set_title(title)
    caption = (
        f"{len(labels)} test images by the input of the last linear layer; large distances mean little. Among an image's "
        f"ten nearest neighbours in that layer {agreement[0]:.1%} share its label after epoch 1, {agreement[1]:.1%} at the end."
    )
    numbers = pd.DataFrame(
        {"label": labels, "first_x": first[:, 0], "first_y": first[:, 1], "last_x": last[:, 0], "last_y": last[:, 1]}
    )
    return Drawing("embeddings", "t-SNE of the last hidden layer", caption, figure, numbers)


def _scatter(axes: Axes, points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    colours = np.array([PALETTE[label % len(PALETTE)] for label in labels])
    axes.scatter(points[:, 0], points[:, 1], s=7, c=colours, linewidths=0, alpha=0.75, rasterized=True)
    for label in np.unique(labels) if len(classes) <= NAMED else ():
        x, y = np.median(points[labels == label], axis=0)
        axes.text(x, y, short(classes[label]), ha="center", va="center", fontsize=10, fontweight="bold")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_visible(False)


def _padded(kernels: np.ndarray) -> np.ndarray:
    """Return kernels (rows, columns, kernel, kernel) as tiles, each row padded with NaN to the width of the panel."""
    rows, columns, *size = kernels.shape
    empty = np.full((rows, COLUMNS - columns, *size), np.nan)
    return np.concatenate([kernels, empty], axis=1).reshape(rows * COLUMNS, *size)


def _panels(tiles: Mapping[str, np.ndarray], across: int, picture: np.ndarray | None = None) -> Figure:
    """Draw one mosaic per layer, below each other, of equal width; tiles float (n, height, width) by title."""
    heights = [WIDTH / across * -(-len(values) // across) + 0.3 for values in tiles.values()]
    if picture is not None:
        heights = [WIDTH / across + 0.3, *heights]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    every = list(np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights)))
    if picture is not None:
        top = every.pop(0)
        top.imshow(picture.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
        _bare(top, "the image")
    for axes, (title, values) in zip(every, tiles.items(), strict=True):
        reach = float(np.nanmax(np.abs(values))) or 1.0
        axes.imshow(mosaic(values, across), cmap=SIGNED, vmin=-reach, vmax=reach)
        _bare(axes, f"{title}, −{reach:.2g} to {reach:.2g}")
    return figure


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_anchor("W")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _long(layer: str, values: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(np.ndindex(values.shape), names=names)
    table = pd.DataFrame({"value": values.ravel()}, index=index).reset_index()
    table.insert(0, "layer", layer)
    return table
