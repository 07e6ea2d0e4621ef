"""The labels of 20 of Taskonomy's tasks, from the geometry that the pictures were made of, or from the pictures.

The tasks are those of Zamir et al., "Taskonomy", CVPR 2018, under the names of its authors' result tables. Where the
original distils a label from another network, or fits it to a mesh, the scene says it exactly here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dds_transfer.minitaskonomy.render import Views
from dds_transfer.minitaskonomy.scenes import CATEGORIES, KINDS, OBJECTS, Scenes

# Neighbours, in pixels down and right, whose being of one segment is the label of the two segmentation tasks.
NEIGHBOURS = ((0, 1), (1, 0), (0, 4), (4, 0), (4, 4), (4, -4))
SEGMENTS = 5  # per side: a segmentation begins with 5 x 5 of them
ROUNDS = 5
OCCLUSION = 0.05  # share of the depth by which a neighbour lies off the surface when an occlusion edge is between
ARC = 0.25  # curvatures are given per this length in metres, so that most lie between 0 and 1
NOISE = 0.15  # standard deviation, of the denoising task
HOLE = 0.3  # share of the side that inpainting's square takes


@dataclass(frozen=True)
class Task:
    """What a network is to give for an image.

    Attributes:
        channels: of the output.
        loss: ``l1``, mean absolute error; ``l2``, mean squared error, where most of the image is 0, for the median of
            what is rarely above 0 is 0 everywhere; ``cross_entropy``, of a class per image or pixel; ``binary``, cross
            entropy of several yes-or-no questions per pixel.
        spatial: whether there is an output for each pixel, or one for the image.
        input: what the network is given: ``image``, or ``noisy``, ``masked`` or ``grey`` versions of it.
    """

    channels: int
    loss: str
    spatial: bool = True
    input: str = "image"


TASKS = {
    "autoencoder": Task(3, "l1"),
    "denoise": Task(3, "l1", input="noisy"),
    "inpainting_whole": Task(3, "l1", input="masked"),
    "colorization": Task(2, "l1", input="grey"),
    "edge2d": Task(1, "l2"),
    "keypoint2d": Task(1, "l2"),
    "segment2d": Task(len(NEIGHBOURS), "binary"),
    "rgb2depth": Task(1, "l1"),
    "rgb2mist": Task(1, "l1"),
    "rgb2sfnorm": Task(3, "l1"),
    "edge3d": Task(1, "l2"),
    "keypoint3d": Task(1, "l2"),
    "curvature": Task(2, "l2"),
    "reshade": Task(1, "l1"),
    "segment25d": Task(len(NEIGHBOURS), "binary"),
    "room_layout": Task(9, "l1", spatial=False),
    "vanishing_point": Task(9, "l1", spatial=False),
    "segmentsemantic": Task(len(CATEGORIES), "cross_entropy"),
    "class_1000": Task(len(OBJECTS), "cross_entropy", spatial=False),
    "class_places": Task(len(KINDS), "cross_entropy", spatial=False),
}


def inputs(image: Tensor, seed: int) -> dict[str, Tensor]:
    """What networks are given, by ``Task.input``: (B, 3, s, s) each; noise and squares follow from the seed."""
    random = torch.Generator().manual_seed(seed)
    B, _, s, _ = image.shape
    noisy = image + NOISE * torch.randn(image.shape, generator=random)
    side = round(HOLE * s)
    corner = torch.randint(s - side + 1, (B, 2, 1), generator=random)
    steps = torch.arange(s)
    within = (steps >= corner) & (steps < corner + side)  # (B, 2, s)
    square = within[:, 0, :, None] & within[:, 1, None, :]
    return {
        "image": image,
        "noisy": noisy.clamp(0, 1),
        "masked": image.masked_fill(square[:, None], 0.5),
        "grey": luminance(image).expand(-1, 3, -1, -1),
    }


def labels(scenes: Scenes, views: Views) -> dict[str, Tensor]:
    """The label of every task for B views of s x s pixels.

    Returns:
        By task: (B, channels, s, s) float32 for images; (B, channels) float32 for ``room_layout`` and
        ``vanishing_point``; (B, s, s) int64 for ``segmentsemantic``; (B,) int64 for the two classes. Units and
        conventions stand at the functions.
    """
    image, depth = views.image, depth_of(views)
    grey = luminance(image)
    places = positions(image)
    # As in Taskonomy, the second segmentation sees the geometry too.
    colours = torch.cat([2 * image, places], dim=1)
    surfaces = torch.cat([image, 2 * views.normals, 2 * views.distance.log()[:, None], 2 * places], dim=1)
    axes = vanishing_points(scenes)
    return {
        "autoencoder": image,
        "denoise": image,
        "inpainting_whole": image,
        "colorization": chroma(image),
        "edge2d": edges(grey),
        "keypoint2d": keypoints(grey),
        "segment2d": same_segment(segment(colours)),
        "rgb2depth": depth.log(),
        "rgb2mist": views.distance.log()[:, None],
        "rgb2sfnorm": views.normals,
        "edge3d": blur(occlusion(views).float()[:, None], 0.7),
        "keypoint3d": corners(views),
        "curvature": (ARC * views.curvature).clamp(max=2),
        "reshade": shading(views),
        "segment25d": same_segment(segment(surfaces)),
        "room_layout": room_layout(scenes),
        "vanishing_point": axes.flatten(1),
        "segmentsemantic": views.category,
        "class_1000": largest_object(views),
        "class_places": scenes.kind,
    }


def luminance(image: Tensor) -> Tensor:
    """(B, 1, s, s), brightness by the weights of Rec. 601."""
    return (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def chroma(image: Tensor) -> Tensor:
    """(B, 2, s, s), blue and red less the luminance: with that, the image's colours."""
    return image[:, [2, 0]] - luminance(image)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of (B, C, s, s), to 4 sigma, edges repeated.

    Equivalent to ``scipy.ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest")``.
    """
    reach = int(4 * sigma + 0.5)
    weights = torch.exp(-((torch.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, -1)
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, weights, groups=x.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), groups=x.shape[1])


def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (B, C, s, s) down and to the right, edges repeated."""
    padded = F.pad(x, (1,) * 4, mode="replicate")
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return down, right


