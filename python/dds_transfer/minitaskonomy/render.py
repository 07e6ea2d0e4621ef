"""Ray casting of rooms: pictures, and the geometry behind every pixel.

One ray goes through the centre of each pixel of a pinhole camera whose axes are x to the right, y down and z forward.
Surfaces are Lambertian, lit by point lights with shadows and by a constant light from everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dds_transfer.minitaskonomy.scenes import BOX, CYLINDER, FACES, LIGHTS, TEXTURES, Scenes

FAR = 1e9  # no hit
# A point is in the shadow of what is nearer to the light by more than this share of the way; roundings are 1e-6.
SHADOW = 1e-3
GAMMA = 2.2
# Images at once: their intermediate arrays, some 30 shapes x 4096 pixels x 4 bytes each, stay in the cache.
CHUNK = 2


@dataclass(frozen=True)
class Views:
    """What the cameras of B scenes see, s x s pixels each; vectors are in the camera's axes, lengths in metres.

    Attributes:
        image: (B, 3, s, s) in [0, 1], gamma 2.2.
        distance: (B, s, s), from the camera along the ray.
        rays: (B, 3, s, s), the rays' unit vectors: distance x ray is the point that is seen.
        normals: (B, 3, s, s), unit, towards the camera.
        curvature: (B, 2, s, s), principal curvatures in 1/m, the larger first: 0, 0 for planes, 1/r, 0 for cylinders,
            1/r, 1/r for spheres.
        surface: (B, s, s), which surface of the scene it is.
        category: (B, s, s), an index into ``CATEGORIES``.
        thing: (B, s, s), which object, or face of the room.
    """

    image: Tensor
    distance: Tensor
    rays: Tensor
    normals: Tensor
    curvature: Tensor
    surface: Tensor
    category: Tensor
    thing: Tensor


def render(scenes: Scenes, size: int) -> Views:
    """Cast a ray for each of the size x size pixels of every scene."""
    B = len(scenes.camera)
    parts = [_render(_rows(scenes, slice(first, first + CHUNK)), size) for first in range(0, B, CHUNK)]
    return Views(**{name: torch.cat([getattr(part, name) for part in parts]) for name in Views.__annotations__})


def camera_rays(tangent: Tensor, size: int) -> Tensor:
    """(B, size * size, 3), unit vectors through the centres of the pixels, row by row, in the camera's axes.

    ``tangent`` (B,) is that of half the angle of view: the image spans [-tangent, tangent] at depth 1.
    """
    steps = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    flat = torch.stack([x.flatten(), y.flatten()], dim=-1) * tangent[:, None, None]
    return torch.nn.functional.normalize(torch.nn.functional.pad(flat, (0, 1), value=1), dim=-1)


def cast(scenes: Scenes, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """How far rays go until they meet a shape, and which.

    Args:
        scenes: B scenes; the faces of the rooms are left out.
        origin: (B, 3), where the rays of a scene start, outside all shapes.
        directions: (B, P, 3), of any length.

    Returns:
        (B, P) in units of the directions' lengths, ``FAR`` where nothing is met; (B, P), the number of the shape,
        boxes first, then cylinders and spheres.
    """
    away = _away_from_zero(directions)
    hits = torch.cat(
        [
            _boxes(scenes.boxes, origin, away),
            _cylinders(scenes.cylinders, origin, away),
            _spheres(scenes.spheres, origin, away),
        ],
        dim=1,
    )
    return hits.min(dim=1)


def _rows(scenes: Scenes, rows: slice) -> Scenes:
    return Scenes(**{name: getattr(scenes, name)[rows] for name in Scenes.__annotations__})


def _render(scenes: Scenes, size: int) -> Views:
    rays = camera_rays(scenes.tangent, size)
    directions = rays @ scenes.rotation  # rows are the camera's axes: to those of the room
    distance, shape = cast(scenes, scenes.camera, directions)
    wall, face = _walls(scenes.size, scenes.camera, directions)
    surface = torch.where(distance < wall, shape + FACES, face)
    distance = torch.minimum(distance, wall)
    points = scenes.camera[:, None] + distance[..., None] * directions
    local, normals, curvature = _geometry(scenes, surface, points)
    material = _of(scenes.materials, surface)
    # How much of the surface a pixel covers: what is finer than that blurs to its mean instead of flickering.
    slant = -(normals * directions).sum(dim=-1).clamp(max=-0.05)
    pixel = 2 * scenes.tangent[:, None] / size * distance / slant.abs()
    albedo = _albedo(material, local, normals, pixel)
    colour = albedo * _light(scenes, points, normals)[..., None] + albedo * material[..., 9:10]

    def picture(values: Tensor) -> Tensor:
        return values.transpose(1, 2).reshape(len(values), -1, size, size)

    def plane(values: Tensor) -> Tensor:
        return values.reshape(len(values), size, size)

    return Views(
        # Like film, so that bright walls keep their textures.
        image=picture((1 - torch.exp(-1.3 * colour)) ** (1 / GAMMA)),
        distance=plane(distance),
        rays=picture(rays),
        normals=picture(normals @ scenes.rotation.transpose(1, 2)),
        curvature=picture(curvature),
        surface=plane(surface),
        category=plane(_of(scenes.category[..., None], surface)[..., 0]),
        thing=plane(_of(scenes.thing[..., None], surface)[..., 0]),
    )


def _away_from_zero(components: Tensor) -> Tensor:
    """Zero components would make inf - inf, or 0 * inf, of a ray that runs along a side."""
    return torch.where(components.abs() < 1e-9, 1e-9, components)


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Into the axes of what is turned by ``angle``."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _boxes(boxes: Tensor, origin: Tensor, directions: Tensor) -> Tensor:
    """(B, Nb, P), where rays enter boxes: behind the last of the three pairs of planes, before any is left."""
    angle = boxes[..., 6]
    start = origin[:, None] - boxes[..., :3]
    starts = [*_turned(start[..., 0], start[..., 1], angle), start[..., 2]]
    x, y, z = directions[:, None].unbind(dim=-1)  # (B, 1, P)
    enter = leave = None
    for along, place, half in zip(
        (*_turned(x, y, angle[..., None]), z), starts, boxes[..., 3:6].unbind(dim=-1), strict=True
    ):
        inverse = 1 / _away_from_zero(along)  # which turning may have made zero
        middle, reach = -place[..., None] * inverse, half[..., None] * inverse.abs()
        near, far = middle - reach, middle + reach
        enter = near if enter is None else torch.maximum(enter, near)
        leave = far if leave is None else torch.minimum(leave, far)
    assert enter is not None and leave is not None
    return enter.masked_fill((enter >= leave) | (enter <= 0), FAR)


def _cylinders(cylinders: Tensor, origin: Tensor, directions: Tensor) -> Tensor:
    """(B, Nc, P), where rays enter upright cylinders: inside the round wall and between the two ends."""
    start = (origin[:, None] - cylinders[..., :3])[..., None]  # (B, Nc, 3, 1)
    radius, half = cylinders[..., 3, None], cylinders[..., 5, None]
    x, y, z = directions[:, None].unbind(dim=-1)
    a = x * x + y * y
    b = start[..., 0, :] * x + start[..., 1, :] * y
    c = start[..., 0, :] ** 2 + start[..., 1, :] ** 2 - radius.sign() * radius**2
    root = b * b - a * c
    width = root.clamp(min=0).sqrt()
    inverse = 1 / z
    middle, reach = -start[..., 2, :] * inverse, half * inverse.abs()
    enter = torch.maximum((-b - width) / a, middle - reach)
    leave = torch.minimum((-b + width) / a, middle + reach)
    return enter.masked_fill((root <= 0) | (enter >= leave) | (enter <= 0), FAR)


def _spheres(spheres: Tensor, origin: Tensor, directions: Tensor) -> Tensor:
    """(B, Ns, P), where rays enter spheres."""
    start = origin[:, None] - spheres[..., :3]
    radius = spheres[..., 3]
    a = (directions * directions).sum(dim=-1)[:, None]
    b = start @ directions.transpose(1, 2)
    c = ((start * start).sum(dim=-1) - radius.sign() * radius**2)[..., None]
    root = b * b - a * c
    enter = (-b - root.clamp(min=0).sqrt()) / a
    return enter.masked_fill((root <= 0) | (enter <= 0), FAR)


def _walls(size: Tensor, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays leave the room, and through which face."""
    away = _away_from_zero(directions)
    # A ray meets one face of each pair, the one it goes towards.
    target = torch.where(away > 0, size[:, None], 0)
    distance, axis = ((target - origin[:, None]) / away).min(dim=-1)
    positive = (away.gather(-1, axis[..., None])[..., 0] > 0).long()
    return distance, 2 * axis + positive


