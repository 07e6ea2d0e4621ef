"""Images as networks take them: from folders, arrays and data sets, each item checked before any network runs."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dds_transfer.features import load_one
from dds_transfer.terminal import listed, subject, working

# A folder's files with these endings are its images; the list is that of torchvision's ImageFolder and GIF.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Where an item that is a dictionary has its image: transformers' name and the two usual ones of Hugging Face datasets.
COLUMNS = ("pixel_values", "image", "img")
# A resized picture of more crops than this is never made: only its part in the crop is computed.
MOST_CROPS = 16


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to a network's input, as torchvision's and timm's models are evaluated.

    The picture is turned as its EXIF data say and converted to RGB (an alpha channel is dropped, grey is repeated, the
    first frame of several is taken). Of 16 bits a channel the upper 8 are kept, so that 65535 is white: fewer bits in a
    16-bit file, such as a camera's 12 in a PNG, are nearly black unless they are stretched first; a PGM file says its
    largest value, which is white. The shorter side is resized to ``round(size * 256 / 224)``, bilinear with
    antialiasing; the ``size`` x ``size`` pixels in its centre are divided by 255; ``mean`` is subtracted from each
    channel and the rest divided by ``std``. Equivalent to ``torchvision.transforms``' ``Resize``, ``CenterCrop``,
    ``ToTensor`` and ``Normalize``, bit for bit; but of a picture so long that resizing it would make more than 16 times
    the pixels that are kept, only these are computed, which may round to the next of the 256 steps or the one after.

    Attributes:
        size: pixels of a side, default 224.
        mean, std: of the red, green and blue channel, in units of the largest value; the defaults are those of
        ImageNet.
    """

    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that no picture can be prepared with."""
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"{self}: size and std must be positive, with a mean and a std for each of three channels")

    def __call__(self, picture: Image.Image) -> Tensor:
        """The input (3, size, size), float32."""
        rgb = _rgb(picture)
        short = round(self.size * 256 / 224)
        width, height = (int(short * side / min(rgb.size)) for side in rgb.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        if width * height <= MOST_CROPS * self.size**2:
            resized = rgb.resize((width, height), Image.Resampling.BILINEAR)
            centre = resized.crop((left, top, left + self.size, top + self.size))
        else:
            centre = _resized_part(rgb, (width, height), (left, top), self.size)
        pixels = np.asarray(centre, np.float32) / 255
        normal = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))


def _resized_part(picture: Image.Image, whole: tuple[int, int], first: tuple[int, int], size: int) -> Image.Image:
    """``size`` x ``size`` pixels from ``first`` on of the picture resized to ``whole``, without the rest of it.

    Pillow keeps the box in float32: it is counted from a cut nearby, one reach of the filter away.
    """
    source, start = np.array(picture.size), np.array(first)
    low, high = start * source / whole, (start + size) * source / whole
    reach = np.maximum(1, np.ceil(source / whole))
    near, far = np.maximum(0, np.floor(low) - reach), np.minimum(source, np.ceil(high) + reach)
    cut = picture.crop((*near.astype(int), *far.astype(int)))
    return cut.resize((size, size), Image.Resampling.BILINEAR, box=(*(low - near), *(high - near)))


@dataclass(frozen=True)
class Images:
    """Images in a fixed order, each of which could be read when :func:`load_images` looked at it.

    Attributes:
        names: of the images: paths relative to the folder, or numbers of rows.
        unreadable: those left out, by name, with the reason.
        others: files of the folder that were passed over because their names do not end like an image's.
        preprocessing: what pictures go through; None where the data are an array of network inputs.
        read: the i-th image as a network's input, without a batch axis.
        digest: computes a digest of the content and the names, in order.
        threads: how many images may be read at once.
    """

    names: list[str]
    unreadable: dict[str, str]
    others: list[str]
    preprocessing: Preprocessing | None
    read: Callable[[int], Tensor]
    digest: Callable[[], str]
    threads: int

    def __len__(self) -> int:
        """The number of images n."""
        return len(self.names)

    def batches(self, start: int, size: int) -> Iterator[tuple[int, Tensor]]:
        """Batches of up to ``size`` inputs from row ``start`` on, each with the number of its first row.

        While one batch is in use, the next is read.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: deque[tuple[int, Iterator[Tensor]]] = deque()
            for first in range(start, len(self), size):
                ahead.append((first, pool.map(self._read_named, range(first, min(first + size, len(self))))))
                if len(ahead) > 1:
                    yield _stacked(*ahead.popleft())
            if ahead:
                yield _stacked(*ahead.popleft())

    def _read_named(self, i: int) -> Tensor:
        try:
            return self.read(i)
        except Exception as error:  # whatever a decoder or somebody's data set raises
            raise ValueError(f"image {self.names[i]} can no longer be read: {_reason(error)}") from error