def edges(grey: Tensor) -> Tensor:
    """(B, 1, s, s), the gradient's length after a Gaussian of 1 pixel: Canny's edges before their thinning."""
    down, right = gradient(blur(grey, 1))
    return 6 * torch.hypot(down, right)


def keypoints(grey: Tensor) -> Tensor:
    """(B, 1, s, s), corners and blobs of the picture: the root of the determinant of the Hessian, as SURF looks for.

    The Hessian is that of the picture after a Gaussian of 1.5 pixels; where the determinant is negative it is 0.
    """
    down, right = gradient(blur(grey, 1.5))
    (down_down, down_right), (_, right_right) = gradient(down), gradient(right)
    return 20 * (down_down * right_right - down_right**2).clamp(min=0).sqrt()


def positions(image: Tensor) -> Tensor:
    """(B, 2, s, s), rows and columns in [0, 1)."""
    B, _, s, _ = image.shape
    steps = torch.arange(s) / s
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij")).expand(B, -1, -1, -1)


def segment(features: Tensor) -> Tensor:
    """(B, s, s) int64, segments of like features: k-means from a grid of centres, as SLIC's superpixels.

    ``features`` is (B, C, s, s), rows and columns among them if segments shall be compact. There are 5 rounds; a
    segment that loses all its pixels keeps its centre.
    """
    B, C, s, _ = features.shape
    points = features.flatten(2)  # (B, C, P)
    starts = ((torch.arange(SEGMENTS) + 0.5) * s / SEGMENTS).long()
    centres = features[:, :, starts][..., starts].flatten(2)  # (B, C, K)
    for _ in range(ROUNDS):
        nearest = _nearest(points, centres)
        counts = torch.zeros(B, SEGMENTS**2).scatter_add(1, nearest, torch.ones(nearest.shape))
        sums = torch.zeros(centres.shape).scatter_add(2, nearest[:, None].expand(-1, C, -1), points)
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres)
    return _nearest(points, centres).reshape(B, s, s)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """(B, P), which centre is nearest: |p|^2 is the same for all of them."""
    return ((centres**2).sum(dim=1)[..., None] - 2 * centres.transpose(1, 2) @ points).argmin(dim=1)


