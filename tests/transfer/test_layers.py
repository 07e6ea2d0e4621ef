"""Blocks against tasks: the figures by a plain loop, the recommendation by what the DDS paper found."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from dds_transfer import TASK_TYPES, LayerRanking, load_features, load_truth, rank_layers
from dds_transfer.tables import read_types
from made_features import AUTHORS_KEYS, Features, related_features

from dds_ext import reference

# Similarity (z-score, Laplacian, U-centring) of the four blocks of an ImageNet ResNet-50 to Taskonomy's networks, as
# printed in the notebook CVPR2020Fig_blockrankings of the DDS authors' public repository.
PUBLISHED = {
    "autoencoder": (0.807, 0.708, 0.528, 0.412),
    "class_1000": (0.538, 0.578, 0.607, 0.660),
    "class_places": (0.551, 0.596, 0.625, 0.631),
    "colorization": (0.757, 0.777, 0.707, 0.526),
    "curvature": (0.599, 0.712, 0.785, 0.571),
    "denoise": (0.822, 0.708, 0.527, 0.421),
    "edge2d": (0.761, 0.744, 0.609, 0.476),
    "edge3d": (0.572, 0.681, 0.766, 0.571),
    "inpainting_whole": (0.826, 0.720, 0.534, 0.405),
    "keypoint2d": (0.617, 0.607, 0.574, 0.399),
    "keypoint3d": (0.586, 0.684, 0.785, 0.539),
    "reshade": (0.540, 0.648, 0.736, 0.536),
    "rgb2depth": (0.501, 0.603, 0.688, 0.512),
    "rgb2mist": (0.493, 0.599, 0.704, 0.508),
    "rgb2sfnorm": (0.507, 0.623, 0.720, 0.500),
    "room_layout": (0.425, 0.539, 0.609, 0.454),
    "segment25d": (0.561, 0.679, 0.757, 0.506),
    "segment2d": (0.698, 0.685, 0.600, 0.458),
    "segmentsemantic": (0.583, 0.653, 0.680, 0.572),
    "vanishing_point": (0.204, 0.268, 0.309, 0.212),
}
BLOCKS = ["block_1", "block_2", "block_3", "block_4"]


def published(types: dict[str, str]) -> LayerRanking:
    return LayerRanking("ResNet-50", "dds", {}, 200, BLOCKS, types, np.array(list(PUBLISHED.values())).T)


def test_the_published_similarities_lead_to_the_published_blocks() -> None:
    """Table 5 of the paper: block 1 is best for edges, 3 for depth and normals, 4 for semantic segmentation."""
    ranking = published({task: TASK_TYPES[task] for task in PUBLISHED})
    # The last is not from the paper: no block is selective for it, and the third is the most similar.
    assert ranking.recommended == {"2D": "block_1", "3D": "block_3", "semantic": "block_4", "geometric": "block_3"}
    semantic = np.array([PUBLISHED[task] for task in ("class_1000", "class_places", "segmentsemantic")]).mean(axis=0)
    np.testing.assert_allclose(ranking.similarity["semantic"], semantic)
    assert semantic.argmax() == 2  # so mere similarity would say block 3
    others = np.array([row for task, row in PUBLISHED.items() if TASK_TYPES[task] != "semantic"]).mean(axis=0)
    np.testing.assert_allclose(ranking.selectivity["semantic"], semantic - others)
    alone = published({task: task for task in PUBLISHED}).recommended
    found = [alone[task] for task in ("edge2d", "rgb2depth", "rgb2sfnorm", "segmentsemantic")]
    assert found == ["block_1", "block_3", "block_3", "block_4"]


def test_every_task_of_the_papers_has_a_type() -> None:
    tasks = set(AUTHORS_KEYS) - {"pascal_voc_segmentation"}
    assert tasks == set(TASK_TYPES) == set(PUBLISHED)
    assert set(load_truth("taskonomy-affinity").sources) < tasks


@pytest.fixture
def blocks() -> Features:
    return related_features(("low", "middle", "high"), 25, 8)


@pytest.fixture
def tasks() -> Features:
    return related_features(("edge2d", "denoise", "class_1000", "mine"), 25, 6)


@pytest.mark.parametrize("measure", ["dds", "rsa"])
def test_similarities_of_blocks_to_tasks(blocks: Features, tasks: Features, measure: str) -> None:
    ranking = rank_layers(blocks, tasks, measure)
    options = ranking.options
    expected = [[reference.similarity(X, Y, **options) for Y in tasks.values()] for X in blocks.values()]
    # float64 in, so both sides round at 1e-16; a thousand terms and a small norm leave 1e-9.
    np.testing.assert_allclose(ranking.scores, expected, atol=1e-9)
    assert ranking.tasks == {"2D": ["edge2d", "denoise"], "semantic": ["class_1000"], "mine": ["mine"]}
    assert ranking.images == 25
    mean = (ranking.scores[:, 0] + ranking.scores[:, 1]) / 2
    assert ranking.similarity["2D"] == pytest.approx(mean)


def test_tasks_of_one_type_take_the_most_similar_block(blocks: Features, tasks: Features) -> None:
    ranking = rank_layers(blocks, tasks, types=dict.fromkeys(tasks, "any"))
    assert ranking.selectivity == {}
    assert ranking.recommended == {"any": ranking.blocks[int(ranking.scores.mean(axis=1).argmax())]}
    assert ranking.to_dict()["types"][0]["selectivity"] is None


def test_a_ranking_of_layers_shows_and_writes_itself(tmp_path: Path, blocks: Features, tasks: Features) -> None:
    ranking = rank_layers(blocks, tasks, name="net")
    lines = str(ranking).splitlines()
    assert lines[0] == "Blocks of net: mean similarity to tasks of a type by dds, 25 images"
    assert lines[2].split() == ["type", "tasks", "low", "middle", "high", "most", "similar", "branch", "from"]
    for line, (name, means) in zip(lines[4:], ranking.similarity.items(), strict=True):
        best = ranking.blocks[int(means.argmax())]
        cells = [name, str(len(ranking.tasks[name])), *(f"{mean:.3f}" for mean in means)]
        assert line.split() == [*cells, best, ranking.recommended[name]]
    assert "<td>semantic</td><td>1</td>" in ranking._repr_html_()

    ranking.to_csv(tmp_path / "l.csv")
    with open(tmp_path / "l.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    cells = {(row["task"], row["block"]): row for row in rows}
    assert float(cells["denoise", "high"]["similarity"]) == ranking.scores[2, 1]
    for name, recommended in ranking.recommended.items():
        found = {row["block"] for row in rows if row["type"] == name and row["recommended"] == "True"}
        assert found == {recommended}

    ranking.to_json(tmp_path / "l.json")
    content = json.loads((tmp_path / "l.json").read_text())
    assert content["tasks"][1]["similarity"]["high"] == ranking.scores[2, 1]
    assert content["types"][0]["recommended"] == ranking.recommended["2D"]


def test_the_picture_shows_the_similarities(blocks: Features, tasks: Features) -> None:
    ranking = rank_layers(blocks, tasks)
    figure = ranking.plot()
    above, *panels = figure.axes
    lines = [line for line in above.lines if len(line.get_xdata()) == 3]
    for line, means in zip(lines, ranking.similarity.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), means)
    rings = [line.get_xdata()[0] for line in above.lines if len(line.get_xdata()) == 1]
    assert rings == list(ranking.recommended.values())
    for panel, block, scores in zip(panels, ranking.blocks, ranking.scores, strict=True):
        assert panel.get_title() == block
        assert [bar.get_width() for bar in panel.patches] == sorted(scores, reverse=True)


def test_the_picture_has_room_for_many_blocks_and_types() -> None:
    scores = np.random.default_rng(0).random((7, 12))
    tasks = {f"task {i}": f"task {i}" for i in range(12)}
    figure = LayerRanking("m", "dds", {}, 9, [f"b{i}" for i in range(7)], tasks, scores).plot()
    assert len(figure.axes) == 8
    assert len({line.get_color() for line in figure.axes[0].lines}) == 12


def save(folder: Path, features: Features) -> Path:
    folder.mkdir()
    for name, X in features.items():
        np.save(folder / f"{name}.npy", X)
    return folder


def test_layers_command(dds: Callable[..., Result], tmp_path: Path, blocks: Features, tasks: Features) -> None:
    model, networks = save(tmp_path / "net", blocks), save(tmp_path / "tasks", tasks)
    outputs = ["--csv", tmp_path / "l.csv", "--json", tmp_path / "l.json", "--plot", tmp_path / "l.png"]
    result = dds("layers", "--model", model, "--tasks", networks, "--measure", "rsa", *outputs)
    assert result.exit_code == 0, result.output
    read = {feature.name: feature.X for feature in load_features([networks])}
    in_order = dict(sorted(blocks.items()))
    assert result.stdout.split("\n\n")[0] == str(rank_layers(in_order, read, "rsa", name="net")).split("\n\n")[0]
    content = json.loads((tmp_path / "l.json").read_text())
    assert {**content, **rank_layers(in_order, read, "rsa", name="net").to_dict()} == content
    assert result.stderr == "note: tasks without a type, each taken as one of its own: mine\n"
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 13


def test_blocks_keep_the_order_of_the_files_or_are_sorted_by_number(
    dds: Callable[..., Result], tmp_path: Path, tasks: Features
) -> None:
    model = save(tmp_path / "net", related_features(("block10", "block9", "stem", "block1"), 25, 5))
    networks = save(tmp_path / "tasks", tasks)

    def order(*files: Path) -> list[str]:
        result = dds("layers", "--model", *files, "--tasks", networks / "edge2d.npy", networks / "mine.npy")
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()[2].split()[2:-4]

    assert order(model) == ["block1", "block9", "block10", "stem"]
    assert order(*(model / f"{name}.npy" for name in ("stem", "block10", "block9"))) == ["stem", "block10", "block9"]


def test_types_from_a_file(dds: Callable[..., Result], tmp_path: Path, blocks: Features, tasks: Features) -> None:
    (tmp_path / "types.csv").write_text("task,type\nmine,hard\nedge2d,easy\ndenoise, easy\nunused,easy\n")
    assert read_types(tmp_path / "types.csv") == {"mine": "hard", "edge2d": "easy", "denoise": "easy", "unused": "easy"}
    model, networks = save(tmp_path / "net", blocks), save(tmp_path / "tasks", tasks)
    arguments = ["--model", model, "--tasks", networks, "--types", tmp_path / "types.csv"]
    result = dds("layers", *arguments, "--json", tmp_path / "l.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "l.json").read_text())
    assert {entry["task"]: entry["type"] for entry in content["tasks"]} == {
        "mine": "hard", "edge2d": "easy", "denoise": "easy", "class_1000": "class_1000",
    }  # fmt: skip
    assert result.stderr == "note: tasks without a type, each taken as one of its own: class_1000\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no types: a heading and a row of task and type each are needed"),
        ("task,type\n", "names no types"),
        ("task,type\nedge2d\n", "line 2: a task and its type are needed, it reads 'edge2d'"),
        ("task,type\na,b\nedge2d, \n", "line 3: a task and its type are needed, it reads 'edge2d, '"),
        ("task,type\na,b\na,c\n", "line 3: the task 'a' comes twice"),
    ],
)
def test_a_bad_file_of_types_is_named_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"t\.csv.*{message}"):
        read_types(tmp_path / "t.csv")
