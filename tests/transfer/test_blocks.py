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


@pytest.mark.parametrize(
    "network",
    [
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


def test_real_models() -> None:
    pytest.importorskip("timm", reason="timm is not installed", exc_type=Exception)
    assert block_hooks(load_model("torchvision:resnet18")) == block_hooks(ResNet())
    assert block_hooks(load_model("timm:resnet18")) == block_hooks(ResNet())
    vit = blocks(*(f"blocks.{i}" for i in (2, 5, 8, 11)))
    assert block_hooks(load_model("timm:vit_tiny_patch16_224")) == vit
    vit = blocks(*(f"encoder.layers.encoder_layer_{i}" for i in (2, 5, 8, 11)))
    assert block_hooks(load_model("torchvision:vit_b_16")) == vit
