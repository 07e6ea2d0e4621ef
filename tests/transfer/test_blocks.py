"""The four blocks of networks named as in torchvision, timm and transformers."""

from __future__ import annotations

import pytest
from dds_transfer import block_hooks, load_model
from small_networks import Backbone, ResNet, ViT
from torch import nn


def blocks(*names: str) -> dict[str, str]:
    return {f"block{i}": name for i, name in enumerate(names, 1)}


def nested(path: str, container: nn.Module) -> nn.Module:
    """A module that holds ``container`` under a dotted path."""
    for name in reversed(path.split(".")):
        outer = nn.Module()
        outer.add_module(name, container)
        container = outer
    return container


def test_stages_of_a_resnet() -> None:
    assert block_hooks(ResNet()) == blocks("layer1", "layer2", "layer3", "layer4")
    assert block_hooks(Backbone()) == blocks(*(f"backbone.layer{i}" for i in (1, 2, 3, 4)))


@pytest.mark.parametrize("kind", ["block", "s"])
def test_stages_of_a_regnet(kind: str) -> None:
    stages = {f"{kind}{i}": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for i in range(1, 6)}
    with pytest.raises(ValueError, match="no four stages"):  # an Xception's twelve are not four
        block_hooks(nested("trunk", nn.ModuleDict(stages)))
    del stages[f"{kind}5"]
    assert block_hooks(nested("trunk", nn.ModuleDict(stages))) == blocks(*(f"trunk.{name}" for name in stages))


@pytest.mark.parametrize("path", ["stages", "encoder.stages", "resnet.encoder.stages"])
def test_four_stages_in_a_list(path: str) -> None:
    stages = nn.ModuleList(nn.Sequential(*(nn.Linear(2, 2) for _ in range(6))) for _ in range(4))
    assert block_hooks(nested(path, stages)) == blocks(*(f"{path}.{i}" for i in range(4)))


@pytest.mark.parametrize(
    ("depth", "last"), [(4, (0, 1, 2, 3)), (6, (1, 2, 3, 5)), (12, (2, 5, 8, 11)), (18, (3, 8, 13, 17))]
)
def test_depth_of_a_transformer_is_split_in_four(depth: int, last: tuple[int, ...]) -> None:
    assert block_hooks(ViT(depth)) == blocks(*(f"blocks.{i}" for i in last))
    layers = nn.ModuleList(ViT(4) for _ in range(depth))  # whose own blocks are not looked at
    assert block_hooks(nested("encoder.layer", layers)) == blocks(*(f"encoder.layer.{i}" for i in last))


def test_names_of_torchvisions_transformer() -> None:
    layers = nn.Sequential()
    for i in range(8):
        layers.add_module(f"encoder_layer_{i}", nn.Linear(2, 2))
    names = (f"encoder.layers.encoder_layer_{i}" for i in (1, 3, 5, 7))
    assert block_hooks(nested("encoder.layers", layers)) == blocks(*names)


class Block(nn.Module):
    """A block of a stage."""


class PatchMerging(nn.Module):
    """What makes a Swin's maps smaller."""


def features(*merging: type[nn.Module], depths: tuple[int, ...] = (3, 3, 9, 3)) -> nn.Module:
    """torchvision's ConvNeXt and Swin: modules that make maps smaller and stages by turns."""
    chain: list[nn.Module] = []
    for depth in depths:
        chain += [merging[0]() if merging and chain else nn.Sequential(nn.Conv2d(3, 4, 2)), nn.Sequential()]
        chain[-1].extend(Block() for _ in range(depth))  # type: ignore[operator]
    network = nn.Module()
    network.add_module("features", nn.Sequential(*chain))
    network.add_module("classifier", nn.Sequential(nn.LayerNorm(4), nn.Flatten(), nn.Linear(4, 10)))
    return network


@pytest.mark.parametrize("merging", [(), (PatchMerging,)], ids=["ConvNeXt", "Swin"])
def test_stages_of_torchvisions_convnext_and_swin(merging: tuple[type[nn.Module], ...]) -> None:
    assert block_hooks(features(*merging)) == blocks(*(f"features.{i}" for i in (1, 3, 5, 7)))
    assert block_hooks(nested("backbone", features())) == blocks(*(f"backbone.features.{i}" for i in (1, 3, 5, 7)))
    with pytest.raises(ValueError, match="no four stages"):
        block_hooks(features(depths=(3, 3, 9)))


