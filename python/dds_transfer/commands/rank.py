"""``dds rank``."""

from __future__ import annotations

from pathlib import Path

import click

from dds_transfer.commands.common import (
    ManyValues,
    bootstrap_option,
    load_candidates,
    measure_option,
    ranked,
    result_options,
    seed_option,
    sources_options,
    write_result,
)
from dds_transfer.features import setting_notes
from dds_transfer.terminal import show_notes, show_table


@click.command("rank", cls=ManyValues)
@sources_options
@measure_option
@bootstrap_option
@click.option(
    "--images",
    type=click.IntRange(4),
    metavar="N",
    help="Images in a draw: by default 200, or half of them if that is less; with --replacement all.",
)
@click.option("--replacement", is_flag=True, help="Draw with replacement; pairs of copies of an image are left out.")
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    default=0.95,
    show_default=True,
    help="Of the percentile intervals.",
)
@seed_option
@result_options
def command(
    target: str,
    sources: tuple[str, ...],
    measure: str,
    bootstrap: int,
    images: int | None,
    replacement: bool,
    confidence: float,
    seed: int,
    csv_path: Path | None,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Rank source models by their similarity to a target model, the most promising one first.

    The target's own array is left out where it is among the sources. Each score comes with the mean and the interval of
    its scores on random draws of the images, and with the share of draws in which the source comes first. Without
    replacement, as in the DDS paper, the interval says how much depends on which N images were taken; with
    --replacement, how far the score would change with other images like these.

    \b
    Examples:
      dds rank --target target.npy --sources features/
      dds rank --target target.npy --sources resnet.npy vit.safetensors --csv ranking.csv
      dds rank --target target.npy --sources features/ --images 500 --plot ranking.png
      dds rank --target tasks.npz:depth --sources tasks.npz --measure rsa
    """
    if not bootstrap and (images is not None or replacement):
        raise click.UsageError("--images and --replacement say how to draw, and --bootstrap 0 is no draw; give more")
    aim, models = load_candidates(target, sources)
    how = {"images": images, "replacement": replacement, "confidence": confidence, "seed": seed}
    ranking = ranked(aim, models, measure, bootstrap, **how)
    if csv_path:
        ranking.to_csv(csv_path)
    if json_path:
        write_result(json_path, ranking.to_dict(), [model.origin for model in (aim, *models)])
    if plot:
        ranking.plot(plot)
    show_table(ranking.title, *ranking.table())
    show_notes([*ranking.notes, *setting_notes([aim, *models])])
