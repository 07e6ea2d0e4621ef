"""``dds attribute``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from torch import nn

from dds_transfer.attribution import METHODS, attribution_affinity, dds_affinity
from dds_transfer.blocks import block_hooks
from dds_transfer.commands.common import FEWEST, Command, json_option, output, write_result
from dds_transfer.commands.networks import (
    Numbers,
    choose_preprocessing,
    image_notes,
    images_option,
    preprocessing_options,
    pretrained_option,
    unstated_notes,
)
from dds_transfer.extraction import place_of
from dds_transfer.images import load_images
from dds_transfer.models import has_random_weights, load_model, model_name
from dds_transfer.terminal import show_notes, show_records, working


@click.command("attribute", cls=Command)
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL[=WEIGHTS]...")
@images_option
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    default="saliency",
    show_default=True,
    help="How the importance of a pixel is measured.",
)
@output(
    "-o", "--output", required=True, endings=(".csv",), help="CSV file to write: a row per source, a column per target."
)
@click.option(
    "--layer",
    metavar="NAME",
    help="Module whose outputs are explained. Default: block4 as of 'dds extract'; the model itself if it has none.",
)
@pretrained_option
@preprocessing_options
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Images at once.")
@json_option
def command(
    models: tuple[str, ...],
    source: str,
    method: str,
    output: Path,
    layer: str | None,
    pretrained: bool,
    size: int | None,
    mean: Numbers | None,
    std: Numbers | None,
    skip_unreadable: bool,
    device: str | None,
    batch_size: int,
    json_path: Path | None,
) -> None:
    """Similarity of every network to every other by attribution maps (Song et al., 2019), as a table.

    A map says how much each pixel of an image contributes to the sum of an encoder's outputs; the similarity of two
    networks is the mean cosine of their maps of the same images. Prints what it cost, beside DDS of the same outputs.
    epsilon_lrp and deeplift are defined for networks of linear layers, activations and max-pooling, such as ResNets.

    MODEL is torchvision:NAME, timm:NAME, hf:FOLDER or hf:NAME (transformers), or package.module:factory; =WEIGHTS is a
    file with weights for it, after which it is named in the table. NAME= in front gives it a name of your own.

    \b
    Examples:
      dds attribute timm:resnet50 timm:resnet18 --pretrained --images photos/ --method saliency -o affinity.csv
      dds attribute torchvision:resnet50=depth.pt torchvision:resnet50=edges.pt --images photos/ \\
          --method epsilon_lrp -o affinity.csv
      dds evaluate affinity.csv --truth taskonomy-affinity
    """
    networks: dict[str, nn.Module] = {}
    sources: dict[str, nn.Module] = {}
    layers: dict[str, str | None] = {}
    random: list[str] = []
    files = [source]
    for text in models:
        own, described = _own_name(text)
        model, equals, file = described.partition("=")
        if equals and not file:
            raise click.UsageError(f"{text}: the name of a file of weights is missing at the end")
        weights = file or None
        name = own or model_name(model, weights)
        if name in networks:
            raise ValueError(f"two models are named {name!r}; give one another name, as in NAME={described}")
        with working(f"loading {name}"):
            network = load_model(model, weights=weights, pretrained=pretrained and weights is None)
        sources[model] = networks[name] = network.to(place_of(network, device))
        layers[name] = layer or _last_block(network)
        if has_random_weights(model, weights, pretrained):
            random.append(name)
        files += [weights] if weights else []
    chosen = {name: choose_preprocessing(network, size, mean, std) for name, network in networks.items()}
    loaded = {each: load_images(source, each, skip_unreadable=skip_unreadable) for each in set(chosen.values())}
    images = {name: loaded[each] for name, each in chosen.items()}
    n = len(next(iter(images.values())))
    maps = attribution_affinity(networks, images, method, layers=layers, batch_size=batch_size)
    maps.table.write(output)
    seconds = {method: maps.seconds}
    if n >= FEWEST:
        seconds["dds"] = dds_affinity(networks, images, layers=layers, batch_size=batch_size).seconds
    if json_path:
        how: dict[str, object] = {"n": n, "unreadable": next(iter(images.values())).unreadable, "layers": layers}
        how |= {"random": random, "preprocessing": {name: asdict(each) for name, each in chosen.items()}}
        how |= {"seconds_per_model_and_image": seconds}
        write_result(json_path, {**how, **maps.table.to_dict()}, files)
    click.echo(f"{output}: {method} between {len(networks)} models, {n} images")
    cost = [{"measure": name, "milliseconds": 1000 * value} for name, value in seconds.items()]
    show_records("Cost per model and image, without reading the images", cost)
    notes = [f"explained of {name}: {target or 'its own outputs'}" for name, target in layers.items()]
    if random:
        notes.append(f"the weights of {', '.join(random)} are random; MODEL=WEIGHTS or --pretrained gives others")
    notes += unstated_notes(sources, next(iter(images.values())), size, mean, std)
    show_notes(notes + list(dict.fromkeys(note for each in loaded.values() for note in image_notes(each))))


def _own_name(text: str) -> tuple[str | None, str]:
    """The NAME in front of a model, if there is one, and the rest."""
    front, equals, rest = text.partition("=")
    if not equals or ":" in front:  # every MODEL has a colon
        return None, text
    if not front:
        raise click.UsageError(f"{text}: the name in front of = is empty")
    return front, rest


def _last_block(network: nn.Module) -> str | None:
    """The module that ends an encoder, or None where no blocks are known."""
    try:
        return block_hooks(network)["block4"]
    except ValueError:
        return None
