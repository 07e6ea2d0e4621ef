"""What the commands share: options, and models from files."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click
from numpy.typing import NDArray

import dds_ext
from dds_transfer.environment import versions
from dds_transfer.features import NOTED, Features, common_images, load_features, load_one
from dds_transfer.output import STDOUT, write_json
from dds_transfer.selection import Ranking, measure_options, rank_models
from dds_transfer.tables import TRUTHS
from dds_transfer.terminal import working

Function = TypeVar("Function", bound=Callable[..., Any])
FEWEST = 4  # images that DDS can be computed of
LIST = "images.json"  # of the images that a folder's features are of
LISTED = {"digest", "images", "unreadable"}  # what it tells


def output(
    *names: str, endings: tuple[str, ...] = (), needs: str = "", stdout: bool = False, **settings: Any
) -> Callable[[Function], Function]:
    """An option that names a file to write.

    Args:
        names: of the option, as click takes them.
        endings: what the file's name must end in one of.
        needs: a module that writing it takes, whose own packages may be missing.
        stdout: whether ``-`` is standard output; all else that the command prints then goes to standard error.
        settings: those of ``click.option``.
    """

    def check(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        # Found out before the work rather than after it.
        if path is None:
            return None
        if path == STDOUT:
            if not stdout:
                raise click.BadParameter("- is standard output, which is for --json")
            ctx.with_resource(redirect_stdout(sys.stderr))
            return path
        if not path.parent.is_dir() and path.parent.resolve() != ctx.meta.get("folder"):  # which the command makes
            raise click.BadParameter(f"there is no folder {path.parent}")
        device = path.exists() and not path.is_file()
        if endings and path.suffix not in endings and not device:  # this also spares an input that is named by mistake
            raise click.BadParameter(f"{path} must end in {' or '.join(endings)}")
        option = parameter.opts[-1] if parameter.opts[-1].startswith("-") else parameter.opts[0]
        other = ctx.meta.setdefault("outputs", {}).setdefault(path.resolve(), option)
        if other != option:
            raise click.BadParameter(f"{path} is the file of {other} too; name another")
        if path.is_file() and _says_what_features_are(path):
            raise click.BadParameter(f"{path} says what features are of, and would be written over; name another")
        if needs:
            import_module(needs)
        return path

    kind = click.Path(dir_okay=False, writable=True, allow_dash=stdout, path_type=Path)
    return click.option(*names, type=kind, callback=check, **settings)


def _says_what_features_are(path: Path) -> bool:
    """Whether this is a note beside a file of features or a folder's list of images, as `dds extract` writes them."""
    if path.suffix != ".json":
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and (set(content) >= NOTED or set(content) == LISTED)


csv_option = output("--csv", "csv_path", endings=(".csv",), help="Also write the result to this CSV file.")
json_option = output(
    "--json",
    "json_path",
    endings=(".json",),
    stdout=True,
    help="Also write the result, with how it was obtained, to this JSON file; - is standard output.",
)


def _known_measure(_: click.Context, __: click.Parameter, measure: str) -> str:
    """The measure, if there is one of this name or these parts; found out before the work."""
    try:
        measure_options(measure)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return measure


measure_option = click.option(
    "--measure",
    default="dds",
    show_default=True,
    metavar="NAME|NORMALIZE,F,CENTER,G",
    callback=_known_measure,
    help=f"Similarity to use: {', '.join(dds_ext.MEASURES)}, or its four parts, such as zscore,rbf,double,cosine.",
)
bootstrap_option = click.option(
    "--bootstrap",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="DRAWS",
    help="Draws of images that the ranking's intervals come from; 0 for none.",
)
seed_option = click.option(
    "--seed", default=1993, show_default=True, help="Of the draws; the default is the DDS authors' seed."
)
plot_option = output(
    "--plot",
    endings=(".png", ".pdf", ".svg"),
    needs="dds_transfer.plots",
    help="Also draw the result to this file (.png, .pdf, .svg). Needs dds_ext[plot].",
)
types_option = click.option(
    "--types",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CSV",
    help="Types of the tasks, rows of task and type under a heading; by default Taskonomy's, by its tasks' names.",
)
TRUTH_HELP = f"Measured transfer results: {', '.join(TRUTHS)}, or a CSV file (rows: sources, columns: targets)."


def result_options(command: Function) -> Function:
    """Where the result goes besides the terminal."""
    for option in (plot_option, json_option, csv_option):
        command = option(command)
    return command


