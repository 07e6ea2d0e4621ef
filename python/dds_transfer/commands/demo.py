"""``dds demo``."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

import dds_ext
from dds_transfer.commands.common import Command, json_option, output
from dds_transfer.evaluation import evaluate
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.output import write_json
from dds_transfer.selection import rank_models
from dds_transfer.tables import Table, load_truth
from dds_transfer.taxonomy import task_taxonomy
from dds_transfer.terminal import show_records, working

IMAGES = 200  # as many as the DDS paper takes
TRUTH = "minitaskonomy-winrate"


@click.command("demo", cls=Command)
@click.option(
    "--target",
    type=click.Choice(list(TASKS)),
    default="rgb2sfnorm",
    show_default=True,
    metavar="TASK",
    help=f"The task that a source is wanted for: {', '.join(TASKS)}.",
)
@output(
    "-o",
    "--output",
    default="dds-demo.html",
    show_default=True,
    endings=(".html", ".htm"),
    needs="dds_transfer.report",
    help="HTML file to write. Needs dds_ext[plot].",
)
@click.option("--open/--no-open", "show", default=True, help="Open the page in a browser.  [default: open]")
@json_option
@click.pass_context
def command(ctx: click.Context, target: str, output: Path, show: bool, json_path: Path | None) -> None:
    """Which of 20 networks to start from for a new task: ranked now, and compared with what transfer really gave.

    The networks come with the package. Each was trained for one task on images of rendered rooms, and the transfer
    from each to every task was measured (docs/mini-taskonomy.md). Here 200 other rooms are rendered, the networks look
    at them, and DDS ranks them for the target by their features alone, an untrained control among them.

    \b
    Examples:
      dds demo
      dds demo --target class_places -o rooms.html --no-open
    """
    from dds_transfer.minitaskonomy.shipped import ENCODERS, FOLDER, load_shipped, one_thread, ranking_images
    from dds_transfer.minitaskonomy.transfer import in_batches
    from dds_transfer.report import Report, digests

    seed, encoders = load_shipped()
    truth, tasks = load_truth(TRUTH), list(TASKS)
    features = {}
    with one_thread():
        with working("rendering rooms", steps=IMAGES) as step:
            images = ranking_images(seed, IMAGES, step)
        with working("running networks", steps=len(encoders)) as step:
            for name, encoder in encoders.items():
                features[name] = in_batches(encoder, images).numpy()
                step()
    trained = {task: features[task] for task in tasks}
    with working("comparing"):
        tables = {name: Table(tasks, tasks, dds_ext.affinity(trained, **o)) for name, o in dds_ext.MEASURES.items()}
        found = {name: evaluate(table, truth.part(tasks, tasks)) for name, table in tables.items()}
        others = {name: X for name, X in features.items() if name != target}
        ranking = rank_models(features[target], others, name=target)
    measured = truth.column(target)
    report = Report(
        ranking=ranking,
        agreement=found["dds"],
        truth="the measured win rates",
        measured=measured,
        affinity=tables["dds"],
        taxonomy=task_taxonomy(tables["dds"]),
        settings={"images": IMAGES, "seed": seed},
        command=f"{ctx.command_path} --target {target}",
        inputs=digests([FOLDER / ENCODERS]),
    )
    report.write(output)
    if json_path:
        write_json(json_path, report.to_dict())
    show_records(f"{ranking.title}, and how each did in truth", ranking.beside(measured))
    show_records(
        f"Agreement with the measured win rates, mean over {len(tasks)} targets",
        [
            {
                "measure": name,
                "spearman": each.mean.spearman,
                "spearman_off_diagonal": each.mean.spearman_off_diagonal,
                "relative_regret": each.mean.relative_regret,
            }
            for name, each in found.items()
        ],
    )
    click.echo(f"{output}: the whole of it, to be read in a browser")
    if show:
        webbrowser.open(output.resolve().as_uri())
