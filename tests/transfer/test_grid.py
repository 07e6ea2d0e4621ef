"""Every normalisation x f: against the definition, and the draws of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from dds_transfer.grid import draw_images
from dds_transfer.tables import TASKONOMY_TASKS, load_truth
from made_features import AUTHORS_KEYS, Features, related_features
from scipy import stats

import dds_ext
from dds_ext import reference


@pytest.fixture(scope="module")
def activations() -> Features:
    """Of the form of the authors' file: 21 models, 16 x 16 x 8 features flattened with the channels last."""
    return related_features(AUTHORS_KEYS, 30, 2048)


@pytest.fixture(scope="module")
def authors_file(tmp_path_factory: pytest.TempPathFactory, activations: Features) -> Path:
    path = tmp_path_factory.mktemp("authors") / "activations.npy"
    np.save(path, activations, allow_pickle=True)
    return path


def expected(activations: Features, normalize: str, f: str, rows: np.ndarray) -> dict[str, float]:
    """Mean Spearman with the affinities over the 17 tasks, from the reference alone."""
    truth = load_truth("taskonomy-affinity")
    options = {"normalize": normalize, "channels": 8, "channels_last": True, "groups": 2}
    matrices = [reference.rdm(activations[task][rows], f=f, center="unbiased", **options) for task in TASKONOMY_TASKS]
    affinity = np.array([[reference.compare(K, L, "cosine") for L in matrices] for K in matrices])
    kept, left_out = [], []
    for j in range(17):
        others = np.arange(17) != j
        kept.append(stats.spearmanr(affinity[:, j], truth.values[:, j]).statistic)
        left_out.append(stats.spearmanr(affinity[others, j], truth.values[others, j]).statistic)
    return {"spearman": float(np.mean(kept)), "spearman_off_diagonal": float(np.mean(left_out))}


