"""Images and labels of a split, in files of a few hundred images each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dds_transfer.minitaskonomy.labels import TASKS, chroma, inputs, labels, luminance
from dds_transfer.minitaskonomy.networks import SIZE
from dds_transfer.minitaskonomy.render import render
from dds_transfer.minitaskonomy.scenes import SPLITS, STYLES, random_scene, scene_seed, stack
from dds_transfer.output import writing

PART = 128  # images in a file


def render_part(path: Path, seed: int, split: str, part: int, images: int, style: str = "day") -> None:
    """Render images ``part * PART`` and following of a split, at most ``PART`` and up to ``images``, into a file.

    Pictures are kept in 8 bits, numbers in 16; what follows from the pictures themselves is not kept.
    """
    indices = range(part * PART, min((part + 1) * PART, images))
    scenes = stack([random_scene(scene_seed(seed, split, index, style), style) for index in indices])
    views = render(scenes, SIZE)
    # The noise of the inputs has a stream of its own for each file, beside that of its first scene.
    (stream,) = scene_seed(seed, split, indices[0], style).spawn(1)
    noise = stream.generate_state(1)
    kept = {
        name: (255 * image).round().byte().contiguous()
        for name, image in inputs(views.image, int(noise[0])).items()
        if name != "grey"
    }
    try:
        found = labels(scenes, views)
    except ValueError as error:
        raise ValueError(f"{split} by {style}, from image {indices[0]} on: {error}") from error
    for name, label in found.items():
        if name in ("autoencoder", "denoise", "inpainting_whole", "colorization"):
            continue
        if label.is_floating_point() and not label.isfinite().all():
            image = part * PART + int(label.isfinite().flatten(1).all(dim=1).logical_not().nonzero()[0])
            raise ValueError(f"{name} of image {image}, {split} by {style}, is not a number everywhere")
        whole = TASKS[name].loss in ("binary", "cross_entropy")
        kept[name] = (label.byte() if whole else label.half()).contiguous()
    with writing(path, binary=True) as file:
        file.write(save(kept))


class Dataset:
    """The images and labels in the files of one split, in order; read when they are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def input(self, name: str) -> Tensor:
        """(n, 3, 64, 64) in [0, 1], what networks are given: see :func:`.labels.inputs`."""
        if name == "grey":
            return luminance(self.input("image")).expand(-1, 3, -1, -1)
        return self._read(name).float() / 255

    def label(self, task: str) -> Tensor:
        """The labels of a task: see :func:`.labels.labels`."""
        if task in ("autoencoder", "denoise", "inpainting_whole"):
            return self.input("image")
        if task == "colorization":
            return chroma(self.input("image"))
        values = self._read(task)
        return values.long() if TASKS[task].loss == "cross_entropy" else values.float()

    def _read(self, name: str) -> Tensor:
        return torch.cat([read_tensors(path, [name])[name] for path in self.paths])


def read_tensors(path: Path, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """Tensors of a file of an experiment by name, all of them where no names are given; ValueError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names or file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; remove it and run the experiment again") from error


def data_path(folder: Path, split: str, part: int, style: str = "day") -> Path:
    """Where a part of a split is kept."""
    assert split in SPLITS and style in STYLES
    return folder / "data" / f"{split}-{style}-{part:02}.safetensors"


def load_split(folder: Path, split: str, images: int, style: str = "day") -> Dataset:
    """The split of this many images, rendered before."""
    return Dataset([data_path(folder, split, part, style) for part in range(parts(images))])


def parts(images: int) -> int:
    """The number of files for this many images."""
    return -(-images // PART)
