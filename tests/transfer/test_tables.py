"""Tables as CSV files, and the bundled truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dds_transfer import evaluate
from dds_transfer.tables import TASKONOMY_TASKS, TRUTHS, Table, load_truth, read_table


def test_a_written_table_is_read_back_exactly(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((3, 2)) * 1e-7
    table = Table(["a", "b, with comma", "ü"], ["x", 'y "quoted"'], values)
    table.write(tmp_path / "t.csv")
    again = read_table(tmp_path / "t.csv")
    assert (again.sources, again.targets) == (table.sources, table.targets)
    np.testing.assert_array_equal(again.values, values)


def test_a_part_is_cut_by_name_and_in_that_order() -> None:
    table = Table(["a", "b", "c"], ["x", "y"], np.arange(6.0).reshape(3, 2))
    part = table.part(["c", "a"], ["y"])
    np.testing.assert_array_equal(part.values, [[5.0], [1.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no table"),
        ("source,x\n", "has no table"),
        ("source,x\na,1\nb,one\n", "line 3, column 'x': 'one' is not a finite number"),
        ("source,x\na,1\nb,\n", "line 3, column 'x': '' is not a finite number"),
        ('source,x\n"a\nb",1\nc,\n', "line 4, column 'x': '' is not a finite number"),
        ("source,x\na,nan\n", "line 2, column 'x': 'nan' is not a finite number"),
        ("source,x,y\na,1\n", "line 2: 2 columns where the first line has 3"),
        ("source;x\na;1\n", "has no table: .*, with commas between"),
        ("source,x\na,1_0\n", "line 2, column 'x': '1_0' is not a finite number"),
        ("source,x,\na,1,2\n", "has a target without a name, number 2"),
        ("source,x\na,1\n ,2\n", "has a source without a name, number 2"),
        ("source,x,x\na,1,2\n", "names the target 'x' twice"),
        ("source,x\na,1\na,2\n", "names the source 'a' twice"),
    ],
)
def test_a_bad_table_is_named_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{path}.*{message}"):
        read_table(path)


def test_what_was_not_measured_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("source,x,y\na,,2\nb,3, \n")
    np.testing.assert_array_equal(load_truth(str(path)).values, [[np.nan, 2], [3, np.nan]])
    path.write_text("source,x\na,nan\n")
    with pytest.raises(ValueError, match="'nan' is not a finite number"):
        load_truth(str(path))


def test_a_table_with_gaps_is_written_and_read_back(tmp_path: Path) -> None:
    table = Table(["a", "b"], ["x", "y"], np.array([[1, np.nan], [0.5, 2]]))
    table.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "source,x,y\na,1.0,\nb,0.5,2.0\n"
    np.testing.assert_array_equal(load_truth(str(tmp_path / "t.csv")).values, table.values)
    assert table.to_dict()["values"] == [[1, None], [0.5, 2]]


def test_binary_content_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=r"t\.csv is no CSV file"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["taskonomy-affinity", "taskonomy-winrate"])
def test_bundled_truth_has_the_17_tasks_of_the_paper(name: str) -> None:
    truth = load_truth(name)
    assert truth.sources == truth.targets == list(TASKONOMY_TASKS)
    assert len(truth.sources) == 17
    assert not {"colorization", "class_places", "inpainting_whole"} & set(truth.sources)


def test_bundled_truth_holds_the_published_numbers() -> None:
    affinity, winrate = load_truth("taskonomy-affinity"), load_truth("taskonomy-winrate")
    assert affinity.part(["denoise"], ["autoencoder"]).values.item() == 0.22604971331997428
    assert winrate.part(["curvature"], ["edge3d"]).values.item() == 0.8584269662921349
    # Many sources never help a target to win.
    assert (winrate.values == 0).sum() > 30


def test_pascal_voc_is_one_column_under_the_name_of_the_authors_model() -> None:
    truth = load_truth("pascal-voc")
    assert truth.targets == ["pascal_voc_segmentation"]
    assert len(truth.sources) == 17
    # The paper's 17 tasks with class_places in place of denoise.
    assert set(truth.sources) == set(TASKONOMY_TASKS) - {"denoise"} | {"class_places"}
    assert truth.sources[int(truth.values.argmax())] == "segment25d"
    assert truth.values.max() == 0.656534260134841


def test_branching_knows_the_best_block_of_each_task() -> None:
    truth = load_truth("branching")
    best = {task: truth.sources[i] for task, i in zip(truth.targets, truth.values.argmax(axis=0), strict=True)}
    assert best == {"edge2d": "block1", "rgb2depth": "block3", "rgb2sfnorm": "block3", "segmentsemantic": "block4"}
    np.testing.assert_array_equal(truth.values.sum(axis=0), 1)


@pytest.mark.parametrize("name", TRUTHS)
def test_every_bundled_truth_can_be_evaluated_against(name: str) -> None:
    truth = load_truth(name)
    result = evaluate(truth, truth)
    assert result.mean.spearman == pytest.approx(1)
    assert result.mean.regret == 0
    assert result.notes == []


def test_an_unknown_truth_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError,
        match="'taskonomy': neither a file nor one of taskonomy-affinity, taskonomy-winrate, pascal-voc, branching",
    ):
        load_truth("taskonomy")