@pytest.mark.parametrize("last", [True, False])
def test_stages_of_swin_end_before_they_make_maps_smaller(last: bool) -> None:
    """transformers' have their merging at the end, timm's at the beginning, where there is one."""
    stages = nn.ModuleList()
    for i, depth in enumerate((2, 2, 6, 2)):
        stage = nn.Module()
        parts = [("blocks", nn.ModuleList(Block() for _ in range(depth))), ("downsample", PatchMerging())]
        for name, part in parts if last else parts[::-1]:
            if name == "blocks" or (i < 3 if last else i > 0):
                stage.add_module(name, part)
        stages.append(stage)
    expected = ("0.blocks.1", "1.blocks.1", "2.blocks.5", "3") if last else ("0", "1", "2", "3")
    path = "encoder.layers" if last else "layers"
    assert block_hooks(nested(path, stages)) == blocks(*(f"{path}.{name}" for name in expected))


@pytest.mark.parametrize(
    "network",
    [
        nested(
            "features", nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(8)))
        ),  # a plain CNN
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))),  # not named as a list of blocks
        ViT(3),
        nested("blocks", nn.Sequential(*(nn.Sequential(nn.Linear(2, 2)) for _ in range(7)))),  # EfficientNet's form
        nested("layers", nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU())),
    ],
)
def test_other_networks_are_to_name_their_layers(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="no four stages and no list of layers; name the layers"):
        block_hooks(network)


def test_two_towers_are_ambiguous() -> None:
    towers = nn.ModuleDict({"text": ViT(4), "vision": ViT(4)})
    with pytest.raises(ValueError, match=r"several: text\.blocks, vision\.blocks; name the layers"):
        block_hooks(towers)


def test_transformers_models() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "embed_dim": 4, "image_size": 32, "patch_size": 2}
    swin = transformers.SwinModel(transformers.SwinConfig(**sizes, window_size=2))
    names = ("0.blocks.0", "1.blocks.0", "2.blocks.1", "3")
    assert block_hooks(swin) == blocks(*(f"encoder.layers.{name}" for name in names))
    sizes = {"depths": [1, 1, 2, 1], "hidden_sizes": [4, 4, 8, 8]}
    for network in (
        transformers.ConvNextModel(transformers.ConvNextConfig(**sizes)),
        transformers.ResNetModel(transformers.ResNetConfig(**sizes, embedding_size=4, layer_type="basic")),
    ):
        assert block_hooks(network) == blocks(*(f"encoder.stages.{i}" for i in range(4)))


def test_real_models() -> None:
    pytest.importorskip("timm", reason="timm is not installed", exc_type=Exception)
    assert block_hooks(load_model("torchvision:resnet18")) == block_hooks(ResNet())
    assert block_hooks(load_model("timm:resnet18")) == block_hooks(ResNet())
    vit = blocks(*(f"blocks.{i}" for i in (2, 5, 8, 11)))
    assert block_hooks(load_model("timm:vit_tiny_patch16_224")) == vit
    vit = blocks(*(f"encoder.layers.encoder_layer_{i}" for i in (2, 5, 8, 11)))
    assert block_hooks(load_model("torchvision:vit_b_16")) == vit
    for name in ("convnext_tiny", "swin_t", "swin_v2_t"):
        assert block_hooks(load_model(f"torchvision:{name}")) == blocks(*(f"features.{i}" for i in (1, 3, 5, 7)))
    regnet = blocks(*(f"trunk_output.block{i}" for i in (1, 2, 3, 4)))
    assert block_hooks(load_model("torchvision:regnet_y_400mf")) == regnet
    assert block_hooks(load_model("timm:regnetx_002")) == blocks("s1", "s2", "s3", "s4")
    assert block_hooks(load_model("timm:convnext_atto")) == blocks(*(f"stages.{i}" for i in range(4)))
    assert block_hooks(load_model("timm:swin_tiny_patch4_window7_224")) == blocks(*(f"layers.{i}" for i in range(4)))
