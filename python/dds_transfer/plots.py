"""Pictures. Needs matplotlib, the extra ``plot``; imported only where a picture is asked for."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram
from scipy.stats import rankdata

from dds_transfer.evaluation import Evaluation
from dds_transfer.layers import LayerRanking
from dds_transfer.output import writing
from dds_transfer.selection import Ranking, Stability
from dds_transfer.tables import Table
from dds_transfer.taxonomy import Taxonomy

try:
    from matplotlib import colormaps, rc_context
    from matplotlib.axes import Axes
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("drawing needs matplotlib: pip install 'dds_ext[plot]'", name=error.name) from error

# What is drawn in this colour gets the page's.
_INK = "#010203"
_PAGE_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "legend.facecolor"), "none"),
    "svg.fonttype": "none",  # text stays text: it can be searched
}
# A dollar sign in a name is no formula.
_literal = rc_context({"text.parse_math": False})


@_literal
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


def page_svg(draw: Callable[[], Figure], name: str) -> str:
    """A figure as an ``<svg>`` element for a page, in the page's colour of text; ``name`` keeps two pictures apart."""
    file = io.StringIO()
    with rc_context({**_PAGE_STYLE, "svg.hashsalt": name}):
        draw().savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{name}"', 1)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same names in every picture, and nothing refers to them
    return re.sub(rf"(fill|stroke): {_INK}", r"\1: currentColor", svg)


@_literal
def draw_affinity(table: Table, title: str) -> Figure:
    """A heat map of an affinity table."""
    rows, columns = table.values.shape
    figure = Figure(figsize=(3 + 0.45 * columns, 2 + 0.45 * rows), layout="constrained")
    axes = figure.add_subplot(title=title)
    figure.colorbar(draw_table(axes, table), label="similarity", shrink=0.8)
    return figure


@_literal
def draw_taxonomy(taxonomy: Taxonomy, affinity: Table, title: str) -> Figure:
    """The tree of a taxonomy beside a heat map of the affinities it was made from, rows in the tree's order.

    Colours show a source's rank for a target, since the scale of measured transfer differs from target to target.
    """
    order = taxonomy.order
    targets = [name for name in order if name in affinity.targets]
    table = affinity.part(order, targets + [name for name in affinity.targets if name not in targets])
    rows, columns = table.values.shape
    figure = Figure(figsize=(6 + 0.45 * columns, 2 + 0.45 * rows), layout="constrained")
    figure.suptitle(title)
    tree, heat = figure.subplots(1, 2, width_ratios=(3, 1 + 0.45 * columns))
    # SciPy puts leaf i at 10 i + 5, the first at the bottom; the heat map has row 0 at the top.
    dendrogram(
        taxonomy.tree, ax=tree, orientation="left", no_labels=True, color_threshold=0, above_threshold_color="C0"
    )
    tree.set_ylim(10 * rows, 0)
    tree.set_xlabel("distance")
    tree.spines[["left", "right", "top"]].set_visible(False)
    ranks = rankdata(-table.values, axis=0)
    image = draw_table(heat, table, -ranks)
    heat.set_aspect("auto")  # as high as the tree, leaf beside row, whatever the number of columns
    label = "rank of the source for the target"
    bar = figure.colorbar(image, label=label, shrink=0.8, format=lambda rank, _: f"{-rank:g}")
    bar.locator = MaxNLocator(integer=True)
    return figure


@_literal
def draw_ranking(ranking: Ranking) -> Figure:
    """A dot for each source at its score, best on top; with draws, its interval and its share of first places."""
    figure = Figure(figsize=(7, 2 + 0.3 * len(ranking.sources)), layout="constrained")
    axes = figure.add_subplot(xlabel=f"similarity to {ranking.target} ({ranking.measure}, {ranking.images} images)")
    rows = range(len(ranking.sources))
    draws = ranking.bootstrap
    if draws is not None:
        label = f"{100 * draws.confidence:g}% interval of {len(draws.scores)} draws of {draws.images} images"
        axes.hlines(rows, draws.low, draws.high, color="C0", alpha=0.4, linewidth=5, label=label)
        shares = axes.secondary_yaxis("right")
        shares.set_yticks(rows, [f"first in {100 * share:.0f}%" for share in draws.first_share])
        shares.tick_params(length=0)
    axes.plot(ranking.scores, rows, "o", color="C0", label="all images")
    axes.set_yticks(rows, ranking.sources)
    axes.set_ylim(len(ranking.sources) - 0.5, -0.5)
    axes.grid(axis="y", linewidth=0.3)
    if draws is not None:
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


