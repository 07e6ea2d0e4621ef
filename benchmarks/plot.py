"""Draws the chart of the README from the JSON: `python benchmarks/plot.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from cases import AFFINITY, AUTHORS, OURS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

RESULTS = Path(__file__).parent / "results" / "cpu.json"

# What is drawn, top to bottom: the title of a group and its case.
GROUPS = {
    AFFINITY: "DDS of all pairs of 20 models, 200 images, 2,048 features",
    "laplacian-1000x2048": "Laplacian kernel, 1,000 images, 2,048 features",
    "laplacian-200x100352": "Laplacian kernel, 200 images, 100,352 features",
    "rbf-1000x2048": "RBF kernel, 1,000 images, 2,048 features",
    "euclidean-1000x2048": "Euclidean distance, 1,000 images, 2,048 features",
    "pearson-1000x2048": "1 - Pearson, 1,000 images, 2,048 features",
    "cosine-1000x2048": "1 - cosine, 1,000 images, 2,048 features",
    "linear-1000x2048": "Linear kernel, 1,000 images, 2,048 features",
}
# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = {
    AUTHORS: "#8c8c8c",
    "scikit-learn": "#e69f00",
    "SciPy": "#56b4e9",
    "torch": "#d55e00",
    "NumPy": "#0072b2",
    "NumKong": "#009e73",
}
OWN_COLOUR, TEXT, FAINT, GRID = "#b0508a", "#222222", "#6b6b6b", "#e6e6e6"
SMALLEST_ERROR = 1e-17  # where an error of 0 is drawn
ROW, GAP, MARGIN = 0.21, 0.8, 1.9  # inches; rows between groups; inches above and below

Contenders = Mapping[str, Mapping[str, Any]]


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _factor(x: float) -> str:
    return f"{x:,.0f}x" if x >= 9.95 else f"{x:.1f}x"


def _peers(contenders: Contenders) -> Contenders:
    """Those that compute the same, slowest first."""
    found = {name: c for name, c in contenders.items() if not name.startswith(OURS) and c["error"] is not None}
    return dict(sorted(found.items(), key=lambda item: -item[1]["median_s"]))


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at row y, x being a fraction of the width of the axes."""
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), va="center", **{"fontsize": 9, "color": TEXT, **style})


def _draw_group(speed: Axes, error: Axes, title: str, contenders: Contenders, y: float) -> float:
    """Draws a case from row y on, and returns the row after it."""
    ours, peers = contenders[OURS], _peers(contenders)
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # hides the grid
    _write(speed, -0.39, y, title, fontweight="bold", fontsize=9.5, bbox=background)
    _write(
        speed, 1, y, f"dds_ext {_time(ours['median_s'])}", ha="right", color=OWN_COLOUR, fontweight="bold", fontsize=8.5
    )
    speed.plot([1, 1], [y + 0.5, y + len(peers) + 0.5], color=OWN_COLOUR, linewidth=2, zorder=4)
    for row, (name, c) in enumerate(peers.items(), 1):
        colour = next(colour for library, colour in COLOURS.items() if name.startswith(library))
        ratio = c["median_s"] / ours["median_s"]
        low, high = c["lower_quartile_s"] / ours["upper_quartile_s"], c["upper_quartile_s"] / ours["lower_quartile_s"]
        _write(speed, -0.015, y + row, name, ha="right")
        speed.barh(y + row, ratio - 1, left=1, height=0.7, color=colour, zorder=2)
        speed.plot([low, high], [y + row, y + row], color=TEXT, linewidth=1, zorder=3)
        speed.text(max(1, high), y + row, f" {_factor(ratio)}", va="center", fontsize=9, fontweight="bold", color=TEXT)
        _write(speed, 1, y + row, _time(c["median_s"]), ha="right", color=FAINT, fontsize=8.5)
        own_error, peer_error = max(ours["error"], SMALLEST_ERROR), max(c["error"], SMALLEST_ERROR)
        error.plot([own_error, peer_error], [y + row, y + row], color="#c8c8c8", linewidth=1.2, zorder=1)
        error.plot(peer_error, y + row, "o", color=colour, markersize=6.5, zorder=2)
        error.plot(own_error, y + row, "D", color=OWN_COLOUR, markersize=4.5, zorder=3)
    return y + len(peers) + 1


