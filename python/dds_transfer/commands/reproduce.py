"""``dds reproduce``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click

from dds_transfer.activations import load_activations
from dds_transfer.commands.common import Command, csv_option, json_option, write_result
from dds_transfer.output import write_records
from dds_transfer.reproduction import EXPERIMENTS, reproduce, steps
from dds_transfer.terminal import show_pairs, show_pivot, working


@click.command("reproduce", cls=Command)
@click.argument("experiment", type=click.Choice(list(EXPERIMENTS)))
@click.option(
    "--features",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    help="The authors' activations: their file, or a folder with a feature file per model.",
)
@click.option(
    "--store",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep the arrays of the authors' file; default FILE.arrays, beside it.",
)
@csv_option
@json_option
def command(experiment: str, features: Path, store: Path | None, csv_path: Path | None, json_path: Path | None) -> None:
    """Compute the tables of the DDS paper from its authors' activations, and print them beside the published ones.

    \b
    taskonomy  Table 2: mean Spearman correlation with Taskonomy's affinities and win rates, diagonal kept,
               17 tasks, the first 200 images of taskonomy_pascal_feats_taskonomy_5000.npy
    pascal     correlation with the mIoU on Pascal VOC after transfer from 17 sources, mean over 100 draws
               of 200 images of taskonomy_pascal_feats_pascal_5000.npy

    The file is a pickle of 1.7 GB. The first run turns it into a folder of arrays that later runs map into memory.

    \b
    Examples:
      dds reproduce taskonomy --features taskonomy_pascal_feats_taskonomy_5000.npy
      dds reproduce pascal --features taskonomy_pascal_feats_pascal_5000.npy --json pascal.json
    """
    with working(f"reading {features.name}"):
        models = load_activations(features, store)
    with working(f"{experiment}, {len(models)} models", steps=steps(experiment)) as step:
        records = reproduce(experiment, models, step)
    if csv_path:
        write_records(csv_path, records)
    if json_path:
        write_result(json_path, {"records": records}, [features])
    for (truth, place), group in groupby(records, lambda record: (record["truth"], record["published_in"])):
        table = list(group)
        title = f"Correlation with {truth}: as published in {place}, and computed"
        show_pairs(title, table, "normalize", "f", ("published", "computed"))
        worst = max(table, key=lambda record: abs(record["difference"]))
        click.echo(f"Largest difference: {worst['difference']:+.4f}, {worst['normalize']} and {worst['f']}\n")
    for truth in dict.fromkeys(record["truth"] for record in records if record["off_diagonal"] != record["computed"]):
        table = [record for record in records if record["truth"] == truth]
        table = [record for record in table if record["published_in"] == table[0]["published_in"]]
        show_pivot(f"Correlation with {truth}, diagonal left out, computed", table, "normalize", "f", "off_diagonal")