@_literal
def draw_evaluation(evaluation: Evaluation) -> Figure:
    """Spearman's correlation for each target, with the target itself as a source and without, and the means."""
    names = list(evaluation.targets)
    figure = Figure(figsize=(7, 2 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot(xlabel="Spearman's correlation with measured transfer")
    for figure_name, label, marker in (
        ("spearman_off_diagonal", "without the target itself", "o"),
        ("spearman", "with it", "|"),
    ):
        values = [getattr(agreement, figure_name) for agreement in evaluation.targets.values()]
        known = [(value, row) for row, value in enumerate(values) if value is not None]
        mean = getattr(evaluation.mean, figure_name)
        axes.plot(*zip(*known, strict=True) if known else ([], []), marker, color="C0", label=label)
        if mean is not None and marker == "o":
            axes.axvline(mean, color="C0", linewidth=1, label=f"mean {mean:.3f}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", linewidth=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


@_literal
def draw_stability(result: Stability) -> Figure:
    """The correlation, with a band of one standard deviation, and the share of equal winners by number of images."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="images", ylabel="agreement with the ranking from all images", xscale="log")
    records = result.records
    mean, deviation, share = (
        np.array([record[name] for record in records]) for name in ("spearman", "spearman_sd", "same_first_share")
    )
    axes.fill_between(result.n_images, mean - deviation, np.minimum(mean + deviation, 1), alpha=0.2, linewidth=0)
    axes.plot(result.n_images, mean, "o-", label="Spearman correlation, mean ± deviation")
    axes.plot(result.n_images, share, "s--", label="share of draws with the same first")
    axes.set_xticks(result.n_images, [str(n) for n in result.n_images])
    axes.minorticks_off()
    axes.set_ylim(top=1.02)
    axes.grid(linewidth=0.3)
    axes.legend(loc="lower right")
    axes.set_title(f"{result.measure}, {len(result.sources)} sources, {result.images} images in all", fontsize="medium")
    return figure


@_literal
def draw_layers(ranking: LayerRanking) -> Figure:
    """Above, each type's mean similarity over the blocks, a ring around the recommended one; below, Figure 4 of the DDS
    paper: the tasks sorted under each block, in the colours of their types.
    """
    across = min(4, len(ranking.blocks))
    down = -(-len(ranking.blocks) // across)
    height = 0.9 + 0.17 * len(ranking.types)
    figure = Figure(figsize=(1 + 2.6 * across, 3.5 + down * height), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3.5, down * height), squeeze=False).ravel()
    axes = above.add_subplot(ylabel=f"mean similarity ({ranking.measure})")
    palette = colormaps["tab10" if len(ranking.tasks) <= 10 else "tab20"]
    colours = {name: to_hex(palette(i % palette.N)) for i, name in enumerate(ranking.tasks)}
    for name, means in ranking.similarity.items():
        axes.plot(ranking.blocks, means, "o-", color=colours[name])
        best = ranking.recommended[name]
        axes.plot(best, means[ranking.blocks.index(best)], "o", markersize=14, fillstyle="none", color=colours[name])
    if len(ranking.blocks) > 4:
        axes.tick_params(axis="x", rotation=30)
    axes.grid(linewidth=0.3)
    axes.legend(
        handles=[Patch(color=colours[name], label=f"{name}: {best}") for name, best in ranking.recommended.items()],
        title="type: block to branch from (ring)",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
    )
    panels = below.subplots(down, across, squeeze=False, sharex=True).ravel()
    for panel, block, scores in zip(panels, ranking.blocks, ranking.scores, strict=False):
        order = np.argsort(-scores, kind="stable")
        tasks = [list(ranking.types)[i] for i in order]
        panel.barh(tasks, scores[order], color=[colours[ranking.types[task]] for task in tasks])
        panel.invert_yaxis()
        panel.tick_params(axis="y", length=0, labelsize=7)
        panel.set_title(block, fontsize="medium")
    for panel in panels[len(ranking.blocks) :]:
        panel.remove()
    below.supxlabel("similarity", fontsize="medium")
    return figure
