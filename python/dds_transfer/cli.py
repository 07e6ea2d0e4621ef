"""The command line ``dds``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

import dds_ext
from dds_transfer.evaluation import evaluate
from dds_transfer.features import Features, common_images, load_features, load_one
from dds_transfer.grid import (
    Figures,
    agreement,
    choose_models,
    choose_normalizations,
    compute_grid,
    draw_images,
)
from dds_transfer.output import write_json, write_records
from dds_transfer.tables import TRUTHS, Table, load_truth, read_table
from dds_transfer.terminal import show_notes, show_pivot, show_records, working

Command = TypeVar("Command", bound=Callable[..., Any])


# Each command writes its files before it prints, so that closing the pipe early (``| head``) loses none of them.


class _OneLineErrors(click.Group):
    """Reports what a user can put right (files, names, sizes, values) in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output is gone: click ends quietly
            raise
        except click.UsageError as error:
            error.ctx = None  # click would print two lines of usage before the message
            raise
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise click.ClickException(message) from error
        except (ValueError, TypeError, MemoryError, ModuleNotFoundError) as error:
            raise click.ClickException(" ".join(str(error).split()) or type(error).__name__) from error


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dds_ext")
def main() -> None:
    """Which pretrained model should I start from? Answered from the features of a few hundred images, without training.

    Features are files with one row per image, the same images in the same order for every model: .npy, .npz,
    .safetensors, .pt and .pth (tensors), .pkl (arrays). FILE:NAME picks one array of a file that holds several; a
    folder stands for all feature files in it.
    """


