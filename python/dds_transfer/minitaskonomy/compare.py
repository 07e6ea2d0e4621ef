"""``python -m dds_transfer.minitaskonomy.compare``."""

from __future__ import annotations

from pathlib import Path

import click

from dds_transfer.minitaskonomy.comparison import compare
from dds_transfer.minitaskonomy.experiment import load_experiment
from dds_transfer.minitaskonomy.shipped import one_thread
from dds_transfer.minitaskonomy.summary import collect


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also gather the tables of all folders here, with their means and spread, and pictures. Needs dds_ext[plot].",
)
def main(folders: tuple[Path, ...], output: Path | None) -> None:
    """Compare every method's ranking with the measured transfers of finished experiments.

    Each part is kept in the experiment's folder as it ends; run again after an interruption, it goes on there.
    """
    try:
        experiments = [load_experiment(folder) for folder in folders]
        with one_thread():  # so that times are those of one core
            for experiment in experiments:
                compare(experiment)
        if output is not None:
            collect(experiments, output)
    except (ValueError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
