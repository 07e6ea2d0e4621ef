"""Labels against geometry, SciPy and plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from dds_transfer.minitaskonomy.labels import (
    NEIGHBOURS,
    ROUNDS,
    SEGMENTS,
    TASKS,
    blur,
    chroma,
    corners,
    depth_of,
    edges,
    inputs,
    keypoints,
    labels,
    largest_object,
    layout_corners,
    luminance,
    occlusion,
    room_layout,
    same_segment,
    segment,
    shading,
    vanishing_points,
)
from dds_transfer.minitaskonomy.render import render
from dds_transfer.minitaskonomy.scenes import (
    CATEGORIES,
    FACES,
    KINDS,
    OBJECTS,
    STYLES,
    camera_rotation,
    random_scene,
    scene_seed,
    stack,
)
from dds_transfer.tables import read_bundled
from scipy import ndimage
from test_minitaskonomy_render import rays, room

SIZE = 32
SCENES = [random_scene(scene_seed(1, "test", i, style), style) for i in range(8) for style in STYLES]
BATCH = stack(SCENES)
VIEWS = render(BATCH, SIZE)
LABELS = labels(BATCH, VIEWS)
GREY = luminance(VIEWS.image)


def test_tasks_are_taskonomys() -> None:
    assert set(TASKS) < set(read_bundled("taskonomy/affinity_16k.csv").sources)
    assert len(TASKS) == 20
    assert set(LABELS) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_labels_have_their_shapes_and_are_not_constant(name: str) -> None:
    task, label = TASKS[name], LABELS[name]
    space = (SIZE, SIZE) if task.spatial else ()
    if task.loss == "cross_entropy":
        assert label.shape == (len(SCENES), *space) and label.dtype == torch.int64
        assert label.min() >= 0 and label.max() < task.channels
    else:
        assert label.shape == (len(SCENES), task.channels, *space) and label.dtype == torch.float32
        assert torch.isfinite(label).all() and label.abs().max() < 10
    assert label.float().std() > 0.01


def test_depth_is_distance_along_the_axis() -> None:
    for i, scene in enumerate(SCENES):
        cosine = rays(scene, SIZE) @ scene.rotation[2]
        # Float32: some roundings of 6e-8 each.
        np.testing.assert_allclose(depth_of(VIEWS)[i, 0], VIEWS.distance[i].numpy() * cosine, rtol=1e-6)
    np.testing.assert_allclose(LABELS["rgb2depth"].exp(), depth_of(VIEWS), rtol=1e-5)
    np.testing.assert_allclose(LABELS["rgb2mist"][:, 0].exp(), VIEWS.distance, rtol=1e-5)


def test_shading_is_the_cosine_to_a_light_at_the_camera() -> None:
    scene = room()  # a wall in front, whose normal is the camera's axis
    expected = rays(scene, SIZE) @ scene.rotation[2]
    np.testing.assert_allclose(shading(render(stack([scene]), SIZE))[0, 0], expected, rtol=1e-6)


def test_blur_is_scipys() -> None:
    expected = ndimage.gaussian_filter(GREY.double().numpy(), (0, 0, 1.3, 1.3), mode="nearest", truncate=4)
    np.testing.assert_allclose(blur(GREY, 1.3), expected, atol=1e-6)


def test_edges_are_the_gradient_of_the_smoothed_picture() -> None:
    smooth = ndimage.gaussian_filter(GREY[:, 0].double().numpy(), (0, 1, 1), mode="nearest")
    down, right = (ndimage.correlate1d(smooth, [-0.5, 0, 0.5], axis, mode="nearest") for axis in (1, 2))
    np.testing.assert_allclose(edges(GREY)[:, 0], 6 * np.hypot(down, right), atol=1e-5)


def test_keypoints_are_the_determinant_of_the_hessian() -> None:
    def slope(x: np.ndarray, axis: int) -> np.ndarray:
        return ndimage.correlate1d(x, [-0.5, 0, 0.5], axis, mode="nearest")

    smooth = ndimage.gaussian_filter(GREY[:, 0].double().numpy(), (0, 1.5, 1.5), mode="nearest")
    down, right = slope(smooth, 1), slope(smooth, 2)
    determinant = slope(down, 1) * slope(right, 2) - slope(down, 2) ** 2
    # Second differences are off by 1e-7, their product by 1e-8 where they are 0.05; the root of 0 by 20 * 1e-4.
    np.testing.assert_allclose(keypoints(GREY)[:, 0], 20 * np.sqrt(determinant.clip(0)), atol=2e-3)


def test_corners_are_the_smaller_eigenvalue_of_the_structure_tensor() -> None:
    geometry = torch.cat([VIEWS.normals, VIEWS.distance.log()[:, None]], dim=1).double().numpy()
    geometry = ndimage.gaussian_filter(geometry, (0, 0, 1, 1), mode="nearest")
    down, right = (ndimage.correlate1d(geometry, [-0.5, 0, 0.5], axis, mode="nearest") for axis in (2, 3))
    a, b, c = (
        ndimage.gaussian_filter((x * y).sum(axis=1), (0, 1.5, 1.5), mode="nearest")
        for x, y in ((down, down), (right, right), (down, right))
    )
    tensor = np.stack([np.stack([a, c], axis=-1), np.stack([c, b], axis=-1)], axis=-2)
    expected = 4 * np.sqrt(np.linalg.eigvalsh(tensor)[..., 0].clip(0))
    # A difference of numbers up to 1, each off by 1e-7; the root of that is 3e-4, times 4.
    np.testing.assert_allclose(corners(VIEWS)[:, 0], expected, atol=2e-3)


def test_segments_are_those_of_a_plain_k_means() -> None:
    features = torch.randint(0, 8, (2, 3, 20, 20), generator=torch.Generator().manual_seed(0)).float()
    found = segment(features)
    for points, segments in zip(features.double().numpy(), found.numpy(), strict=True):
        starts = [int((k + 0.5) * 20 / SEGMENTS) for k in range(SEGMENTS)]
        centres = [points[:, i, j] for i in starts for j in starts]
        for repeat in range(ROUNDS + 1):
            nearest = np.zeros((20, 20), int)
            worst = np.inf
            for i, j in product(range(20), repeat=2):
                away = [((points[:, i, j] - centre) ** 2).sum() for centre in centres]
                nearest[i, j] = int(np.argmin(away))
                worst = min(worst, np.partition(away, 1)[1] - min(away))
            if repeat < ROUNDS:
                centres = [
                    points[:, nearest == k].mean(axis=1) if (nearest == k).any() else centre
                    for k, centre in enumerate(centres)
                ]
        # Whole numbers make ties, which rounding may break in either way: rarely, if at all.
        assert (segments == nearest).mean() > 0.98


def test_same_segment_is_that_of_a_plain_loop() -> None:
    segments = segment(VIEWS.image[:2])
    result = same_segment(segments)
    for b, k, i, j in product(range(2), range(len(NEIGHBOURS)), range(SIZE), range(SIZE)):
        down, right = (min(max(x + step, 0), SIZE - 1) for x, step in zip((i, j), NEIGHBOURS[k], strict=True))
        assert result[b, k, i, j] == (segments[b, i, j] == segments[b, down, right])


def test_vanishing_points_are_where_parallel_lines_of_the_room_meet() -> None:
    found = vanishing_points(BATCH).numpy()
    for scene, axes in zip(SCENES, found, strict=True):
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)
        # Points a million metres along an axis are seen in the direction of its vanishing point.
        far = [scene.rotation @ (scene.camera + 1e6 * axis - scene.camera) / 1e6 for axis in np.eye(3)]
        for axis in axes:
            assert max(abs(axis @ point) for point in far) == pytest.approx(1, abs=1e-6)
        forward, right, up = axes
        assert forward[2] >= np.sqrt(0.5) * np.cos(np.arcsin(scene.rotation[2, 2])) - 1e-6  # within 45 degrees of yaw
        assert right[0] > 0  # to the right
        assert up[1] < 0  # the image's y points down
        np.testing.assert_allclose(up, scene.rotation[:, 2], atol=1e-6)


def test_the_layout_gives_the_rooms_corners_back() -> None:
    found = layout_corners(room_layout(BATCH)).double().numpy()
    for scene, corner in zip(SCENES, found, strict=True):
        expected = [scene.rotation @ (scene.size * which - scene.camera) for which in product((0, 1), repeat=3)]
        # Each corner once, in another order: distances between all pairs. Float32 at 12 m: 1e-6 each of some steps.
        away = np.linalg.norm(corner[:, None] - np.array(expected)[None], axis=2)
        assert (away.min(axis=1) < 5e-5).all()
        assert len(set(away.argmin(axis=1))) == 8
        # In the order that is promised: ceilings above floors, what is in front before what is behind.
        up = scene.rotation[:, 2]
        assert (corner[::2] @ up > corner[1::2] @ up).all()
        assert corner[:4, 2].mean() > corner[4:, 2].mean()


def test_the_layout_of_a_known_room() -> None:
    scene = room(camera=np.array([1.0, 2.0, 1.2]), rotation=camera_rotation(0.2, -0.1, 0.05))
    found = room_layout(stack([scene]))[0].numpy()
    # In front x = 4, behind x = 0, right y = 0, left y = 6, ceiling, floor. A yaw to the left is one of -0.2.
    np.testing.assert_allclose(np.exp(found[:6]), [3, 1, 2, 4, 1.8, 1.2], rtol=1e-6)
    np.testing.assert_allclose(found[6:], [-0.2, -0.1, 0.05], atol=1e-6)


def test_occlusion_edges_are_where_the_depth_jumps() -> None:
    found = occlusion(VIEWS).numpy()
    jumps = 0
    for b, i, j in product(range(len(SCENES)), range(SIZE), range(SIZE - 1)):
        here, there = (b, i, j), (b, i, j + 1)
        near, far = sorted((float(VIEWS.distance[here]), float(VIEWS.distance[there])))
        # More than any floor falls from pixel to pixel: something is in front.
        if far > 1.6 * near:
            jumps += 1
            assert found[here] and found[there]
    assert jumps > 20
    # A wall in front has none; a ball before it has a ring around it, and none inside.
    assert not occlusion(render(stack([room()]), SIZE)).any()
    views = render(stack([room((2, [3.2, 3.0, 1.5, 0.4, 0.4, 0.4, 0.0]))]), SIZE)
    ball = (views.surface[0] >= FACES).numpy()
    cross = ndimage.generate_binary_structure(2, 1)
    ring = ndimage.binary_dilation(ball, cross) & ~ndimage.binary_erosion(ball, cross)
    np.testing.assert_array_equal(occlusion(views)[0], ring)
    # Corners between walls, floor and ceiling of an empty room are none.
    empty = room(rotation=camera_rotation(0.7, -0.3, 0.05), tangent=0.85)
    assert not occlusion(render(stack([empty]), SIZE)).any()


def test_classes_are_those_of_the_scene() -> None:
    np.testing.assert_array_equal(LABELS["class_places"], [scene.kind for scene in SCENES])
    assert TASKS["class_places"].channels == len(KINDS)
    first = CATEGORIES.index(OBJECTS[0])
    for i, scene in enumerate(SCENES):
        counts: dict[int, int] = {}
        for thing, category in zip(
            VIEWS.thing[i].flatten().tolist(), VIEWS.category[i].flatten().tolist(), strict=True
        ):
            if category >= first:
                counts[thing] = counts.get(thing, 0) + 1
        largest = [thing for thing, count in counts.items() if count == max(counts.values())]
        names = {CATEGORIES[int(scene.category[scene.thing == thing][0])] for thing in largest}
        assert OBJECTS[int(LABELS["class_1000"][i])] in names


def test_every_image_shows_an_object() -> None:
    scenes = [random_scene(scene_seed(9, "train", i, style), style) for i in range(60) for style in STYLES]
    assert len(largest_object(render(stack(scenes), 16)).unique()) > 5


def test_an_image_without_objects_is_an_error() -> None:
    with pytest.raises(ValueError, match="image 0 shows no object"):
        largest_object(render(stack([room()]), 8))


def test_inputs() -> None:
    given = inputs(VIEWS.image, 3)
    torch.testing.assert_close(given["image"], VIEWS.image)
    noise = (given["noisy"] - VIEWS.image)[(given["noisy"] > 0) & (given["noisy"] < 1)]
    assert 0.1 < noise.std() < 0.16  # 0.15, less what was cut at black and white
    hidden = (given["masked"] != VIEWS.image).any(dim=1).flatten(1).sum(dim=1)
    assert (hidden <= round(0.3 * SIZE) ** 2).all() and (hidden > 0.9 * round(0.3 * SIZE) ** 2).all()
    assert (given["grey"].std(dim=1) == 0).all()
    # Grey and chroma make the colours: r and b from their differences to the luminance, g from that.
    y, (b, r) = given["grey"][:, 0], chroma(VIEWS.image).unbind(dim=1)
    green = (y - 0.299 * (r + y) - 0.114 * (b + y)) / 0.587
    torch.testing.assert_close(torch.stack([r + y, green, b + y], dim=1), VIEWS.image, atol=1e-5, rtol=0)
    for name, again in inputs(VIEWS.image, 3).items():
        assert torch.equal(again, given[name])
    assert not torch.equal(inputs(VIEWS.image, 4)["noisy"], given["noisy"])
