"""``dds evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from dds_transfer.commands.common import TRUTH_HELP, Command, csv_option, json_option, truth_file, write_result
from dds_transfer.evaluation import evaluate
from dds_transfer.output import write_records
from dds_transfer.tables import load_truth, read_table
from dds_transfer.terminal import show_notes, show_records

CORRELATIONS = tuple(
    f"{name}{suffix}" for name in ("spearman", "pearson", "kendall") for suffix in ("", "_off_diagonal")
)


@click.command("evaluate", cls=Command)
@click.argument("table", metavar="AFFINITY.CSV", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--truth", required=True, metavar="NAME|FILE", help=TRUTH_HELP)
@csv_option
@json_option
def command(table: Path, truth: str, csv_path: Path | None, json_path: Path | None) -> None:
    """How well an affinity table agrees with measured transfer results.

    Prints three tables. Correlations (Spearman, Pearson, Kendall's tau-b) over the sources of each target, with the
    diagonal kept (as in the DDS paper) and left out (a model nearly always ranks first for its own task). The regret:
    how much is lost by taking the source that the affinity ranks first instead of the best one, in the truth's units
    and relative to what a random choice loses on average. And what the first K sources are worth, mean over targets:
    their overlap with the truth's first K, how often the best one is among them, and their precision and recall,
    relevant being the 5 best. The last two tables leave the target itself out; ties count as broken at random.

    Rows and columns are matched by name: `dds extract --name` gives the features of one layer a name of the
    truth. The Taskonomy tables are used with the 17 tasks of the paper. --csv holds the
    figures by target, --json those for every target and K too.

    \b
    Examples:
      dds evaluate affinity.csv --truth taskonomy-affinity
      dds evaluate affinity.csv --truth measured.csv --json agreement.json
    """
    result = evaluate(read_table(table), load_truth(truth))
    content = result.to_dict()
    targets = content["targets"]
    rows = [*targets, {"target": "mean", **content["mean"]}]
    if csv_path:
        write_records(csv_path, [{name: row[name] for name in row if name != "at_k"} for row in rows])
    if json_path:
        write_result(json_path, content, [table, *truth_file(truth)])
    for title, names in (
        (f"Agreement of {table} with {truth}", ("target", "sources", *CORRELATIONS)),
        (f"Regret of choosing by {table}, in the units of {truth}", ("target", "regret", "relative_regret")),
    ):
        *each, mean = [{name: row[name] for name in names} for row in rows]
        show_records(title, each, total=mean)
    of = f"mean over {len(targets)} targets" if len(targets) > 1 else f"target {targets[0]['target']}"
    show_records(f"The first K sources, {of}", rows[-1]["at_k"])
    show_notes(result.notes)
