"""Maps of layers and affinities between models against plain loops; what is left behind; the command."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from dds_transfer import Preprocessing, attribution_affinity, attribution_maps, dds_affinity, load_images
from dds_transfer.attribution import METHODS
from dds_transfer.tables import read_table
from PIL import Image
from small_networks import Backbone, ResNet
from torch import Tensor, nn

import dds_ext

N = 7  # images in X
pytestmark = pytest.mark.usefixtures("seed")


@pytest.fixture
def models() -> dict[str, nn.Module]:
    return {"narrow": ResNet(), "wide": ResNet(6), "wider": ResNet(8)}


def loops(maps: dict[str, Any]) -> list[list[float]]:
    def cosine(a: Any, b: Any) -> float:
        return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))

    wide = {name: np.float64(each) for name, each in maps.items()}
    return [[np.mean([cosine(a, b) for a, b in zip(wide[s], wide[t], strict=True)]) for t in wide] for s in wide]


@pytest.mark.parametrize("method", METHODS)
def test_affinity_is_the_mean_cosine_of_maps(models: dict[str, nn.Module], X: Tensor, method: str) -> None:
    layers = {"narrow": "layer4", "wide": "layer4"}
    # One batch, since float32 maps of other batches may differ in their last digits, and these be magnified by depth.
    maps = {name: attribution_maps(model, X, method, layer=layers.get(name)) for name, model in models.items()}
    result = attribution_affinity(models, X, method, layers=layers)
    assert result.table.sources == result.table.targets == list(models)
    np.testing.assert_allclose(result.table.values, loops(maps), atol=1e-12)  # sums of 256 products in float64
    np.testing.assert_array_equal(result.table.values, result.table.values.T)
    np.testing.assert_array_equal(np.diag(result.table.values), 1)
    assert result.seconds > 0
    assert len(np.unique(result.table.values.round(6))) == 4  # three pairs and the diagonal


@pytest.mark.parametrize("method", METHODS)
def test_images_have_no_part_in_each_others_maps(X: Tensor, method: str) -> None:
    model, X = ResNet().double(), X.double()
    one_by_one = attribution_maps(model, X, method, batch_size=1)
    assert one_by_one.dtype == np.float64 and one_by_one.shape == (N, 16, 16)
    for size in (2, N):
        # A sum in another order: 1e-16 of some hundred terms, in ten layers.
        np.testing.assert_allclose(attribution_maps(model, X, method, batch_size=size), one_by_one, atol=1e-13)
    alone = {"a": model, "b": ResNet(6).double()}
    tables = [attribution_affinity(alone, X, method, batch_size=size).table.values for size in (1, 2, N)]
    np.testing.assert_allclose(tables[1:], [tables[0]] * 2, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_is_the_network_that_ends_there(X: Tensor, method: str) -> None:
    """The ReLU that follows works in place and must not be part of it."""
    model = ResNet().eval()
    end = nn.Sequential(model.conv1, model.bn1, model.relu, model.layer1)
    maps = attribution_maps(model, X, method, layer="layer1")
    np.testing.assert_array_equal(maps, attribution_maps(end, X, method))
    assert maps.dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_works_in_place_on_the_image(X: Tensor, method: str) -> None:
    convolution, copy = nn.Conv2d(3, 4, 3), X.clone()
    maps = attribution_maps(nn.Sequential(nn.ReLU(inplace=True), convolution), X, method)
    np.testing.assert_array_equal(maps, attribution_maps(nn.Sequential(nn.ReLU(), convolution), X, method))
    assert torch.equal(X, copy)


def test_saliency_is_absolute_before_the_mean_and_the_others_are_signed(X: Tensor) -> None:
    weights = torch.tensor([1.0, -1.0, 0.5])

    class Weigh(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.movedim(1, 3) * weights).sum((1, 2, 3))

    expected = torch.full((N, 16, 16), 2.5 / 3)
    np.testing.assert_allclose(attribution_maps(Weigh(), X, "saliency"), expected, rtol=1e-6)
    signed = (X * weights[:, None, None]).mean(1)
    for method in ("gradient_x_input", "epsilon_lrp", "deeplift"):
        # Three terms of size 4 in float32
        np.testing.assert_allclose(attribution_maps(Weigh(), X, method), signed, atol=4e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_as_it_was(X: Tensor, method: str) -> None:
    model = ResNet().train()
    model.layer1.eval()
    model.conv1.weight.requires_grad_(False)
    copy = X.clone()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]

    def check() -> None:
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == trained
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not any(module._forward_hooks for module in model.modules())

    first = attribution_maps(model, X, method)
    check()
    np.testing.assert_array_equal(attribution_maps(model, X, method), first)  # dropout would show
    assert torch.equal(X, copy) and not X.requires_grad
    with pytest.raises(ValueError, match=r"^ResNet: Given groups=1, weight of size"):
        attribution_maps(model, X[:, :2], method)
    check()


def test_outputs_in_dictionaries(X: Tensor) -> None:
    model = Backbone()
    maps = attribution_maps(model, X, "epsilon_lrp")
    np.testing.assert_array_equal(maps, attribution_maps(model.backbone, X, "epsilon_lrp"))


def test_a_resnet_of_transformers() -> None:
    """With its in-place, functional and modular activations and its own kind of output."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 2, 1, 1], layer_type="basic"
    )
    model = transformers.ResNetModel(config).double().eval()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    layer = "encoder.stages.3"
    explained = 3 * attribution_maps(model, x, "deeplift", layer=layer).sum((1, 2))
    with torch.no_grad():
        y, y0 = (model(each).last_hidden_state.flatten(1).sum(1) for each in (x, torch.zeros_like(x)))
    np.testing.assert_allclose(explained, y - y0, atol=1e-9)