def sources_options(command: Function) -> Function:
    """The options of a target and its sources."""
    for option in (
        click.option(
            "--sources",
            multiple=True,
            required=True,
            metavar="SOURCE...",
            help="Files or folders with the candidates' features.",
        ),
        click.option("--target", required=True, metavar="FILE", help="Features of the target model."),
    ):
        command = option(command)
    return command


class Command(click.Command):
    """A command that does not write over what it reads."""

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse a file to write that is named as an input too, then run."""
        outputs = ctx.meta.get("outputs", {})
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            for each in value if isinstance(value, tuple) else (value,):
                option = outputs.get(Path(each).resolve()) if isinstance(each, str | Path) else None
                if option is not None and option not in parameter.opts:
                    raise click.UsageError(f"{each} is read, and would be written over by {option}; name another file")
        return super().invoke(ctx)


class ManyValues(Command):
    """A command whose repeatable options take several values at once, as a shell expands them: ``--tasks *.npy``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat such an option before each of its values, which is the form that click knows."""
        ctx.meta["arguments"] = args  # as they were typed
        many = {name for parameter in self.params if getattr(parameter, "multiple", False) for name in parameter.opts}
        repeated: list[str] = []
        option = ""
        for arg in args:
            if arg in many:
                option = arg
            elif arg.startswith("-"):
                option = ""
            elif option and repeated[-1] != option:
                repeated.append(option)
            repeated.append(arg)
        return super().parse_args(ctx, repeated)


def write_result(path: Path, result: Mapping[str, Any], files: Iterable[object]) -> None:
    """Write a command's result as JSON, and how it was obtained.

    That is ``settings``, the command's arguments and options by name with their defaults, less the files it writes;
    ``files``, those that it read; and ``versions``.
    """
    context = click.get_current_context()
    settings = {"command": context.info_name}
    for parameter in context.command.params:
        if not (isinstance(parameter.type, click.Path) and parameter.type.writable):
            value = context.params[parameter.name or ""]
            name = parameter.opts[-1].removeprefix("--").replace("-", "_")
            settings[name] = str(value) if isinstance(value, Path) else value
    how = {"settings": settings, "files": [str(file) for file in files], "versions": versions()}
    write_json(path, {**result, **how})


def truth_file(truth: str | None) -> list[str]:
    """The file of measured transfer results, if they are not bundled."""
    return [truth] if truth and truth not in TRUTHS else []


def load_candidates(target: str, sources: Sequence[str]) -> tuple[Features, list[Features]]:
    """A target, and the models besides it that are to be compared with it, on the same images."""
    aim = load_one(target)
    models = without(load(sources), aim)
    common_images([aim, *models])
    return aim, models


def load(sources: Sequence[str]) -> list[Features]:
    """The models in files and folders."""
    with working("reading features"):
        return load_features(sources)


def ranked(aim: Features, models: Sequence[Features], measure: str, bootstrap: int, **how: Any) -> Ranking:
    """The models ranked, with the progress of the draws; ``how`` is :func:`rank_models`'s."""
    n = len(aim.X)
    if bootstrap and not how.get("images") and not how.get("replacement"):
        enough_for_halves(n, "give --bootstrap 0")
    with working(f"{measure} to {aim.name}, {len(models)} models, {n} images", steps=bootstrap) as step:
        return rank_models(aim.X, arrays(models), measure, name=aim.name, bootstrap=bootstrap or None, step=step, **how)


def enough_for_halves(n: int, way_out: str) -> None:
    """Refuse draws of half of n images where no similarity can be computed of so few."""
    if n // 2 < FEWEST:
        raise click.UsageError(f"{n} images are too few for draws of half of them; {way_out}")


def load_blocks(model: Sequence[str]) -> list[Features]:
    """A model's blocks: of several files in their order, of one folder or archive by name, numbers by their value."""
    blocks = load(model)
    if len(model) > 1:
        return blocks

    def key(block: Features) -> list[tuple[str, int]]:
        return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", block.name)]

    return sorted(blocks, key=key)


def model_called(model: Sequence[str]) -> str:
    """What to call the model whose blocks these files hold."""
    return Path(model[0]).stem if len(model) == 1 else "the model"


def arrays(models: Sequence[Features]) -> dict[str, NDArray[Any]]:
    """Features by name, as `dds_ext` takes them."""
    return {model.name: model.X for model in models}


def without(models: Sequence[Features], aim: Features) -> list[Features]:
    """The models less the target itself, which is often in the same folder or file."""
    place = (aim.path.resolve(), aim.member)
    sources = [model for model in models if (model.path.resolve(), model.member) != place]
    if not sources:
        raise ValueError(f"no sources are left besides the target, {aim.origin}")
    return sources
