"""Rooms: by seed alone, apart between splits, physically possible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from dds_transfer.minitaskonomy.render import render
from dds_transfer.minitaskonomy.scenes import (
    ASIDE,
    BOX,
    CATEGORIES,
    CYLINDER,
    FACES,
    KINDS,
    OBJECTS,
    SMALLEST,
    SPHERE,
    SPLITS,
    STYLES,
    Scene,
    camera_rotation,
    random_scene,
    scene_seed,
    stack,
)

SCENES = [random_scene(scene_seed(0, "train", i, style), style) for style in STYLES for i in range(40)]


def distances_to_shapes(scene: Scene, point: np.ndarray) -> list[float]:
    """Signed distances, negative inside, shape by shape in plain Python."""
    found = []
    for kind, rows in enumerate(scene.shapes):
        for x, y, z, a, b, c, angle in rows:
            dx, dy, dz = point - (x, y, z)
            u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
            if kind == SPHERE:
                found.append(np.sqrt(u * u + v * v + dz * dz) - a)
                continue
            sides = [abs(u) - a, abs(v) - b, abs(dz) - c] if kind == BOX else [np.hypot(u, v) - a, abs(dz) - c]
            outside = np.sqrt(sum(max(side, 0) ** 2 for side in sides))
            found.append(outside + min(max(sides), 0))
    return found


def test_a_scene_is_its_seed() -> None:
    first, second = (random_scene(scene_seed(3, "test", 5)) for _ in range(2))
    for name in Scene.__annotations__:
        np.testing.assert_equal(getattr(first, name), getattr(second, name))


def test_every_scene_of_every_split_seed_and_style_has_a_stream_of_its_own() -> None:
    keys = itertools.product(range(3), SPLITS, range(50), STYLES)
    states = {scene_seed(*key).generate_state(4, np.uint64).tobytes() for key in keys}
    assert len(states) == 3 * len(SPLITS) * 50 * len(STYLES)


def test_images_of_no_two_splits_are_alike() -> None:
    scenes = [random_scene(scene_seed(0, split, i)) for split in SPLITS for i in range(8)]
    images = render(stack(scenes), 16).image.flatten(1)
    difference = (images[:, None] - images[None]).abs().mean(dim=2)
    difference.fill_diagonal_(1)
    # Pictures of two rooms differ by a tenth of the range and more; a copy would differ by 0.
    assert difference.min() > 0.01


@pytest.mark.parametrize("key", [(0, "trian", 0, "day"), (0, "train", -1, "day"), (0, "train", 0, "dusk")])
def test_no_seed_for_what_there_is_not(key: tuple[int, str, int, str]) -> None:
    with pytest.raises(ValueError, match="splits are train, transfer, test, ranking"):
        scene_seed(*key)


def test_camera_and_lights_are_in_the_room_and_in_nothing() -> None:
    for scene in SCENES:
        for point in (scene.camera, *scene.lights[:, :3]):
            assert (point > 0).all() and (point < scene.size).all()
            assert min(distances_to_shapes(scene, point)) > 0


@pytest.mark.parametrize("style", STYLES)
def test_every_camera_has_an_object_before_it(style: str) -> None:
    """Among 25,000 rooms whose cameras merely turned towards one, one, a corridor, showed none."""
    for i in range(500):
        scene = random_scene(scene_seed(1, "test", i, style), style)
        rows, categories = np.concatenate(scene.shapes), scene.category[FACES:]
        rows = rows[categories >= CATEGORIES.index(OBJECTS[0])]
        largest = rows[rows[:, 3:6].prod(axis=1).argmax()]
        right, down, forward = scene.rotation @ (largest[:3] - scene.camera)
        assert max(abs(right), abs(down)) < ASIDE * scene.tangent * forward  # its middle is in the picture
        side = 2 * scene.tangent * forward  # of the picture, in metres, there
        assert 2 * np.cbrt(largest[3:6].prod()) >= SMALLEST * side * (1 - 1e-12)


def test_furniture_is_in_the_room() -> None:
    for scene in SCENES:
        for kind, rows in enumerate(scene.shapes):
            a, b = np.abs(np.cos(rows[:, 6])), np.abs(np.sin(rows[:, 6]))
            if kind != BOX:  # round, however it is turned
                a, b = np.ones(len(rows)), np.zeros(len(rows))
            reach = np.stack([a * rows[:, 3] + b * rows[:, 4], b * rows[:, 3] + a * rows[:, 4], rows[:, 5]], axis=1)
            # Windows, doors and pictures are fixed in the walls, 3 cm deep.
            assert (rows[:, :3] - reach > -0.031).all()
            assert (rows[:, :3] + reach < scene.size + 0.031).all()


def test_kinds_objects_and_surfaces() -> None:
    assert {scene.kind for scene in SCENES} == set(range(len(KINDS)))
    assert {CATEGORIES[c] for scene in SCENES for c in scene.category} == set(CATEGORIES)
    assert CATEGORIES[-len(OBJECTS) :] == OBJECTS
    for scene in SCENES:
        surfaces = FACES + sum(len(scene.shapes[kind]) for kind in (BOX, CYLINDER, SPHERE))
        assert len(scene.category) == len(scene.thing) == len(scene.materials) == surfaces
        for thing in set(scene.thing):  # an object is of one category
            assert len(set(scene.category[scene.thing == thing])) == 1


def test_stacked_scenes_keep_their_shapes() -> None:
    scenes = SCENES[:6]
    batch = stack(scenes)
    for i, scene in enumerate(scenes):
        own, stacked = FACES, FACES
        np.testing.assert_array_equal(batch.category[i, :FACES], scene.category[:FACES])
        for rows, filled in zip(scene.shapes, (batch.boxes, batch.cylinders, batch.spheres), strict=True):
            m = len(rows)
            np.testing.assert_array_equal(filled[i, :m], rows.astype(np.float32))
            assert (filled[i, m:, 3:6] < 0).all()
            np.testing.assert_array_equal(batch.category[i, stacked : stacked + m], scene.category[own : own + m])
            np.testing.assert_array_equal(batch.thing[i, stacked : stacked + m], scene.thing[own : own + m])
            own, stacked = own + m, stacked + filled.shape[1]


def test_the_camera_looks_where_it_is_turned() -> None:
    np.testing.assert_allclose(camera_rotation(0, 0, 0), [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-15)
    up = camera_rotation(0.3, 0.4, 0)[2]
    np.testing.assert_allclose([np.arctan2(up[1], up[0]), np.arcsin(up[2])], [0.3, 0.4], rtol=1e-12)
    turned = camera_rotation(0.5, -0.2, 0.1)
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(turned) == pytest.approx(1)
    assert turned[0, 2] < 0  # rolled clockwise, its right side is lower