def test_the_authors_file_gives_the_papers_table(
    dds: Callable[..., Result], tmp_path: Path, authors_file: Path, activations: Features
) -> None:
    options = ["--truth", "taskonomy-affinity", "--channels", "8", "--channels-last", "--images", "20"]
    result = dds("grid", authors_file, *options, "--json", tmp_path / "grid.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "grid.json").read_text())
    cells = {(record["normalize"], record["f"]): record for record in content["records"]}
    assert set(cells) == {(normalize, f) for normalize in dds_ext.NORMALIZATIONS for f in dds_ext.METRICS}
    assert content["images"] == 20
    for cell in (("zscore", "laplacian"), ("batch", "rbf"), ("group", "pearson")):
        figures = expected(activations, *cell, np.arange(20))
        assert {name: cells[cell][name] for name in figures} == pytest.approx(figures, abs=1e-9)
    assert "diagonal kept; 17 targets, 17 sources, 20 images" in result.stdout
    assert "sources only here, left out: colorization, class_places, inpainting_whole, pascal_voc" in result.stderr


def test_bootstrap_refits_on_each_draw(
    dds: Callable[..., Result], tmp_path: Path, authors_file: Path, activations: Features
) -> None:
    options = [
        "--truth",
        "taskonomy-affinity",
        "--channels",
        "8",
        "--channels-last",
        "--images",
        "12",
        "--bootstrap",
        "3",
    ]
    result = dds("grid", authors_file, *options, "--json", tmp_path / "grid.json")
    assert result.exit_code == 0, result.output
    records = json.loads((tmp_path / "grid.json").read_text())["records"]
    cell = next(record for record in records if (record["normalize"], record["f"]) == ("zscore", "cosine"))
    random = np.random.RandomState(1993)
    draws = [random.choice(range(30), 12, replace=False) for _ in range(3)]
    values = [expected(activations, "zscore", "cosine", rows)["spearman"] for rows in draws]
    assert cell["spearman"] == pytest.approx(np.mean(values), abs=1e-9)
    assert cell["spearman_sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert " ±" in result.stdout


def test_similarity_to_a_target(dds: Callable[..., Result], tmp_path: Path, folder: Path, features: Features) -> None:
    result = dds("grid", folder, "--target", folder / "target.npy", "--channels", "4", "--csv", tmp_path / "g.csv")
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "g.csv").read_text().splitlines()
    assert lines[0] == "normalize,f,source,score"
    assert len(lines) == 1 + len(dds_ext.NORMALIZATIONS) * len(dds_ext.METRICS) * 4
    scores = {tuple(line.split(",")[:3]): float(line.split(",")[3]) for line in lines[1:]}
    options = {"f": "rbf", "normalize": "instance", "center": "unbiased", "channels": 4}
    K, L = (reference.rdm(features[name], **options) for name in ("b", "target"))
    assert scores["instance", "rbf", "b"] == pytest.approx(reference.compare(K, L, "cosine"), abs=1e-9)


def test_flattened_features_leave_out_what_needs_channels(dds: Callable[..., Result], folder: Path) -> None:
    result = dds("grid", folder, "--target", folder / "target.npy")
    assert result.exit_code == 0, result.output
    assert "left out: batch, instance, group; flattened features need --channels" in result.stderr
    assert "normalisation zscore" in result.stdout
    assert "normalisation batch" not in result.stdout


def test_a_truth_with_targets_of_its_own(
    dds: Callable[..., Result], tmp_path: Path, folder: Path, features: Features
) -> None:
    """As for transfer to one new task: sources a to d in the rows, the target model the only column."""
    (tmp_path / "truth.csv").write_text("source,target\na,0.4\nb,0.1\nc,0.3\nd,0.2\n")
    result = dds("grid", folder, "--truth", tmp_path / "truth.csv", "--json", tmp_path / "g.json")
    assert result.exit_code == 0, result.output
    cells = {(r["normalize"], r["f"]): r for r in json.loads((tmp_path / "g.json").read_text())["records"]}
    K = {name: reference.rdm(X, f="linear", normalize="center", center="unbiased") for name, X in features.items()}
    scores = [reference.compare(K[name], K["target"], "cosine") for name in "abcd"]
    expected = stats.spearmanr(scores, [0.4, 0.1, 0.3, 0.2]).statistic
    cell = cells["center", "linear"]
    assert cell["spearman"] == cell["spearman_off_diagonal"] == pytest.approx(expected)


def test_bootstrap_of_few_images(dds: Callable[..., Result], tmp_path: Path, features: Features) -> None:
    np.savez(tmp_path / "f.npz", **{name: X[:8] for name, X in features.items()})
    place = ["grid", tmp_path / "f.npz", "--target", f"{tmp_path}/f.npz:target", "--bootstrap", 2]
    result = dds(*place)
    assert result.exit_code == 0 and " ±" in result.stdout, result.output
    np.savez(tmp_path / "f.npz", **{name: X[:7] for name, X in features.items()})
    result = dds(*place)
    message = "Error: 7 images are too few for draws of half of them; leave --bootstrap out\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_draws() -> None:
    assert draw_images(10, None, None, 0) == [slice(0, 10)]
    assert draw_images(10, 4, None, 0) == [slice(0, 4)]
    draws = draw_images(5000, None, 100, 1993)
    assert len(draws) == 100
    # Without replacement, 200 at a time, and the very draws of the authors' scripts.
    legacy = np.random.RandomState(1993)
    for rows in draws:
        assert len(np.unique(rows)) == 200
        np.testing.assert_array_equal(rows, legacy.choice(range(5000), 200, replace=False))
    assert [len(rows) for rows in draw_images(60, None, 2, 0)] == [30, 30]  # half of them where 200 are too many
    with pytest.raises(ValueError, match="50 images are asked for, and there are 10"):
        draw_images(10, 50, None, 0)
    with pytest.raises(ValueError, match="every draw of 10 out of 10 images is the same; ask for fewer images"):
        draw_images(10, 10, 5, 0)