def same_segment(segments: Tensor) -> Tensor:
    """(B, neighbours, s, s), 1 where a pixel and its neighbour at each of ``NEIGHBOURS`` are of one segment.

    Segments have no names that a network could learn, but that two pixels are together needs none. A neighbour beyond
    the border is the border's pixel.
    """
    s = segments.shape[-1]
    steps = torch.arange(s)
    return torch.stack(
        [
            (segments[:, (steps + i).clamp(0, s - 1)][..., (steps + j).clamp(0, s - 1)] == segments).float()
            for i, j in NEIGHBOURS
        ],
        dim=1,
    )


def depth_of(views: Views) -> Tensor:
    """(B, 1, s, s), along the camera's axis, in metres: the z-buffer. The distance is along the ray."""
    return (views.distance * views.rays[:, 2])[:, None]


def shading(views: Views) -> Tensor:
    """(B, 1, s, s), a white Lambertian surface under one light at the camera: the cosine of normal and ray."""
    return -(views.normals * views.rays).sum(dim=1, keepdim=True).clamp(max=0)


def occlusion(views: Views) -> Tensor:
    """(B, s, s) bool, occlusion edges: a surface ends, or falls away, between a pixel and one of its neighbours.

    The plane through the nearer pixel's point is followed to the neighbour's ray; where the neighbour lies behind it
    by more than 5% of the depth, both pixels are edges. So a floor seen at a slant is none, nor is a corner between two
    walls; of a corner that points to the camera, only a sharp fall behind it is.
    """
    found = torch.zeros(views.distance.shape, dtype=torch.bool)
    points = views.distance[:, None] * views.rays
    level = -(views.normals * points).sum(dim=1)  # of the plane n.x + level = 0
    for axis in (1, 2):
        n = views.distance.shape[axis] - 1
        first, second = (found.narrow(axis, start, n) for start in (0, 1))
        gaps = []
        for here, there in ((0, 1), (1, 0)):
            ray = views.rays.narrow(axis + 1, there, n)
            slope = -(views.normals.narrow(axis + 1, here, n) * ray).sum(dim=1)
            near, far = views.distance.narrow(axis, here, n), views.distance.narrow(axis, there, n)
            # At the rim of a ball the plane runs along the ray. No floor falls by half from one pixel to the next.
            expected = level.narrow(axis, here, n) / slope.clamp(min=1e-6)
            expected = torch.minimum(expected, 1.5 * near)
            gaps.append((far > near) & (far > (1 + OCCLUSION) * expected))
        edge = gaps[0] | gaps[1]
        first |= edge
        second |= edge
    return found


def corners(views: Views) -> Tensor:
    """(B, 1, s, s), corners of surfaces, whatever their textures: Harris's on the geometry.

    The smaller eigenvalue's root of the structure tensor of normals and log distance: large where the surface changes
    in two directions. Both are smoothed by a Gaussian of 1 pixel, or the steps of a slanting edge would be corners; the
    tensor by one of 1.5 pixels.
    """
    down, right = gradient(blur(torch.cat([views.normals, views.distance.log()[:, None]], dim=1), 1))
    a, b, c = (blur((x * y).sum(dim=1, keepdim=True), 1.5) for x, y in ((down, down), (right, right), (down, right)))
    smaller = (a + b) / 2 - torch.sqrt(((a - b) / 2) ** 2 + c**2)
    return 4 * smaller.clamp(min=0).sqrt()


