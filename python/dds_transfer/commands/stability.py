"""``dds stability``."""

from __future__ import annotations

from pathlib import Path

import click

from dds_transfer import selection
from dds_transfer.commands.common import (
    ManyValues,
    arrays,
    load_candidates,
    measure_option,
    result_options,
    seed_option,
    sources_options,
    write_result,
)
from dds_transfer.features import setting_notes
from dds_transfer.terminal import show_notes, show_table, working


@click.command("stability", cls=ManyValues)
@sources_options
@measure_option
@click.option(
    "--images",
    multiple=True,
    type=click.IntRange(4),
    metavar="N...",
    help="Numbers of images to try; by default 25, 50, 100 and so on, doubled.",
)
@click.option("--draws", type=click.IntRange(2), default=100, show_default=True, help="Random draws for each number.")
@seed_option
@result_options
def command(
    target: str,
    sources: tuple[str, ...],
    measure: str,
    images: tuple[int, ...],
    draws: int,
    seed: int,
    csv_path: Path | None,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """How many images are enough: rankings from random subsets of the images against the ranking from all.

    Prints, for each number of images, the Spearman correlation between the two rankings (mean and standard deviation
    over the draws) and the share of draws with the same first. A subset is part of all images, so the figures tend to 1
    in any case: read them where the number is small beside all.

    \b
    Examples:
      dds stability --target target.npy --sources features/
      dds stability --target target.npy --sources features/ --images 50 100 200 --plot stability.png
    """
    aim, models = load_candidates(target, sources)
    sizes = list(images) or selection.stability_sizes(len(aim.X))
    with working(f"{measure}, {len(models)} models", steps=len(sizes) * draws) as step:
        result = selection.stability(aim.X, arrays(models), sizes, draws, measure, name=aim.name, seed=seed, step=step)
    if csv_path:
        result.to_csv(csv_path)
    if json_path:
        write_result(json_path, result.to_dict(), [model.origin for model in (aim, *models)])
    if plot:
        result.plot(plot)
    show_table(result.title, *result.table())
    show_notes(setting_notes([aim, *models]))
