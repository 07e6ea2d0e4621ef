"""``dds affinity``."""

from __future__ import annotations

from pathlib import Path

import click

import dds_ext
from dds_transfer.commands.common import (
    Command,
    arrays,
    json_option,
    load,
    measure_option,
    output,
    plot_option,
    write_result,
)
from dds_transfer.features import common_images, setting_notes
from dds_transfer.selection import measure_options
from dds_transfer.tables import Table
from dds_transfer.terminal import show_notes, working


@click.command("affinity", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@output(
    "-o", "--output", required=True, endings=(".csv",), help="CSV file to write: a row per source, a column per target."
)
@measure_option
@json_option
@plot_option
def command(files: tuple[str, ...], output: Path, measure: str, json_path: Path | None, plot: Path | None) -> None:
    """Similarity of every model to every other, as a table.

    `dds evaluate` and `dds taxonomy` read it. --plot draws it as a heat map.

    \b
    Examples:
      dds affinity features/ -o affinity.csv --plot affinity.png
      dds affinity resnet.npy vit.npy clip.npy --measure cka-linear -o affinity.csv
    """
    models = load(files)
    if len(models) < 2:
        raise ValueError(f"{files[0]} holds one model; an affinity table needs at least two")
    n = common_images(models)
    measure, options = measure_options(measure)
    with working(f"{measure}, {len(models)} models, {n} images"):
        values = dds_ext.affinity(arrays(models), **options)
    names = [model.name for model in models]
    table = Table(names, names, values)
    table.write(output)
    if json_path:
        how = {"measure": measure, "options": options, "images": n}
        write_result(json_path, {**how, **table.to_dict()}, [model.origin for model in models])
    if plot:
        from dds_transfer.plots import draw_affinity, save_figure

        save_figure(draw_affinity(table, f"{measure}, {n} images"), plot)
    click.echo(f"{output}: {measure} between {len(names)} models, {n} images")
    if plot:
        click.echo(f"{plot}: its heat map")
    show_notes(setting_notes(models))