def _output(*names: str, endings: tuple[str, ...] = (), **settings: Any) -> Callable[[Command], Command]:
    def check(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        # Found out before the work rather than after it.
        if path is not None and not path.parent.is_dir():
            raise click.BadParameter(f"there is no folder {path.parent}")
        if path is not None and endings and path.suffix not in endings:
            raise click.BadParameter(f"{path} must end in {' or '.join(endings)}")
        return path

    kind = click.Path(dir_okay=False, writable=True, path_type=Path)
    return click.option(*names, type=kind, callback=check, **settings)


_csv = _output("--csv", "csv_path", help="Also write the result to this CSV file.")
_json = _output("--json", "json_path", help="Also write the result, with how it was obtained, to this JSON file.")
_measure = click.option(
    "--measure", type=click.Choice(list(dds_ext.MEASURES)), default="dds", show_default=True, help="Similarity to use."
)
_truth_help = f"Measured transfer results: {', '.join(TRUTHS)}, or a CSV file (rows: sources, columns: targets)."


@main.command(short_help="Rank source models for a target model.")
@click.option("--target", required=True, metavar="FILE", help="Features of the target model.")
@click.option("--sources", multiple=True, metavar="SOURCE...", help="Files or folders with the candidates' features.")
@click.argument("more", nargs=-1, metavar="[SOURCE]...")
@_measure
@_csv
@_json
def rank(
    target: str,
    sources: tuple[str, ...],
    more: tuple[str, ...],
    measure: str,
    csv_path: Path | None,
    json_path: Path | None,
) -> None:
    """Rank source models by their similarity to a target model, the most promising one first.

    The target's own array is left out where it is among the sources.

    \b
    Examples:
      dds rank --target target.npy --sources features/
      dds rank --target target.npy --sources resnet.npy vit.safetensors --csv ranking.csv
      dds rank --target tasks.npz:depth --sources tasks.npz --measure rsa
    """
    if not (sources or more):
        raise click.UsageError("no sources: give files or folders after --sources")
    aim = load_one(target)
    models = _without(_load(sources + more), aim)
    n = common_images([aim, *models])
    with working(f"{measure}, {len(models)} models, {n} images"):
        scores = dds_ext.affinity(_arrays(models), _arrays([aim]), **dds_ext.MEASURES[measure])[:, 0].tolist()
    best_first = sorted(zip(scores, models, strict=True), key=lambda pair: -pair[0])
    ranking = [{"rank": i, "source": model.name, "score": score} for i, (score, model) in enumerate(best_first, 1)]
    if csv_path:
        write_records(csv_path, ranking)
    if json_path:
        how = {"target": aim.origin, "measure": measure, "options": dds_ext.MEASURES[measure], "images": n}
        write_json(json_path, {**how, "ranking": ranking})
    show_records(f"Sources for {aim.name} by {measure}, {n} images", ranking)


@main.command(short_help="Similarity of every model to every other.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_output("-o", "--output", required=True, help="CSV file to write: a row per source, a column per target.")
@_output(
    "--plot",
    endings=(".png", ".pdf", ".svg"),
    help="Also draw a heat map to this file (.png, .pdf, .svg). Needs dds_ext[plot].",
)
@_measure
def affinity(files: tuple[str, ...], output: Path, plot: Path | None, measure: str) -> None:
    """Similarity of every model to every other, as a table.

    \b
    Examples:
      dds affinity features/ -o affinity.csv --plot affinity.png
      dds affinity resnet.npy vit.npy clip.npy --measure cka-linear -o affinity.csv
    """
    if plot is not None:
        from dds_transfer import plots  # first of all, for matplotlib may be missing
    models = _load(files)
    if len(models) < 2:
        raise ValueError(f"{files[0]} holds one model; an affinity table needs at least two")
    n = common_images(models)
    with working(f"{measure}, {len(models)} models, {n} images"):
        values = dds_ext.affinity(_arrays(models), **dds_ext.MEASURES[measure])
    names = [model.name for model in models]
    table = Table(names, names, values)
    table.write(output)
    click.echo(f"{output}: {measure} between {len(names)} models, {n} images")
    if plot is not None:
        plots.plot_affinity(table, f"{measure}, {n} images", plot)
        click.echo(f"{plot}: its heat map")


@main.command(name="evaluate", short_help="Agreement of an affinity table with measured transfer.")
@click.argument("table", metavar="AFFINITY.CSV", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--truth", required=True, metavar="NAME|FILE", help=_truth_help)
@_csv
@_json
def evaluate_command(table: Path, truth: str, csv_path: Path | None, json_path: Path | None) -> None:
    """How well an affinity table agrees with measured transfer results.

    Prints Spearman's and Pearson's correlation over the sources of each target, and the means over targets, with the
    diagonal kept (as in the DDS paper) and left out (a model nearly always ranks first for its own task). Rows and
    columns are matched by name. The Taskonomy tables are used with the 17 tasks of the paper.

    \b
    Examples:
      dds evaluate affinity.csv --truth taskonomy-affinity
      dds evaluate affinity.csv --truth measured.csv --json agreement.json
    """
    result = evaluate(read_table(table), load_truth(truth))
    records = [{"target": target, **asdict(agreement)} for target, agreement in result.targets.items()]
    mean = {"target": "mean", **asdict(result.mean)}
    if csv_path:
        write_records(csv_path, [*records, mean])
    if json_path:
        content = {"affinity": str(table), "truth": truth, "targets": records, "mean": asdict(result.mean)}
        write_json(json_path, {**content, "notes": result.notes})
    show_records(f"Agreement of {table} with {truth}", records, total=mean)
    show_notes(result.notes)


@main.command(short_help="Every normalisation x f, like the paper's Table 2.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--truth", metavar="NAME|FILE", help=_truth_help)
@click.option("--target", metavar="FILE", help="Features of a target model, in place of --truth.")
@click.option("--channels", type=click.IntRange(1), metavar="C", help="Channels that (n, d) features unfold into.")
@click.option("--channels-last", is_flag=True, help="Features are laid out (n, *space, C) rather than (n, C, *space).")
@click.option(
    "--groups",
    type=click.IntRange(1),
    metavar="G",
    default=2,
    show_default=True,
    help="Groups of 'group' normalisation.",
)
@click.option("--images", type=click.IntRange(4), metavar="N", help="Use the first N images only.")
@click.option(
    "--bootstrap",
    type=click.IntRange(1),
    metavar="DRAWS",
    help="Repeat on random draws of N images (default 200) without replacement; prints mean and deviation.",
)
@click.option("--seed", default=1993, show_default=True, help="Of the draws; the default is the DDS authors' seed.")
@_csv
@_json
def grid(
    files: tuple[str, ...],
    truth: str | None,
    target: str | None,
    channels: int | None,
    channels_last: bool,
    groups: int,
    images: int | None,
    bootstrap: int | None,
    seed: int,
    csv_path: Path | None,
    json_path: Path | None,
) -> None:
    """Compare every normalisation x f, as in Table 2 of the DDS paper (U-centring, cosine).

    With --truth, FILES hold the features of its sources and targets, and the tables show the mean Spearman correlation
    with it, diagonal kept and left out. With --target, FILES hold sources, and the tables show their similarity to it.
    batch, instance and group normalisation need --channels where features are flattened to (n, d).

    \b
    Examples:
      The paper's table, from the authors' activations (16 x 16 x 8, flattened):
        dds grid taskonomy_pascal_feats_taskonomy_5000.npy --truth taskonomy-affinity \\
            --channels 8 --channels-last --images 200
      The same with the spread over 100 draws of 200 images:
        dds grid taskonomy_pascal_feats_taskonomy_5000.npy --truth taskonomy-affinity \\
            --channels 8 --channels-last --bootstrap 100
      Does the best source depend on the choice?
        dds grid features/ --target target.npy --csv grid.csv
    """
    if (truth is None) == (target is None):
        raise click.UsageError("give either --truth or --target")
    models = _load(files)
    notes: list[str] = []
    measured: Table | None = None
    aims: list[Features] | None
    if truth is not None:
        measured = load_truth(truth)
        models, aims, notes = choose_models(models, measured)
        measured = measured.part([model.name for model in models], [aim.name for aim in aims or models])
    else:
        aims = [load_one(str(target))]
        models = _without(models, aims[0])
    everything = [*models, *(aims or [])]
    draws = draw_images(common_images(everything), images, bootstrap, seed)
    n = len(everything[0].X[draws[0]])
    normalizations, note = choose_normalizations(everything, channels)
    notes += note

    def reduce(matrix: NDArray[np.float64]) -> dict[str, Figures]:
        if measured is not None:
            return {"": agreement(matrix, measured, notes)}
        return {model.name: {"score": float(row[0])} for model, row in zip(models, matrix, strict=True)}

    with working(f"{len(models)} models, {n} images", steps=len(draws) * len(normalizations)) as step:
        records = compute_grid(
            _arrays(models),
            None if aims is None else _arrays(aims),
            draws,
            normalizations,
            reduce,
            step,
            channels=channels,
            channels_last=channels_last,
            groups=groups,
        )
    if csv_path:
        write_records(csv_path, records)
    if json_path:
        how = {"truth": truth, "target": target, "sources": [model.origin for model in models], "images": n}
        how |= {"bootstrap": bootstrap, "seed": seed, "channels": channels, "channels_last": channels_last}
        write_json(json_path, {**how, "groups": groups, "records": records, "notes": notes})
    if measured is not None:
        size = f"{len(measured.targets)} targets, {len(measured.sources)} sources, {n} images"
        for figure, diagonal in (("spearman", "kept"), ("spearman_off_diagonal", "left out")):
            title = f"Mean Spearman correlation with {truth}, diagonal {diagonal}; {size}"
            show_pivot(title, records, "normalize", "f", figure)
    else:
        for name in normalizations:
            chosen = [record for record in records if record["normalize"] == name]
            show_pivot(f"Similarity to {target}, normalisation {name}", chosen, "source", "f", "score")
    show_notes(notes)


def _load(sources: Sequence[str]) -> list[Features]:
    with working("reading features"):
        return load_features(sources)


def _arrays(models: Sequence[Features]) -> dict[str, NDArray[Any]]:
    return {model.name: model.X for model in models}


def _without(models: Sequence[Features], aim: Features) -> list[Features]:
    """The models less the target itself, which is often in the same folder or file."""
    place = (aim.path.resolve(), aim.member)
    sources = [model for model in models if (model.path.resolve(), model.member) != place]
    if not sources:
        raise ValueError(f"no sources are left besides the target, {aim.origin}")
    return sources
