"""Random rooms by seed: what stands where, what it looks like, the lights and the camera.

The unit is the metre. A room is the box [0, width] x [0, depth] x [0, height], z up. Everything in it is a box that is
turned about the vertical, an upright cylinder or a sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[np.float64]

# Images of different splits have different streams of random numbers: train for the networks, transfer for the
# readouts on their features, test for the losses, ranking for the methods that compare features.
SPLITS = ("train", "transfer", "test", "ranking")
# Two distributions of images: the kinds of rooms and of furniture are alike, colours, textures and light differ.
STYLES = ("day", "night")
KINDS = ("bedroom", "office", "dining room", "living room", "corridor", "hall")
OBJECTS = ("table", "chair", "bed", "sofa", "shelf", "lamp", "plant", "column", "ball", "crate")
# Of a pixel: a part of the room, or an object.
CATEGORIES = ("wall", "floor", "ceiling", "window", "door", "picture", *OBJECTS)

BOX, CYLINDER, SPHERE = range(3)
TEXTURES = ("plain", "checker", "planks", "bricks", "noise", "dots")
FACES = 6  # of the room: x = 0, x = width, y = 0, y = depth, floor, ceiling
FLOOR, CEILING = 4, 5
LIGHTS = 2
# What furniture, and the textures of walls and floors, are usually coloured like, so that a colour can be told from
# what is grey, and an object by its colour: places in the style's range of hues, by day from 0, red, over yellow and
# green to 1, blue.
HUES = {
    "plain": 0.5,
    "checker": 0.7,
    "planks": 0.25,
    "bricks": 0.05,
    "noise": 0.6,
    "dots": 0.9,
    "table": 0.25,
    "chair": 0.1,
    "bed": 0.9,
    "sofa": 0.0,
    "shelf": 0.3,
    "lamp": 0.35,
    "plant": 0.55,
    "column": 0.7,
    "ball": 0.8,
    "crate": 0.45,
    "window": 1.0,
    "door": 0.2,
}
ASIDE = 0.8  # how far from the middle towards the side of the picture what the camera looks at may be
SMALLEST = 0.04  # its smallest size, the cube root of its bounding box, as a share of the picture's side there
SHAPE, MATERIAL = 7, 10  # numbers of a shape and of a material, see Scene


@dataclass(frozen=True)
class Scene:
    """A room with what is in it.

    A surface is a face of the room, or a whole shape; the faces come first.

    Attributes:
        kind: of the room, an index into ``KINDS``.
        size: (3,) width, depth and height of the room.
        shapes: for BOX, CYLINDER and SPHERE an (m, 7) array: centre x, y, z, half the size along the shape's own x, y,
            z (the radius for what is round), the angle by which it is turned.
        materials: (surfaces, 10): index into ``TEXTURES``, two colours (r, g, b each, linear), period of the texture,
            seed of its noise, light that it emits.
        category: (surfaces,), indices into ``CATEGORIES``.
        thing: (surfaces,), which surfaces belong to one object; each face of the room is one of its own.
        camera: (3,) where it is.
        rotation: (3, 3), rows: the camera's right, down and forward in the room's axes.
        tangent: of half the angle of view.
        lights: (LIGHTS, 4), position and strength.
        ambient: strength of the light from everywhere.
    """

    kind: int
    size: Array
    shapes: tuple[Array, Array, Array]
    materials: Array
    category: NDArray[np.int64]
    thing: NDArray[np.int64]
    camera: Array
    rotation: Array
    tangent: float
    lights: Array
    ambient: float


def scene_seed(seed: int, split: str, index: int, style: str = "day") -> np.random.SeedSequence:
    """Where the random numbers of one scene come from; no two scenes of any seeds, splits or styles share a stream.

    Raises ValueError for a split or style that there is not, or an index below 0.
    """
    if split not in SPLITS or style not in STYLES or index < 0:
        raise ValueError(
            f"no scene {index} of split {split!r}, style {style!r}; splits are {', '.join(SPLITS)}, styles "
            f"{', '.join(STYLES)}"
        )
    # NumPy mixes entropy and spawn key such that different pairs give independent streams.
    return np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), STYLES.index(style), index))


def random_scene(seed: np.random.SeedSequence, style: str = "day") -> Scene:
    """The room of this seed.

    The camera stands in free space and looks roughly at the largest shape, whose middle is well inside the picture, so
    that an object is in every image: a room is convex, what hides one object is another.
    """
    return _Builder(np.random.default_rng(seed), style).build()


@dataclass(frozen=True)
class Scenes:
    """Rooms as tensors, to be rendered together: the attributes of B :class:`Scene` with a batch axis in front.

    Rooms have different numbers of shapes: each kind is filled up with shapes of negative size, which no ray hits.
    """

    kind: Tensor  # (B,)
    size: Tensor  # (B, 3)
    boxes: Tensor  # (B, Nb, 7)
    cylinders: Tensor  # (B, Nc, 7)
    spheres: Tensor  # (B, Ns, 7)
    materials: Tensor  # (B, 6 + Nb + Nc + Ns, 10)
    category: Tensor  # (B, 6 + Nb + Nc + Ns)
    thing: Tensor  # (B, 6 + Nb + Nc + Ns)
    camera: Tensor  # (B, 3)
    rotation: Tensor  # (B, 3, 3)
    tangent: Tensor  # (B,)
    lights: Tensor  # (B, LIGHTS, 4)
    ambient: Tensor  # (B,)


def stack(scenes: Sequence[Scene]) -> Scenes:
    """Scenes in one batch, in float32."""
    # At least one of each, so that there is something to miss in an empty room.
    counts = [max(1, *(len(scene.shapes[kind]) for scene in scenes)) for kind in (BOX, CYLINDER, SPHERE)]

    def filled(rows: NDArray[Any], count: int, value: float) -> NDArray[Any]:
        return np.concatenate([rows, np.full((count - len(rows), *rows.shape[1:]), value)])

    def by_surface(scene: Scene, values: NDArray[Any]) -> NDArray[Any]:
        ends = FACES + np.cumsum([len(rows) for rows in scene.shapes])[:-1]
        faces, rest = values[:FACES], np.split(values[FACES:], ends - FACES)
        return np.concatenate([faces, *(filled(rows, count, 0) for rows, count in zip(rest, counts, strict=True))])

    def tensor(arrays: Iterable[object]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(array, np.float32) for array in arrays]))

    boxes, cylinders, spheres = (
        tensor(filled(scene.shapes[kind], counts[kind], -1) for scene in scenes) for kind in (BOX, CYLINDER, SPHERE)
    )
    return Scenes(
        kind=tensor(scene.kind for scene in scenes).long(),
        size=tensor(scene.size for scene in scenes),
        boxes=boxes,
        cylinders=cylinders,
        spheres=spheres,
        materials=tensor(by_surface(scene, scene.materials) for scene in scenes),
        category=tensor(by_surface(scene, scene.category) for scene in scenes).long(),
        thing=tensor(by_surface(scene, scene.thing) for scene in scenes).long(),
        camera=tensor(scene.camera for scene in scenes),
        rotation=tensor(scene.rotation for scene in scenes),
        tangent=tensor(scene.tangent for scene in scenes),
        lights=tensor(scene.lights for scene in scenes),
        ambient=tensor(scene.ambient for scene in scenes),
    )


def camera_rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Rows right, down and forward of a camera that looks along x turned by ``yaw``, up by ``pitch``, in radians."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    down = np.cross(forward, right)
    turned = np.cos(roll) * right + np.sin(roll) * down
    return np.stack([turned, np.cross(forward, turned), forward])


@dataclass(frozen=True)
class _Part:
    """A shape of a piece of furniture: x to its right, y to its back, z from the floor; ``dye`` picks its material."""

    kind: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    dye: int = 0


def _box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], dye: int = 0) -> _Part:
    (x0, x1), (y0, y1), (z0, z1) = x, y, z
    return _Part(BOX, ((x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2, (z1 - z0) / 2), dye)


def _cylinder(x: float, y: float, z: tuple[float, float], radius: float, dye: int = 0) -> _Part:
    return _Part(CYLINDER, (x, y, (z[0] + z[1]) / 2), (radius, radius, (z[1] - z[0]) / 2), dye)


def _sphere(x: float, y: float, z: float, radius: float, dye: int = 0) -> _Part:
    return _Part(SPHERE, (x, y, z), (radius, radius, radius), dye)


Draw: TypeAlias = Callable[[float, float], float]


def _table(draw: Draw) -> list[_Part]:
    height = draw(0.65, 0.8)
    if draw(0, 1) < 0.4:  # round, on one foot
        radius = draw(0.45, 0.75)
        return [
            _cylinder(0, 0, (height - 0.06, height), radius),
            _cylinder(0, 0, (0.03, height - 0.06), 0.07, 1),
            _cylinder(0, 0, (0, 0.03), radius / 2, 1),
        ]
    a, b, leg = draw(0.5, 1.0), draw(0.35, 0.5), 0.04
    legs = [
        _box((x - leg, x + leg), (y - leg, y + leg), (0, height - 0.06), 1)
        for x in (-a + 0.08, a - 0.08)
        for y in (-b + 0.08, b - 0.08)
    ]
    return [_box((-a, a), (-b, b), (height - 0.06, height)), *legs]


def _chair(draw: Draw) -> list[_Part]:
    a, seat, back = draw(0.2, 0.26), draw(0.4, 0.48), draw(0.8, 1.0)
    if draw(0, 1) < 0.3:  # a stool
        return [_cylinder(0, 0, (seat - 0.06, seat), a), _cylinder(0, 0, (0, seat - 0.06), 0.05, 1)]
    sides = [_box((x - 0.025, x + 0.025), (-a, a), (0, seat - 0.06), 1) for x in (-a + 0.03, a - 0.03)]
    return [_box((-a, a), (-a, a), (seat - 0.06, seat)), _box((-a, a), (a - 0.05, a), (seat, back)), *sides]


def _bed(draw: Draw) -> list[_Part]:
    a, b, height = draw(0.5, 0.95), 1.0, draw(0.4, 0.55)
    pillows = [-a / 2, a / 2] if a > 0.7 else [0.0]
    return [
        _box((-a, a), (-b, b), (0.2, height)),
        _box((-a, a), (-b, b), (0, 0.2), 1),
        _box((-a, a), (b - 0.06, b), (height, height + draw(0.3, 0.6)), 1),
        *(_box((x - 0.25, x + 0.25), (b - 0.45, b - 0.1), (height, height + 0.12), 2) for x in pillows),
    ]


def _sofa(draw: Draw) -> list[_Part]:
    a, b, seat, back = draw(0.7, 1.1), 0.42, draw(0.38, 0.45), draw(0.75, 0.95)
    arms = [_box((x - 0.1, x + 0.1), (-b, b), (0, seat + 0.18), 1) for x in (-a, a)]
    return [_box((-a, a), (-b, b), (0, seat)), _box((-a, a), (b - 0.2, b), (seat, back)), *arms]


def _shelf(draw: Draw) -> list[_Part]:
    a, b, height, boards = draw(0.35, 0.6), 0.18, draw(1.2, 2.0), round(draw(2, 4))
    levels = np.linspace(0.04, height - 0.02, boards + 1)
    books = [
        _box((-a * draw(0.3, 0.9), a * draw(0.2, 0.9)), (-b + 0.05, b - 0.05), (z + 0.02, z + draw(0.2, 0.3)), 2)
        for z in levels[:-1]
    ]
    return [
        _box((-a, a), (b - 0.03, b), (0, height)),
        *(_box((x - 0.02, x + 0.02), (-b, b), (0, height)) for x in (-a, a)),
        *(_box((-a, a), (-b, b), (z - 0.02, z + 0.02)) for z in levels),
        *books,
    ]


def _lamp(draw: Draw) -> list[_Part]:
    height, radius = draw(1.1, 1.6), draw(0.12, 0.2)
    shade = (
        _sphere(0, 0, height, radius, 2)
        if draw(0, 1) < 0.5
        else _cylinder(0, 0, (height - radius, height + radius), radius, 2)
    )
    return [shade, _cylinder(0, 0, (0, height - radius), 0.025), _cylinder(0, 0, (0, 0.04), 0.14)]


def _plant(draw: Draw) -> list[_Part]:
    pot, radius = draw(0.25, 0.45), draw(0.14, 0.22)
    leaves = [
        _sphere(draw(-0.1, 0.1), draw(-0.1, 0.1), pot + radius * (0.6 + 1.1 * i), radius * (1.2 - 0.2 * i), 2)
        for i in range(3)
    ]
    return [*leaves, _cylinder(0, 0, (0, pot), radius)]


def _ball(draw: Draw) -> list[_Part]:
    radius = draw(0.15, 0.4)
    return [_sphere(0, 0, radius, radius)]


def _crate(draw: Draw) -> list[_Part]:
    a, b, height = draw(0.2, 0.5), draw(0.2, 0.5), draw(0.3, 0.8)
    crates = [_box((-a, a), (-b, b), (0, height))]
    if draw(0, 1) < 0.4:
        crates.append(_box((-0.7 * a, 0.6 * a), (-0.6 * b, 0.7 * b), (height, 1.7 * height), 1))
    return crates


FURNITURE: dict[str, Callable[[Draw], list[_Part]]] = {
    "table": _table,
    "chair": _chair,
    "bed": _bed,
    "sofa": _sofa,
    "shelf": _shelf,
    "lamp": _lamp,
    "plant": _plant,
    "ball": _ball,
    "crate": _crate,
}


@dataclass(frozen=True)
class _Kind:
    """Proportions and contents of a kind of room: lowest and highest size, what stands where, and the walls' things."""

    size: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    wall: tuple[str, ...]  # against a wall
    free: tuple[str, ...]  # anywhere
    some: tuple[str, ...]  # each with probability 1/2, anywhere
    floor: tuple[str, ...]  # textures
    walls: tuple[str, ...]
    fixtures: tuple[str, ...]  # on the walls