def vanishing_points(scenes: Scenes) -> Tensor:
    """(B, 3, 3), the vanishing points of the room's axes as unit vectors of the camera, one a row.

    In this order: the horizontal axis that the camera looks along most, pointing forward; the other one, pointing to
    the right; up. A vector (x, y, z) vanishes in the image at (x / z, y / z).
    """
    axes = scenes.rotation.transpose(1, 2)  # row i: the room's axis i in the camera's axes
    swap = axes[:, 0, 2].abs() < axes[:, 1, 2].abs()
    forward = torch.where(swap[:, None], axes[:, 1], axes[:, 0])
    forward = forward * forward[:, 2:].sign()
    # With up it makes the same hand as (forward, right, down) do in the camera: right = forward x up.
    return torch.stack([forward, torch.linalg.cross(forward, axes[:, 2]), axes[:, 2]], dim=1)


def room_layout(scenes: Scenes) -> Tensor:
    """(B, 9), the box that the room is, as the camera sees it.

    The logarithms of the distances in metres from the camera to the walls in front, behind, to the right and to the
    left, to the ceiling and to the floor; then yaw, pitch and roll of the camera in radians, against the axis that is
    "front" in :func:`vanishing_points`: yaw to the right, pitch up, roll clockwise.
    """
    axes = vanishing_points(scenes)
    in_room = axes @ scenes.rotation  # rows: front, right and up in the room's axes
    ahead = torch.stack([in_room, -in_room], dim=2)  # (B, 3, 2, 3), each direction and its opposite
    faces = torch.where(ahead > 0.5, scenes.size[:, None, None], 0.0)
    towards = ahead.abs() > 0.5
    distances = ((faces - scenes.camera[:, None, None]).abs() * towards).sum(dim=-1)
    forward, right = axes[:, :, 2], axes[:, :, 0]  # the camera's forward and right, against front, right, up
    yaw = torch.atan2(forward[:, 1], forward[:, 0])
    pitch = torch.asin(forward[:, 2].clamp(-1, 1))
    roll = torch.atan2(-right[:, 2], -axes[:, 2, 1])
    return torch.cat([distances.flatten(1).log(), torch.stack([yaw, pitch, roll], dim=1)], dim=1)


def layout_corners(layout: Tensor) -> Tensor:
    """(B, 8, 3), the room's corners in the camera's axes, in metres, from :func:`room_layout`: front or behind, right
    or left, ceiling or floor, the last fastest."""
    distances, (yaw, pitch, roll) = layout[:, :6].exp(), layout[:, 6:].unbind(dim=1)
    zero = torch.zeros_like(yaw)
    forward = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], dim=1)
    level = torch.stack([-yaw.sin(), yaw.cos(), zero], dim=1)  # right, before rolling
    below = torch.linalg.cross(level, forward)  # front, right, up is a left-handed system
    right = roll.cos()[:, None] * level + roll.sin()[:, None] * below
    down = torch.linalg.cross(right, forward)
    camera = torch.stack([right, down, forward], dim=1)  # rows, against front, right, up
    sides = distances.reshape(-1, 3, 2) * torch.tensor([1.0, -1.0])
    corner = torch.stack(
        [torch.stack([sides[:, 0, i], sides[:, 1, j], sides[:, 2, k]], dim=1) for i, j, k in _CORNERS], dim=1
    )
    return corner @ camera.transpose(1, 2)


_CORNERS = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]


def largest_object(views: Views) -> Tensor:
    """(B,) int64, the kind of the object that covers most pixels, an index into ``OBJECTS``.

    Raises ValueError if an image shows no object.
    """
    first = len(CATEGORIES) - len(OBJECTS)
    # Only objects count; the others go to bin 0.
    things = torch.where(views.category >= first, views.thing + 1, 0).flatten(1)
    counts = torch.zeros(len(things), int(things.max()) + 1).scatter_add(1, things, torch.ones(things.shape))
    counts[:, 0] = 0
    most, thing = counts.max(dim=1)
    if not (most > 0).all():
        raise ValueError(f"image {int((most == 0).nonzero()[0, 0])} shows no object")
    pixel = (things == thing[:, None]).float().argmax(dim=1, keepdim=True)
    return views.category.flatten(1).gather(1, pixel)[:, 0] - first
