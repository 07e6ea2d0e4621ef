"""The networks: small encoders, decoders per kind of output, and a ResNet of four blocks.

All take images of 64 x 64 pixels and give features of 16 x 16 places, as Taskonomy's networks do for 256 x 256.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dds_transfer.blocks import BLOCKS
from dds_transfer.minitaskonomy.labels import TASKS, Task

SIZE = 64  # side of the images
GRID = 16  # side of the features
CHANNELS = 8  # of the encoders' features
# Widths of the five convolutions: those of the RSA paper's supplement, and half of them but for the features.
ENCODERS = {"encoder": (16, 32, 64, 64, CHANNELS), "small": (8, 16, 32, 32, CHANNELS)}
RESNET = (16, 32, 64, 128)  # widths of the blocks


def make_network(architecture: str, task: str) -> nn.Sequential:
    """A network for a task: ``encoder`` and ``decoder``, with random weights.

    ``architecture`` is ``encoder``, ``small`` or ``resnet``; ValueError for another.
    """
    if architecture == "resnet":
        parts = {"encoder": ResNet(), "decoder": make_readout(RESNET[-1], task)}
    elif architecture in ENCODERS:
        parts = {"encoder": make_encoder(ENCODERS[architecture]), "decoder": make_readout(CHANNELS, task)}
    else:
        raise ValueError(f"no architecture {architecture!r}; there are {', '.join(ENCODERS)} and resnet")
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network


def make_encoder(widths: tuple[int, ...]) -> nn.Sequential:
    """Convolutions of 3 x 3, the first two with stride 2: (n, 3, 64, 64) to (n, widths[-1], 16, 16).

    The features are what the last one gives, normalised per channel but not rectified.
    """
    layers: list[nn.Module] = []
    inside = 3
    for i, width in enumerate(widths):
        layers += [_convolution(inside, width, stride=2 if i < 2 else 1), nn.ReLU(inplace=True)]
        inside = width
    return nn.Sequential(*layers[:-1])


def make_readout(channels: int, task: str) -> nn.Sequential:
    """What turns features (n, channels, 16, 16) into the task's output; the same for networks and for readouts.

    For images two sub-pixel convolutions (Shi et al., CVPR 2016), to 64 x 64, for they cost little; for classes and
    vectors two convolutions with stride 2 and a linear layer. More channels than the encoders give are mixed to as many
    first.
    """
    wanted: Task = TASKS[task]
    mix: list[nn.Module] = [] if channels == CHANNELS else [_convolution(channels, CHANNELS, kernel=1)]
    if wanted.spatial:
        return nn.Sequential(
            *mix,
            _convolution(CHANNELS, 64),
            nn.ReLU(inplace=True),
            nn.PixelShuffle(2),
            nn.Conv2d(16, 4 * wanted.channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
    return nn.Sequential(
        *mix,
        _convolution(CHANNELS, 32, stride=2),
        nn.ReLU(inplace=True),
        _convolution(32, 32, stride=2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(32 * (GRID // 4) ** 2, wanted.channels),
    )


class ResNet(nn.Module):
    """A small ResNet: a convolution with stride 2 and four blocks, ``layer1`` to ``layer4``, each of two convolutions.

    Their outputs are (n, 16, 32, 32), (n, 32, 16, 16), (n, 64, 8, 8) and (n, 128, 4, 4).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, RESNET[0], stride=2), nn.ReLU(inplace=True))
        inside = RESNET[0]
        for i, width in enumerate(RESNET, 1):
            self.add_module(f"layer{i}", _Block(inside, width, stride=1 if i == 1 else 2))
            inside = width

    def forward(self, images: Tensor) -> Tensor:
        """(n, 128, 16, 16), the last block's features on the grid of the readouts."""
        return self.blocks(images)[-1]

    def blocks(self, images: Tensor) -> list[Tensor]:
        """The features of the four blocks, each (n, 128, 16, 16) by :func:`on_grid`."""
        outputs = []
        features = self.stem(images)
        for i in range(1, BLOCKS + 1):
            features = self.get_submodule(f"layer{i}")(features)
            outputs.append(on_grid(features))
        return outputs


def on_grid(features: Tensor) -> Tensor:
    """Features of a block as (n, 128, 16, 16), so that every readout has the same size; nothing is lost.

    Of a finer grid the places of a cell become channels; of a coarser one they are repeated; then the channels are
    stacked until there are 128.
    """
    side = features.shape[-1]
    if side > GRID:
        features = nn.functional.pixel_unshuffle(features, side // GRID)
    elif side < GRID:
        features = nn.functional.interpolate(features, scale_factor=GRID // side, mode="nearest")
    return features.repeat(1, RESNET[-1] // features.shape[1], 1, 1)


class _Block(nn.Module):
    """Two convolutions beside a shortcut (He et al., CVPR 2016)."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(inside, width, stride), nn.ReLU(inplace=True), _convolution(width, width)
        )
        same = inside == width and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inside, width, stride, kernel=1)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.residual(features) + self.shortcut(features))


def _convolution(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution and the normalisation of its output over the batch, which makes a bias superfluous."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outside)
    )
