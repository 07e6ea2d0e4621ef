"""``python -m dds_transfer.minitaskonomy``."""

from __future__ import annotations

import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import click

from dds_transfer.minitaskonomy.run import FULL, SMALL, run


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of rooms, weights and orders.")
@click.option("--small", is_flag=True, help="Few images and short training, to see that it works.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="Processes. Default: one for each core that it may use.",
)
def main(output: Path, seed: int, small: bool, workers: int) -> None:
    """Render rooms, train a network for each task, and measure every transfer between them.

    Run again after an interruption, it goes on where it stopped.
    """
    try:
        run(output, seed, SMALL if small else FULL, workers, _report)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except BrokenProcessPool as error:
        raise click.ClickException(
            "a worker was killed, perhaps for want of memory; run it again, with fewer --workers, and it goes on"
        ) from error
    except OSError as error:
        raise click.ClickException(f"{error}; once there is a remedy, run it again and it goes on") from error


def _report(name: str, done: int, steps: int, left: float) -> None:
    remaining = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
    click.echo(f"{done:3} of {steps}: {name}; about {remaining} left", err=True)


if __name__ == "__main__":
    main()