def _of(table: Tensor, surface: Tensor) -> Tensor:
    """(B, P, k): the rows of ``table`` (B, m, k) for the surfaces (B, P)."""
    return table.gather(1, surface[..., None].expand(-1, -1, table.shape[-1]))


def _geometry(scenes: Scenes, surface: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points in the shape's own axes, outward normals in the room's (of its faces, inward), curvatures in 1/m."""
    # The faces of the room as rows of the table of shapes: never used but to have the same numbers as surfaces.
    faces = scenes.boxes.new_zeros(len(points), FACES, scenes.boxes.shape[-1])
    table = torch.cat([faces, scenes.boxes, scenes.cylinders, scenes.spheres], dim=1)
    counts = [FACES, scenes.boxes.shape[1], scenes.cylinders.shape[1], scenes.spheres.shape[1]]
    kind = torch.repeat_interleave(torch.arange(-1, 3), torch.tensor(counts))[surface]
    shape = _of(table, surface)
    x, y = _turned(points[..., 0] - shape[..., 0], points[..., 1] - shape[..., 1], shape[..., 6])
    local = torch.stack([x, y, points[..., 2] - shape[..., 2]], dim=-1)
    scaled = local / shape[..., 3:6].clamp(min=1e-6)
    round_ = torch.hypot(scaled[..., 0], scaled[..., 1])
    flat = local * torch.tensor([1.0, 1.0, 0.0])
    end = torch.zeros_like(local)
    end[..., 2] = local[..., 2].sign()
    side = (kind == CYLINDER) & (round_ >= scaled[..., 2].abs())
    largest = scaled.abs().argmax(dim=-1, keepdim=True)
    box = torch.zeros_like(local).scatter(-1, largest, scaled.gather(-1, largest).sign())
    normal = torch.where((kind == BOX)[..., None], box, local)
    normal = torch.where((kind == CYLINDER)[..., None], torch.where(side[..., None], flat, end), normal)
    x, y = _turned(normal[..., 0], normal[..., 1], -shape[..., 6])
    normal = torch.stack([x, y, normal[..., 2]], dim=-1)
    inward = torch.cat([torch.eye(3), -torch.eye(3)], dim=1).reshape(FACES, 3)
    normal = torch.where((kind < 0)[..., None], inward[surface.clamp(max=FACES - 1)], normal)
    bend = 1 / shape[..., 3].clamp(min=1e-6)
    ball = kind > CYLINDER
    curvature = torch.stack([bend * (side | ball), bend * ball], dim=-1)
    return local, torch.nn.functional.normalize(normal, dim=-1), curvature


def _light(scenes: Scenes, points: Tensor, normals: Tensor) -> Tensor:
    """(B, P), the light that falls on points."""
    total = scenes.ambient[:, None].expand(points.shape[:2])
    for i in range(LIGHTS):
        place, strength = scenes.lights[:, i, :3], scenes.lights[:, i, 3]
        way = points - place[:, None]
        length = way.norm(dim=-1)
        cosine = -(normals * way).sum(dim=-1) / length.clamp(min=1e-6)
        lit = cast(scenes, place, way)[0] > 1 - SHADOW
        # Less with the distance, but softly: a lamp is no point, and walls reflect.
        total = total + strength[:, None] * cosine.clamp(min=0) * lit / (0.4 + 0.05 * length**2)
    return total


def _albedo(material: Tensor, local: Tensor, normals: Tensor, pixel: Tensor) -> Tensor:
    """(B, P, 3), colours of the textures, which are laid along the two axes that the surface faces least."""
    period, seed = material[..., 7], material[..., 8].long()
    axis = normals.abs().argmax(dim=-1)
    u = torch.where(axis == 0, local[..., 1], local[..., 0]) / period
    v = torch.where(axis == 2, local[..., 1], local[..., 2]) / period
    i, j = u.floor(), v.floor()
    row = (2 * v).floor()
    brick = u + 0.5 * (row % 2)
    joint = ((brick - brick.floor()) < 0.06) | ((2 * v - row) < 0.12)
    dots = torch.hypot(u - i - 0.5, v - j - 0.5) < 0.3
    noise = (2 * _noise(3 * u, 3 * v, seed) + _noise(7 * u, 7 * v, seed + 1)) / 3
    kinds = {
        "plain": torch.zeros_like(u),
        "checker": (i + j) % 2,
        "planks": _hash((3 * u).floor().long(), (0.3 * v).floor().long(), seed),
        "bricks": joint.float(),
        "noise": noise,
        "dots": dots.float(),
    }
    share = torch.stack([kinds[name] for name in TEXTURES]).gather(0, material[..., 0].long()[None])[0]
    mean = torch.tensor([0, 0.5, 0.5, 0.17, 0.5, math.pi * 0.09])[material[..., 0].long()]
    sharp = (period / (3 * pixel)).clamp(max=1)
    share = (mean + sharp * (share - mean))[..., None]
    return material[..., 1:4] * (1 - share) + material[..., 4:7] * share


def _hash(i: Tensor, j: Tensor, seed: Tensor) -> Tensor:
    """Numbers in [0, 1) that look random, a function of three integers; integers give the same on any machine."""
    x = (i * 73856093) ^ (j * 19349663) ^ (seed * 83492791)
    x = (x ^ (x >> 13)) * 1274126177 & 0xFFFFFFFF
    x = (x ^ (x >> 15)) * 668265263 & 0xFFFFFFFF
    return ((x ^ (x >> 13)) & 0xFFFFFF).float() / 0x1000000


def _noise(u: Tensor, v: Tensor, seed: Tensor) -> Tensor:
    """Value noise: random numbers on a lattice, smoothly interpolated."""
    i, j = u.floor(), v.floor()
    a, b = (t * t * (3 - 2 * t) for t in (u - i, v - j))
    i, j = i.long(), j.long()
    low = _hash(i, j, seed) * (1 - a) + _hash(i + 1, j, seed) * a
    high = _hash(i, j + 1, seed) * (1 - a) + _hash(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b
