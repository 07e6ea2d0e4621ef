"""Which network should I start from? Asked, answered and checked on real images, in about a minute on a laptop.

Ten small networks learn ten tasks on scikit-learn's handwritten digits. Each is then a candidate source for each of the
other tasks. Three measures (DDS, RSA, CKA) rank the candidates from their features alone; the truth is measured by
training a linear readout for every target task on every network's frozen features. The last table says how well each
ranking agreed with the truth.

The 1,797 images are split once: 900 train the networks, 400 other ones give the features that are ranked and train the
readouts, and the remaining 497 test the readouts.

    python examples/digits.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from dds_transfer import Evaluation, Table, evaluate
from dds_transfer.plots import draw_table, save_figure
from dds_transfer.terminal import show_records, working
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import dds_ext

TRAIN, READOUT, TEST = slice(0, 900), slice(900, 1300), slice(1300, 1797)
EPOCHS, BATCH, RATE = 40, 60, 2e-3
RIDGE = 0.01  # penalty of the readout, in units of the features' mean variance


@dataclass(frozen=True)
class Task:
    """Images (n, 1, 8, 8) and what to say about them: classes (n,), or numbers (n, k) if ``classes`` is 0."""

    images: Tensor
    targets: Tensor
    classes: int = 0


@dataclass(frozen=True)
class Result:
    """True transfer results, the affinity by each measure, and their agreement."""

    truth: Table
    affinities: dict[str, Table]
    agreement: dict[str, Evaluation]


def make_tasks(random: torch.Generator) -> dict[str, Task]:
    """The tasks on all 1,797 images, in one random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=random)
    images = torch.tensor(data.images / 16, dtype=torch.float32)[order, None]
    digit = torch.tensor(data.target)[order]
    pixels = images.flatten(1)
    turns = torch.randint(4, (len(images),), generator=random)
    turned = torch.stack([image.rot90(int(k), (1, 2)) for image, k in zip(images, turns, strict=True)])
    noisy = images + 0.4 * torch.randn(images.shape, generator=random)
    hole = functional.one_hot(torch.randint(4, (len(images),), generator=random), 4).reshape(-1, 1, 2, 2)
    covered = images * (1 - hole.repeat_interleave(4, 2).repeat_interleave(4, 3))  # one quarter black
    return {
        "digit": Task(images, digit, 10),
        "parity": Task(images, digit % 2, 2),
        "magnitude": Task(images, (digit >= 5).long(), 2),
        "loops": Task(images, torch.tensor([1, 0, 0, 0, 0, 0, 1, 0, 2, 1])[digit], 3),
        "rotation": Task(turned, turns, 4),
        "geometry": Task(images, geometry(images)),
        "edges": Task(images, edges(images).flatten(1)),
        "autoencode": Task(images, pixels),
        "denoise": Task(noisy, pixels),
        "inpaint": Task(covered, pixels),
    }


def geometry(images: Tensor) -> Tensor:
    """Amount of ink, its centre, and its spread and slant about the centre: (n, 6), each standardised."""
    ink = images[:, 0]
    mass = ink.sum((1, 2))
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")

    def average(of: Tensor) -> Tensor:
        return (ink * of).sum((1, 2)) / mass

    y, x = average(rows), average(columns)
    down, right = rows - y[:, None, None], columns - x[:, None, None]
    moments = [mass, y, x, average(down * down), average(right * right), average(down * right)]
    return standardised(torch.stack(moments, 1))


def edges(images: Tensor) -> Tensor:
    """Length of the Sobel gradient at each pixel: (n, 1, 8, 8)."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    filters = torch.stack([sobel, sobel.T])[:, None]
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, filters).norm(dim=1, keepdim=True)


def standardised(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0)


def train(task: Task, epochs: int, random: torch.Generator) -> nn.Module:
    """Train an encoder and a head on the task; return the encoder: images to (n, 128) features, 8 channels of 4 x 4."""
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 8, 3, padding=1), nn.ReLU(), nn.Flatten()),
    )
    head = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, task.classes or task.targets.shape[1]))
    network = nn.Sequential(encoder, head)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    loss = functional.cross_entropy if task.classes else functional.mse_loss
    images, targets = task.images[TRAIN], task.targets[TRAIN]
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=random).split(BATCH):
            optimizer.zero_grad()
            loss(network(images[batch]), targets[batch]).backward()
            optimizer.step()
    return encoder


@torch.no_grad()
def transfer(encoder: nn.Module, task: Task) -> float:
    """Test result of a linear readout of frozen features: accuracy for classes, else share of variance explained."""
    features, tests = encoder(task.images[READOUT]).double(), encoder(task.images[TEST]).double()
    tests, features = tests - features.mean(0), features - features.mean(0)
    wanted = functional.one_hot(task.targets, task.classes) if task.classes else task.targets
    wanted = wanted.double()
    mean = wanted[READOUT].mean(0)
    moments = features.T @ features
    penalty = RIDGE * moments.trace() / len(moments) * torch.eye(len(moments), dtype=moments.dtype)
    weights = torch.linalg.solve(moments + penalty, features.T @ (wanted[READOUT] - mean))
    answers, truth = tests @ weights + mean, wanted[TEST]
    if task.classes:
        return float((answers.argmax(1) == truth.argmax(1)).double().mean())
    return float(1 - (answers - truth).square().sum() / (truth - truth.mean(0)).square().sum())


def experiment(seed: int, epochs: int = EPOCHS, step: Callable[[], None] = lambda: None) -> Result:
    """Train, rank and measure; ``step`` is called after each network."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    tasks = make_tasks(random)
    encoders = {}
    for name, task in tasks.items():
        encoders[name] = train(task, epochs, random)
        step()
    names = list(tasks)
    truth = Table(names, names, np.array([[transfer(encoders[s], tasks[t]) for t in names] for s in names]))
    # Every network sees the same plain images.
    with torch.no_grad():
        features = {name: encoder(tasks["digit"].images[READOUT]) for name, encoder in encoders.items()}
    affinities = {
        measure: Table(names, names, dds_ext.affinity(features, **options))
        for measure, options in dds_ext.MEASURES.items()
    }
    return Result(truth, affinities, {measure: evaluate(table, truth) for measure, table in affinities.items()})


