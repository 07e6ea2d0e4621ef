"""``dds extract``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from dds_transfer.commands.common import LIST, Command, json_option, write_result
from dds_transfer.commands.networks import (
    Numbers,
    choose_preprocessing,
    image_notes,
    images_option,
    preprocessing_options,
    pretrained_option,
    unstated_notes,
)
from dds_transfer.extraction import choose_layers, extract_features
from dds_transfer.images import load_images
from dds_transfer.models import has_random_weights, load_model, model_name
from dds_transfer.output import write_json
from dds_transfer.terminal import show_notes, show_records


def _will_be_there(ctx: click.Context, _: click.Parameter, folder: Path) -> Path:
    """The folder, in which another output may be written."""
    ctx.meta["folder"] = folder.resolve()
    return folder


@click.command("extract", cls=Command)
@click.argument("model")
@images_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    callback=_will_be_there,
    is_eager=True,
    help="Folder to write to: NAME.LAYER.npy for each layer (or NAME.npy, see --name), and images.json, the images in "
    "the order of the rows.",
)
@click.option(
    "--layers",
    multiple=True,
    metavar="PATTERN",
    help="Module to take, by its name or a pattern such as 'layer?'; may be repeated. Default: block1 to block4.",
)
@click.option(
    "--pool",
    default="none",
    show_default=True,
    metavar="none|average|grid:G|class",
    help="What to keep of an output: all, the mean over space or tokens, G x G means, or the class token.",
)
@click.option(
    "--channels-last/--channels-first",
    default=None,
    help="Where the channels are in the outputs that --pool sees. Default: as the network shows.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights for MODEL: .safetensors, .pt, .pth.")
@pretrained_option
@click.option(
    "--name",
    help="Of the model in file names; where one layer is taken, that of its file: NAME.npy. Default: the last part of "
    "MODEL, or the name of --weights, before that of the layer.",
)
@preprocessing_options
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images at once.")
@click.option("--autocast", is_flag=True, help="Run in mixed precision.")
@json_option
def command(
    model: str,
    source: str,
    output: Path,
    layers: tuple[str, ...],
    pool: str,
    channels_last: bool | None,
    weights: Path | None,
    pretrained: bool,
    name: str | None,
    size: int | None,
    mean: Numbers | None,
    std: Numbers | None,
    skip_unreadable: bool,
    device: str | None,
    batch_size: int,
    autocast: bool,
    json_path: Path | None,
) -> None:
    """Write what the layers of a network make of the images, one .npy per layer, for `dds rank` and the others.

    MODEL is torchvision:NAME, timm:NAME, hf:FOLDER or hf:NAME (transformers), or package.module:factory, a Python
    function that returns a torch module. Nothing is downloaded without --pretrained; without weights they are random.

    Images are all those below the folder, in the order of their paths. Each is resized so that its shorter side has
    256/224 of the size, cut to the centre and normalised. Run again after an interruption, the command goes on where it
    stopped; what is there already, of the same weights, images and settings, is not computed again.

    \b
    Examples:
      dds extract torchvision:resnet50 --images photos/ --pretrained -o features/
      dds extract torchvision:resnet50 --weights depth.pt --images photos/ --pool grid:4 -o features/
      dds extract hf:checkpoints/vit --images photos/ --layers 'layers.*' --pool class -o features/
      dds extract mypackage.nets:make_net --images photos.npy --layers encoder -o features/
    """
    if name in ("", ".", ".."):
        raise click.UsageError(f"--name {name!r} is no name; it is the start of file names")
    named, name = name is not None, name or model_name(model, weights)
    if "/" in name:
        raise click.UsageError(
            f"--name {name}: it is the start of file names, and cannot hold a /; -o names the folder"
        )
    if output.resolve() == Path(source).resolve():
        raise click.UsageError(f"-o {output} is the folder of the images; name another")
    network = load_model(model, weights=weights, pretrained=pretrained)
    modules = choose_layers(network, layers or None)
    alone = named and len(modules) == 1
    starts = [name if alone else f"{name}.{layer}" for layer in modules]
    if f"{name}.json" == LIST and alone:
        raise click.UsageError(f"--name {name}: its note {LIST} would be the list of images too; name another")
    for file in (LIST, *(f"{start}{ending}" for start in starts for ending in (".npy", ".json"))):
        if json_path and json_path.resolve() == (output / file).resolve():
            raise click.UsageError(f"--json {json_path} is a file that the command itself writes; name another")
    images = load_images(source, choose_preprocessing(network, size, mean, std), skip_unreadable=skip_unreadable)
    listing = {"digest": images.digest(), "images": images.names, "unreadable": images.unreadable}
    _check_rows(output / LIST, listing["digest"])
    output.mkdir(parents=True, exist_ok=True)
    features = extract_features(
        network,
        images,
        dict(zip([""], modules.values(), strict=True)) if alone else modules,
        pool=pool,
        channels_last=channels_last,
        batch_size=batch_size,
        device=device,
        autocast=autocast,
        save_as=output / name,
    )
    write_json(output / LIST, listing)
    records = [
        {
            "layer": layer,
            "module": modules[layer],
            "shape": X.shape,
            "file": f"{start}.npy",
        }
        for layer, start, X in zip(modules, starts, features.values(), strict=True)
    ]
    if json_path:
        how: dict[str, object] = {"n": len(images), "unreadable": images.unreadable}
        how |= {"preprocessing": images.preprocessing and asdict(images.preprocessing), "layers": records}
        write_result(json_path, how, [source, *([weights] if weights else [])])
    show_records(
        f"Features of {name} on {len(images)} images, in {output}",
        [{**record, "shape": str(record["shape"])} for record in records],
    )
    random = ["the weights are random; --weights or --pretrained gives others"]
    notes = random if has_random_weights(model, weights, pretrained) else []
    show_notes([*notes, *unstated_notes({model: network}, images, size, mean, std), *image_notes(images)])


def _check_rows(path: Path, digest: object) -> None:
    """Refuse a folder with features of other images: row i must be the same image in every file."""
    if not path.exists():
        return
    try:
        other = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (ValueError, TypeError, KeyError):  # somebody else's file
        other = None
    if other != digest:
        raise ValueError(f"{path.parent} holds features of other images, listed in {path}; write to another folder")