def load_images(data: Any, preprocessing: Preprocessing | None = None, *, skip_unreadable: bool = False) -> Images:
    """Images from a folder, a file of arrays, an array or a data set.

    Args:
        data: one of

            - the path of a folder: all files below it that end in one of ``ENDINGS`` (hidden ones are passed over), in
              the order of their paths; links to folders are followed, unless to one that they lie in;
            - the path of a file with an array of n rows (.npy, .npz, ...; ``file:member`` as in ``load_features``);
            - an array or tensor of n rows. Rows of type uint8 are pictures, (n, height, width), (n, height, width, C)
              or (n, C, height, width) with C = 1, 3 or 4, and are preprocessed. All others are network inputs as they
              are;
            - a data set with a length and numbered items: torchvision's, Hugging Face's, or a list. An item is a
              picture (PIL or uint8 array, preprocessed), or a tensor (taken as it is), or a tuple that starts with one,
              or a dictionary with one under ``pixel_values``, ``image`` or ``img``.
        preprocessing: what pictures go through, by default ``Preprocessing()``.
        skip_unreadable: leave out images that cannot be read rather than raise; they are in ``unreadable``. Which ones
            are left out depends on the images alone, so that all models see the same rows.

    Every item of a folder or data set is read once here; that takes a few milliseconds per image.

    Raises:
        ValueError: images that cannot be read, with their names, unless they are to be skipped; or none at all.
        TypeError: data of another kind.
    """
    prepare = preprocessing or Preprocessing()
    if isinstance(data, str | Path):
        if Path(data).is_dir():
            return _from_folder(Path(data), prepare, skip_unreadable)
        if not (Path(data).exists() or Path(str(data).rpartition(":")[0]).is_file()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(data))
        data = load_one(data).X
    if isinstance(data, torch.utils.data.DataLoader):
        raise TypeError("a DataLoader may shuffle and has no numbered items: give the data set inside it")
    if isinstance(data, np.ndarray | Tensor):
        return _from_array(data, prepare)
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, Mapping):
        raise TypeError(
            f"images are a path, an array or a data set with numbered items, not of type {type(data).__name__}"
        )
    return _from_items(data, prepare, skip_unreadable)


def _from_folder(folder: Path, prepare: Preprocessing, skip: bool) -> Images:
    found = sorted(_files(folder))
    files = [name for name in found if name.lower().endswith(ENDINGS)]
    others = [name for name in found if not name.lower().endswith(ENDINGS)]
    if not files:
        raise ValueError(f"{folder} is a folder without images ({', '.join(ENDINGS)})")
    # Decoding releases Python's lock.
    threads = os.cpu_count() or 1
    digests, unreadable = _check(files, lambda i: _digest_of_picture(folder / files[i]), threads, skip)
    names = list(digests)
    digest = blake2b("\n".join(f"{name!r} {digests[name]}" for name in names).encode(), digest_size=16).hexdigest()

    def read(i: int) -> Tensor:
        with Image.open(folder / names[i]) as picture:
            return prepare(picture)

    return Images(names, unreadable, others, prepare, read, lambda: digest, threads)


def _files(folder: Path) -> Iterator[str]:
    """Paths of the files below a folder, relative to it, with forward slashes; hidden ones are passed over."""

    def refuse(error: OSError) -> None:
        raise error  # os.walk would leave out a folder that it may not look into, and say nothing

    for path, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _lies_in_itself(Path(path) / name)]
        yield from ((Path(path) / name).relative_to(folder).as_posix() for name in files if not name.startswith("."))


def _lies_in_itself(folder: Path) -> bool:
    """Whether this is a link to a folder above it, below which it would come again and again."""
    return folder.is_symlink() and any(above.samefile(folder) for above in folder.absolute().parents)


def _digest_of_picture(path: Path) -> str:
    """The digest of a file whose picture could be decoded to its end; raises what the decoder raises."""
    content = path.read_bytes()
    with Image.open(BytesIO(content)) as picture:
        picture.draft(None, (1, 1))  # a JPEG is read to its end, but only every eighth pixel is computed
        _rgb(picture)
    return blake2b(content, digest_size=16).hexdigest()


def _from_array(array: NDArray[Any] | Tensor, prepare: Preprocessing) -> Images:
    if array.ndim < 2 or len(array) == 0:
        raise ValueError(f"an array of shape {tuple(array.shape)}; images are an array with a row for each")
    rows = array.detach().cpu() if isinstance(array, Tensor) else array
    pictures = rows.dtype in (torch.uint8, np.uint8)
    names = [str(i) for i in range(len(rows))]
    if pictures:
        _picture(rows[0])  # all rows have this shape

    def digest() -> str:
        state = blake2b(f"{rows.dtype} {tuple(rows.shape)}".encode(), digest_size=16)
        for row in rows:
            state.update(tensor_bytes(_tensor(row)))
        return state.hexdigest()

    return Images(
        names, {}, [], prepare if pictures else None, lambda i: _input(rows[i], prepare), digest, os.cpu_count() or 1
    )


