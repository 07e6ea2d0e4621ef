"""Pictures of a comparison. Needs matplotlib, the extra ``plot``; imported only where pictures are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dds_transfer.minitaskonomy.comparison import Record
from dds_transfer.plots import draw_table
from dds_transfer.tables import Table

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("drawing needs matplotlib: pip install 'dds_ext[plot]'", name=error.name) from error

Summary = Mapping[str, Sequence[Record]]
FIGURE = "spearman_off_diagonal"
NAMES = {
    "winrate": "win rate",
    "affinity": "AHP affinity",
}


def draw_all(summary: Summary) -> dict[str, Figure]:
    """Every picture by name, of what :func:`.summary.summarise` gives; bars and bands are ranges over the seeds."""
    return {
        "methods": _methods(summary["agreement"]),
        "at_k": _at_k(summary["at_k"]),
        "grid": _grid(summary["grid"]),
        "images": _images(summary["images"]),
        "robustness": _robustness(summary["robustness"]),
        "depth": _depth(summary["depth"]),
        "branching": _branching(summary["branching"]),
    }


def _methods(records: Sequence[Record]) -> Figure:
    """A dot for each method and truth."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="Spearman's correlation with the truth, diagonal left out")
    names = _names([record for record in records if record[FIGURE] is not None], "method")
    for i, truth in enumerate(NAMES):
        found = [next(r for r in records if (r["method"], r["truth"]) == (name, truth)) for name in names]
        rows = np.arange(len(names)) + 0.2 * (i - 0.5)
        axes.hlines(rows, _column(found, f"{FIGURE}_min"), _column(found, f"{FIGURE}_max"), color=f"C{i}", linewidth=3)
        axes.plot(_column(found, FIGURE), rows, "o", color=f"C{i}", label=NAMES[truth])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.grid(axis="x", linewidth=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def _at_k(records: Sequence[Record]) -> Figure:
    """Precision and recall by K, by the win rate."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    chosen = [record for record in records if record["truth"] == "winrate" and record["method"] != "identity"]
    for axes, name in zip(figure.subplots(1, 2), ("precision", "recall"), strict=True):
        axes.set(xlabel="K", ylabel=f"{name} of the first K sources")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _lines(axes, chosen, "method", "k", name)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _grid(records: Sequence[Record]) -> Figure:
    """A heat map for each truth."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    for axes, (truth, title) in zip(figure.subplots(1, 2), NAMES.items(), strict=True):
        chosen = [record for record in records if record["truth"] == truth]
        rows, columns = _names(chosen, "normalize"), _names(chosen, "f")
        values = np.array(_column(chosen, FIGURE)).reshape(len(rows), len(columns))
        draw_table(axes, Table(rows, columns, values))
        axes.set(title=f"correlation with {title}", xlabel="f", ylabel="normalisation")
    return figure


def _images(records: Sequence[Record]) -> Figure:
    """The correlation by number of images."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, (truth, title) in zip(figure.subplots(1, 2, sharey=True), NAMES.items(), strict=True):
        axes.set(xlabel="images", ylabel=f"correlation with {title}")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        _lines(axes, [record for record in records if record["truth"] == truth], "measure", "images", FIGURE)
    axes.legend(frameon=False)
    return figure


def _robustness(records: Sequence[Record]) -> Figure:
    """Bars: the correlation with the win rate, and with the usual similarities, of each variant."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    titles = {"spearman_winrate": "with the win rate", "same_similarities": "with the usual similarities"}
    measures, variants = _names(records, "measure"), _names(records, "variant")
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        for i, measure in enumerate(measures):
            found = [record for record in records if record["measure"] == measure]
            places = np.arange(len(variants)) + 0.2 * (i - (len(measures) - 1) / 2)
            axes.barh(places, _column(found, name), height=0.2, label=measure)
            axes.hlines(places, _column(found, f"{name}_min"), _column(found, f"{name}_max"), color="black")
        axes.set(xlabel=f"Spearman's correlation {title}")
        axes.set_yticks(range(len(variants)), variants)
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize="small")
    return figure


def _depth(records: Sequence[Record]) -> Figure:
    """By depth: mean similarities, and correlations with the truth and the labels' similarities."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    titles = {"within": "one type", "between": "two types"}
    above, below = figure.subplots(1, 2)
    chosen = [record for record in records if record["measure"] == "dds"]
    depths = _names(chosen, "depth")
    for axes, names in (
        (above, titles),
        (below, {"spearman_winrate": "win rate", "spearman_affinity": "AHP affinity", "as_labels": "labels"}),
    ):
        for i, (name, label) in enumerate(names.items()):
            _band(axes, depths, chosen, name, f"C{i}", label)
        axes.tick_params(axis="x", rotation=30)
        axes.grid(linewidth=0.3)
        axes.legend(frameon=False)
    above.set(ylabel="mean DDS of two tasks")
    below.set(ylabel="correlation with")
    return figure


def _branching(records: Sequence[Record]) -> Figure:
    """By block, for each type of task: the measured win rate, and how much more similar than others DDS finds it."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    chosen = [record for record in records if record["measure"] == "dds"]
    for axes, name, label in zip(
        figure.subplots(1, 2), ("winrate", "selectivity"), ("measured win rate", "selectivity by DDS"), strict=True
    ):
        for i, kind in enumerate(_names(chosen, "type")):
            found = [record for record in chosen if record["type"] == kind]
            _band(axes, _names(found, "block"), found, name, f"C{i}", kind)
        axes.set(ylabel=label)
        axes.grid(linewidth=0.3)
    axes.legend(frameon=False)
    return figure


def _lines(axes: Axes, records: Sequence[Record], by: str, across: str, figure: str) -> None:
    """A line for each value of ``by``."""
    for i, value in enumerate(_names(records, by)):
        found = [record for record in records if record[by] == value]
        _band(axes, _column(found, across), found, figure, "black" if value == "random" else f"C{i}", value)
    axes.grid(linewidth=0.3)


def _band(axes: Axes, across: Sequence[Any], found: Sequence[Record], figure: str, color: str, label: str) -> None:
    """A line, and its range over the seeds."""
    axes.plot(across, _column(found, figure), "o-", markersize=3, color=color, label=label)
    axes.fill_between(
        across, _column(found, f"{figure}_min"), _column(found, f"{figure}_max"), alpha=0.2, linewidth=0, color=color
    )


def _names(records: Sequence[Record], key: str) -> list[str]:
    return list(dict.fromkeys(record[key] for record in records))


def _column(records: Sequence[Record], key: str) -> list[float]:
    """Figures; one that is not defined is not drawn."""
    return [np.nan if record[key] is None else record[key] for record in records]
