"""Ray casting against sphere tracing in float64, and against formulas for planes, balls and cylinders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dds_transfer.minitaskonomy.render import cast, render
from dds_transfer.minitaskonomy.scenes import FACES, STYLES, Scene, camera_rotation, random_scene, scene_seed, stack
from test_minitaskonomy_scenes import distances_to_shapes

SIZE = 32
SCENES = [random_scene(scene_seed(0, "test", i, style), style) for i in range(4) for style in STYLES]
VIEWS = render(stack(SCENES), SIZE)


def room(*shapes: tuple[int, list[float]], **changes: object) -> Scene:
    """A room of 4 x 6 x 3 with these shapes, the camera in the middle, looking along x at the wall 2 m away."""
    rows = [np.array([row for kind, row in shapes if kind == which]).reshape(-1, 7) for which in range(3)]
    surfaces = FACES + len(shapes)
    settings = {
        "kind": 0,
        "size": np.array([4.0, 6.0, 3.0]),
        "shapes": tuple(rows),
        "materials": np.tile([0, 0.5, 0.5, 0.5, 0.2, 0.2, 0.2, 1, 0, 0], (surfaces, 1)),
        "category": np.array([0, 0, 0, 0, 1, 2] + [14] * len(shapes)),
        "thing": np.arange(surfaces),
        "camera": np.array([2.0, 3.0, 1.5]),
        "rotation": camera_rotation(0, 0, 0),
        "tangent": 0.7,
        "lights": np.array([[2.0, 3.0, 2.9, 1.0], [2.0, 3.0, 2.9, 0.0]]),
        "ambient": 0.2,
    }
    return Scene(**{**settings, **changes})  # type: ignore[arg-type]


def rays(scene: Scene, size: int) -> np.ndarray:
    """(size, size, 3), unit vectors in the room's axes, from the definition of the camera."""
    result = np.zeros((size, size, 3))
    for i in range(size):
        for j in range(size):
            x, y = ((2 * k + 1) / size - 1 for k in (j, i))
            ray = np.array([x * scene.tangent, y * scene.tangent, 1]) @ scene.rotation
            result[i, j] = ray / np.linalg.norm(ray)
    return result


def sphere_traced(scene: Scene, ray: np.ndarray) -> float:
    """How far the ray goes: steps as long as the distance to the nearest thing, which therefore miss nothing."""
    way = 0.0
    for _ in range(2000):
        point = scene.camera + way * ray
        gap = min(*distances_to_shapes(scene, point), *point, *(scene.size - point))
        if gap < 1e-7:
            break
        way += gap
    return way


def test_distances_are_those_of_sphere_tracing() -> None:
    random = np.random.default_rng(0)
    for scene, distance in zip(SCENES, VIEWS.distance.numpy(), strict=True):
        directions = rays(scene, SIZE)
        pixels = random.integers(SIZE, size=(12, 2))
        traced = np.array([sphere_traced(scene, directions[i, j]) for i, j in pixels])
        # Float32 coordinates up to 12 m are off by 1e-6 m, and a ray that meets a surface at 1/100 rad turns that, and
        # the marching's gap of 1e-7, to 1e-4.
        np.testing.assert_allclose(distance[pixels[:, 0], pixels[:, 1]], traced, atol=1e-4)


def test_a_ray_along_the_side_of_a_turned_box() -> None:
    """Which turning made parallel to it exactly: one pixel of NaN, and every network that is trained with it is NaN."""
    scene = stack([room((0, [2.0, 2.0, 1.0, 0.5, 0.5, 0.5, math.pi / 4]))])
    origin, ray = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[[1.0, 1.0, 0.0]]])
    angle = scene.boxes[0, 0, 6]
    if angle.cos() != angle.sin():
        pytest.skip("on this machine the cosine of pi / 4 is not its sine")
    distance, _ = cast(scene, origin, ray)
    # in units of the ray's length; a few float32 roundings of numbers of size 3
    assert distance.item() == pytest.approx((2 * math.sqrt(2) - 0.5) / math.sqrt(2), abs=1e-6)


def test_a_wall_in_front_has_one_depth() -> None:
    scene = room()
    views = render(stack([scene]), SIZE)
    depth = (views.distance * views.rays[:, 2])[0]
    np.testing.assert_allclose(depth[views.surface[0] == 1], 2, rtol=1e-6)  # x = width, 2 m away
    # The wall reaches 3 m to the sides and 1.5 m up, beyond the 1.4 m that the camera sees: it fills the image.
    assert (views.surface == 1).all()


def test_a_ball_has_the_distance_the_normals_and_the_curvature_of_a_ball() -> None:
    radius, centre = 0.4, np.array([3.2, 3.1, 1.6])
    scene = room((2, [*centre, radius, radius, radius, 0.0]))
    views = render(stack([scene]), SIZE)
    directions, ball = rays(scene, SIZE), (views.surface[0] >= FACES).numpy()
    offset = centre - scene.camera
    along = directions @ offset
    inside = radius**2 - (offset @ offset - along**2)
    # Rays that pass the ball within 1e-5 m^2 may go either way by rounding.
    np.testing.assert_array_equal(ball[np.abs(inside) > 1e-5], (inside > 0)[np.abs(inside) > 1e-5])
    clear = ball & (inside > 1e-3)  # where the root is not ill-conditioned: 1e-6 / (2 * sqrt(1e-3)) is 2e-5
    np.testing.assert_allclose(views.distance[0][clear], (along - np.sqrt(np.maximum(inside, 0)))[clear], atol=5e-5)
    points = scene.camera + views.distance[0].numpy()[..., None] * directions
    normals = (points - centre) / np.linalg.norm(points - centre, axis=-1, keepdims=True)
    expected = (normals @ scene.rotation.T)[clear]
    np.testing.assert_allclose(views.normals[0].permute(1, 2, 0)[clear], expected, atol=2e-4)
    np.testing.assert_allclose(views.curvature[0][:, ball], 1 / radius, rtol=1e-6)
    assert (views.curvature[0][:, ~ball] == 0).all()


