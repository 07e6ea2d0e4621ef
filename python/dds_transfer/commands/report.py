"""``dds report``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

import dds_ext
from dds_transfer.commands.common import (
    TRUTH_HELP,
    ManyValues,
    arrays,
    bootstrap_option,
    json_option,
    load,
    load_blocks,
    measure_option,
    model_called,
    output,
    ranked,
    seed_option,
    truth_file,
    types_option,
    without,
)
from dds_transfer.evaluation import evaluate
from dds_transfer.features import common_images, load_one, setting_notes
from dds_transfer.layers import TASK_TYPES, rank_layers
from dds_transfer.output import write_json
from dds_transfer.selection import measure_options
from dds_transfer.tables import Table, load_truth, read_types
from dds_transfer.taxonomy import task_taxonomy
from dds_transfer.terminal import show_notes, working


@click.command("report", cls=ManyValues)
@click.option("--target", metavar="FILE", help="Features of the target model: adds the ranking of the sources.")
@click.option(
    "--sources", multiple=True, required=True, metavar="SOURCE...", help="Files or folders with models' features."
)
@click.option(
    "--model", multiple=True, metavar="FILE...", help="Features of a model's blocks: adds which one to branch from."
)
@click.option(
    "--tasks",
    multiple=True,
    metavar="FILE...",
    help="Features of networks for tasks, to compare the blocks with; by default the target's.",
)
@types_option
@click.option("--truth", metavar="NAME|FILE", help=f"Adds the agreement with it. {TRUTH_HELP}")
@output(
    "-o",
    "--output",
    required=True,
    endings=(".html", ".htm"),
    needs="dds_transfer.report",
    help="HTML file to write. Needs dds_ext[plot].",
)
@measure_option
@bootstrap_option
@seed_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    target: str | None,
    sources: tuple[str, ...],
    model: tuple[str, ...],
    tasks: tuple[str, ...],
    types: Path | None,
    truth: str | None,
    output: Path,
    measure: str,
    bootstrap: int,
    seed: int,
    json_path: Path | None,
) -> None:
    """Write one HTML page with all that the files allow, to be sent or kept: it needs no other file and no network.

    The sources and the target among each other: a heat map and, from three on, their tree. With --target: the ranking
    of the sources with intervals, as `dds rank`. With --model: the block to branch from, as `dds layers`.
    With --truth: the agreement with measured transfer, as `dds evaluate`. And what is needed to repeat it: command
    line, settings, versions, and digests of the files.

    \b
    Examples:
      dds report --target target.npy --sources features/ -o report.html
      dds report --target target.npy --sources features/ --model resnet50.npz -o report.html
      dds report --sources taskonomy/ --truth taskonomy-affinity --model resnet50.npz --tasks taskonomy/ \\
          -o report.html --json report.json
    """
    from dds_transfer.report import Report, digests

    if (tasks or types) and not model:
        raise click.UsageError("--tasks and --types are what blocks are compared with; give --model FILE... too")
    if model and not (tasks or target):
        raise click.UsageError("--model gives blocks; give --target or --tasks to compare them with")
    measured = load_truth(truth) if truth else None
    kinds = TASK_TYPES if types is None else read_types(types)
    aim = load_one(target) if target else None
    models = load(sources) if aim is None else without(load(sources), aim)
    everything = models if aim is None else [*models, aim]
    if aim is not None and aim.name in arrays(models):
        twin = next(source.origin for source in models if source.name == aim.name)
        raise ValueError(f"the target {aim.origin} and the source {twin} are both named {aim.name!r}; rename one")
    blocks = load_blocks(model) if model else []
    networks = load(tasks) if tasks else [aim] if aim is not None and model else []
    n = common_images([*everything, *blocks, *networks])
    if len(everything) == 1:
        raise ValueError(f"{everything[0].origin} is one model, with none to compare it with; give more --sources")

    (label, options), names = measure_options(measure), [each.name for each in everything]
    with working(f"{measure} among {len(everything)} models, {n} images"):
        affinity = Table(names, names, dds_ext.affinity(arrays(everything), **options))
    taxonomy = task_taxonomy(affinity) if len(names) > 2 else None
    agreement = evaluate(affinity, measured) if measured else None
    ranking = layers = None
    if aim is not None:
        ranking = ranked(aim, models, measure, bootstrap, seed=seed)
    if blocks:
        with working(f"{measure}, {len(blocks)} blocks, {len(networks)} tasks"):
            layers = rank_layers(arrays(blocks), arrays(networks), measure, types=kinds, name=model_called(model))

    files = [each.path for each in [*everything, *blocks, *networks]]
    files += [*([types] if types else []), *map(Path, truth_file(truth))]
    with working("digests of the files"):
        inputs = digests(files)
    settings = {"measure": label, "options": options, "images": n} | ({"truth": truth} if truth else {})
    result = Report(
        ranking=ranking,
        layers=layers,
        agreement=agreement,
        truth=truth or "",
        measured=measured.column(aim.name) if measured and aim else {},
        affinity=affinity,
        taxonomy=taxonomy,
        settings=settings,
        command=f"{ctx.command_path} {shlex.join(ctx.meta['arguments'])}",
        inputs=inputs,
    )
    result.write(output)
    if json_path:
        write_json(json_path, result.to_dict())
    parts = ["ranking", "layers", "agreement", "affinity", "taxonomy"]
    click.echo(f"{output}: {', '.join(part for part in parts if getattr(result, part) is not None)}; {n} images")
    notes = [*(ranking.notes if ranking else []), *(agreement.notes if agreement else [])]
    show_notes([*notes, *setting_notes([*everything, *blocks, *networks])])