def test_models_with_preprocessings_of_their_own(models: dict[str, nn.Module]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), np.uint8)
    models["wide"].pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (3, 16, 16)}
    for name in ("narrow", "wider"):
        models[name].pretrained_cfg = {"input_size": (3, 16, 16)}
    prepared = {name: load_images(pictures, Preprocessing(16)) for name in models}
    prepared["wide"] = load_images(pictures, Preprocessing(16, (0.5,) * 3, (0.5,) * 3))
    maps = {name: attribution_maps(model, prepared[name], "gradient_x_input") for name, model in models.items()}
    for images in (pictures, prepared):
        result = attribution_affinity(models, images, "gradient_x_input", batch_size=8)
        np.testing.assert_allclose(result.table.values, loops(maps), atol=1e-12)
    models["wide"].pretrained_cfg["input_size"] = (3, 18, 18)
    with pytest.raises(ValueError, match="one size, not narrow 16 x 16, wide 18 x 18, wider 16 x 16"):
        attribution_affinity(models, pictures, "saliency")


def test_only_the_maps_of_a_batch_are_held() -> None:
    n, side, batch = 256, 64, 4
    X = torch.zeros(1, 1, side, side).expand(n, 1, side, side)
    models = {name: nn.Conv2d(1, 1, 3) for name in "abc"}
    tracemalloc.start()
    try:
        attribution_affinity(models, X, "saliency", batch_size=batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    rows = len(models) * batch * side * side * 8
    # The rows, the same stacked, and a model's rows before they are divided by their lengths; all images need 64 times
    # the rows. Half a MiB is Python's.
    assert peak < 3 * rows + 2**19 < 64 * rows / 2


def test_dds_of_the_same_encoders(models: dict[str, nn.Module], X: Tensor) -> None:
    result = dds_affinity(models, X, layers={"narrow": "layer4"}, batch_size=3)
    features = {}
    with torch.no_grad():
        for name, model in models.items():
            seen: list[Tensor] = []
            module = model.layer4 if name == "narrow" else model.fc
            handle = module.register_forward_hook(lambda *args, seen=seen: seen.append(args[2].clone()))
            model.eval()(X)
            handle.remove()
            features[name] = seen[0].flatten(1).numpy()
    # Another batch size is another order of float32 sums.
    np.testing.assert_allclose(result.table.values, dds_ext.affinity(features), atol=1e-5)
    assert result.table.sources == list(models) and result.seconds > 0


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (ResNet(), {"method": "lime"}, "no method 'lime': it is one of saliency, gradient_x_input, epsilon_lrp, deep"),
        (ResNet(), {"batch_size": 0}, "the batch size is 0"),
        (ResNet(), {"layer": "layer9"}, "ResNet: the ResNet has no layer 'layer9'"),
        (Twice(), {"layer": "conv"}, "Twice: the layer runs 2 times"),
        (Twice(), {"layer": "unused"}, "Twice: the layer runs 0 times"),
        (nn.Flatten(0), {}, r"Flatten: it gives a tensor of shape \(5376,\) for 7 images"),
        (nn.Threshold(1e9, 1e9), {"images": torch.full((2, 3, 4, 4), torch.inf)}, "attributions are not finite"),
        (nn.Linear(4, 2), {"images": torch.randn(5, 4)}, r"maps are of images \(C, height, width\), not of \(4,\)"),
    ],
)
def test_what_cannot_be_explained(X: Tensor, model: nn.Module, options: dict[str, Any], message: str) -> None:
    settings = {"images": X, "method": "gradient_x_input", **options}
    with pytest.raises(ValueError, match=message):
        attribution_maps(model, **settings)


