"""The comparison of methods, on the smallest experiment there is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dds_transfer import attribution_affinity
from dds_transfer.minitaskonomy import comparison, shipped
from dds_transfer.minitaskonomy.compare import main
from dds_transfer.minitaskonomy.comparison import PARTS, Record, compare
from dds_transfer.minitaskonomy.experiment import Experiment, load_experiment
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.methods import label_features, photographs, read_method
from dds_transfer.minitaskonomy.run import RANDOM, SOURCES, ranking_features
from dds_transfer.minitaskonomy.summary import collect, summarise
from dds_transfer.minitaskonomy.training import load_encoder, losses
from dds_transfer.minitaskonomy.transfer import constant_loss
from dds_transfer.tables import read_table
from made_experiment import TINY
from scipy.stats import spearmanr

import dds_ext

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def experiment(done: Path) -> Experiment:
    found = load_experiment(done)
    compare(found)
    return found


def part(experiment: Experiment, name: str) -> list[Record]:
    records: list[Record] = json.loads((experiment.folder / "comparison" / f"{name}.json").read_text())
    return records


def test_agreement_is_that_of_scipy(experiment: Experiment) -> None:
    features = ranking_features(experiment.folder, TINY)
    winrate = read_table(experiment.folder / "winrate.csv").values
    found = next(
        record for record in part(experiment, "agreement") if (record["method"], record["truth"]) == ("rsa", "winrate")
    )
    kept, off, control = [], [], []
    for j, target in enumerate(TASKS):
        scores = [dds_ext.rsa(features[source], features[target]) for source in SOURCES]
        others = [i for i in range(len(TASKS)) if i != j]
        kept.append(spearmanr(scores[:-1], winrate[:-1, j]).statistic)
        off.append(spearmanr(np.array(scores)[others], winrate[others, j]).statistic)
        others.append(len(TASKS))
        control.append(spearmanr(np.array(scores)[others], winrate[others, j]).statistic)
    assert found["spearman"] == pytest.approx(np.mean(kept))
    assert found["spearman_off_diagonal"] == pytest.approx(np.mean(off))
    assert found["spearman_with_control"] == pytest.approx(np.mean(control))
    assert found["spearman_low"] <= found["spearman_high"]
    assert found["seconds"] > 0


def test_who_knows_nothing_is_no_better_than_chance(experiment: Experiment) -> None:
    for record in part(experiment, "agreement"):
        if record["method"] in ("random", "identity"):
            assert record["relative_regret"] == pytest.approx(1)
            assert record["spearman_off_diagonal"] is None
    for record in part(experiment, "at_k"):
        if record["method"] == "random":
            assert record["precision"] == pytest.approx(record["random_precision"])


def test_attribution_by_blocks_is_that_of_all_images(experiment: Experiment) -> None:
    encoders = {source: load_encoder(experiment.folder, "encoder", source) for source in SOURCES}
    images = experiment.images().input("image")
    whole = attribution_affinity(encoders, images, "saliency", batch_size=len(images)).table
    method = read_method(experiment.folder / "comparison" / "similarities" / "saliency.json")
    # Maps are float32 and depend a little on the batch that they are computed in.
    np.testing.assert_allclose(method.table.values, whole.values[:, :-1], atol=1e-5)
    assert (method.table.sources[-1], len(method.draws), method.draws[0].shape) == (RANDOM, 2, (20, 20))


def test_branching_goes_by_the_measured_win_rates(experiment: Experiment) -> None:
    truth = read_table(experiment.folder / "branching_winrate.csv")
    records = [record for record in part(experiment, "branching") if record["measure"] == "dds"]
    assert [record["block"] for record in records[:4]] == truth.sources
    semantic = [record for record in records if record["type"] == "semantic"]
    tasks = ("segmentsemantic", "class_1000", "class_places")
    wins = np.mean([truth.values[:, truth.targets.index(task)] for task in tasks], axis=0)
    assert [record["winrate"] for record in semantic] == pytest.approx(wins.tolist())
    assert [record["best"] for record in semantic].index(True) == wins.argmax()
    assert sum(record["recommended"] for record in semantic) == 1


def test_variants_and_depths(experiment: Experiment) -> None:
    first, *others = [record for record in part(experiment, "robustness") if record["measure"] == "dds"]
    assert first["variant"] == "finished" and first["same_similarities"] == pytest.approx(1)
    agreement = next(record for record in part(experiment, "agreement") if record["method"] == "dds")
    assert first["spearman_winrate"] == pytest.approx(agreement["spearman_off_diagonal"])
    # one step of training is a tenth and a half of it, too
    assert [abs(record["same_similarities"]) < 0.999 for record in others] == [False, False, True, True, True]
    depths = {record["depth"]: record for record in part(experiment, "depth") if record["measure"] == "dds"}
    assert depths["convolution 5"]["spearman_winrate"] == pytest.approx(first["spearman_winrate"])
    assert depths["labels"]["as_labels"] == pytest.approx(1)
    assert depths["convolution 1"]["as_labels"] < 1


def test_labels_as_features(experiment: Experiment) -> None:
    data = experiment.images()
    assert label_features(data, "segmentsemantic").shape == (TINY.ranking, 64, 64, 16)
    assert (label_features(data, "class_places").sum(axis=1) == 1).all()
    np.testing.assert_array_equal(label_features(data, "rgb2depth"), data.label("rgb2depth"))


def test_photographs_are_parts_of_both() -> None:
    parts = photographs(6)
    assert parts.shape == (6, 3, 64, 64) and parts.min() >= 0 and parts.max() <= 1
    assert torch.cdist(parts.flatten(1), parts.flatten(1), p=1).fill_diagonal_(1e9).min() > 0
    assert parts.flatten(1).std(dim=1).min() > 0.01


def test_parts_are_kept_and_a_missing_one_is_made_again(experiment: Experiment) -> None:
    folder = experiment.folder / "comparison"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    before = (folder / "control.csv").read_bytes()
    (folder / "control.json").unlink()
    assert list(compare(experiment)) == list(PARTS)
    assert (folder / "control.csv").read_bytes() == before
    made = [path.name for path, at in times.items() if path.stat().st_mtime_ns != at]
    assert made == ["control.json"]


def test_means_and_ranges_over_seeds() -> None:
    first = [
        {"method": "dds", "k": 1, "good": 0.5, "best": True},
        {"method": "rsa", "k": 1, "good": None, "best": True},
    ]
    second = [
        {"method": "rsa", "k": 1, "good": 0.25, "best": False},
        {"method": "dds", "k": 1, "good": 1.0, "best": True},
    ]
    assert summarise([first, second]) == [
        {"method": "dds", "k": 1, "good": 0.75, "good_min": 0.5, "good_max": 1.0, "best": 1.0},
        {"method": "rsa", "k": 1, "good": 0.25, "good_min": 0.25, "good_max": 0.25, "best": 0.5},
    ]
    nothing = summarise([[{"method": "random", "good": None}]])
    assert nothing == [{"method": "random", "good": None, "good_min": None, "good_max": None}]


def test_what_is_gathered(experiment: Experiment, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(experiment.folder), "-o", str(tmp_path / "all")])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert summary["settings"]["seeds"] == [0] and list(summary) == ["settings", "costs", *PARTS]
    for name in ("methods", "at_k", "grid", "images", "robustness", "depth", "branching"):
        assert (tmp_path / "all" / f"{name}.png").stat().st_size > 0
    kept = read_table(tmp_path / "all" / "seed0" / "similarities" / "dds.csv")
    assert (kept.sources, kept.targets) == (list(SOURCES), list(TASKS))
    with pytest.raises(ValueError, match="different seeds"):
        collect([experiment, experiment], tmp_path / "twice")


def test_an_experiment_that_is_not_finished(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 1
    assert "no finished experiment, settings.json is missing" in result.output
    result = CliRunner().invoke(shipped.main, [str(tmp_path)])
    assert result.exit_code == 1
    assert "no finished experiment, settings.json is missing" in result.output


@pytest.mark.parametrize("task", ["rgb2depth", "edge2d", "segment2d", "segmentsemantic", "class_1000", "room_layout"])
def test_no_constant_is_better_than_the_constant(task: str) -> None:
    """On the labels that it is fitted to; the loss is convex, so that steps to all sides tell."""
    random = torch.Generator().manual_seed(0)
    spec = TASKS[task]
    shape = (12, 4, 4) if spec.spatial else (12,)
    if spec.loss == "cross_entropy":
        label = torch.randint(0, spec.channels, shape, generator=random)
    else:
        label = torch.rand(shape[0], spec.channels, *shape[1:], generator=random)
        label = (label > 0.3).float() if spec.loss == "binary" else label
    found = constant_loss(task, label, label)
    if spec.loss == "cross_entropy":
        shares = torch.bincount(label.flatten(), minlength=spec.channels) / label.numel()
        entropy = -(shares * shares.clamp(min=1e-12).log()).sum().item()
        assert entropy <= found < entropy + 0.2  # each class is counted once more, in case it is in the test alone
        return
    values = label.movedim(1, 0).flatten(1)
    level = values.median(dim=1).values if spec.loss == "l1" else values.mean(dim=1)
    level = level.logit() if spec.loss == "binary" else level
    for step in (-0.05, -0.001, 0.001, 0.05):
        for c in range(spec.channels):
            moved = level.clone()
            moved[c] += step
            answer = moved.reshape(1, -1, *[1] * (label.ndim - 2)).expand(label.shape)
            # float32 sums of some 2,000 addends
            assert losses(task, answer, label).mean() >= found - 1e-6


def test_the_lead_is_that_of_a_bootstrap_over_targets(monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    random = np.random.default_rng(0)
    scores = {name: random.normal(size=len(TASKS)) for name in ("dds", "rsa")}
    records = [
        {"method": name, "truth": "winrate", "target": target, "spearman_off_diagonal": value}
        for name, values in scores.items()
        for target, value in zip(TASKS, values.tolist(), strict=True)
    ]
    monkeypatch.setattr(comparison, "_kept", lambda experiment, name, make: {"targets": records}[name])
    (found,) = comparison._lead(experiment)
    ahead = scores["dds"] - scores["rsa"]
    assert found["ahead"] == pytest.approx(ahead.mean(), abs=1e-12)
    # of a mean of 20 the bootstrap's interval is nearly the normal one: within a tenth of its width
    width = 2 * 1.96 * ahead.std() / np.sqrt(len(TASKS))
    assert found["low"] == pytest.approx(ahead.mean() - width / 2, abs=width / 10)
    assert found["high"] == pytest.approx(ahead.mean() + width / 2, abs=width / 10)
