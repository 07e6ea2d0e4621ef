"""What the commands that run networks share: options, the preprocessing of images, and notes about them."""

from __future__ import annotations

from collections.abc import Mapping

import click
from torch import nn

from dds_transfer.commands.common import Function
from dds_transfer.images import Images, Preprocessing
from dds_transfer.models import preprocessing_of, stated_preprocessing
from dds_transfer.terminal import listed

Numbers = tuple[float, float, float]

images_option = click.option(
    "--images", "source", required=True, metavar="PATH", help="Folder of images, or a file of an array."
)
pretrained_option = click.option(
    "--pretrained", is_flag=True, help="The library's pretrained weights, downloaded if need be."
)


def preprocessing_options(command: Function) -> Function:
    """How pictures are prepared, what becomes of those that cannot be read, and where the network runs."""
    for option in (
        click.option("--device", help="Where to run, such as cuda. Default: cpu."),
        click.option(
            "--skip-unreadable", is_flag=True, help="Leave out images that cannot be read instead of stopping."
        ),
        click.option("--std", type=float, nargs=3, help="Of the channels. Default: the model's, or ImageNet's."),
        click.option("--mean", type=float, nargs=3, help="Of the channels. Default: the model's, or ImageNet's."),
        click.option(
            "--size", type=click.IntRange(1), help="Side of the images, in pixels. Default: the model's, or 224."
        ),
    ):
        command = option(command)
    return command


def choose_preprocessing(
    network: nn.Module, size: int | None, mean: Numbers | None, std: Numbers | None
) -> Preprocessing:
    """What the user asked for, and for the rest what the network states."""
    stated = preprocessing_of(network)
    return Preprocessing(size or stated.size, mean or stated.mean, std or stated.std)


def unstated_notes(
    networks: Mapping[str, nn.Module], images: Images, size: int | None, mean: Numbers | None, std: Numbers | None
) -> list[str]:
    """What of the preprocessing neither the user nor a network says; torchvision's are trained on the defaults."""
    asked = {"size": size, "mean": mean, "std": std}
    notes = []
    for source, network in networks.items():
        stated = stated_preprocessing(network)
        open_ = [name for name, value in asked.items() if value is None and not stated[name]]
        if open_ and images.preprocessing and not source.startswith("torchvision:"):
            notes.append(f"{source} does not state {', '.join(open_)}: those usual for ImageNet were taken")
    return notes


def image_notes(images: Images) -> list[str]:
    """What was done to the images, and which were left out."""
    notes = []
    if prepared := images.preprocessing:
        notes.append(
            f"pictures were cut to {prepared.size} x {prepared.size}, mean {prepared.mean}, std {prepared.std}"
        )
    if images.unreadable:
        reasons = listed([f"{name} ({reason})" for name, reason in images.unreadable.items()])
        notes.append(f"images left out because they cannot be read, {len(images.unreadable)}: {reasons}")
    if images.others:
        notes.append(
            f"files left out because they do not end like images, {len(images.others)}: {listed(images.others)}"
        )
    return notes
