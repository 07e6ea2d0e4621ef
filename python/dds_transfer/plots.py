"""Pictures. Needs matplotlib, the extra ``plot``; imported only where a picture is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dds_transfer.output import writing
from dds_transfer.tables import Table

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("drawing needs matplotlib: pip install 'dds_ext[plot]'", name=error.name) from error


def draw_table(axes: Axes, table: Table, shade: NDArray[np.float64] | None = None) -> AxesImage:
    """Draw a table as a heat map on ``axes``, sources down, targets across, each cell's number in it while they fit.

    ``shade`` (S, T) is what the colours show, by default the numbers themselves. Returns the image, for a colour bar.
    """
    shade = table.values if shade is None else shade
    image = axes.imshow(shade)
    axes.set_xticks(range(len(table.targets)), table.targets, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(table.sources)), table.sources)
    axes.set_xlabel("target")
    axes.set_ylabel("source")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(table.targets) <= 20:
        colours = image.to_rgba(shade)
        for i, row in enumerate(table.values.tolist()):
            for j, value in enumerate(row):
                red, green, blue, _ = colours[i, j]
                # Weights of perceived brightness (ITU-R BT.601): dark figures on light cells and the reverse.
                dark = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
                axes.text(
                    j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color="black" if dark else "white"
                )
    return image


def save_figure(figure: Figure, path: Path) -> None:
    """Save in the format of the path's ending (.png, .pdf, .svg, ...)."""
    with writing(path, binary=True) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=150)


def plot_affinity(table: Table, title: str, path: Path) -> None:
    """Save a heat map of an affinity table."""
    rows, columns = table.values.shape
    figure = Figure(figsize=(3 + 0.45 * columns, 2 + 0.45 * rows), layout="constrained")
    axes = figure.add_subplot(title=title)
    figure.colorbar(draw_table(axes, table), label="similarity", shrink=0.8)
    save_figure(figure, path)
