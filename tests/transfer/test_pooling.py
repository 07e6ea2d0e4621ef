"""Which axis of a layer's output counts the channels: in networks of both kinds, whatever the shapes; or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dds_transfer import extract_features
from torch import Tensor, nn

N = 3


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class Residual(nn.Module):
    """Adds what it is given to what its chain makes of it."""

    def __init__(self, *chain: nn.Module) -> None:
        super().__init__()
        self.chain = nn.Sequential(*chain)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.chain(x)
        return out


class LayerNormOfMaps(nn.LayerNorm):
    """A layer normalisation of (n, C, height, width), as timm's, torchvision's and transformers' ConvNeXt have it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convolutional(C: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, C, 1), Residual(nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C)), nn.ReLU())


def dense(C: int) -> nn.Module:
    """Whose last convolution has fewer channels than the output, as in a DenseNet; 2 of the C are the input's."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grow = nn.Conv2d(2, C - 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.grow(x)], 1)

    return Dense()


def gated(C: int) -> nn.Module:
    """Which ends in a convolution of a global mean, as squeeze and excitation."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(C, C, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.squeeze(x.mean((2, 3), keepdim=True))

    return nn.Sequential(nn.Conv2d(2, C, 1), Gate())


def convnext(C: int) -> nn.Module:
    to_last, to_first = Permute(0, 2, 3, 1), Permute(0, 3, 1, 2)
    block = Residual(nn.Conv2d(C, C, 3, padding=1), to_last, nn.LayerNorm(C), nn.Linear(C, C), to_first)
    return nn.Sequential(nn.Conv2d(2, C, 1), LayerNormOfMaps(C), block)


def swin(C: int) -> nn.Module:
    block = Residual(nn.LayerNorm(C), nn.Linear(C, C), nn.GELU())
    return nn.Sequential(nn.Conv2d(2, C, 1), Permute(0, 2, 3, 1), nn.LayerNorm(C), block, nn.Identity())


# height, width and channels: any different, any two alike
SHAPES = [(4, 6, 10), (4, 4, 10), (4, 6, 4), (4, 6, 6), (4, 4, 4)]


def run(model: nn.Module, shape: tuple[int, ...], **options: Any) -> tuple[Tensor, Tensor]:
    """What the model gives for inputs of two channels and what is kept of it."""
    X = torch.randn(N, 2, *shape)
    root = nn.Sequential(model)  # the whole network is no layer of itself
    with torch.no_grad():
        output = root.eval()(X)
    return output, torch.from_numpy(extract_features(root, X, "0", **options)["0"])


@pytest.mark.parametrize("make", [convolutional, dense, gated, convnext, swin])
@pytest.mark.parametrize(("height", "width", "C"), SHAPES)
def test_maps(make: Callable[[int], nn.Module], height: int, width: int, C: int) -> None:
    torch.manual_seed(0)
    last = make is swin
    if make in (convnext, swin) and height == width == C:
        with pytest.raises(ValueError, match=r"layer 0 gives \(3, 4, 4, 4\): it is not known which axis counts"):
            run(make(C), (height, width), pool="average")
        output, pooled = run(make(C), (height, width), pool="average", channels_last=last)
        torch.testing.assert_close(pooled, output.mean((1, 2) if last else (2, 3)))
        return
    output, pooled = run(make(C), (height, width), pool="average")
    assert output.shape == ((N, height, width, C) if last else (N, C, height, width))
    torch.testing.assert_close(pooled, output.mean((1, 2) if last else (2, 3)))
    output, pooled = run(make(C), (height, width), pool="grid:2")
    first = output.permute(0, 3, 1, 2) if last else output
    torch.testing.assert_close(
        pooled, first.reshape(N, C, 2, height // 2, 2, width // 2).mean((3, 5)), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("length", [5, 8])
def test_series_and_tokens(length: int) -> None:
    """(n, C, length) and (n, tokens, d), also where there are as many tokens as features."""
    torch.manual_seed(0)
    output, pooled = run(nn.Conv1d(2, 8, 1), (length,), pool="average")
    torch.testing.assert_close(pooled, output.mean(2))
    tokens = nn.Sequential(Permute(0, 2, 1), nn.Linear(2, 8), nn.ReLU())
    output, pooled = run(tokens, (length,), pool="average")
    torch.testing.assert_close(pooled, output.mean(1))
    output, pooled = run(tokens, (length,), pool="class")
    torch.testing.assert_close(pooled, output[:, 0])
    with pytest.raises(ValueError, match=r"gives \(3, 8, \d\): there is no class token in it"):
        run(nn.Conv1d(2, 8, 1), (length,), pool="class")


def test_volumes() -> None:
    output, pooled = run(nn.Conv3d(2, 5, 1), (3, 4, 6), pool="average")
    torch.testing.assert_close(pooled, output.mean((2, 3, 4)))


def test_what_shows_no_layout_is_refused_unless_it_is_said() -> None:
    message = r"layer 0 gives \(3, 4, 6, 2\): .*; say --channels-last or --channels-first \(channels_last\)"
    for pool in ("average", "grid:2"):
        with pytest.raises(ValueError, match=message):
            run(Permute(0, 2, 3, 1), (4, 6), pool=pool)
    output, pooled = run(Permute(0, 2, 3, 1), (4, 6), pool="average", channels_last=True)
    torch.testing.assert_close(pooled, output.mean((1, 2)))
    output, pooled = run(Permute(0, 2, 3, 1), (4, 6), pool="average", channels_last=False)
    torch.testing.assert_close(pooled, output.mean((2, 3)))
    output, pooled = run(Permute(0, 2, 3, 1), (4, 6))  # nothing is pooled
    np.testing.assert_array_equal(pooled, output)


def test_no_hooks_are_left() -> None:
    network = nn.Sequential(convolutional(4))
    extract_features(network, torch.zeros(N, 2, 4, 4), "0", pool="average")
    assert not any(module._forward_hooks for module in network.modules())
