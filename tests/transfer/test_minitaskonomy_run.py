"""Networks, training, transfers, and the whole experiment with next to no images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dds_transfer import ahp_affinity, win_rates
from dds_transfer.blocks import block_hooks
from dds_transfer.minitaskonomy import run as experiment
from dds_transfer.minitaskonomy import sheets
from dds_transfer.minitaskonomy.__main__ import main
from dds_transfer.minitaskonomy.dataset import PART, Dataset, data_path, load_split, parts, render_part
from dds_transfer.minitaskonomy.labels import TASKS, labels
from dds_transfer.minitaskonomy.networks import GRID, RESNET, SIZE, ResNet, make_network, on_grid
from dds_transfer.minitaskonomy.render import render
from dds_transfer.minitaskonomy.run import RANDOM, SOURCES, measured_losses, ranking_features, run
from dds_transfer.minitaskonomy.scenes import random_scene, scene_seed, stack
from dds_transfer.minitaskonomy.training import (
    RATE,
    STAGES,
    fit,
    load_encoder,
    losses,
    network_path,
    stable_seed,
    start_at_constant,
    train_network,
)
from dds_transfer.minitaskonomy.transfer import constant_loss, train_readout, transfer_losses
from dds_transfer.tables import read_table
from made_experiment import TINY
from PIL import Image
from scipy.special import log_softmax
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "images.safetensors"
    render_part(path, 0, "train", 0, 48)
    return Dataset([path])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", ["encoder", "small", "resnet"])
def test_networks_give_what_their_tasks_ask_for(architecture: str, task: str) -> None:
    network = make_network(architecture, task)
    wanted = TASKS[task]
    space = (SIZE, SIZE) if wanted.spatial else ()
    assert network(IMAGES).shape == (4, wanted.channels, *space)
    channels = RESNET[-1] if architecture == "resnet" else 8
    assert network.get_submodule("encoder")(IMAGES).shape == (4, channels, GRID, GRID)


def test_the_encoder_is_that_of_the_rsa_paper() -> None:
    encoder = make_network("encoder", "autoencoder").get_submodule("encoder")
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [16, 32, 64, 64, 8]


def test_no_network_of_an_architecture_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="there are encoder, small and resnet"):
        make_network("vgg", "autoencoder")


def test_blocks_of_the_resnet_come_to_one_size_and_lose_nothing() -> None:
    encoder = ResNet().eval()
    assert list(block_hooks(encoder).values()) == ["layer1", "layer2", "layer3", "layer4"]
    seen: list[torch.Tensor] = []
    for name in block_hooks(encoder).values():
        encoder.get_submodule(name).register_forward_hook(lambda _, __, output: seen.append(output))
    blocks = encoder.blocks(IMAGES)
    assert [tuple(output.shape[1:]) for output in seen] == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]
    for block, output in zip(blocks, seen, strict=True):
        assert block.shape == (4, 128, GRID, GRID)
        values = set(output[0].flatten().tolist())
        assert set(block[0].flatten().tolist()) == values
    # Of a finer grid: the channel, then the place in the cell.
    assert on_grid(seen[0])[1, 4 * 3 + 2 * 1 + 0, 5, 7] == seen[0][1, 3, 2 * 5 + 1, 2 * 7]


def test_losses_are_those_of_numpy() -> None:
    random = np.random.default_rng(0)
    for task, kind in (("rgb2sfnorm", "l1"), ("edge2d", "l2"), ("segment2d", "binary")):
        assert TASKS[task].loss == kind
        x, y = random.normal(size=(2, 5, 3, 4, 4))
        if kind == "binary":
            y = (y > 0).astype(float)
            each = np.log1p(np.exp(x)) - x * y
        else:
            each = np.abs(x - y) if kind == "l1" else (x - y) ** 2
        found = losses(task, torch.tensor(x), torch.tensor(y))
        np.testing.assert_allclose(found, each.mean(axis=(1, 2, 3)), rtol=1e-12)
    x = random.normal(size=(5, 10, 4, 4))
    y = random.integers(10, size=(5, 4, 4))
    each = -np.take_along_axis(log_softmax(x, axis=1), y[:, None], axis=1)
    np.testing.assert_allclose(losses("segmentsemantic", torch.tensor(x), torch.tensor(y)), each.mean(axis=(1, 2, 3)))
    each = -np.take_along_axis(log_softmax(x[..., 0, 0], axis=1), y[:, :1, 0], axis=1)[:, 0]
    np.testing.assert_allclose(losses("class_1000", torch.tensor(x[..., 0, 0]), torch.tensor(y[:, 0, 0])), each)


def test_kept_labels_are_the_scenes_but_for_rounding(data: Dataset) -> None:
    scenes = stack([random_scene(scene_seed(0, "train", i)) for i in range(48)])
    views = render(scenes, SIZE)
    for task, label in labels(scenes, views).items():
        kept = data.label(task)
        assert kept.shape == label.shape and kept.dtype == label.dtype
        # 8 bits: 1/510, and chroma is a difference of two such; 16 bits: 11 significant ones of numbers below 8.
        torch.testing.assert_close(kept, label, atol=2 / 510 + 1e-6, rtol=0)
    torch.testing.assert_close(data.input("image"), views.image, atol=1 / 510 + 1e-6, rtol=0)


def test_splits_come_in_parts(tmp_path: Path) -> None:
    assert (parts(1), parts(PART), parts(PART + 1)) == (1, 1, 2)
    path = data_path(tmp_path, "test", 1)
    path.parent.mkdir()
    render_part(path, 0, "test", 1, PART + 3)
    image = Dataset([path]).input("image")
    views = render(stack([random_scene(scene_seed(0, "test", PART + i)) for i in range(3)]), SIZE)
    torch.testing.assert_close(image, views.image, atol=1 / 510 + 1e-6, rtol=0)


def test_training_lowers_the_loss_and_goes_by_its_seed(data: Dataset, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder / "networks").mkdir(parents=True)
        train_network(tmp_path / folder, "small", "rgb2depth", data, 40, seed)
    paths = [network_path(tmp_path / folder, "small", "rgb2depth") for folder in "abc"]
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    stages = [network_path(tmp_path / "a", "small", "rgb2depth", stage) for stage in STAGES]
    assert len({path.read_bytes() for path in stages}) == len(STAGES)

    image, depth = data.input("image"), data.label("rgb2depth")
    torch.manual_seed(0)
    network = make_network("small", "rgb2depth")
    before = losses("rgb2depth", network.eval()(image), depth).mean()
    # After 40 steps 4 of 8 seeds' networks were still above the bound below; after 80 none was above two thirds of it.
    fit(network, "rgb2depth", image, depth, 80, RATE, 0)
    after = losses("rgb2depth", network(image), depth).mean()
    # A constant would be off by the mean deviation from the median; what is learned must beat it.
    constant = (depth - depth.median()).abs().mean()
    assert after < 0.8 * constant < before


@pytest.mark.parametrize("task", TASKS)
def test_networks_and_readouts_start_at_the_constant(task: str, data: Dataset) -> None:
    """What they are worse than after training, they have learned wrongly; from random outputs many ended there."""
    label, image = data.label(task), data.input(TASKS[task].input)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_network("small", task).eval()
    start_at_constant(network, task, label)
    with torch.no_grad():
        answer = network(image)
        readout = train_readout(torch.rand(len(image), 8, GRID, GRID), task, label, 0, 0)
        assert readout(torch.rand(1, 8, GRID, GRID)).equal(answer[:1])
    constant = constant_loss(task, label, label)
    # Both are float32 means of the same numbers, summed pairwise: off by some 20 roundings of 2^-24.
    assert losses(task, answer, label).mean() == pytest.approx(constant, rel=1e-5)
    assert answer[:1].expand_as(answer).equal(answer)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = make_network("small", task).eval()
    assert losses(task, other(image), label).mean() > constant


def test_seeds_depend_on_all_they_are_made_of() -> None:
    made = {stable_seed(*what) for what in ((0, "a"), (1, "a"), (0, "b"), ("0", "a"), (0, "a", 0))}
    assert len(made) == 5
    assert stable_seed(0, "a") == stable_seed(0, "a")
    assert 0 <= max(made) < 2**63


def test_transfers_leave_the_source_alone_and_see_no_test_labels(data: Dataset) -> None:
    encoder = make_network("small", "autoencoder").get_submodule("encoder").eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    found = transfer_losses(encoder, data, data, 2, 0)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert set(found) == set(TASKS)
    for values in found.values():
        assert values.shape == (48,) and torch.isfinite(values).all() and (values > 0).all()
    again = transfer_losses(encoder, data, data, 2, 0)
    assert all(torch.equal(found[target], again[target]) for target in TASKS)


def test_what_a_source_does_not_tell_costs_no_more_than_a_constant(data: Dataset) -> None:
    found = transfer_losses(lambda images: torch.zeros(len(images), 8, GRID, GRID), data, data, 1, 0)
    for target, values in found.items():
        constant = constant_loss(target, data.label(target), data.label(target))
        assert values.mean() < constant + 0.02, target  # Adam's one step moves a bias by the rate, 0.01


def test_a_channel_that_only_test_images_wake_does_no_harm(data: Dataset) -> None:
    calls = 0

    def encode(images: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        features = torch.randn(len(images), 8, GRID, GRID, generator=torch.Generator().manual_seed(calls))
        if calls % 2:  # the images that the readouts are trained on
            features[:, 0] = 0
        return features

    # Divided by a deviation of nearly 0 the losses were in the thousands; noise gives a few times a label's range.
    assert max(values.max() for values in transfer_losses(encode, data, data, 2, 0).values()) < 30


def test_the_source_is_given_the_targets_images(data: Dataset) -> None:
    seen: list[torch.Tensor] = []

    def encode(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return torch.zeros(len(images), 8, GRID, GRID)

    transfer_losses(encode, data, data, 1, 0)
    given = {name: data.input(name) for name in ("image", "noisy", "masked", "grey")}
    assert len(seen) == 2 * len(given)
    for name, images in zip(("image", "noisy", "masked", "grey"), seen[::2], strict=True):
        torch.testing.assert_close(images, given[name])


def test_the_experiment_leaves_its_tables(done: Path) -> None:
    found = measured_losses(done)
    assert found.shape == (len(SOURCES), len(TASKS), TINY.test)
    assert (*TASKS, RANDOM) == SOURCES
    means = read_table(done / "losses.csv")
    assert (means.sources, means.targets) == (list(SOURCES), list(TASKS))
    np.testing.assert_allclose(means.values, found.mean(axis=2))
    beaten = np.zeros(found.shape[:2])
    for i, j, t in np.ndindex(len(SOURCES), len(SOURCES), len(TASKS)):
        beaten[i, t] += (found[i, t] < found[j, t]).mean() / (len(SOURCES) - 1)
    np.testing.assert_allclose(read_table(done / "winrate.csv").values, beaten, atol=1e-12)
    np.testing.assert_allclose(read_table(done / "affinity.csv").values, ahp_affinity(win_rates(found)))
    for name in ("branching_losses.csv", "branching_winrate.csv"):
        assert read_table(done / name).sources == ["block1", "block2", "block3", "block4"]


def test_splits_of_the_experiment_share_no_image(done: Path) -> None:
    images = [load_split(done, split, TINY.images(split)).input("image") for split in ("train", "transfer", "test")]
    images += [load_split(done, "ranking", TINY.ranking, style).input("image") for style in ("day", "night")]
    rows = torch.cat(images).flatten(1)
    away = torch.cdist(rows, rows, p=1) / rows.shape[1]
    away.fill_diagonal_(1)
    # Two rooms differ by a tenth of the range on average; the same one would by 0.
    assert away.min() > 0.01


def test_features_of_all_sources_on_images_that_nothing_was_trained_on(done: Path) -> None:
    features = ranking_features(done, TINY)
    assert list(features) == list(SOURCES)
    images = load_split(done, "ranking", TINY.ranking).input("image")
    for source in ("rgb2depth", RANDOM):
        with torch.no_grad():
            expected = load_encoder(done, "encoder", source)(images)
        np.testing.assert_allclose(features[source], expected, atol=1e-6)
    early = ranking_features(done, TINY, "small", "tenth", "night")
    assert list(early) == list(TASKS)


def test_a_run_goes_on_where_it_stopped(done: Path) -> None:
    kept = experiment.losses_path(done, "edge2d")
    cost = json.loads((done / "cost.json").read_text())
    before, other = kept.read_bytes(), experiment.losses_path(done, "edge3d").stat().st_mtime_ns
    kept.unlink()
    reports: list[tuple[str, int, int]] = []
    run(done, 0, TINY, 1, lambda name, done, steps, left: reports.append((name, done, steps)))
    assert kept.read_bytes() == before
    steps = sum(map(len, experiment.phases(done, 0, TINY)))
    assert reports == [("transfers from edge2d", steps, steps)]
    after = json.loads((done / "cost.json").read_text())
    assert after["workers"] == 1
    for name in ("wall_seconds", "cpu_seconds"):  # what this took comes to what was there
        assert cost[name] < after[name] < cost[name] + 60
    assert experiment.losses_path(done, "edge3d").stat().st_mtime_ns == other
    assert not list(done.rglob(".*"))  # nothing half-written is left


def test_a_folder_of_another_experiment_is_refused(done: Path) -> None:
    with pytest.raises(ValueError, match="another seed or other settings"):
        run(done, 1, TINY)
    result = CliRunner().invoke(main, ["-o", str(done), "--small"])
    assert result.exit_code == 1
    assert "choose another folder" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "settings.json is damaged"),
        ("[]", "settings.json is damaged: no JSON object"),
        ('{"seed": 0}', "of edition 1, this is edition"),
        ('{"edition": 99, "seed": 0, "other": 1}', "of edition 99, this is edition"),
        (f'{{"edition": {experiment.EDITION}, "seed": 0}}', "does not say the seed and the settings"),
    ],
)
def test_settings_that_are_damaged_or_of_another_edition(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        experiment.read_settings(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, 0, TINY)


def test_data_that_nothing_says_the_seed_of(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"no settings\.json says of which"):
        run(tmp_path, 0, TINY)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"workers": 2, "wall_seconds": "x", "cpu_seconds": 1}'])
def test_a_damaged_note_of_the_cost(tmp_path: Path, text: str) -> None:
    assert experiment.read_cost(tmp_path) == (0, 0.0, 0.0)
    (tmp_path / "cost.json").write_text(text)
    with pytest.raises(ValueError, match=r"cost\.json is damaged; remove it"):
        experiment.read_cost(tmp_path)


@pytest.mark.parametrize("part", ["data/test-day-00", "networks/encoder-edge2d-end", "losses/edge3d"])
def test_a_damaged_file_is_named(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr("dds_transfer.minitaskonomy.__main__.FULL", TINY)
    folder = tmp_path / "copy"
    shutil.copytree(done, folder, ignore=shutil.ignore_patterns("comparison"))
    damaged = folder / f"{part}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    if not part.startswith("losses"):
        experiment.losses_path(folder, "edge2d").unlink()  # which is made of it
    result = CliRunner().invoke(main, ["-o", str(folder), "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 1
    assert f"{damaged} is damaged" in result.output and "remove it and run the experiment again" in result.output


def test_pictures_of_rooms_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "SIZE", 24)
    result = CliRunner().invoke(sheets.main, [str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    names = ["labels.png", "rooms-day.png", "rooms-night.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    with Image.open(tmp_path / "new" / "rooms-day.png") as picture:
        pixels = np.asarray(picture)
    first = render(stack([random_scene(scene_seed(0, "train", 0))]), 24).image[0].permute(1, 2, 0)
    # 6 bits of 8: steps of 4, whose highest is 252.
    np.testing.assert_allclose(pixels[:24, :24] / 252, first, atol=0.51 / 63)
    titles = {axes.get_title() for axes in sheets.draw_labels(0, 1).axes}
    shown = {title.removesuffix(": input") for title in titles}
    assert shown == {"image", *TASKS} - {"autoencoder"}
