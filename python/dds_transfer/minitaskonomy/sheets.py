"""Pictures of the rooms and of every label: ``python -m dds_transfer.minitaskonomy.sheets FOLDER``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dds_transfer.minitaskonomy.labels import TASKS, inputs, labels, layout_corners, luminance
from dds_transfer.minitaskonomy.render import render
from dds_transfer.minitaskonomy.scenes import CATEGORIES, KINDS, OBJECTS, STYLES, random_scene, scene_seed, stack
from dds_transfer.output import writing

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("drawing needs matplotlib: pip install 'dds_ext[plot]'", name=error.name) from error

SIZE = 128
DOWN, ACROSS = 3, 6
EDGES = [(a, b) for a in range(8) for b in range(a) if (a ^ b) in (1, 2, 4)]  # of the room, between its corners


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Of the rooms.")
def main(folder: Path, seed: int) -> None:
    """Write rooms-day.png and rooms-night.png, samples of both styles, and labels.png, every label of some."""
    folder.mkdir(parents=True, exist_ok=True)
    for style in STYLES:
        _save(_rooms(seed, style), folder / f"rooms-{style}.png")
    canvas = FigureCanvasAgg(draw_labels(seed))
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    _save(torch.from_numpy(pixels[..., :3] / 255).permute(2, 0, 1), folder / "labels.png")


def _rooms(seed: int, style: str) -> Tensor:
    """(3, DOWN * SIZE, ACROSS * SIZE), the first rooms."""
    image = render(
        stack([random_scene(scene_seed(seed, "train", i, style), style) for i in range(DOWN * ACROSS)]), SIZE
    ).image
    return image.reshape(DOWN, ACROSS, 3, SIZE, SIZE).permute(2, 0, 3, 1, 4).reshape(3, DOWN * SIZE, ACROSS * SIZE)


def _save(image: Tensor, path: Path) -> None:
    """With 6 bits per colour: the eye sees no difference, the file is much smaller."""
    picture = Image.fromarray((4 * (63 * image).round()).byte().permute(1, 2, 0).contiguous().numpy())
    with writing(path, binary=True) as file:
        picture.save(file, format="PNG", optimize=True)


def draw_labels(seed: int, rooms: int = 3) -> Figure:
    """A row for each of the first rooms, a column for each input and task."""
    scenes = stack([random_scene(scene_seed(seed, "train", i)) for i in range(rooms)])
    views = render(scenes, SIZE)
    truth = labels(scenes, views)
    given = inputs(views.image, seed)
    columns = ["image", *(name for name, task in TASKS.items() if name != "autoencoder")]
    across = -(-len(columns) // 2)
    figure = Figure(figsize=(1.3 * across, 1.4 * 2 * rooms), dpi=75, layout="constrained")
    panels = figure.subplots(2 * rooms, across)
    for panel in panels.ravel():
        panel.axis("off")
    for i in range(rooms):
        for j, name in enumerate(columns):
            axes = panels[i + rooms * (j // across), j % across]
            if i == 0:
                axes.set_title(name, fontsize=9)
            tangent = float(scenes.tangent[i])
            _draw(axes, name, views.image[i], {key: value[i] for key, value in truth.items()}, given, i, tangent)
    return figure


def _draw(
    axes: Axes,
    name: str,
    image: Tensor,
    truth: dict[str, Tensor],
    given: dict[str, Tensor],
    i: int,
    tangent: float,
) -> None:
    """One label of image i, as a picture."""
    task = TASKS.get(name)
    if task is None:
        axes.imshow(_pixels(image))
    elif name == "room_layout":
        axes.imshow(_pixels(luminance(image[None])[0].expand(3, -1, -1)))
        corners = layout_corners(truth[name][None])[0]
        for a, b in EDGES:
            line = torch.stack([corners[a] + (corners[b] - corners[a]) * t for t in torch.linspace(0, 1, 50)])
            line = line[line[:, 2] > 0.1]
            pixels = (line[:, :2] / line[:, 2:] / tangent + 1) * SIZE / 2 - 0.5
            axes.plot(*pixels.T.numpy(), color="C1", linewidth=1.5)
        axes.set(xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5))
    elif name == "vanishing_point":
        axes.imshow(_pixels(image))
        for axis, colour in zip(truth[name].reshape(3, 3), ("red", "lime", "blue"), strict=True):
            tip = 0.3 * SIZE * axis[:2]
            centre = (SIZE - 1) / 2
            axes.annotate(
                "",
                (centre + float(tip[0]), centre + float(tip[1])),
                (centre, centre),
                arrowprops={"color": colour, "width": 1.5, "headwidth": 6, "headlength": 5},
            )
    elif not task.spatial:
        axes.imshow(_pixels(image))
        names = {"class_1000": OBJECTS, "class_places": KINDS}[name]
        axes.text(
            0.5, 0.03, names[int(truth[name])], transform=axes.transAxes, ha="center", fontsize=9, backgroundcolor="w"
        )
    elif task.input != "image":
        axes.imshow(_pixels(given[task.input][i]))
        axes.set_title(f"{name}: input", fontsize=7)
    elif task.loss == "cross_entropy":
        axes.imshow(colormaps["tab20"](truth[name].numpy() / len(CATEGORIES)))
    elif name == "rgb2sfnorm":
        axes.imshow(_pixels((truth[name] + 1) / 2))
    elif task.loss == "binary":
        axes.imshow(truth[name][:2].amin(dim=0).numpy(), cmap="gray", vmin=0, vmax=1)
    elif name in ("rgb2depth", "rgb2mist"):
        axes.imshow(truth[name][0].numpy(), cmap="viridis_r")
    else:
        axes.imshow(truth[name].amax(dim=0).numpy(), cmap="gray", vmin=0, vmax=1)


def _pixels(image: Tensor) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = image.clamp(0, 1).permute(1, 2, 0).numpy()
    return pixels


if __name__ == "__main__":
    main()