def best_other(table: Table, target: str) -> str:
    """The highest source for a target, itself left out."""
    column = table.values[:, table.targets.index(target)].tolist()
    _, source = max((value, source) for value, source in zip(column, table.sources, strict=True) if source != target)
    return source


def report(result: Result) -> None:
    """Print the picks and the agreement."""
    off_diagonal = {
        measure: {name: target.spearman_off_diagonal for name, target in evaluation.targets.items()}
        for measure, evaluation in result.agreement.items()
    }
    show_records(
        "Best source for each target (its own network left out), and how each measure's ranking of the other nine "
        "agrees with the truth (Spearman)",
        [
            {
                "target": target,
                "truly best": best_other(result.truth, target),
                "DDS picks": best_other(result.affinities["dds"], target),
                **{measure: figures[target] for measure, figures in off_diagonal.items()},
            }
            for target in result.truth.targets
        ],
    )
    show_records(
        "Mean Spearman correlation with the truth",
        [
            {
                "measure": measure,
                "own network left out": evaluation.mean.spearman_off_diagonal,
                "own network included": evaluation.mean.spearman,
            }
            for measure, evaluation in result.agreement.items()
        ],
    )


def draw(result: Result, path: Path) -> None:
    """Save DDS beside the truth, and the agreement of every measure."""
    figure = Figure(figsize=(17, 6.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.62))
    for axes, table, title in (
        (left, result.affinities["dds"], "Predicted: DDS of features"),
        (middle, result.truth, "Measured: accuracy or variance explained"),
    ):
        # Units differ between targets, and a choice among sources depends on their order alone.
        image = draw_table(axes, table, shade=rankdata(table.values, axis=0))
        axes.set_title(title, loc="left", fontweight="bold")
    middle.set_ylabel("")
    bar = figure.colorbar(image, ax=[left, middle], location="bottom", shrink=0.35, aspect=40, ticks=[1, 10])
    bar.ax.set_xticklabels(["worst source", "best source"])
    bar.set_label("colour: rank among the sources of a target", labelpad=-8)

    for x, evaluation in enumerate(result.agreement.values()):
        figures = [target.spearman_off_diagonal for target in evaluation.targets.values()]
        shown: NDArray[np.float64] = np.array([figure for figure in figures if figure is not None])
        # Spread sideways a little, so that equal values do not hide each other.
        right.scatter(x + np.linspace(-0.16, 0.16, len(shown)), shown, color="tab:blue", alpha=0.6, linewidth=0)
        mean = evaluation.mean.spearman_off_diagonal
        if mean is not None:
            right.hlines(mean, x - 0.3, x + 0.3, color="black", linewidth=2)
            right.text(x + 0.33, mean, f"{mean:.2f}", va="center")
    right.set_xticks(range(len(result.agreement)), list(result.agreement))
    right.set_xlim(-0.5, len(result.agreement) - 0.3)
    right.axhline(0, color="grey", linewidth=0.8, zorder=0)
    right.set_ylim(top=1.05)
    right.set_ylabel("Spearman correlation with the measured ranking (line: mean)")
    right.spines[["top", "right"]].set_visible(False)
    right.set_title("Agreement for each target", loc="left", fontweight="bold")
    save_figure(figure, path)


@click.command(
    help="Rank networks trained on handwritten digits as sources for each other's tasks, and check the ranking."
)
@click.option("--output", default="digits.png", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True)
def main(output: Path, seed: int) -> None:
    torch.set_num_threads(1)  # threads do not help networks of this size, and so the result is the same on any machine
    with working("training ten networks", steps=10) as step:
        result = experiment(seed, step=step)
    report(result)
    draw(result, output)
    click.echo(f"Picture: {output}")


if __name__ == "__main__":
    main()
