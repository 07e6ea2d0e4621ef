"""The DDS authors' activations: stored once as files that are mapped, and their tables computed from them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from dds_transfer import activations, load_activations, reproduce
from dds_transfer.reproduction import EXPERIMENTS, steps
from dds_transfer.tables import load_truth, read_bundled
from made_features import AUTHORS_KEYS, Features, related_features
from scipy import stats

from dds_ext import reference


@pytest.fixture(scope="module")
def arrays() -> Features:
    """Of the form of the authors' file, with fewer images and features: 21 models, channels last."""
    return related_features(AUTHORS_KEYS, 210, 32)


@pytest.fixture
def authors_file(tmp_path: Path, arrays: Features) -> Path:
    path = tmp_path / "taskonomy_pascal_feats_taskonomy_5000.npy"
    np.save(path, arrays, allow_pickle=True)
    return path


def test_a_pickle_is_stored_once_and_mapped(authors_file: Path, arrays: Features) -> None:
    models = load_activations(authors_file)
    assert {model.name for model in models} == set(AUTHORS_KEYS)
    for model in models:
        assert isinstance(model.X, np.memmap)
        assert model.X.dtype == np.float64
        np.testing.assert_array_equal(model.X, arrays[model.name])
    store = authors_file.with_name(f"{authors_file.name}.arrays")
    assert sorted(path.name for path in store.iterdir()) == sorted([*(f"{name}.npy" for name in arrays), "index.json"])
    made = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    again = load_activations(authors_file)
    assert [model.name for model in again] == [model.name for model in models]
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == made
    # and nothing else is left in the folder
    assert sorted(authors_file.parent.iterdir()) == [authors_file, store]


def test_a_changed_pickle_is_stored_anew(authors_file: Path, arrays: Features) -> None:
    load_activations(authors_file)
    np.save(authors_file, {"only": arrays["denoise"] + 1}, allow_pickle=True)
    (model,) = load_activations(authors_file)
    np.testing.assert_array_equal(model.X, arrays["denoise"] + 1)


def test_a_store_elsewhere_and_other_endings(tmp_path: Path, arrays: Features) -> None:
    path, store = tmp_path / "a.pkl", tmp_path / "elsewhere"
    path.write_bytes(pickle.dumps(arrays, 2))
    models = load_activations(path, store)
    assert all(model.path.parent == store for model in models)
    np.testing.assert_array_equal(models[0].X, arrays[models[0].name])
    assert sorted(tmp_path.iterdir()) == [path, store]
    assert [model.path for model in load_activations(store)] == [model.path for model in models]


def test_what_can_be_mapped_needs_no_store(tmp_path: Path, arrays: Features) -> None:
    np.save(tmp_path / "a.npy", arrays["denoise"])
    np.savez(tmp_path / "b.npz", **arrays)
    load_activations(tmp_path / "a.npy")
    assert len(load_activations(tmp_path / "b.npz")) == 21
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failure_leaves_no_store_behind(authors_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []

    def stop(path: Path, X: object) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(path)
        path.write_bytes(b"half")

    with monkeypatch.context() as patch:
        patch.setattr(activations.np, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            load_activations(authors_file)
    assert list(authors_file.parent.iterdir()) == [authors_file]
    assert len(load_activations(authors_file)) == 21


def test_refusals(tmp_path: Path, arrays: Features) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"up/../stairs": arrays["denoise"], "x": arrays["edge2d"]}))
    with pytest.raises(
        ValueError, match=r"a\.pkl holds an array named 'up/\.\./stairs', which cannot be a file's name"
    ):
        load_activations(path)
    path.write_bytes(pickle.dumps({"x": os.system}))
    with pytest.raises(ValueError, match="only arrays and dictionaries of arrays are read"):
        load_activations(path)
    path.write_bytes(pickle.dumps(arrays))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    with pytest.raises(ValueError, match=r"mine exists and is no store of arrays"):
        load_activations(path, tmp_path / "mine")
    with pytest.raises(FileNotFoundError) as raised:
        load_activations(path, tmp_path / "no" / "where")
    assert raised.value.filename == str(tmp_path / "no" / "where")
    assert (tmp_path / "mine" / "precious").read_text() == "x"


