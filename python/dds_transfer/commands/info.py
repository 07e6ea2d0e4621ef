"""``dds info``."""

from __future__ import annotations

from pathlib import Path

import click

from dds_transfer.commands.common import Command, json_option
from dds_transfer.environment import environment, environment_rows
from dds_transfer.output import write_json
from dds_transfer.terminal import show_table


@click.command("info", cls=Command)
@json_option
def command(json_path: Path | None) -> None:
    """What is installed and what it runs on: versions, the CPU's instruction set, threads, the CUDA part and devices.

    DDS_EXT_ISA=avx2 (or scalar, avx512, ...) chooses another instruction set, OMP_NUM_THREADS=1 the number of threads.

    \b
    Examples:
      dds info
      dds info --json -
    """
    found = environment()
    if json_path:
        write_json(json_path, found)
    show_table("dds_ext and what it runs on", ["name", "value"], environment_rows(found))
