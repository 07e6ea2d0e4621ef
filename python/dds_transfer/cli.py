"""The command line ``dds``."""

from __future__ import annotations

from typing import Any

import click

import dds_ext
from dds_transfer.commands.affinity import affinity
from dds_transfer.commands.attribute import attribute
from dds_transfer.commands.demo import demo
from dds_transfer.commands.evaluate import evaluate_command
from dds_transfer.commands.extract import extract
from dds_transfer.commands.grid import grid
from dds_transfer.commands.info import info
from dds_transfer.commands.layers import layers
from dds_transfer.commands.rank import rank
from dds_transfer.commands.report import report
from dds_transfer.commands.reproduce import reproduce_command
from dds_transfer.commands.stability import stability
from dds_transfer.commands.taxonomy import taxonomy

# Each command writes its files before it prints, so that closing the pipe early (``| head``) loses none of them.


class _OneLineErrors(click.Group):
    """Reports what a user can put right (files, names, sizes, values) in one line instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they are added, in the order in which they are used."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output is gone: click ends quietly
            raise
        except click.UsageError as error:
            error.ctx = None  # click would print two lines of usage before the message
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted", err=True)
            raise click.exceptions.Exit(130) from None  # as shells have it: 128 + SIGINT
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise click.ClickException(message) from error
        except (ValueError, TypeError, MemoryError, ModuleNotFoundError) as error:
            raise click.ClickException(" ".join(str(error).split()) or type(error).__name__) from error


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(dds_ext.__version__)
def main() -> None:
    """Which pretrained model should I start from? Answered from the features of a few hundred images, without training.

    Features are files with one row per image, the same images in the same order for every model: .npy, .npz,
    .safetensors, .pt and .pth (tensors), .pkl (arrays). FILE:NAME picks one array of a file that holds several; a
    folder stands for all feature files in it.

    Exit status: 0; 1 for what cannot be done, 2 for a wrong command line, 130 after Ctrl-C. A file that a command
    writes is whole or not there.
    """


for command in (
    demo,
    extract,
    rank,
    stability,
    layers,
    affinity,
    attribute,
    taxonomy,
    evaluate_command,
    grid,
    report,
    reproduce_command,
    info,
):
    main.add_command(command)