def test_memory_is_once_the_pickles_size(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    np.save(path, related_features(AUTHORS_KEYS, 250, 2048), allow_pickle=True)  # 86 MB
    code = f"""
import resource, sys
from dds_transfer import load_activations
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_activations({str(path)!r})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    # Once, and a quarter for one array on its way and what the allocator keeps.
    assert int(done.stdout) < 1.25 * path.stat().st_size


def expected(arrays: Features, truth: str, normalize: str, f: str, rows: np.ndarray) -> tuple[float, float]:
    """Mean Spearman with the truth, diagonal kept and left out, from the reference alone."""
    measured = load_truth(truth)
    options = {"normalize": normalize, "channels": 8, "channels_last": True, "groups": 2}
    K = {
        name: reference.rdm(arrays[name][rows], f=f, center="unbiased", **options)
        for name in (*measured.sources, *measured.targets)
    }
    kept, left_out = [], []
    for j, target in enumerate(measured.targets):
        scores = np.array([reference.compare(K[source], K[target], "cosine") for source in measured.sources])
        others = np.array([source != target for source in measured.sources])
        kept.append(stats.spearmanr(scores, measured.values[:, j]).statistic)
        left_out.append(stats.spearmanr(scores[others], measured.values[others, j]).statistic)
    return float(np.mean(kept)), float(np.mean(left_out))


def test_taskonomy_is_the_first_200_images(
    dds: Callable[..., Result], tmp_path: Path, authors_file: Path, arrays: Features
) -> None:
    outputs = ["--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv"]
    result = dds("reproduce", "taskonomy", "--features", authors_file, *outputs)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["settings"]["experiment"] == "taskonomy" and content["files"] == [str(authors_file)]
    records = content["records"]
    assert len(records) == 7 * 6 + 6 * 6 + 7 * 6
    cells = {(r["truth"], r["published_in"], r["normalize"], r["f"]): r for r in records}
    for truth, place, normalize, f, published in (
        ("taskonomy-affinity", "the authors' notebook", "zscore", "laplacian", 0.860),
        ("taskonomy-affinity", "the paper's Table 2", "none", "rbf", 0.800),
        ("taskonomy-winrate", "the authors' notebook", "group", "cosine", 0.782),
    ):
        record = cells[truth, place, normalize, f]
        assert record["published"] == published
        kept, left_out = expected(arrays, truth, normalize, f, np.arange(200))
        assert record["computed"] == pytest.approx(kept, abs=1e-9)
        assert record["off_diagonal"] == pytest.approx(left_out, abs=1e-9)
        assert record["difference"] == pytest.approx(kept - published, abs=1e-9)
        assert f" {published:.3f}  {kept:.3f} " in result.stdout
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1 + len(records)


def test_pascal_is_the_mean_over_the_authors_draws(
    authors_file: Path, arrays: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps("pascal") == EXPERIMENTS["pascal"].draws == 100
    monkeypatch.setitem(EXPERIMENTS, "pascal", replace(EXPERIMENTS["pascal"], draws=6))
    calls = []
    records = reproduce("pascal", load_activations(authors_file), lambda: calls.append(1))
    assert len(calls) == steps("pascal") == 6
    assert [record["f"] for record in records] == ["rbf", "laplacian", "linear", "pearson", "euclidean", "cosine"]
    random = np.random.RandomState(1993)
    draws = [random.choice(range(210), 200, replace=False) for _ in range(6)]
    for f, published in (("linear", 0.718), ("laplacian", 0.765)):
        record = next(record for record in records if record["f"] == f)
        assert (record["truth"], record["normalize"], record["published"]) == ("pascal-voc", "zscore", published)
        values = [expected(arrays, "pascal-voc", "zscore", f, rows)[0] for rows in draws]
        assert record["computed"] == record["off_diagonal"] == pytest.approx(np.mean(values), abs=1e-9)


def test_every_published_table_names_what_the_engine_knows() -> None:
    import dds_ext

    for experiment in EXPERIMENTS.values():
        for table in experiment.tables:
            content = read_bundled(table.file)
            assert set(content.sources) <= set(dds_ext.NORMALIZATIONS)
            assert set(content.targets) <= set(dds_ext.METRICS)
            load_truth(table.truth)


def test_reproduce_says_what_is_missing(
    dds: Callable[..., Result], tmp_path: Path, arrays: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for name in AUTHORS_KEYS[2:]:
        np.save(folder / f"{name}.npy", arrays[name])
    result = dds("reproduce", "taskonomy", "--features", folder)
    assert result.exit_code == 1
    assert "no features of autoencoder, curvature among those of 19 models; the authors' taskonomy_pascal_feats_" in (
        result.stderr
    )
    np.savez(tmp_path / "short.npz", **{name: X[:50] for name, X in arrays.items()})
    result = dds("reproduce", "pascal", "--features", tmp_path / "short.npz")
    assert result.stderr == "Error: 200 images are asked for, and there are 50\n"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = dds("reproduce", "pascal", "--features", ".")
    assert (
        result.stderr
        == "Error: . is a folder without feature files (.npy, .npz, .safetensors, .pt, .pth, .pkl, .pickle)\n"
    )
    with pytest.raises(ValueError, match="no experiment named 'imagenet'; known are taskonomy, pascal"):
        reproduce("imagenet", load_activations(folder))
