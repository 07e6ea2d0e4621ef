"""``dds grid``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from dds_transfer.commands.common import (
    TRUTH_HELP,
    Command,
    arrays,
    csv_option,
    enough_for_halves,
    json_option,
    load,
    seed_option,
    truth_file,
    without,
    write_result,
)
from dds_transfer.features import Features, common_images, load_one, setting_notes
from dds_transfer.grid import Figures, agreement, choose_models, choose_normalizations, compute_grid, draw_images
from dds_transfer.output import write_records
from dds_transfer.tables import Table, load_truth
from dds_transfer.terminal import show_notes, show_pivot, working


@click.command("grid", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--truth", metavar="NAME|FILE", help=TRUTH_HELP)
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
    help="Repeat on random draws of N images without replacement, by default 200, or half of them if that is less; "
    "prints mean and deviation.",
)
@seed_option
@csv_option
@json_option
def command(
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
    models = load(files)
    notes: list[str] = []
    measured: Table | None = None
    aims: list[Features] | None
    if truth is not None:
        measured = load_truth(truth)
        models, aims, notes = choose_models(models, measured)
        measured = measured.part([model.name for model in models], [aim.name for aim in aims or models])
    else:
        aims = [load_one(str(target))]
        models = without(models, aims[0])
    everything = [*models, *(aims or [])]
    n = common_images(everything)
    if bootstrap and not images:
        enough_for_halves(n, "leave --bootstrap out")
    draws = draw_images(n, images, bootstrap, seed)
    n = len(everything[0].X[draws[0]])
    normalizations, note = choose_normalizations(everything, channels)
    notes += [*note, *setting_notes(everything)]

    def reduce(matrix: NDArray[np.float64]) -> dict[str, Figures]:
        if measured is not None:
            return {"": agreement(matrix, measured, notes)}
        return {model.name: {"score": float(row[0])} for model, row in zip(models, matrix, strict=True)}

    with working(f"{len(models)} models, {n} images", steps=len(draws) * len(normalizations)) as step:
        records = compute_grid(
            arrays(models),
            None if aims is None else arrays(aims),
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
        read = [*(model.origin for model in everything), *truth_file(truth)]
        write_result(json_path, {"images": n, "records": records, "notes": notes}, dict.fromkeys(read))
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