ROOMS = {
    "bedroom": _Kind(
        ((3.2, 4.5), (3.2, 4.5), (2.4, 2.8)),
        ("bed", "shelf"),
        (),
        ("lamp", "chair", "ball", "plant"),
        ("planks", "noise"),
        ("plain", "dots"),
        ("window", "picture", "door"),
    ),
    "office": _Kind(
        ((3.5, 6.0), (3.5, 6.0), (2.5, 3.0)),
        ("table", "table", "shelf"),
        ("chair", "chair"),
        ("plant", "lamp", "crate"),
        ("noise", "checker"),
        ("plain", "noise"),
        ("window", "window", "door"),
    ),
    "dining room": _Kind(
        ((3.5, 5.0), (3.5, 5.0), (2.5, 3.0)),
        ("shelf",),
        ("table", "chair", "chair", "chair", "chair"),
        ("plant", "lamp"),
        ("checker", "planks"),
        ("plain", "bricks"),
        ("window", "picture", "picture", "door"),
    ),
    "living room": _Kind(
        ((4.0, 6.5), (4.0, 6.0), (2.5, 3.2)),
        ("sofa", "sofa", "shelf", "lamp"),
        ("table",),
        ("plant", "ball", "plant", "chair"),
        ("planks", "noise"),
        ("plain", "dots", "planks"),
        ("window", "picture", "picture"),
    ),
    "corridor": _Kind(
        ((1.8, 2.4), (7.0, 12.0), (2.4, 3.0)),
        ("plant", "chair"),
        ("ball",),
        ("lamp", "crate", "chair", "shelf"),
        ("checker", "noise"),
        ("plain", "bricks"),
        ("door", "door", "door", "picture"),
    ),
    "hall": _Kind(
        ((7.0, 11.0), (7.0, 11.0), (3.5, 5.5)),
        ("crate", "crate"),
        ("column", "column", "crate", "ball", "crate"),
        ("column", "ball", "ball", "plant"),
        ("noise", "checker"),
        ("bricks", "noise"),
        ("window", "window", "door"),
    ),
}


