"""``python -m dds_transfer.minitaskonomy.compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dds_transfer.minitaskonomy.comparison import Record, compare
from dds_transfer.minitaskonomy.experiment import load_experiment
from dds_transfer.minitaskonomy.shipped import one_thread
from dds_transfer.minitaskonomy.summary import collect
from dds_transfer.terminal import show_records


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
                show(experiment.folder, compare(experiment)["agreement"])
        if output is not None:
            collect(experiments, output)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error


def show(folder: Path, agreement: Sequence[Record]) -> None:
    """Print how each method agrees with the win rate."""
    names = {
        "spearman": "spearman",
        "spearman_off_diagonal": "spearman_off_diagonal",
        "relative_regret": "regret",
        "cpu_seconds": "seconds",
    }
    show_records(
        f"{folder}: agreement of each method with the win rate",
        [
            {"method": record["method"], **{title: record[name] for name, title in names.items()}}
            for record in agreement
            if record["truth"] == "winrate"
        ],
    )


if __name__ == "__main__":
    main()
