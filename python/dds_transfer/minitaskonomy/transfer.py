"""Measured transfers: a readout for every target on the frozen features of every source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dds_transfer.minitaskonomy.dataset import Dataset
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.networks import ResNet, make_readout
from dds_transfer.minitaskonomy.training import best_constant, fit, losses, stable_seed, start_at_constant
from dds_transfer.output import writing

AT_ONCE = 64
READOUT_RATE = 1e-2  # of readouts, which are shallower than networks and trained more briefly


@torch.no_grad()
def in_batches(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What the network gives for images, computed 64 at a time."""
    return torch.cat([network(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)])


def transfer_losses(
    encode: Callable[[Tensor], Tensor], train: Dataset, test: Dataset, steps: int, seed: int
) -> dict[str, Tensor]:
    """Transfer from one source to every task: (n_test,) losses of the test images, by target.

    Each target's images are given to the source as the target has them: noisy, with a hole, or grey where the target is
    to denoise, to fill in or to colour; so these targets are as hard after a transfer as they are by themselves.

    Args:
        encode: the frozen source, in evaluation mode: images to features (n, channels, 16, 16).
        train: the limited set that the readouts are trained on.
        test: the images whose losses are measured.
        steps: of training each readout.
        seed: of the readouts; readouts of one target begin alike for every source of equal size.
    """
    features: dict[str, tuple[Tensor, Tensor]] = {}
    result = {}
    for target, task in TASKS.items():
        if task.input not in features:
            pair = (in_batches(encode, train.input(task.input)), in_batches(encode, test.input(task.input)))
            features[task.input] = _standardised(*pair)
        known, unknown = features[task.input]
        readout = train_readout(known, target, train.label(target), steps, seed)
        result[target] = losses(target, in_batches(readout, unknown), test.label(target))
    return result


def train_readout(features: Tensor, task: str, targets: Tensor, steps: int, seed: int) -> nn.Module:
    """A readout of features (n, channels, 16, 16) for a task, in evaluation mode."""
    start = stable_seed(seed, "readout", task)
    with torch.random.fork_rng():
        torch.manual_seed(start)
        readout = make_readout(features.shape[1], task)
    start_at_constant(readout, task, targets)
    fit(readout, task, features, targets, steps, READOUT_RATE, start)
    return readout


def block_losses(
    encoder: ResNet, block: int, train: Dataset, test: Dataset, steps: int, seed: int
) -> dict[str, Tensor]:
    """:func:`transfer_losses` from one block of a ResNet, 0 to 3."""
    return transfer_losses(lambda images: encoder.blocks(images)[block], train, test, steps, seed)


def constant_loss(task: str, train: Tensor, test: Tensor) -> float:
    """Mean loss on the labels ``test`` of the :func:`.training.best_constant` of the labels ``train``."""
    level = best_constant(task, train)
    answer = level.reshape(1, -1, *[1] * (2 if TASKS[task].spatial else 0))
    shape = (len(test), len(level), *(test.shape[-2:] if TASKS[task].spatial else ()))
    return float(losses(task, answer.expand(shape), test).mean())


def save_losses(values: Mapping[str, Tensor], path: Path) -> None:
    """Write losses by target as safetensors."""
    with writing(path, binary=True) as file:
        file.write(save(dict(values)))


def _standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features with about mean 0 and deviation 1 per channel, by the training images: sources differ in scale.

    A hundredth of the mean variance is added to each: a channel that is all but dead on the training images would be
    blown up beyond measure where a test image wakes it.
    """
    mean = train.mean(dim=(0, 2, 3), keepdim=True)
    variance = train.var(dim=(0, 2, 3), keepdim=True)
    deviation = (variance + 0.01 * variance.mean() + 1e-12).sqrt()
    return (train - mean) / deviation, (test - mean) / deviation