def draw(results: Mapping[str, Any]) -> Figure:
    """Left, how many times dds_ext's time each peer takes; right, the errors of both."""
    missing = [case for case in GROUPS if case not in results["cases"]]
    if missing:
        raise click.ClickException(f"the results lack {', '.join(missing)}; run those cases first")
    cases = {case: results["cases"][case]["contenders"] for case in GROUPS}
    ratios = [p["median_s"] / c[OURS]["median_s"] for c in cases.values() for p in _peers(c).values()]
    rows = sum(len(_peers(contenders)) + 1 + GAP for contenders in cases.values())

    height = ROW * rows + MARGIN
    figure, (speed, error) = plt.subplots(1, 2, sharey=True, figsize=(10.5, height), width_ratios=[2.7, 1])
    figure.subplots_adjust(left=0.222, right=0.985, top=1 - 0.95 / height, bottom=0.92 / height, wspace=0.09)
    speed.set_xscale("log")
    speed.set_xlim(min(0.95, 0.8 * min(ratios)), 12 * max(ratios))
    error.set_xscale("log")
    error.set_xlim(SMALLEST_ERROR / 3, 1e-4)
    y = 0.0
    for case, title in GROUPS.items():
        y = _draw_group(speed, error, title, cases[case], y) + GAP
    speed.set_ylim(y - GAP - 0.3, -0.7)

    # whole powers of ten only, and none under the column of times
    speed.xaxis.set_major_locator(LogLocator(numticks=99))
    speed.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}x" if x < 5 * max(ratios) else ""))
    error.xaxis.set_major_locator(LogLocator(base=1e4, numticks=99))
    error.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0e}".replace("e-0", "e-")))
    for axes, label in ((speed, "time of the peer / time of dds_ext"), (error, "largest error against float64")):
        axes.set_xlabel(label, fontsize=9, color=TEXT)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=8.5, colors=FAINT, length=0)
        axes.tick_params(axis="y", left=False, labelleft=False)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_visible(False)
    markers = (("D", 4.5, OWN_COLOUR, "dds_ext"), ("o", 6.5, FAINT, "peer"))
    error.legend(
        handles=[
            Line2D([], [], marker=m, linestyle="", color=c, markersize=s, label=label) for m, s, c, label in markers
        ],
        loc="center",
        bbox_to_anchor=(0.5, 1.005),
        ncols=2,
        fontsize=8.5,
        frameon=False,
    )

    machine = results["machine"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    figure.text(0.012, 1 - 0.28 / height, "How much longer the others take", fontsize=14, fontweight="bold", color=TEXT)
    figure.text(
        0.012,
        1 - 0.52 / height,
        f"dds_ext beside its peers on float32 features: same process, {threads}, {machine['cpu']} ({machine['isa']})",
        fontsize=9.5,
        color=FAINT,
    )
    figure.text(
        0.012,
        0.12 / height,
        "Medians; the lines span the quartiles. Errors: absolute for kernels, correlations and scores, relative for "
        "distances, in units of |x||y| for the linear kernel.\nErrors near 1e-16 are those of peers that compute in "
        "float64 whatever the input.",
        linespacing=1.5,
        fontsize=7.5,
        color=FAINT,
    )
    return figure


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--input", "source", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=RESULTS)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Without ending. Default: the input's.")
def main(source: Path, output: Path | None) -> None:
    """Write the chart of the results as SVG and PNG."""
    # the same file from the same results: no date, no random names, no fonts of the reader's
    plt.rcParams.update({"font.family": "DejaVu Sans", "svg.hashsalt": "dds_ext", "svg.fonttype": "path"})
    figure = draw(json.loads(source.read_text()))
    target = output or source
    figure.savefig(target.with_suffix(".svg"), facecolor="white", metadata={"Date": None})
    figure.savefig(target.with_suffix(".png"), facecolor="white", dpi=160)


if __name__ == "__main__":
    main()