def test_a_cylinder_is_curved_around_and_flat_at_its_end() -> None:
    looking_down = {"camera": np.array([1.5, 3.0, 2.5]), "rotation": camera_rotation(0, -0.7, 0)}
    views = render(stack([room((1, [2.8, 3.0, 0.5, 0.5, 0.5, 0.5, 0.0]), **looking_down)]), SIZE)
    seen = views.surface[0] >= FACES
    height = torch.einsum("c,chw->hw", torch.tensor(camera_rotation(0, -0.7, 0)[:, 2]).float(), views.normals[0])
    end = seen & (height > 0.5)
    assert end.any() and (seen & ~end).any()
    np.testing.assert_allclose(height[end], 1, rtol=1e-6)
    np.testing.assert_allclose(height[seen & ~end], 0, atol=1e-6)
    assert (views.curvature[0][:, end] == 0).all()
    np.testing.assert_allclose(views.curvature[0, 0, seen & ~end], 2, rtol=1e-6)
    assert (views.curvature[0, 1] == 0).all()


def test_normals_are_unit_vectors_across_the_surface() -> None:
    np.testing.assert_allclose(VIEWS.normals.norm(dim=1), 1, atol=1e-6)
    assert ((VIEWS.normals * VIEWS.rays).sum(dim=1) < 1e-6).all()  # towards the camera
    points = VIEWS.distance[:, None] * VIEWS.rays
    for step, axis in ((points[..., 1:] - points[..., :-1], -1), (points[..., 1:, :] - points[..., :-1, :], -2)):
        n = SIZE - 1
        first, second = (VIEWS.surface.narrow(axis, k, n) for k in (0, 1))
        a, b = (VIEWS.normals.narrow(axis, k, n) for k in (0, 1))
        # The same face of the same surface, and flat.
        flat = (first == second) & ((a - b).abs().amax(dim=1) < 1e-6)
        flat &= VIEWS.curvature.narrow(axis, 0, n)[:, 0] == 0
        across = (a * step).sum(dim=1)[flat]
        assert flat.float().mean() > 0.7
        # The difference of two points at up to 12 m, each off by 1e-6 of that; two parallel faces of one table or shelf
        # would be centimetres apart.
        assert across.abs().max() < 5e-5


def test_what_a_ball_hides_from_the_light_has_only_the_light_from_everywhere() -> None:
    ball = (2, [2.0, 3.0, 2.0, 0.3, 0.3, 0.3, 0.0])  # under the lamp
    looking_down = {"rotation": camera_rotation(0, -1.2, 0), "camera": np.array([1.6, 3.0, 1.2])}
    lit, shaded = (render(stack([room(*shapes, **looking_down)]), 64) for shapes in ((), (ball,)))
    floor = (lit.surface == 4) & (shaded.surface == 4)
    points = (shaded.distance[:, None] * shaded.rays)[0].permute(1, 2, 0).numpy() @ looking_down["rotation"]
    points = points + looking_down["camera"]
    away = np.hypot(points[..., 0] - 2, points[..., 1] - 3)
    # The lamp at 2.9 m is 0.9 above the ball's centre: the tangent cone's half angle has sine 1/3, tangent 0.354.
    shadow = 2.9 * np.tan(np.arcsin(0.3 / 0.9))
    dark = floor[0].numpy() & (away < shadow - 0.01)
    bright = floor[0].numpy() & (away > shadow + 0.01)
    assert dark.any() and bright.any()
    expected = (1 - np.exp(-1.3 * 0.5 * 0.2)) ** (1 / 2.2)  # albedo 0.5, ambient 0.2
    np.testing.assert_allclose(shaded.image[0][:, dark], expected, rtol=1e-5)
    np.testing.assert_allclose(shaded.image[0][:, bright], lit.image[0][:, bright], rtol=1e-5)
    assert (lit.image[0][:, dark] > 1.2 * expected).all()


def test_a_scene_looks_the_same_in_any_batch() -> None:
    alone = render(stack(SCENES[3:4]), SIZE)
    # Shapes that fill up the batch are never hit; sums in another order may flip a pixel on an edge, of 1024.
    same = alone.category[0] == VIEWS.category[3]
    assert same.float().mean() > 0.995
    difference = (alone.image[0] - VIEWS.image[3]).abs().amax(dim=0)
    assert (difference < 1e-3).float().mean() > 0.995


@pytest.mark.parametrize("style", STYLES)
def test_pictures_are_the_same_every_time_and_neither_black_nor_white(style: str) -> None:
    scenes = stack([random_scene(scene_seed(2, "train", i, style), style) for i in range(4)])
    first, second = render(scenes, SIZE), render(scenes, SIZE)
    torch.testing.assert_close(first.image, second.image, rtol=0, atol=0)
    assert torch.isfinite(first.image).all()
    assert first.image.min() >= 0 and first.image.max() <= 1
    brightness = first.image.mean(dim=(1, 2, 3))
    assert (brightness > 0.15).all() and (brightness < 0.9).all()
    assert (first.image.std(dim=(1, 2, 3)) > 0.05).all()
