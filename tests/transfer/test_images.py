"""Pictures of every kind, those that cannot be read, arrays and data sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dds_transfer.images import Images, Preprocessing, load_images
from numpy.typing import NDArray
from PIL import Image

SMALL = Preprocessing(size=14)


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four images in folders below each other."""
    folder = tmp_path / "photos"
    (folder / "b" / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.jpg", "c.PNG", "b/x.webp", "b/deep/y.bmp")):
        picture(20 + i, 30, i).save(folder / name)
    return folder


def inputs(images: Images) -> NDArray[Any]:
    return torch.cat([batch for _, batch in images.batches(0, 3)]).numpy()


@pytest.mark.parametrize(("size", "width", "height"), [(14, 40, 23), (14, 23, 40), (33, 20, 20), (224, 500, 375)])
def test_preprocessing_is_resize_crop_and_normalise(size: int, width: int, height: int) -> None:
    rgb = picture(height, width)
    scale = round(size * 256 / 224) / min(width, height)
    # Resampled in floating point over the whole picture by torch, where Pillow rounds to 8 bits after each direction.
    whole = torch.tensor(np.asarray(rgb)).permute(2, 0, 1)[None].double()
    target = (int(height * scale + 1e-9), int(width * scale + 1e-9))
    resized = torch.nn.functional.interpolate(whole, target, mode="bilinear", antialias=True)[0]
    top, left = round((target[0] - size) / 2), round((target[1] - size) / 2)
    crop = resized[:, top : top + size, left : left + size].numpy() / 255
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (crop - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    result = Preprocessing(size, mean, std)(rgb).numpy()
    assert result.shape == (3, size, size)
    # Two roundings to 8 bits, half a step each, and Pillow's weights of 22 bits: 1.1 / 255, over the smallest std.
    np.testing.assert_allclose(result, expected, atol=1.1 / 255 / 0.5)


@pytest.mark.parametrize(
    ("size", "width", "height"),
    [
        (14, 1, 2000),
        (14, 3000, 2),
        (33, 7, 1511),
        (33, 1511, 7),
        (3, 4000, 211),
        (14, 37, 100003),
        (16, 1, 18),
        (1, 9, 40),
    ],
)
def test_of_a_long_picture_only_what_is_kept_is_computed(
    size: int, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of it would take gigabytes: 1 x 4000 pixels become 256 x 1,024,000."""
    rgb = picture(height, width)
    short = round(size * 256 / 224)
    whole = int(short * width / min(width, height)), int(short * height / min(width, height))
    left, top = (round((side - size) / 2) for side in whole)
    resize, made = Image.Image.resize, []

    def resized(image: Image.Image, size: tuple[int, int], *how: Any, **more: Any) -> Image.Image:
        made.append(size[0] * size[1])
        return resize(image, size, *how, **more)

    expected = np.asarray(resize(rgb, whole, Image.Resampling.BILINEAR).crop((left, top, left + size, top + size)))
    monkeypatch.setattr(Image.Image, "resize", resized)
    result = Preprocessing(size, (0, 0, 0), (1, 1, 1))(rgb).numpy().transpose(1, 2, 0) * 255
    assert max(made) <= 16 * size**2
    # Pillow rounds to 8 bits after each of two directions, and a place known to 24 bits may tip either rounding.
    np.testing.assert_allclose(result, expected, atol=2 + 1e-4)
    if whole[0] * whole[1] <= 16 * size**2:
        np.testing.assert_array_equal(np.round(result), expected)


def test_a_picture_longer_than_memory() -> None:
    grey = Image.new("RGB", (1_000_000, 1), (51, 102, 153))
    pixels = Preprocessing(224, (0, 0, 0), (1, 1, 1))(grey)
    np.testing.assert_allclose(pixels[:, 5, 7], [0.2, 0.4, 0.6], atol=1e-6)


def test_defaults_are_those_of_imagenet() -> None:
    white = Preprocessing()(Image.new("RGB", (300, 300), "white"))
    np.testing.assert_allclose(
        white[:, 0, 0], [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-6
    )
    assert white.shape == (3, 224, 224)
    with pytest.raises(ValueError, match="size and std must be positive"):
        Preprocessing(std=(0.2, 0.0, 0.2))


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    flat = Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    flat.save(path, **({"transparency": b"\x80" * 256} if mode == "P" else {}))
    white = inputs(load_images(tmp_path, Preprocessing(14, (0, 0, 0), (1, 1, 1))))
    np.testing.assert_allclose(white, np.ones((1, 3, 14, 14)), atol=1e-6)


def test_alpha_is_dropped_and_grey_repeated(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (51, 102, 153, 0)).save(tmp_path / "a.png")
    Image.new("L", (20, 20), 51).save(tmp_path / "b.png")
    Image.fromarray(np.full((20, 20), 51 * 256 + 200, np.uint16)).save(tmp_path / "c.png")
    pixels = inputs(load_images(tmp_path, Preprocessing(14, (0, 0, 0), (1, 1, 1))))[:, :, 0, 0]
    np.testing.assert_allclose(pixels, [[0.2, 0.4, 0.6], [0.2, 0.2, 0.2], [0.2, 0.2, 0.2]], atol=1e-6)


@pytest.mark.parametrize(
    ("largest", "plain"), [(4095, False), (4095, True), (65535, False), (65535, True), (300, False)]
)
def test_pgm_files_of_more_than_8_bits(tmp_path: Path, largest: int, plain: bool) -> None:
    """Taken by the largest value that the file names."""
    numbers = np.arange(20 * 20).reshape(20, 20) * largest // 399
    content = " ".join(map(str, numbers.ravel())).encode() if plain else numbers.astype(">u2").tobytes()
    (tmp_path / "x.pgm").write_bytes(f"P{2 if plain else 5}\n20 20\n{largest}\n".encode() + content)
    grey = Image.fromarray((np.round(numbers / largest * 65535).astype(int) >> 8).astype(np.uint8))
    result = inputs(load_images(tmp_path, SMALL))[0]
    np.testing.assert_array_equal(result, SMALL(grey).numpy())
    with Image.open(tmp_path / "x.pgm") as image:
        np.testing.assert_array_equal(inputs(load_images([image], SMALL))[0], result)


def test_exif_orientation_turns_the_picture(tmp_path: Path) -> None:
    upright = picture(20, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright.save(tmp_path / "a.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    a, b = inputs(load_images(tmp_path, SMALL))
    np.testing.assert_array_equal(a, b)


def test_a_folder_is_read_in_the_order_of_paths(photos: Path) -> None:
    (photos / "labels.csv").write_text("not an image")
    (photos / "._a.jpg").write_text("hidden")
    images = load_images(photos, SMALL)
    assert images.names == ["a.jpg", "b/deep/y.bmp", "b/x.webp", "c.PNG"]
    assert images.others == ["labels.csv"]
    X = inputs(images)
    for i, name in enumerate(images.names):
        with Image.open(photos / name) as image:
            np.testing.assert_array_equal(X[i], SMALL(image))


def spoil(photos: Path) -> None:
    whole = photos / "c.PNG"
    picture(400, 400).save(photos / "d.jpg")
    (photos / "d.jpg").write_bytes((photos / "d.jpg").read_bytes()[:-2000])
    (photos / "e.png").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (photos / "f.gif").write_bytes(b"")
    (photos / "g.tif").write_text("no image")
    Image.fromarray(np.zeros((20, 20), np.float32)).save(photos / "h.tiff")


def test_a_link_to_a_folder_above_brings_no_image_again(photos: Path, tmp_path: Path) -> None:
    expected = load_images(photos, SMALL).names
    (photos / "b" / "self").symlink_to(".")
    (photos / "b" / "deep" / "top").symlink_to(photos)
    assert load_images(photos, SMALL).names == expected
    (tmp_path / "elsewhere").mkdir()
    picture(20, 20).save(tmp_path / "elsewhere" / "z.png")
    (tmp_path / "elsewhere" / "back").symlink_to(photos)  # a link to a folder elsewhere is followed, there and back
    (photos / "on").symlink_to(tmp_path / "elsewhere")
    assert load_images(photos, SMALL).names == [*expected, "on/z.png"]


def test_unreadable_images_are_named_and_counted(photos: Path) -> None:
    spoil(photos)
    with pytest.raises(
        ValueError, match=r"5 of 9 images cannot be read; repair, remove or skip them: d\.jpg \("
    ) as error:
        load_images(photos, SMALL)
    for name in ("e.png", "f.gif", "g.tif", "h.tiff (its pixels are 32-bit numbers (mode F)"):
        assert name in str(error.value)


def test_skipped_images_are_listed_and_the_others_are_the_same_rows(photos: Path) -> None:
    clean = load_images(photos, SMALL)
    expected = inputs(clean)
    spoil(photos)
    images = load_images(photos, SMALL, skip_unreadable=True)
    assert list(images.unreadable) == ["d.jpg", "e.png", "f.gif", "g.tif", "h.tiff"]
    assert all(images.unreadable.values())
    assert images.names == clean.names
    assert images.digest() == clean.digest()
    np.testing.assert_array_equal(inputs(images), expected)


def test_of_a_picture_too_large_for_pillow_the_way_out_is_said(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(40, 40).save(photos / "d.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    way_out = (
        r"1 of 5 .*: d\.png \(more than 1400 pixels; make a smaller copy, or in Python raise PIL\.Image\.MAX_IMAGE_P"
    )
    with pytest.raises(ValueError, match=way_out):
        load_images(photos, SMALL)


def test_a_folder_of_unreadable_images_only(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i:02}.png").write_text("no image")
    with pytest.raises(
        ValueError, match=r"12 of 12 images cannot be read; none is left: 00.*09\.png \([^;]*; and 2 more$"
    ):
        load_images(tmp_path, skip_unreadable=True)


def test_an_image_that_changes_after_the_check_is_named(photos: Path) -> None:
    images = load_images(photos, SMALL)
    (photos / "c.PNG").write_text("no image")
    with pytest.raises(ValueError, match=r"image c\.PNG can no longer be read"):
        inputs(images)


def test_the_digest_is_of_content_names_and_order(photos: Path, tmp_path: Path) -> None:
    digest = load_images(photos, SMALL).digest()
    copy = shutil.copytree(photos, tmp_path / "copy")
    assert load_images(copy, SMALL).digest() == digest
    (copy / "a.jpg").rename(copy / "aa.jpg")  # the first all the same
    renamed = load_images(copy, SMALL).digest()
    (copy / "aa.jpg").rename(copy / "a.jpg")
    picture(20, 30, 9).save(copy / "a.jpg")
    changed = load_images(copy, SMALL).digest()
    assert len({digest, renamed, changed}) == 3


def test_the_digest_of_a_data_set_is_of_its_pictures() -> None:
    """Whatever size a network takes them at: features of the same pictures are comparable."""
    pictures = [picture(20, 30, i) for i in range(3)]
    same = load_images(pictures, SMALL).digest()
    assert load_images(pictures, Preprocessing(20)).digest() == same
    assert load_images([{"image": image, "label": 1} for image in pictures], SMALL).digest() == same
    assert load_images([np.asarray(image) for image in pictures], SMALL).digest() == same
    assert load_images(pictures[::-1], SMALL).digest() != same
    assert load_images([*pictures[:2], picture(20, 30, 9)], SMALL).digest() != same
    # inputs of a network: their shapes and types count
    rows = [torch.zeros(3, 4, 6), torch.zeros(3, 6, 4), torch.zeros(3, 4, 6, dtype=torch.int32)]
    assert len({load_images([row], SMALL).digest() for row in rows}) == 3


@pytest.mark.parametrize("layout", ["channels last", "channels first", "grey"])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_uint8_rows_are_pictures(layout: str, kind: Callable[..., Any]) -> None:
    pictures = [picture(20, 30, i) for i in range(4)]
    X = np.stack([np.asarray(image) for image in pictures])
    if layout == "grey":
        X = X[..., 0]
        pictures = [Image.fromarray(row) for row in X]
    array = kind(X.transpose(0, 3, 1, 2) if layout == "channels first" else X)
    images = load_images(array, SMALL)
    np.testing.assert_array_equal(inputs(images), [SMALL(image).numpy() for image in pictures])
    assert images.preprocessing == SMALL


def test_other_rows_are_inputs_as_they_are(tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((5, 3, 6, 7)).astype(">f4")
    np.savez(tmp_path / "x.npz", first=X, second=-X)
    images = load_images(f"{tmp_path}/x.npz:second", SMALL)
    np.testing.assert_array_equal(inputs(images), -X)
    assert images.preprocessing is None
    tokens = torch.arange(12).reshape(4, 3)
    np.testing.assert_array_equal(inputs(load_images(tokens)), tokens)
    assert load_images(X).digest() == load_images(X.copy()).digest() != load_images(X[::-1]).digest()


class Dataset:
    """Like torchvision's: a length, and items of an image and a label."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        if isinstance(self.items[i], Exception):
            raise self.items[i]
        return self.items[i]


def test_items_of_data_sets() -> None:
    pictures = [picture(20, 30, i) for i in range(4)]
    expected = np.stack([SMALL(image).numpy() for image in pictures])
    forms: list[list[Any]] = [
        list(pictures),
        [(image, 7) for image in pictures],
        [{"image": image, "label": 7} for image in pictures],
        [{"pixel_values": torch.from_numpy(row)} for row in expected],
        [(np.asarray(image), 7) for image in pictures],
        [torch.from_numpy(row) for row in expected],
    ]
    for items in forms:
        np.testing.assert_array_equal(inputs(load_images(Dataset(items), SMALL)), expected)
    np.testing.assert_array_equal(inputs(load_images(pictures, SMALL)), expected)


def test_unreadable_items_of_data_sets() -> None:
    items: list[Any] = [
        picture(20, 30),
        OSError("broken stream"),
        torch.zeros(3, 9, 9),
        picture(20, 30, 1),
        {"text": ""},
    ]
    with pytest.raises(
        ValueError, match=r"3 of 5 images cannot be read.*1 \(broken stream\); 2 \(its shape is \(3, 9, 9\)"
    ):
        load_images(Dataset(items), SMALL)
    images = load_images(Dataset(items), SMALL, skip_unreadable=True)
    assert images.names == ["0", "3"]
    np.testing.assert_array_equal(inputs(images)[1], SMALL(items[3]))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (torch.utils.data.DataLoader([torch.zeros(2)]), TypeError, "give the data set inside it"),
        (iter([1]), TypeError, "not of type list_iterator"),
        ({"a": 1}, TypeError, "not of type dict"),
        ([], ValueError, "without items"),
        (np.zeros((0, 3)), ValueError, r"shape \(0, 3\)"),
        (np.zeros((2, 5, 5, 5), np.uint8), ValueError, r"uint8 pixels of shape \(5, 5, 5\)"),
        ("/nowhere/at/all", FileNotFoundError, "/nowhere/at/all"),
    ],
)
def test_data_of_other_kinds(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_images(data)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder without images \(\.bmp, "):
        load_images(tmp_path)


def test_against_torchvision(photos: Path) -> None:
    try:
        from torchvision import datasets, transforms
    except Exception as error:  # beside another torch its operators are missing
        pytest.skip(f"torchvision cannot be imported: {error}")
    steps = [transforms.Resize(16), transforms.CenterCrop(14), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    theirs = datasets.ImageFolder(str(photos), transforms.Compose(steps))  # takes images in folders only
    expected = np.stack([image.numpy() for image, _ in theirs])
    np.testing.assert_array_equal(inputs(load_images(theirs)), expected)
    ours = load_images(photos, SMALL)
    rows = [ours.names.index(Path(path).relative_to(photos).as_posix()) for path, _ in theirs.samples]
    np.testing.assert_array_equal(inputs(ours)[rows], expected)


def test_a_link_to_a_folder_above_counts_nothing_twice(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    (tmp_path / "self").symlink_to(tmp_path)
    assert len(load_images(tmp_path)) == 2
