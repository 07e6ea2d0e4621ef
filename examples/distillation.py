"""Does a student learn more when it is made to see the images as its teacher does? Tried on real images.

A teacher, a small convolutional network, learns scikit-learn's handwritten digits from 900 labelled images. A student
of a hundredth of its size sees labels for 100 of them only, and is trained twice from the same weights: on the labels
alone, and with the representational loss 1 - DDS added, which compares its features of a batch with the teacher's and
needs no labels, so that all 900 images serve. DDS compares pairwise matrices (Laplacian kernels of z-scored features,
U-centred), so that teacher and student need not have equally many features.

    python examples/distillation.py
"""

from __future__ import annotations

from dataclasses import dataclass

import click
import torch
from dds_transfer.terminal import show_records, working
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import dds_ext

TRAIN, TEST = slice(0, 900), slice(900, 1797)
LABELLED = 100  # images whose labels the student sees
BATCH, RATE = 100, 3e-3


@dataclass(frozen=True)
class Outcome:
    """What became of a network: test accuracy, and DDS of its features with the teacher's on the test images."""

    accuracy: float
    similarity: float


class Network(nn.Module):
    """Features, and a linear readout of them."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.readout = nn.Linear(width, 10)


def teacher() -> Network:
    convolutions = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 16, 128),
        nn.ReLU(),
    )
    return Network(convolutions, 128)


def student() -> Network:
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()), 16)


def digits(random: torch.Generator) -> tuple[Tensor, Tensor]:
    """All images (1797, 1, 8, 8) and their classes, in random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=random)
    images = torch.from_numpy(data.images).float()[order, None] / 16
    return images, torch.from_numpy(data.target)[order]


def train(
    network: Network,
    images: Tensor,
    classes: Tensor,
    labelled: int,
    epochs: int,
    random: torch.Generator,
    teacher: Network | None = None,
    weight: float = 1.0,
) -> None:
    """Learns the first `labelled` classes and, with a `teacher`, its pairwise matrix of every batch."""
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=random).split(BATCH):
            features = network.features(images[batch])
            known = batch < labelled
            loss = functional.cross_entropy(network.readout(features[known]), classes[batch][known], reduction="sum")
            loss = loss / max(int(known.sum()), 1)
            if teacher is not None:
                with torch.no_grad():
                    wanted = teacher.features(images[batch])
                loss = loss + weight * (1 - dds_ext.dds(features, wanted))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def examine(network: Network, teacher: Network, images: Tensor, classes: Tensor) -> Outcome:
    features = network.features(images)
    accuracy = (network.readout(features).argmax(1) == classes).float().mean().item()
    return Outcome(accuracy, dds_ext.dds(features, teacher.features(images)).item())


def experiment(seed: int, epochs: int = 40, teacher_epochs: int = 15) -> dict[str, Outcome]:
    """The outcomes of the teacher and of the two students."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    images, classes = digits(random)
    big = teacher()
    train(big, images[TRAIN], classes[TRAIN], len(images[TRAIN]), teacher_epochs, random)
    outcomes = {"teacher": examine(big, big, images[TEST], classes[TEST])}
    start = student().state_dict()
    for name, guide in (("student, labels", None), ("student, labels and DDS", big)):
        small = student()
        small.load_state_dict(start)
        train(small, images[TRAIN], classes[TRAIN], LABELLED, epochs, torch.Generator().manual_seed(seed), guide)
        outcomes[name] = examine(small, big, images[TEST], classes[TEST])
    return outcomes


@click.command(help="Train a student on a few labels of handwritten digits, with and without its teacher's matrix.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Repetitions.")
def main(seeds: int) -> None:
    torch.set_num_threads(1)  # threads do not help networks of this size, and so the result is the same on any machine
    with working("training a teacher and two students", steps=seeds) as step:
        runs = []
        for seed in range(seeds):
            runs.append(experiment(seed))
            step()
    show_records(
        f"On the test images, mean of {seeds} seeds",
        [
            {
                "network": name,
                "accuracy": sum(run[name].accuracy for run in runs) / seeds,
                "DDS with the teacher": sum(run[name].similarity for run in runs) / seeds,
            }
            for name in runs[0]
        ],
    )


if __name__ == "__main__":
    main()
