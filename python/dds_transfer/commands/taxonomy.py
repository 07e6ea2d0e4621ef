"""``dds taxonomy``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dds_transfer.commands.common import Command, json_option, plot_option, truth_file, write_result
from dds_transfer.tables import TRUTHS, Table, load_truth
from dds_transfer.taxonomy import (
    DISTANCES,
    LINKAGES,
    Distance,
    Linkage,
    Taxonomy,
    compare_similarities,
    compare_taxonomies,
    shared_part,
    task_taxonomy,
)
from dds_transfer.terminal import show_records, show_tree


@click.command("taxonomy", cls=Command)
@click.argument("table", metavar="NAME|FILE")
@click.option(
    "--compare",
    metavar="NAME|FILE",
    help=f"Another table, whose tree and similarities to compare with: {', '.join(TRUTHS)}, or a CSV file.",
)
@click.option("--distance", type=click.Choice(DISTANCES), default=DISTANCES[0], show_default=True, help="See above.")
@click.option("--linkage", type=click.Choice(LINKAGES), default=LINKAGES[0], show_default=True, help="See above.")
@json_option
@plot_option
def command(
    table: str, compare: str | None, distance: Distance, linkage: Linkage, json_path: Path | None, plot: Path | None
) -> None:
    """Cluster the tasks of an affinity table hierarchically, and print what is joined at which distance.

    Distance "rank": each task ranks the others as sources, 0 for its best one and 1 for its worst; the mean of the two
    ranks that two tasks give each other. Distance "pattern": Euclidean, between rows. The trees of the RSA paper are
    --distance pattern --linkage single. With --compare, both tables are cut to the tasks they share; then the trees are
    compared by the correlation of their cophenetic distances, the tables by that of their entries off the diagonal.

    A table is a CSV file (rows: sources, columns: targets) or the name of a bundled one, as for --compare. --plot
    draws the tree beside the table, in the tree's order.

    \b
    Examples:
      dds taxonomy affinity.csv --plot tree.png
      dds taxonomy affinity.csv --compare taskonomy-affinity
    """
    affinity = load_truth(table)
    other = load_truth(compare) if compare else None
    if other is not None:
        affinity, other = shared_part(affinity, other)

    def tree_of(which: Table, name: str) -> Taxonomy:
        try:
            return task_taxonomy(which, distance, linkage)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    tree = tree_of(affinity, table)
    merges = tree.merges()
    comparison = []
    if other is not None:
        for what, found in (
            ("similarities", compare_similarities(affinity, other)),
            ("cophenetic distances", compare_taxonomies(tree, tree_of(other, str(compare)))),
        ):
            comparison.append({"of": what, **asdict(found)})
    if json_path:
        write_result(json_path, {**tree.to_dict(), "comparison": comparison}, truth_file(table) + truth_file(compare))
    title = f"Taxonomy of {table}: {len(tree.names)} tasks, distance {distance!r}, {linkage} linkage"
    if plot:
        from dds_transfer.plots import draw_taxonomy, save_figure

        save_figure(draw_taxonomy(tree, affinity, title), plot)
    show_tree(title, tree.names, merges)
    if tree.cophenetic_correlation is not None:
        click.echo(f"Cophenetic correlation with the distances: {tree.cophenetic_correlation:.3f}\n")
    if comparison:
        show_records(f"Correlation with {compare}", comparison)