def _from_items(items: Any, prepare: Preprocessing, skip: bool) -> Images:
    n = len(items)
    if n == 0:
        raise ValueError("a data set without items")
    shape: tuple[int, ...] | None = None

    def digest_of_item(i: int) -> str:
        nonlocal shape
        image = _image(items[i])  # the digest is of what no preprocessing has touched
        item = _prepared(image, prepare)
        shape = shape or tuple(item.shape)
        if item.shape != shape:
            raise ValueError(f"its shape is {tuple(item.shape)}, those before have {shape}")
        content = torch.from_numpy(np.array(image)) if isinstance(image, Image.Image) else _tensor(image)
        return blake2b(
            f"{content.dtype} {tuple(content.shape)}".encode() + tensor_bytes(content), digest_size=16
        ).hexdigest()

    # One thread, since nobody knows what a data set does when two of them ask.
    digests, unreadable = _check([str(i) for i in range(n)], digest_of_item, 1, skip)
    kept = list(digests)
    digest = blake2b(repr(digests).encode(), digest_size=16).hexdigest()
    return Images(kept, unreadable, [], prepare, lambda i: _input(items[int(kept[i])], prepare), lambda: digest, 1)


def _check(
    names: list[str], digest: Callable[[int], str], threads: int, skip: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """The digests of the images that can be read and the reasons why others cannot, both by name and in order."""

    def look(i: int) -> tuple[bool, str]:
        subject.set(names[i])
        try:
            return True, digest(i)
        except Exception as error:  # decoders raise nearly anything for a damaged file
            return False, _reason(error)

    readable: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    with working("checking images", steps=len(names)) as step, ThreadPoolExecutor(threads) as pool:
        for name, (fine, text) in zip(names, pool.map(look, range(len(names))), strict=True):
            (readable if fine else unreadable)[name] = text
            step()
    if unreadable and not (skip and readable):
        some = listed([f"{name} ({reason})" for name, reason in unreadable.items()])
        way_out = "repair, remove or skip them" if readable else "none is left"
        raise ValueError(f"{len(unreadable)} of {len(names)} images cannot be read; {way_out}: {some}")
    return readable, unreadable


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or damaged at its start"  # its own text names a buffer in memory
    if isinstance(error, Image.DecompressionBombError):  # whose text says no way out
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"more than {most} pixels; make a smaller copy, or in Python raise PIL.Image.MAX_IMAGE_PIXELS"
    return " ".join(str(error).split()) or type(error).__name__


def _input(item: Any, prepare: Preprocessing) -> Tensor:
    """A data set's item, or an array's row, as a network's input."""
    return _prepared(_image(item), prepare)


def _image(item: Any) -> Image.Image | NDArray[Any] | Tensor:
    """The image of a data set's item: a picture in RGB, or numbers that are a network's input."""
    if isinstance(item, Mapping):
        column = next((name for name in COLUMNS if name in item), None)
        if column is None:
            raise ValueError(f"a dictionary of {', '.join(map(str, item))}; its image must be {' or '.join(COLUMNS)}")
        item = item[column]
    elif isinstance(item, tuple | list):
        item = item[0]
    if isinstance(item, Image.Image):
        return _rgb(item)
    if not isinstance(item, np.ndarray | Tensor):
        raise TypeError(f"type {type(item).__name__} where a picture, an array or a tensor is expected")
    return _rgb(_picture(item)) if item.dtype in (torch.uint8, np.uint8) else item


def _prepared(image: Image.Image | NDArray[Any] | Tensor, prepare: Preprocessing) -> Tensor:
    return prepare(image) if isinstance(image, Image.Image) else _tensor(image)


def _tensor(row: NDArray[Any] | Tensor) -> Tensor:
    """The row in memory of its own: a mapped file cannot be written to, and a network may work in place."""
    if isinstance(row, Tensor):
        return row.detach().cpu().clone()
    return torch.tensor(row.astype(row.dtype.newbyteorder("=")))


def _picture(pixels: NDArray[np.uint8] | Tensor) -> Image.Image:
    """Pixels (height, width), (height, width, C) or (C, height, width) with C = 1, 3 or 4 as a picture."""
    array = np.asarray(pixels)
    shape = array.shape
    if array.ndim == 3 and shape[2] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"uint8 pixels of shape {shape}; a picture has (height, width) and 1, 3 or 4 channels")
    return Image.fromarray(np.ascontiguousarray(array))


def _rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB, 8 bits per channel, turned as its EXIF data say."""
    scaled = picture.format == "PPM" and picture.mode == "I"  # a PGM file's numbers, which Pillow scales to 65535
    picture = ImageOps.exif_transpose(picture)
    if scaled or picture.mode.startswith("I;16"):  # Pillow would cut all above 255 off
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {picture.mode}), of which no range is known")
    if "transparency" in picture.info:  # a warning would come of going to RGB at once
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _stacked(first: int, inputs: Iterable[Tensor]) -> tuple[int, Tensor]:
    return first, torch.stack(list(inputs))


def tensor_bytes(tensor: Tensor) -> bytes:
    """A tensor's content, of whatever type and device, as bytes."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
