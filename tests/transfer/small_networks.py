"""Networks for the tests, with the module names of the libraries' real ones and a few channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResNet(nn.Module):
    """Named as in torchvision and timm."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        for i in range(1, 5):
            setattr(self, f"layer{i}", nn.Sequential(nn.Conv2d(width, width, 3, padding=1)))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for i in range(1, 5):
            x = self.relu(getattr(self, f"layer{i}")(x))
        pooled: Tensor = self.fc(self.dropout(x).mean((2, 3)))
        return pooled


class Backbone(nn.Module):
    """A network inside another, as torchvision's segmentation networks have it; its output is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet()
        self.aux = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = self.backbone(x)
        return {"out": out, "aux": self.aux(out)}


class Layer(nn.Module):
    """A transformer layer whose output is a tuple, as in older transformers."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.mlp = nn.Linear(d, d)

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        return tokens + self.mlp(tokens), None


class ViT(nn.Module):
    """Named as in timm (blocks), with a class token in front."""

    def __init__(self, depth: int = 6, d: int = 8) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, d, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, d))
        self.blocks = nn.ModuleList(Layer(d) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)[0]
        return tokens


def make_resnet() -> ResNet:
    """A factory, as a user would write one."""
    return ResNet()