def test_outputs_without_a_gradient(X: Tensor) -> None:
    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).argmax(1, keepdim=True)

    for method in METHODS:
        with pytest.raises(ValueError, match="Largest: no gradient leads from its output to the image"):
            attribution_maps(Largest(), X, method)


def test_affinities_that_cannot_be_computed(models: dict[str, nn.Module], X: Tensor) -> None:
    def fails(message: str, given: dict[str, nn.Module] = models, images: Any = X, **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            attribution_affinity(given, images, "gradient_x_input", **options)

    fails("at least two models", {"narrow": models["narrow"]})
    fails("layers are named for narow, which is none of the models", layers={"narow": "fc"})
    fails("no images are given for wide, wider", images={"narrow": X})
    fails("narrow and wide are given different images", images={"narrow": X, "wide": X[1:], "wider": X})
    fails("wide: the ResNet has no layer 'layer9'", layers={"wide": "layer9"})
    black = X.clone()
    black[4] = 0
    fails("narrow: its map of image 4 is zero and has no cosine", images=black, batch_size=3)


# ---- the command


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(random.integers(0, 256, (30, 24, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, ResNet]:
    """Networks whose weights are in tmp_path / NAME.pt."""
    networks = {"depth": ResNet().eval(), "edges": ResNet().eval()}
    for name, network in networks.items():
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
    return networks


def test_the_command(dds: Callable[..., Result], tmp_path: Path, photos: Path, checkpoints: dict[str, ResNet]) -> None:
    (photos / "readme.txt").write_text("no image")
    models = [f"small_networks:make_resnet={tmp_path / name}.pt" for name in checkpoints]
    outputs = ["-o", tmp_path / "a.csv", "--json", tmp_path / "a.json"]
    options = ["--images", photos, "--method", "deeplift", "--size", 16, "--mean", 0.5, 0.5, 0.5, "--batch-size", 2]
    result = dds("attribute", *models, *options, *outputs)
    assert result.exit_code == 0, result.output
    images = load_images(photos, Preprocessing(16, (0.5,) * 3))
    layers = dict.fromkeys(checkpoints, "layer4")
    expected = attribution_affinity(checkpoints, images, "deeplift", layers=layers, batch_size=2).table
    table = read_table(tmp_path / "a.csv")
    assert table.sources == table.targets == list(checkpoints)
    np.testing.assert_allclose(table.values, expected.values, atol=1e-12)
    content = json.loads((tmp_path / "a.json").read_text())
    assert {name: content[name] for name in ("sources", "targets", "values")} == table.to_dict()
    assert content["settings"]["method"] == "deeplift" and content["settings"]["mean"] == [0.5] * 3
    assert content["files"] == [str(photos), *(f"{tmp_path / name}.pt" for name in checkpoints)]
    assert "torch" in content["versions"]
    assert content["layers"] == layers and content["n"] == 5 and content["random"] == []
    assert list(content["seconds_per_model_and_image"]) == ["deeplift", "dds"]
    lines = result.stdout.splitlines()
    assert lines[0] == f"{tmp_path}/a.csv: deeplift between 2 models, 5 images"
    for name, seconds in content["seconds_per_model_and_image"].items():
        assert any(line.split() == [name, f"{1000 * seconds:.3f}"] for line in lines)
    assert "note: explained of depth: layer4" in result.stderr
    assert "readme.txt" in result.stderr


def test_the_command_on_few_images_and_another_layer(
    dds: Callable[..., Result], tmp_path: Path, photos: Path, checkpoints: dict[str, ResNet]
) -> None:
    """DDS needs four images."""
    for i in (0, 1):
        (photos / f"{i}.png").unlink()
    models = [f"small_networks:make_resnet={tmp_path / name}.pt" for name in checkpoints]
    options = ["--images", photos, "--method", "saliency", "--layer", "fc", "-o", tmp_path / "a.csv"]
    result = dds("attribute", *models, *options)
    assert result.exit_code == 0, result.output
    layers = dict.fromkeys(checkpoints, "fc")
    expected = attribution_affinity(checkpoints, photos, "saliency", layers=layers).table
    np.testing.assert_allclose(read_table(tmp_path / "a.csv").values, expected.values, atol=1e-12)
    assert "dds" not in result.stdout
    assert "explained of edges: fc" in result.stderr


def test_names_of_ones_own(
    dds: Callable[..., Result], tmp_path: Path, photos: Path, checkpoints: dict[str, ResNet]
) -> None:
    net = "small_networks:make_resnet"
    models = [f"first={net}", f"second={net}={tmp_path}/edges.pt", net]
    result = dds("attribute", *models, "--images", photos, "--size", 16, "-o", tmp_path / "a.csv")
    assert result.exit_code == 0, result.output
    table = read_table(tmp_path / "a.csv")
    assert table.sources == ["first", "second", "make_resnet"]
    assert table.values[0, 2] == pytest.approx(1, abs=1e-6) and table.values[0, 1] < 0.999


def test_the_command_refuses(
    dds: Callable[..., Result], tmp_path: Path, photos: Path, checkpoints: dict[str, ResNet]
) -> None:
    net, out = "small_networks:make_resnet", tmp_path / "a.csv"
    options = ["--images", photos, "--method", "saliency", "-o", out]

    def fails(message: str, *arguments: object) -> None:
        result = dds("attribute", *arguments)
        assert result.exit_code in (1, 2)
        assert isinstance(result.exception, SystemExit)
        assert message in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
        assert not out.exists()

    depth = f"{net}={tmp_path}/depth.pt"
    fails(f"two models are named 'make_resnet'; give one another name, as in NAME={net}", net, net, *options)
    fails(f"two models are named 'a'; give one another name, as in NAME={depth}", f"a={net}", f"a={depth}", *options)
    fails("no model 'depth.pt'", "make_resnet=depth.pt", net, *options)
    fails("no model 'wide': write torchvision:NAME", "wide", f"b={net}", *options)
    fails(f"={net}: the name in front of = is empty", f"={net}", net, *options)
    fails(f"{net}=: the name of a file of weights is missing", f"{net}=", net, *options)
    fails("at least two models", net, *options)
    fails("no layer 'neck'", net, depth, "--layer", "neck", *options)
    fails("cannot load", net, "small_networks:nothing", *options)
    fails("none.pt", net, f"{net}={tmp_path}/none.pt", *options)
    fails("cannot use the device nowhere", net, depth, "--device", "nowhere", *options)
    fails("'lime' is not one of", net, depth, "--images", photos, "--method", "lime", "-o", out)
    (photos / "broken.png").write_bytes(b"no image")
    fails("1 of 6 images cannot be read; repair, remove or skip them: broken.png", net, depth, *options)


def test_help_has_an_example(dds: Callable[..., Result]) -> None:
    assert "  dds attribute timm:resnet50" in dds("attribute", "--help").stdout
    assert "attribute" in dds("--help").stdout