@dataclass
class _Builder:
    """Builds one scene; the order of the draws is the scene."""

    random: np.random.Generator
    style: str
    shapes: list[tuple[int, list[float], Array, int, int]] = field(default_factory=list)
    footprints: list[Array] = field(default_factory=list)  # x0, y0, x1, y1 of what stands on the floor
    fixtures: list[Array] = field(default_factory=list)  # the same of what hangs on the walls
    things: int = FACES

    def build(self) -> Scene:
        kind = int(self.random.integers(len(KINDS)))
        room = ROOMS[KINDS[kind]]
        self.size = np.array([self.draw(*bounds) for bounds in room.size])
        if self.draw(0, 1) < 0.5:
            self.size[:2] = self.size[1::-1]
        walls = self.surface(room.walls, lightness=(0.55, 0.9), saturation=0.3)
        faces = [walls] * 4
        if self.draw(0, 1) < 0.3:
            faces[int(self.random.integers(4))] = self.surface(room.walls, lightness=(0.4, 0.8), saturation=0.5)
        floor = self.surface(room.floor, lightness=(0.25, 0.6), saturation=0.5)
        ceiling = self.surface(("plain",), lightness=(0.75, 0.95), saturation=0.08)
        for name in room.wall:
            self.furnish(name, against=True)
        for name in room.free:
            self.furnish(name, against=False)
        for name in room.some:
            if self.draw(0, 1) < 0.5:
                self.furnish(name, against=False)
        for name in room.fixtures:
            self.fix(name)
        lights = np.array([self.light() for _ in range(LIGHTS)])
        camera, rotation, tangent = self.aim()
        self.shapes.sort(key=lambda shape: shape[0])  # stable
        by_kind = [np.array([row for k, row, *_ in self.shapes if k == which]) for which in (BOX, CYLINDER, SPHERE)]
        categories = ["wall"] * 4 + ["floor", "ceiling"]
        return Scene(
            kind=kind,
            size=self.size,
            shapes=(by_kind[0].reshape(-1, SHAPE), by_kind[1].reshape(-1, SHAPE), by_kind[2].reshape(-1, SHAPE)),
            materials=np.stack([*faces, floor, ceiling, *(material for _, _, material, *_ in self.shapes)]),
            category=np.array([*map(CATEGORIES.index, categories), *(shape[3] for shape in self.shapes)]),
            thing=np.array([*range(FACES), *(shape[4] for shape in self.shapes)]),
            camera=camera,
            rotation=rotation,
            tangent=tangent,
            lights=lights,
            ambient=self.draw(0.25, 0.4) if self.style == "day" else self.draw(0.08, 0.15),
        )

    def draw(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def surface(self, textures: Sequence[str], lightness: tuple[float, float], saturation: float) -> Array:
        """The material of a face of the room; the texture is of the colour that the style usually gives it."""
        texture = textures[int(self.random.integers(len(textures)))]
        return self.material([texture], lightness, saturation, HUES[texture])

    def material(
        self,
        textures: Sequence[str],
        lightness: tuple[float, float],
        saturation: float,
        hue: float | None = None,
        emission: float = 0,
    ) -> Array:
        """A texture of two related colours; near ``hue``, as in ``HUES``, and no greys, if there is one."""
        place = self.draw(0, 1) if hue is None else hue + self.draw(-0.08, 0.08)
        pale = 0 if hue is None else saturation / 2
        # At night colours are cold and strong and textures are of other kinds, finer.
        low, high = (-0.1, 0.55) if self.style == "day" else (0.45, 0.95)
        tone = low + (high - low) * place
        if self.style == "night":
            saturation, lightness = min(1, saturation + 0.3), (0.7 * lightness[0], 0.8 * lightness[1])
            textures = [TEXTURES[(TEXTURES.index(name) + 3) % len(TEXTURES)] for name in textures]
        light = self.draw(*lightness)
        first = _colour(tone, self.draw(pale, saturation), light)
        second = _colour(tone + self.draw(-0.06, 0.06), self.draw(pale, saturation), light * self.draw(0.5, 0.85))
        texture = TEXTURES.index(textures[int(self.random.integers(len(textures)))])
        period = self.draw(0.15, 0.5) if self.style == "day" else self.draw(0.1, 0.25)
        return np.array([texture, *first, *second, period, self.random.integers(1 << 16), emission])

    def furnish(self, name: str, against: bool) -> None:
        """Put a piece of furniture where there is room for it; leave it out if none is found in 20 attempts."""
        parts = self.column() if name == "column" else FURNITURE[name](self.draw)
        reach = np.array([np.abs(part.centre[:2]) + part.half[:2] for part in parts]).max(axis=0)
        for _ in range(20):
            quarter = int(self.random.integers(4))
            angle = quarter * np.pi / 2 + (0 if against else self.draw(-0.5, 0.5))
            cos, sin = np.cos(angle), np.sin(angle)
            extent = np.abs(np.array([[cos, sin], [sin, cos]])) @ reach + 0.02
            if (2 * extent > self.size[:2]).any():
                continue
            centre = self.random.uniform(extent, self.size[:2] - extent)
            if against:  # its back, +y before turning, at the wall that it then faces
                back = np.round([-sin, cos]).astype(int)
                axis = int(np.abs(back).argmax())
                centre[axis] = extent[axis] if back[axis] < 0 else self.size[axis] - extent[axis]
            footprint = np.concatenate([centre - extent, centre + extent])
            if all(_apart(footprint, other) for other in self.footprints):
                self.footprints.append(footprint)
                self.add(name, parts, centre, angle)
                return

    def column(self) -> list[_Part]:
        radius, height = self.draw(0.2, 0.4), float(self.size[2])
        foot = (-1.3 * radius, 1.3 * radius)
        return [_cylinder(0, 0, (0, height), radius), _box(foot, foot, (0, 0.2), 1)]

    def add(self, name: str, parts: Sequence[_Part], centre: Array, angle: float) -> None:
        dyes = [
            self.material(("plain", "noise", "planks"), lightness=(0.2, 0.7), saturation=0.8, hue=HUES[name]),
            self.material(("plain", "planks"), lightness=(0.1, 0.5), saturation=0.5, hue=HUES[name]),
            self.accent(name),
        ]
        cos, sin = np.cos(angle), np.sin(angle)
        for part in parts:
            x, y, z = part.centre
            place = [centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y, z]
            self.put(part.kind, [*place, *part.half, angle], dyes[part.dye], name)
        self.things += 1

    def accent(self, name: str) -> Array:
        if name == "lamp":
            return self.material(("plain",), lightness=(0.9, 1.0), saturation=0.3, hue=HUES[name], emission=2.0)
        if name == "plant":
            leaves = self.material(("noise",), lightness=(0.3, 0.5), saturation=0.5)
            hue = self.draw(0.22, 0.4)
            leaves[1:7] = [*_colour(hue, 0.7, self.draw(0.3, 0.5)), *_colour(hue, 0.8, self.draw(0.1, 0.25))]
            leaves[7] = 0.1
            return leaves
        return self.material(("plain", "dots", "checker", "planks"), lightness=(0.4, 0.9), saturation=0.8)

    def put(self, kind: int, shape: list[float], material: Array, category: str) -> None:
        self.shapes.append((kind, shape, material, CATEGORIES.index(category), self.things))

    def fix(self, name: str) -> None:
        """A flat box on a wall: window, door or picture; left out if it meets another in 10 attempts."""
        for _ in range(10):
            wall = int(self.random.integers(4))
            axis, along = wall // 2, 1 - wall // 2
            half, low, high = {
                "window": (self.draw(0.4, 0.9), self.draw(0.8, 1.1), self.draw(1.9, 2.2)),
                "door": (self.draw(0.4, 0.5), 0.0, 2.05),
                "picture": (self.draw(0.2, 0.5), self.draw(1.2, 1.4), self.draw(1.7, 2.1)),
            }[name]
            if 2 * half + 0.2 > self.size[along]:
                continue
            place = self.draw(half + 0.1, self.size[along] - half - 0.1)
            centre, extent = np.zeros(3), np.zeros(3)
            centre[axis], extent[axis] = (wall % 2) * self.size[axis], 0.03
            centre[along], extent[along] = place, half
            centre[2], extent[2] = (low + high) / 2, (high - low) / 2
            flat = np.concatenate([centre - extent, centre + extent])[[0, 1, 3, 4]]
            if all(_apart(flat, other) for other in self.fixtures):
                break
        else:
            return
        self.fixtures.append(flat)
        if name == "window":
            material = self.material(("checker",), lightness=(0.8, 1.0), saturation=0.25, hue=HUES[name])
            material[7] = self.draw(0.4, 0.7)
            material[9] = 1.2 if self.style == "day" else 0.1
        elif name == "door":
            material = self.material(("plain", "planks"), lightness=(0.2, 0.6), saturation=0.6, hue=HUES[name])
        else:
            material = self.material(("noise", "checker", "dots"), lightness=(0.3, 0.9), saturation=1.0)
        self.put(BOX, [*centre, *extent, 0], material, name)
        self.things += 1

    def light(self) -> list[float]:
        """Near the ceiling, outside everything."""
        while True:
            place = self.random.uniform(0.15, 0.85, 3) * self.size
            place[2] = self.size[2] - 0.15
            if self.free(place, 0.05):
                return [*place, self.draw(0.5, 1.2)]

    def free(self, place: Array, margin: float) -> bool:
        """Whether a ball of this radius is outside all shapes, taken as upright boxes around them."""
        for _, row, *_ in self.shapes:
            offset = np.abs(place - row[:3])
            reach = np.hypot(row[3], row[4])
            if offset[2] < row[5] + margin and max(offset[:2]) < reach + margin:
                return False
        return True

    def aim(self) -> tuple[Array, Array, float]:
        """The camera's place, rotation and tangent of half its angle of view."""
        tangent = self.draw(0.65, 0.85)
        things = [(float(np.prod(row[3:6])), row) for _, row, _, category, _ in self.shapes if category >= 6]
        eighth, row = max(things, key=lambda thing: thing[0])  # of the bounding box
        target, size = np.array(row[:3]), 2 * np.cbrt(eighth)
        seen: list[tuple[float, Array, Array]] = []
        while len(seen) < 4:
            camera = self.random.uniform(0.3, self.size - 0.3)
            camera[2] = self.draw(1.0, min(1.9, self.size[2] - 0.3))
            x, y, z = target - camera
            yaw = np.arctan2(y, x) + self.draw(-0.3, 0.3)
            pitch = np.clip(np.arctan2(z, np.hypot(x, y)), -0.5, 0.3) * 0.8 + self.draw(-0.05, 0.15)
            rotation = camera_rotation(yaw, pitch, self.draw(-0.06, 0.06))
            right, down, forward = rotation @ (target - camera)
            inside = max(abs(right), abs(down)) < ASIDE * tangent * forward
            if inside and size > SMALLEST * 2 * tangent * forward and self.free(camera, 0.3):
                seen.append((forward, camera, rotation))
        _, camera, rotation = max(seen, key=lambda view: view[0])  # the farthest
        return camera, rotation, tangent


def _apart(a: Array, b: Array) -> bool:
    """Whether two rectangles x0, y0, x1, y1 do not meet."""
    return bool((a[:2] > b[2:]).any() or (b[:2] > a[2:]).any())


def _colour(hue: float, saturation: float, lightness: float) -> Array:
    """Red, green and blue: full at ``hue`` and less by ``saturation`` away from it, times ``lightness``; linear."""
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (hue - np.array([0, 1 / 3, 2 / 3])))
    return np.asarray(lightness * (1 - saturation * (1 - wave))) ** 2
