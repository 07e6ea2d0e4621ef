"""The command line ``dds``."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

# In the order in which they are used. Their modules import torch, which takes seconds: each waits until it is called.
# Each command writes its files before it prints, so that closing the pipe early (``| head``) loses none of them.
COMMANDS = {
    "demo": "All of it on 21 networks that come along, in seconds.",
    "extract": "Features of a network's layers on a folder of images.",
    "rank": "Rank source models for a target model.",
    "stability": "How many images a ranking needs.",
    "layers": "Rank a model's layers for types of tasks.",
    "affinity": "Similarity of every model to every other.",
    "attribute": "Similarity by attribution maps, a rival of DDS.",
    "taxonomy": "Cluster the tasks of an affinity table.",
    "evaluate": "Agreement of an affinity table with measured transfer.",
    "grid": "Every normalisation x f, like the paper's Table 2.",
    "report": "All of it on one HTML page.",
    "reproduce": "The DDS authors' tables, published and computed.",
    "info": "Versions, instruction set, threads, CUDA.",
}
INTERRUPTED = 130  # as shells have it: 128 + SIGINT


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Report what a user can put right (files, names, sizes, values) in one line instead of a traceback."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        raise click.exceptions.Exit(0) from None
    except click.exceptions.NoArgsIsHelpError:
        raise  # it is the help, and shows itself
    except click.UsageError as error:
        error.ctx = None  # click would print two lines of usage before the message
        raise
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise click.ClickException(message) from error
    except (ValueError, TypeError, MemoryError, ModuleNotFoundError) as error:
        raise click.ClickException(" ".join(str(error).split()) or type(error).__name__) from error


class _Commands(click.Group):
    """The commands in ``COMMANDS``, each the ``command`` of a module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"dds_transfer.commands.{cmd_name}").command
        if signal.getsignal(signal.SIGINT) is _leave:  # there will be something to clean up
            signal.signal(signal.SIGINT, _interrupt)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and what they are for, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As click does; it prints the help here."""
        with _errors_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _errors_in_one_line(), warnings.catch_warnings():
            warnings.showwarning = _note
            # Pillow's of a picture that it reads all the same; one twice as large is an error, which names a way out.
            warnings.filterwarnings("ignore", "Image size .* exceeds limit")
            return super().invoke(ctx)


def _note(message: Warning | str, *_: object, **__: object) -> None:
    """Show a library's warning, such as Pillow's of a damaged picture, in one line: the first of its kind."""
    from dds_transfer.terminal import subject

    about = f"{subject.get()} and perhaps others: " if subject.get() else ""
    click.echo(f"note: {about}{' '.join(str(message).split())}", err=True)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import dds_ext

        click.echo(f"dds, version {dds_ext.__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def main() -> None:
    """Which pretrained model should I start from? Answered from the features of a few hundred images, without training.

    Features are files with one row per image, the same images in the same order for every model: .npy, .npz,
    .safetensors, .pt and .pth (tensors), .pkl (arrays). FILE:NAME picks one array of a file that holds several; a
    folder stands for all feature files in it.

    Exit status: 0; 1 for what cannot be done, 2 for a wrong command line, 130 after Ctrl-C. A file that a command
    writes is whole or not there.
    """


def program() -> None:
    """The program ``dds``. The first Ctrl-C ends a command, which then cleans up; a second one ends that too."""
    signal.signal(signal.SIGINT, _leave)
    main(prog_name="dds")


def _interrupt(*_: object) -> NoReturn:
    signal.signal(signal.SIGINT, _leave)
    raise KeyboardInterrupt


def _leave(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)
