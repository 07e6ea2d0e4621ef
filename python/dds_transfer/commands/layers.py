"""``dds layers``."""

from __future__ import annotations

from pathlib import Path

import click

from dds_transfer.commands.common import (
    ManyValues,
    arrays,
    load,
    load_blocks,
    measure_option,
    model_called,
    result_options,
    types_option,
    write_result,
)
from dds_transfer.features import common_images, setting_notes
from dds_transfer.layers import TASK_TYPES, rank_layers
from dds_transfer.tables import read_types
from dds_transfer.terminal import show_notes, show_table, working


@click.command("layers", cls=ManyValues)
@click.option(
    "--model", multiple=True, required=True, metavar="FILE...", help="Features of a model's blocks or layers."
)
@click.option("--tasks", multiple=True, required=True, metavar="FILE...", help="Features of networks for the tasks.")
@types_option
@measure_option
@result_options
def command(
    model: tuple[str, ...],
    tasks: tuple[str, ...],
    types: Path | None,
    measure: str,
    csv_path: Path | None,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Which block of a pretrained model to branch from, for each type of task, as in Figure 4 of the DDS paper.

    Prints the mean similarity of each block to the tasks of a type, the block that is the most similar, and the block
    to branch from: the one that is most selective for the type, similar to its tasks and not to the others. A task
    without a type is a type of its own. Blocks keep the order in which they are named; those of a folder or an
    archive are sorted by name, block2 before block10.

    \b
    Examples:
      dds layers --model resnet50.npz --tasks taskonomy/ --plot layers.png
      dds layers --model block1.npy block2.npy block3.npy --tasks tasks/ --types types.csv
    """
    blocks, networks = load_blocks(model), load(tasks)
    n = common_images([*blocks, *networks])
    kinds = TASK_TYPES if types is None else read_types(types)
    with working(f"{measure}, {len(blocks)} blocks, {len(networks)} tasks, {n} images"):
        ranking = rank_layers(
            arrays(blocks),
            arrays(networks),
            measure,
            types=kinds,
            name=model_called(model),
        )
    if csv_path:
        ranking.to_csv(csv_path)
    if json_path:
        read = [feature.origin for feature in (*blocks, *networks)]
        write_result(json_path, ranking.to_dict(), read if types is None else [*read, types])
    if plot:
        ranking.plot(plot)
    show_table(ranking.title, *ranking.table())
    alone = [network.name for network in networks if network.name not in kinds]
    notes = [f"tasks without a type, each taken as one of its own: {', '.join(alone)}"] if alone else []
    show_notes([*notes, *setting_notes([*blocks, *networks])])
