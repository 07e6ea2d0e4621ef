"""Models by name, their weights, and one clear line where they cannot be loaded."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from dds_transfer import Preprocessing, block_hooks, extract_features, load_model, preprocessing_of
from dds_transfer.models import has_random_weights, model_name
from safetensors.torch import save_file
from small_networks import ResNet
from torch import nn

SOURCE = "small_networks:make_resnet"


def same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_python_factory_gives_the_same_random_weights_every_time() -> None:
    torch.manual_seed(1)
    first = load_model(SOURCE)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)  # loading drew nothing from the caller's random numbers
    assert same(first, load_model(SOURCE))
    assert not first.training


def test_the_current_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_nets.py").write_text("import torch\nnet = torch.nn.Linear(3, 2)\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert isinstance(load_model("users_nets:net"), nn.Linear)
    assert sys.path == before


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "parallel", "safetensors", "old"])
def test_weights_of_every_form(tmp_path: Path, form: str) -> None:
    trained = ResNet().eval()
    state: dict[str, Any] = trained.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(state, path)
    elif form == "parallel":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    elif form == "old":
        # Before PyTorch 0.4.1 batch normalisation had no counter, and a state dictionary no versions.
        torch.save({name: value for name, value in state.items() if "num_batches" not in name}, path)
    else:
        torch.save(state if form == "plain" else {form: state, "epoch": 3}, path)
    assert same(load_model(SOURCE, weights=path), trained)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    torch.save(ResNet(width=5).state_dict(), tmp_path / "wide.pt")
    with pytest.raises(
        ValueError, match=r"wide\.pt do not fit .*: \d+ of another shape \(conv1\.weight, conv1\.bias, bn1"
    ):
        load_model(SOURCE, weights=tmp_path / "wide.pt")
    state = ResNet().state_dict()
    state["head.weight"] = state.pop("fc.weight")
    torch.save(state, tmp_path / "head.pt")
    with pytest.raises(ValueError, match=r"1 not in the file \(fc\.weight\); 1 not in the model \(head\.weight\)"):
        load_model(SOURCE, weights=tmp_path / "head.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", ResNet(), "holds more than tensors"),
        ("w.pt", [torch.zeros(2)], "holds no state dictionary"),
        ("w.pt", {"epoch": 3}, "holds no state dictionary"),
        ("w.pt", b"garbage", "it is damaged"),
        ("w.safetensors", b"garbage", "it is damaged"),
        ("w.pt", b"", "it is damaged"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message) as error:
        load_model(SOURCE, weights=path)
    assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError):
        load_model(SOURCE, weights=tmp_path / "none.pt")


def fails() -> None:
    raise KeyError("settings")


def leaves() -> None:
    sys.exit(3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("resnet50", "no model 'resnet50': write torchvision:NAME"),
        ("timm:", "no model 'timm:'"),
        ("no_such_package.nets:make", "there is no Python module no_such_package, and no_such_package.nets is none of"),
        ("small_networks:nothing", "has no attribute 'nothing'"),
        ("os:getcwd", "what it returned is of type str, not a torch.nn.Module"),
        ("os:environ", "it is of type _Environ, neither a torch.nn.Module nor a function for one"),
        ("test_models:fails", "cannot load test_models:fails: 'settings'"),
        ("test_models:leaves", "cannot load test_models:leaves: it ends the program, sys.exit(3)"),
    ],
)
def test_no_such_model(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_model(source)


def test_pretrained_weights_are_those_of_the_libraries(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pretrained weights are those of torchvision, timm, hf"):
        load_model(SOURCE, pretrained=True)
    with pytest.raises(ValueError, match="without a file of weights"):
        load_model("timm:resnet18", pretrained=True, weights=tmp_path / "w.pt")


@pytest.mark.parametrize(("source", "package"), [("torchvision:a", "torchvision"), ("timm:a", "timm")])
def test_a_library_that_is_missing_or_does_not_work(source: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"models of {package} need {package}.*: pip install 'dds_ext\[models\]'"
    ):
        load_model(source)

    class Broken:
        def find_spec(self, name: str, path: Any, target: Any = None) -> None:
            if name == package:
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, package)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(
        ValueError, match=f"{package} does not work beside torch .*: operator torchvision::nms does not"
    ):
        load_model(source)


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A stand-in for torchvision.models with one model; gives the options it was built with."""
    built: list[dict[str, Any]] = []

    def build(weights: str | None = None, weights_backbone: str | None = "download") -> nn.Module:
        built.append({"weights": weights, "weights_backbone": weights_backbone})
        return ResNet()

    package, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    vars(models).update(
        list_models=lambda: ["resnet50", "fcn_resnet50"],
        get_model_builder=lambda name: build,
        get_model=lambda name, **options: build(**options),
    )
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    yield built


def test_torchvision_downloads_only_when_asked(torchvision: list[dict[str, Any]]) -> None:
    load_model("torchvision:fcn_resnet50")
    load_model("torchvision:fcn_resnet50", pretrained=True)
    assert torchvision[0] == {"weights": None, "weights_backbone": None}
    assert torchvision[1]["weights"] == "DEFAULT"
    with pytest.raises(
        ValueError, match="cannot load torchvision:resnet51: it has no model of this name; it has resnet50"
    ):
        load_model("torchvision:resnet51")


