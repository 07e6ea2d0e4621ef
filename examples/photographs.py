"""Which representation of a picture should I start from? Asked, answered and checked on two photographs.

The task is to tell where a crop is from: of which of scikit-learn's two photographs, and of its upper, middle or lower
third. The candidates are pixels, two classical descriptors, and the four blocks of a small ResNet with random weights
and after training. Each is ranked by its similarity to the answers themselves, one column per class, as they would be
in a model that knew the task: RSA's researchers call that a model RDM. The truth is the accuracy of a linear readout.

Each photograph is cut into twelve upright strips, and a crop lies within one. A third of the strips trains the
network, a third gives the features that are ranked and trains the readouts, a third tests them. It takes about 20
seconds.

    python examples/photographs.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from dds_transfer import Evaluation, Ranking, Table, evaluate, extract_features, rank_models
from dds_transfer.plots import save_figure
from dds_transfer.terminal import show_records, working
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

import dds_ext

SIDE, THIRDS, CLASSES = 32, 3, 6  # pixels of a crop; classes are photographs x thirds
STRIPS, TRAIN, READOUT, TEST = 12, 0, 1, 2  # strip i is for training if i % 3 is 0, and so on
CROPS = {TRAIN: 1200, READOUT: 600, TEST: 600}
EPOCHS, BATCH, RATE = 12, 50, 2e-3
BLOCKS = ["block1", "block2", "block3", "block4"]

Features = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Result:
    """The candidates' similarity to the answers, their measured accuracy, and how well the two agree by measure."""

    ranking: Ranking
    accuracy: dict[str, float]
    agreement: dict[str, Evaluation]


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()),
            *(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)),
        )
        self.shortcut = nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Sequential):
    """Four blocks, the mean over space, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 24, 32, 32)
        for i, name in enumerate(BLOCKS):
            self.add_module(name, Block(widths[i], widths[i + 1], stride=2 if i < 2 else 1))
        self.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)))


def make_crops(part: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crops (n, 3, SIDE, SIDE) from 0 to 1 at random places in the strips of this part, and their classes.

    No crop reaches from one strip or third into the next.
    """
    crops, classes = [], []
    for number, image in enumerate(load_sample_images().images):
        pixels = torch.tensor(image / 255, dtype=torch.float32).permute(2, 0, 1)
        height, width = pixels.shape[1] // THIRDS, pixels.shape[2] // STRIPS
        for i in range(CROPS[part] // 2):
            third = i % THIRDS
            strip = part + 3 * int(torch.randint(STRIPS // 3, (), generator=random))
            top = third * height + int(torch.randint(height - SIDE + 1, (), generator=random))
            left = strip * width + int(torch.randint(width - SIDE + 1, (), generator=random))
            crops.append(pixels[:, top : top + SIDE, left : left + SIDE])
            classes.append(THIRDS * number + third)
    return torch.stack(crops), torch.tensor(classes)


def train(crops: Tensor, classes: Tensor, random: torch.Generator, epochs: int) -> ResNet:
    """A network that has learnt where crops are from."""
    network = ResNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(epochs):
        for batch in torch.randperm(len(crops), generator=random).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(network(crops[batch]), classes[batch]).backward()
            optimizer.step()
    return network


def colours(crops: Tensor) -> Tensor:
    """Mean and deviation of red, green and blue: (n, 6)."""
    return torch.cat([crops.mean((2, 3)), crops.std((2, 3))], 1)


def directions(crops: Tensor) -> Tensor:
    """Histogram of the directions of the brightness gradient, weighted by its length, in 8 bins: (n, 8)."""
    down, across = torch.gradient(crops.mean(1), dim=(1, 2))
    bins = ((torch.atan2(down, across) / (2 * torch.pi) + 0.5) * 8).long().clamp(0, 7)
    return (functional.one_hot(bins, 8) * torch.hypot(down, across)[..., None]).mean((1, 2))


def represent(crops: Tensor, networks: dict[str, ResNet]) -> Features:
    """All candidates: features (n, d) by name."""
    features = {"pixels": crops.flatten(1), "colours": colours(crops), "directions": directions(crops)}
    found = {name: X.double().numpy() for name, X in features.items()}
    for name, network in networks.items():
        blocks = extract_features(network, crops, BLOCKS, pool="average")
        found |= {f"{name} {block}": X.astype(np.float64) for block, X in blocks.items()}
    return found


def readout(known: Features, classes: Tensor, unseen: Features, truth: Tensor) -> dict[str, float]:
    """Accuracy on unseen crops of a linear readout of each representation; its penalty is chosen on the known ones."""
    accuracy = {}
    for name, X in known.items():
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(-2, 4, 13)))
        accuracy[name] = float(model.fit(X, classes).score(unseen[name], truth))
    return accuracy


def experiment(seed: int, epochs: int = EPOCHS) -> Result:
    """Train, rank and measure."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    networks = {"random": ResNet(), "trained": train(*make_crops(TRAIN, random), random, epochs)}
    (crops, classes), (others, truth) = make_crops(READOUT, random), make_crops(TEST, random)
    known = represent(crops, networks)
    accuracy = readout(known, classes, represent(others, networks), truth)
    answers = np.eye(CLASSES)[classes]
    measured = Table(list(accuracy), ["where from"], np.array(list(accuracy.values()))[:, None])
    affinities = {
        measure: Table(list(known), ["where from"], dds_ext.affinity(known, {"where from": answers}, **options))
        for measure, options in dds_ext.MEASURES.items()
    }
    return Result(
        rank_models(answers, known, name="where a crop is from"),
        accuracy,
        {measure: evaluate(table, measured) for measure, table in affinities.items()},
    )


def report(result: Result) -> None:
    """Print the ranking beside the accuracy, and the agreement."""
    show_records(
        f"{result.ranking.title}, and the accuracy of a readout (by chance {1 / CLASSES:.3f})",
        [{**record, "accuracy": result.accuracy[record["source"]]} for record in result.ranking.records],
    )
    show_records(
        "Agreement with the accuracies, and what is lost by taking the first of the ranking instead of the best",
        [
            {"measure": measure, "spearman": found.mean.spearman, "regret": found.mean.regret}
            for measure, found in result.agreement.items()
        ],
    )


def draw(result: Result, path: Path) -> None:
    """Save the photographs with their strips and thirds, beside similarity against accuracy."""
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.9))
    for axes, image, name in zip(
        left.subplots(2, 1), load_sample_images().images, ("china.jpg", "flower.jpg"), strict=True
    ):
        axes.imshow(image)
        axes.set_title(name, fontsize="medium")
        height, width = image.shape[0] // THIRDS, image.shape[1] // STRIPS
        axes.set_xticks((np.arange(STRIPS) + 0.5) * width, ["train", "rank", "test"] * (STRIPS // 3))
        axes.tick_params(axis="x", rotation=90, labelsize=7)
        axes.set_yticks((np.arange(THIRDS) + 0.5) * height, ["upper", "middle", "lower"])
        axes.tick_params(length=0)
        axes.vlines(np.arange(1, STRIPS) * width, 0, image.shape[0] - 1, color="white", linewidth=0.8)
        axes.hlines(np.arange(1, THIRDS) * height, 0, image.shape[1] - 1, color="white", linewidth=0.8)
    axes = right.add_subplot(
        xlabel=f"similarity to the answers ({result.ranking.measure}; line: 95% interval)",
        ylabel="measured accuracy of a linear readout",
    )
    for record in result.ranking.records:
        name, accuracy = record["source"], result.accuracy[record["source"]]
        colour = {"random": "tab:orange", "trained": "tab:blue"}.get(name.split()[0], "tab:gray")
        axes.hlines(accuracy, record["low"], record["high"], color=colour, alpha=0.4, linewidth=3)
        axes.plot(record["score"], accuracy, "o", color=colour)
        axes.annotate(name, (record["score"], accuracy), (4, 5), textcoords="offset points", fontsize=8)
    axes.axhline(1 / CLASSES, color="gray", linewidth=0.8, linestyle=":")
    axes.text(1, 1 / CLASSES, "chance ", ha="right", va="bottom", transform=axes.get_yaxis_transform(), fontsize=8)
    spearman = result.agreement[result.ranking.measure].mean.spearman
    axes.set_title(f"Spearman correlation {spearman:.2f}" if spearman is not None else "", fontsize="medium")
    save_figure(figure, path)


@click.command(help="Rank representations of crops of two photographs by how well they tell where a crop is from.")
@click.option("--output", default="photographs.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True)
def main(output: Path, seed: int) -> None:
    torch.set_num_threads(1)  # threads do not help a network of this size, and so the result is the same on any machine
    with working("training a network, and ranking"):
        result = experiment(seed)
    report(result)
    draw(result, output)
    click.echo(f"Picture: {output}")


if __name__ == "__main__":
    main()
