"""Task taxonomies: plain loops, SciPy, and the groups that Taskonomy's tables are known to have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from dds_transfer import Table, compare_similarities, compare_taxonomies, load_truth, task_taxonomy
from dds_transfer.tables import TRUTHS
from dds_transfer.taxonomy import DISTANCES, LINKAGES
from scipy import stats
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform

RANDOM = np.random.default_rng(0)
NAMES = [f"task{i}" for i in range(8)]

# The task types of Taskonomy's taxonomy.
GROUPS = (
    {"autoencoder", "denoise", "edge2d", "keypoint2d", "segment2d"},
    {"curvature", "edge3d", "keypoint3d", "reshade", "rgb2depth", "rgb2mist", "rgb2sfnorm", "segment25d"},
    {"room_layout", "vanishing_point"},
    {"segmentsemantic", "class_1000"},
)


def random_table(names: list[str] = NAMES) -> Table:
    return Table(list(names), list(names), RANDOM.standard_normal((len(names), len(names))))


def looped_rank_distances(values: np.ndarray) -> np.ndarray:
    n = len(values)
    ranks = np.zeros((n, n))
    for j in range(n):
        for i in range(n):
            others = [values[k, j] for k in range(n) if k not in (i, j)]
            ranks[i, j] = sum((values[i, j] > other) + (values[i, j] == other) / 2 for other in others) / (n - 2)
    return np.array([[0 if i == j else 1 - (ranks[i, j] + ranks[j, i]) / 2 for j in range(n)] for i in range(n)])


def test_rank_distances_are_those_of_a_plain_loop() -> None:
    table = random_table()
    table.values[:] = np.round(table.values)  # with ties
    tree = task_taxonomy(table)
    # Ranks in sixths, summed and halved: a few roundings of 1.1e-16.
    np.testing.assert_allclose(tree.distances, looped_rank_distances(table.values), atol=1e-15)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("method", LINKAGES)
def test_the_tree_is_scipys(distance: str, method: str) -> None:
    table = random_table()
    tree = task_taxonomy(table, distance, method)
    if distance == "rank":
        expected = linkage(squareform(looped_rank_distances(table.values), checks=False), method)
    else:
        expected = linkage(table.values, method)  # rows as observations, Euclidean
    np.testing.assert_allclose(tree.tree[:, 2], expected[:, 2], atol=1e-14)
    np.testing.assert_allclose(tree.cophenetic_distances, squareform(cophenet(expected)), atol=1e-14)
    found = cophenet(expected, squareform(tree.distances))[0]
    assert tree.cophenetic_correlation == pytest.approx(found, abs=1e-12)
    assert sorted(tree.order) == NAMES


def test_scales_of_targets_and_the_diagonal_do_not_matter_to_ranks() -> None:
    table = random_table()
    scaled = Table(NAMES, NAMES, np.exp(table.values) * RANDOM.uniform(1, 1e6, 8))
    np.fill_diagonal(scaled.values, -7)
    np.testing.assert_array_equal(task_taxonomy(table).tree, task_taxonomy(scaled).tree)


@pytest.mark.parametrize("name", ["taskonomy-affinity", "taskonomy-winrate"])
def test_taskonomys_groups_are_found(name: str) -> None:
    """Each of the four groups of tasks is a branch of the tree."""
    branches = [set(left + right) for _, left, right in task_taxonomy(load_truth(name)).merges()]
    for group in GROUPS:
        assert group in branches


def test_merges_join_everything_once_from_near_to_far() -> None:
    merges = task_taxonomy(random_table()).merges()
    heights = [height for height, _, _ in merges]
    assert heights == sorted(heights)
    assert sorted(merges[-1][1] + merges[-1][2]) == NAMES


def test_rank_distance_leaves_out_what_is_no_target_and_pattern_takes_all_sources() -> None:
    table = Table([*NAMES, "only a source"], [*NAMES, "only a target"], RANDOM.standard_normal((9, 9)))
    assert task_taxonomy(table).names == NAMES
    assert task_taxonomy(table, "pattern").names == table.sources


def test_compared_trees() -> None:
    a, b = task_taxonomy(random_table()), task_taxonomy(random_table())
    same = compare_taxonomies(a, a)
    assert (same.pairs, same.pearson, same.spearman) == (28, pytest.approx(1), pytest.approx(1))
    x, y = cophenet(a.tree), cophenet(b.tree)
    found = compare_taxonomies(a, b)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_compared_trees_are_matched_by_name() -> None:
    table, other = random_table(), task_taxonomy(random_table([*NAMES[::-1], "extra"]))
    order = RANDOM.permutation(8)
    names = [NAMES[i] for i in order]
    shuffled = task_taxonomy(table.part(names, names))
    expected, found = compare_taxonomies(task_taxonomy(table), other), compare_taxonomies(shuffled, other)
    assert found.pairs == 28
    assert found.pearson == pytest.approx(expected.pearson, abs=1e-12)


def test_compared_similarities() -> None:
    a, b = random_table(), random_table([*NAMES[2:], "extra"])
    x, y = [], []
    for source in NAMES[2:]:
        for target in NAMES[2:]:
            if source != target:
                x.append(a.part([source], [target]).values.item())
                y.append(b.part([source], [target]).values.item())
    found = compare_similarities(a, b)
    assert found.pairs == 30
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_compared_symmetric_matrices_give_the_figures_of_their_upper_triangles() -> None:
    values = RANDOM.standard_normal((2, 8, 8))
    x, y = values + values.swapaxes(1, 2)
    found = compare_similarities(Table(NAMES, NAMES, x), Table(NAMES, NAMES, y))
    upper = np.triu_indices(8, 1)
    assert found.pearson == pytest.approx(stats.pearsonr(x[upper], y[upper]).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(stats.spearmanr(x[upper], y[upper]).statistic, abs=1e-12)


def test_what_was_not_measured_is_not_compared(tmp_path: Path, dds: Callable[..., Result]) -> None:
    first, second = load_truth("taskonomy-affinity"), load_truth("taskonomy-winrate")
    holes = Table(second.sources, second.targets, second.values.copy())
    holes.values[0, 1:5] = holes.values[3, 4] = np.nan
    kept = ~np.eye(17, dtype=bool) & ~np.isnan(holes.values)
    found = compare_similarities(first, holes)
    assert found.pairs == 17 * 16 - 5
    expected = stats.spearmanr(first.values[kept], holes.values[kept]).statistic
    assert found.spearman == pytest.approx(expected, abs=1e-12)
    holes.write(tmp_path / "holes.csv")
    result = dds("taxonomy", "taskonomy-affinity", "--compare", tmp_path / "holes.csv")
    where = "source 'autoencoder', target 'curvature'"
    assert result.stderr == f"Error: {tmp_path}/holes.csv: the table holds nan at {where}; finite numbers are needed\n"


def test_what_has_no_figure_is_none() -> None:
    constant = Table(NAMES, NAMES, np.ones((8, 8)))
    tree = task_taxonomy(constant)
    assert tree.cophenetic_correlation is None
    assert compare_taxonomies(tree, tree).pearson is None
    assert compare_similarities(constant, random_table()).spearman is None


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="2 tasks to cluster, at least 3 are needed: task0; task1"):
        task_taxonomy(random_table(NAMES[:2]), "pattern")
    with pytest.raises(
        ValueError, match="0 tasks to cluster that are sources and targets, for distance 'rank', at least"
    ):
        task_taxonomy(Table(NAMES, ["x"], np.ones((8, 1))))
    table = random_table()
    table.values[1, 2] = np.nan
    with pytest.raises(ValueError, match="finite numbers are needed"):
        task_taxonomy(table)
    with pytest.raises(ValueError, match="linkage 'ward'; known are rank, pattern and average, single, complete"):
        task_taxonomy(random_table(), "rank", "ward")
    with pytest.raises(ValueError, match=r"2 tasks are in both.*: task0; task1; 8 are in the first \(task0, \.\.\.\)"):
        compare_taxonomies(task_taxonomy(random_table()), task_taxonomy(random_table(["task0", "task1", "x"])))
    with pytest.raises(ValueError, match="share no target"):
        compare_similarities(table, Table(NAMES, ["x"], np.ones((8, 1))))


def test_command(dds: Callable[..., Result], tmp_path: Path) -> None:
    random_table().write(tmp_path / "a.csv")
    random_table([*NAMES[1:], "extra"]).write(tmp_path / "b.csv")
    result = dds(
        "taxonomy",
        tmp_path / "a.csv",
        "--compare",
        tmp_path / "b.csv",
        "--plot",
        tmp_path / "t.png",
        "--json",
        tmp_path / "t.json",
    )
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "t.json").read_text())
    assert sorted(content["order"]) == NAMES[1:]
    assert len(content["merges"]) == 6
    assert [row["pairs"] for row in content["comparison"]] == [42, 21]
    assert all(f" {name}\n" in result.stdout for name in NAMES[1:])
    assert f"{content['cophenetic_correlation']:.3f}" in result.stdout
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_help_names_every_bundled_table(dds: Callable[..., Result]) -> None:
    names = "".join(dds("taxonomy", "--help").stdout.split())
    assert f"{','.join(TRUTHS)},oraCSVfile" in names


def test_command_with_the_rsa_papers_tree_of_a_bundled_table(dds: Callable[..., Result], tmp_path: Path) -> None:
    options = ["--distance", "pattern", "--linkage", "single", "--json", tmp_path / "t.json"]
    assert dds("taxonomy", "taskonomy-winrate", *options).exit_code == 0
    content = json.loads((tmp_path / "t.json").read_text())
    expected = linkage(load_truth("taskonomy-winrate").values, "single")
    assert [merge["distance"] for merge in content["merges"]] == pytest.approx(expected[:, 2].tolist())


def test_heat_map_rows_stand_beside_their_leaves() -> None:
    """Also of a table with more targets than sources: the leaf of row i is drawn as high as row i."""
    from dds_transfer import plots

    table = Table(NAMES, [f"target{i}" for i in range(30)], RANDOM.standard_normal((8, 30)))
    tree = task_taxonomy(table, "pattern")
    figure = plots.draw_taxonomy(tree, table, "title")
    figure.draw_without_rendering()
    dendrogram, heat = figure.axes[:2]
    assert [label.get_text() for label in heat.get_yticklabels()] == tree.order
    for i in range(8):
        leaf = dendrogram.transData.transform((0, 10 * i + 5))[1]
        row = heat.transData.transform((0, i))[1]
        assert leaf == pytest.approx(row, abs=1)  # pixels