def test_what_a_timm_model_states_about_pictures() -> None:
    network = ResNet()
    assert preprocessing_of(network) == Preprocessing()
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "input_size": (3, 288, 288)}
    assert preprocessing_of(network) == Preprocessing(288, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5)}
    assert preprocessing_of(network) == Preprocessing(mean=(0.5, 0.5, 0.5))


def test_names_for_files() -> None:
    assert model_name("torchvision:resnet50") == "resnet50"
    assert model_name("hf:checkpoints/vit/") == "vit"
    assert model_name("timm:resnet50.a1_in1k") == "resnet50.a1_in1k"
    assert model_name("torchvision:resnet50", "runs/depth.pt") == "depth"


def test_a_folder_is_called_as_it_is_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vit" / "weights").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "vit")
    assert model_name("hf:.") == model_name("hf:weights/..") == "vit"
    assert model_name("hf:..") == tmp_path.name
    with pytest.raises(ValueError, match="hf:/: / is no name to call the model by"):
        model_name("hf:/")


@pytest.fixture
def vit(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A small vision transformer and the folder that transformers saved it in."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    network = transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **sizes))
    network.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit", network.eval()


def test_a_folder_of_transformers_gives_its_weights_or_random_ones(vit: tuple[Path, nn.Module]) -> None:
    folder, network = vit
    loaded = load_model(f"hf:{folder}")
    assert same(loaded, network)
    assert not has_random_weights(f"hf:{folder}")
    (folder / "model.safetensors").rename(folder / "away")
    random = load_model(f"hf:{folder}")
    assert has_random_weights(f"hf:{folder}") and has_random_weights("hf:owner/name")
    assert not has_random_weights(f"hf:{folder}", "w.pt") and not has_random_weights("hf:owner/name", pretrained=True)
    assert list(random.state_dict()) == list(network.state_dict()) and not same(random, network)
    assert same(random, load_model(f"hf:{folder}"))


def test_what_a_model_of_transformers_states_about_pictures(vit: tuple[Path, nn.Module]) -> None:
    folder, _ = vit
    assert preprocessing_of(load_model(f"hf:{folder}")) == Preprocessing(size=32)
    settings = (
        '{"image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5, 0.5], "image_std": [0.1, 0.2, 0.3]}'
    )
    (folder / "preprocessor_config.json").write_text(settings)
    assert preprocessing_of(load_model(f"hf:{folder}")) == Preprocessing(32, (0.5, 0.5, 0.5), (0.1, 0.2, 0.3))


def test_features_of_transformers_are_its_hidden_states(vit: tuple[Path, nn.Module]) -> None:
    folder, network = vit
    X = torch.randn(5, 3, 32, 32)
    features = extract_features(load_model(f"hf:{folder}"), X, batch_size=2)
    with torch.no_grad():
        states = network(X, output_hidden_states=True).hidden_states
    assert list(features) == list(block_hooks(network)) == ["block1", "block2", "block3", "block4"]
    for i, rows in enumerate(features.values(), 1):
        # Batches of 2 and of 5 may be summed in another order: some float32 roundings of values near 1.
        torch.testing.assert_close(torch.from_numpy(rows), states[i], atol=1e-5, rtol=1e-5)


def test_a_resnet_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    network = transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 6, 8, 10], depths=[1, 1, 1, 1], layer_type="basic")
    )
    features = extract_features(network, torch.randn(3, 3, 32, 32), pool="average")
    assert list(block_hooks(network).values()) == [f"encoder.stages.{i}" for i in range(4)]
    assert [X.shape for X in features.values()] == [(3, 4), (3, 6), (3, 8), (3, 10)]


def test_a_model_of_images_and_text_gives_its_part_for_images(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    transformers.CLIPConfig(vision_config=vision, text_config=sizes, projection_dim=8).save_pretrained(tmp_path)
    network = load_model(f"hf:{tmp_path}")
    features = extract_features(network, torch.randn(3, 3, 32, 32), pool="class")
    assert [X.shape for X in features.values()] == [(3, 16)] * 4
    assert preprocessing_of(network).size == 32


def test_names_of_the_hub_are_not_asked_for_without_leave(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    with pytest.raises(ValueError, match="neither a folder nor was it downloaded before; ask for pretrained weights"):
        load_model("hf:no-such-owner/no-such-model")
    with pytest.raises(ValueError, match="there is no such folder"):
        load_model(f"hf:{tmp_path}/none")
    with pytest.raises(ValueError, match=rf"cannot load hf:{tmp_path}: \S"):
        load_model(f"hf:{tmp_path}")


def test_timm() -> None:
    pytest.importorskip("timm", reason="timm is not installed", exc_type=Exception)
    with pytest.raises(ValueError, match=r"no model of this name; it has .*resnet50"):
        load_model("timm:resnet51")
    with pytest.raises(ValueError, match="its definition lies on the hub"):
        load_model("timm:hf-hub:timm/no-such-model")
    assert preprocessing_of(load_model("timm:vit_tiny_patch16_224")).mean == (0.5, 0.5, 0.5)
