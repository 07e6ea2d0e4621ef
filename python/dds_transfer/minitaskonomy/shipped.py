"""What the package holds of a finished experiment, so that nobody must train: its encoders and its measured transfers.

``python -m dds_transfer.minitaskonomy.shipped FOLDER`` takes them from the folder of an experiment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

import dds_transfer
from dds_transfer.minitaskonomy.experiment import TRUTHS, load_experiment
from dds_transfer.minitaskonomy.networks import SIZE, make_network
from dds_transfer.minitaskonomy.render import render
from dds_transfer.minitaskonomy.run import EDITION, SOURCES
from dds_transfer.minitaskonomy.scenes import random_scene, scene_seed, stack
from dds_transfer.minitaskonomy.training import load_encoder
from dds_transfer.output import writing

FOLDER = Path(dds_transfer.__file__).parent / "data" / "minitaskonomy"
ENCODERS = "encoders.safetensors"
AT_ONCE = 20  # images that are rendered together


def ship(experiment: Path, folder: Path = FOLDER) -> None:
    """Write the finished encoders of an experiment, and its tables of measured transfers, into a folder.

    In 32 bits: 16 would halve the file, change scores by up to 0.002, and the order of sources 0.0003 apart.

    Raises ValueError where the experiment is not finished, or of another edition.
    """
    seed = load_experiment(experiment).seed
    weights = {
        f"{source}/{name}": tensor
        for source in SOURCES
        for name, tensor in load_encoder(experiment, "encoder", source).state_dict().items()
        if tensor.is_floating_point()  # the counts of batches play no part
    }
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / ENCODERS, binary=True) as file:
        file.write(save(weights, {"edition": str(EDITION), "seed": str(seed)}))
    for truth in TRUTHS:
        shutil.copyfile(experiment / f"{truth}.csv", folder / f"{truth}.csv")


def load_shipped(folder: Path = FOLDER) -> tuple[int, dict[str, nn.Module]]:
    """The seed of the experiment, and its encoders in evaluation mode, by source: the tasks and the control.

    Raises ValueError where they are of another edition than this code's rooms.
    """
    encoders: dict[str, nn.Module] = {}
    with safe_open(folder / ENCODERS, framework="pt") as file:
        about = file.metadata() or {}
        if about.get("edition") != str(EDITION):
            raise ValueError(f"{folder / ENCODERS} is not of edition {EDITION}, as this code's rooms are; install anew")
        seed = int(about["seed"])
        for source in SOURCES:
            encoder = make_network("encoder", "autoencoder").get_submodule("encoder")
            names = [name for name, tensor in encoder.state_dict().items() if tensor.is_floating_point()]
            weights = {name: file.get_tensor(f"{source}/{name}") for name in names}
            encoder.load_state_dict(weights, strict=False)
            encoders[source] = encoder.eval()
    return seed, encoders


def ranking_images(seed: int, n: int, step: Callable[[], None]) -> Tensor:
    """(n, 3, 64, 64), the first ranking images of an experiment, in 8 bits as it has them; ``step`` after each."""
    parts = []
    for start in range(0, n, AT_ONCE):
        indices = range(start, min(start + AT_ONCE, n))
        parts.append(render(stack([random_scene(scene_seed(seed, "ranking", index)) for index in indices]), SIZE).image)
        for _ in indices:
            step()
    return (255 * torch.cat(parts)).round() / 255


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: on tensors as small as these a second one gains little, and loses much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@click.command()
@click.argument("experiment", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(experiment: Path) -> None:
    """Put the encoders and the measured transfers of a finished experiment into the package's data."""
    try:
        ship(experiment)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
