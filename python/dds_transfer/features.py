"""Reading models' features from files: one array of n images each, under the name of the model."""

from __future__ import annotations

import errno
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from dds_transfer.pickled import load_arrays

Array = NDArray[Any]
# What a file holds: a function for each array, so that only what is asked for is read. A lone array has the name "".
Members = dict[str, Callable[[], Any]]
# Of what the notes beside files tell, that by which they are known.
NOTED = {"data", "pool", "preprocessing"}


@dataclass(frozen=True)
class Features:
    """One model's features.

    Attributes:
        name: the model's name.
        path: the file they came from.
        member: the array's name in that file, "" where the file holds nothing else.
        X: the features, (n, d) or (n, C, *spatial), one image a row.
    """

    name: str
    path: Path
    member: str
    X: Array

    @property
    def origin(self) -> str:
        """Where the features came from, as it would be typed: ``file`` or ``file:member``."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def note(self) -> Path:
        """Where :func:`dds_transfer.extract_features` says what the features are of."""
        return self.path.with_suffix(".json")

    def about(self) -> dict[str, Any]:
        """What the note says; empty where there is none, or another kind of file has its name."""
        if self.path.suffix != ".npy":
            return {}
        try:
            content = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) and set(content) >= NOTED else {}


def load_features(sources: Iterable[str | Path]) -> list[Features]:
    """The features in files and folders.

    Args:
        sources: each a file, ``file:member`` for one array of an archive, or a folder, whose files are taken in
            alphabetical order. Formats: .npy, .npz, .safetensors, .pt and .pth (tensors only), .pkl and .pickle (arrays
            only; nothing in a pickle is executed). Content is mapped into memory rather than read wherever the
            format allows it.

    Returns:
        One entry per array. A file with one array gives the model the file's name without its ending. A file
        with several gives each array's own name, with the file's name in front (``file:member``) when more than one
        file was named, since layers are called alike in every model.

    Raises:
        ValueError: nothing to read, an unknown or damaged format, an array that is not numeric with one image a row,
            or two models of one name.
        OSError: the file system's own errors.
    """
    places = [place for source in sources for place in _places(str(source))]
    alone = len({path for path, _ in places}) == 1
    models = [model for path, member in places for model in _read(path, member, alone)]
    by_name: dict[str, Features] = {}
    for model in models:
        if by_name.setdefault(model.name, model) is not model:
            other = by_name[model.name].origin
            raise ValueError(f"two models are named {model.name!r}: {other} and {model.origin}; rename one")
    return models


def load_one(source: str | Path) -> Features:
    """Like :func:`load_features` for a source that must hold exactly one array."""
    models = load_features([source])
    if len(models) != 1:
        members = ", ".join(model.member or model.path.name for model in models)
        raise ValueError(f"{source} holds {len(models)} arrays ({members}); name one, as in {models[0].origin}")
    return models[0]


def common_images(models: Sequence[Features]) -> int:
    """The number of images n that all models share; ValueError naming two files of other images.

    Images differ if their number does, or if the notes of two files (:attr:`Features.note`) say so.
    """
    first = models[0]
    for model in models:
        if len(model.X) != len(first.X):
            raise ValueError(
                f"different numbers of images: {first.origin} has {len(first.X)}, {model.origin} has {len(model.X)}; "
                "row i must be the same image in every file"
            )
    known = [(model, about["data"]) for model in models if (about := model.about())]
    for model, data in known:
        if data != known[0][1]:
            raise ValueError(
                f"{known[0][0].origin} and {model.origin} are features of different images, as {known[0][0].note} and "
                f"{model.note} say; row i must be the same image in every file (if they are the same, only prepared by "
                "yourself in another way, remove a note)"
            )
    return len(first.X)


def setting_notes(models: Sequence[Features]) -> list[str]:
    """Notes on models whose features were made in another way than others', as the notes beside their files say."""
    notes = []
    known = [
        (model, {"pool": about["pool"], **(about["preprocessing"] or {})})
        for model in models
        if (about := model.about())
    ]
    for setting in dict.fromkeys(name for _, settings in known for name in settings):
        of_each = [(model, settings[setting]) for model, settings in known if setting in settings]
        first, value = of_each[0]
        other = next(((model, each) for model, each in of_each if each != value), None)
        if other is not None:
            notes.append(f"features differ in {setting}: {value} in {first.origin}, {other[1]} in {other[0].origin}")
    return notes


def _places(source: str) -> list[tuple[Path, str | None]]:
    """The files that a source stands for, each with the member that was asked for."""
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _READERS)
        if not files:
            raise ValueError(f"{path} is a folder without feature files ({', '.join(_READERS)})")
        return [(file, None) for file in files]
    file, colon, member = source.rpartition(":")
    if colon and not path.exists():
        return [(Path(file), member)]
    return [(path, None)]


def _read(path: Path, wanted: str | None, alone: bool) -> list[Features]:
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: unknown kind of file; features are read from {', '.join(_READERS)}")
    try:
        members = _READERS[path.suffix](path)
        if wanted is not None and wanted not in members:
            names = ", ".join(members)
            raise ValueError(f"it holds no array named {wanted!r}; it holds {names or 'none'}")
        if not members:
            raise ValueError("it holds no arrays")
        several = len(members) > 1
        models = []
        for member in members if wanted is None else [wanted]:
            name = path.stem if not several else member if alone else f"{path.stem}:{member}"
            models.append(Features(name, path, member, _checked(members[member](), f"{path}:{member}", several)))
        return models
    except _DAMAGED as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if not isinstance(error, ValueError | pickle.UnpicklingError):  # what is said there means nothing by itself
            reason = f"it is damaged, or not a {path.suffix} file ({reason})"
        raise ValueError(f"cannot read {path}: {reason}") from error


def _checked(content: Any, origin: str, several: bool) -> Array:
    """``content`` as an array of numbers with at least two axes."""
    if isinstance(content, torch.Tensor):
        content = content.detach()
        # NumPy has no bfloat16; float32 holds each of its values exactly.
        content = (content.float() if content.dtype == torch.bfloat16 else content).numpy()
    hint = f"; if another array holds the features, name it, as in {origin}" if several else ""
    if not isinstance(content, np.ndarray):
        raise TypeError(f"{origin.rpartition(':')[2] or 'it'} is of type {type(content).__name__}, not an array{hint}")
    if content.dtype.kind not in "fiub" or content.ndim < 2:
        what = f"type {content.dtype}" if content.dtype.kind not in "fiub" else f"shape {content.shape}"
        raise ValueError(f"an array of {what}; features are numbers with one row per image{hint}")
    return content


def _read_npy(path: Path) -> Members:
    with open(path, "rb") as file:
        if _damaged_if_refused(_read_header, file)[2].hasobject:  # np.save of a dictionary: a pickle behind the header
            return _constant(load_arrays(file))
    return {"": partial(_damaged_if_refused, partial(np.load, path, mmap_mode="r", allow_pickle=False))}


def _damaged_if_refused(read: Callable[..., Any], *arguments: Any) -> Any:
    """NumPy's complaints about the content of a file, as those of other formats' readers."""
    try:
        return read(*arguments)
    except ValueError as error:
        raise EOFError(str(error)) from error


def _read_npz(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
    return {entry.filename.removesuffix(".npy"): partial(_read_entry, path, entry) for entry in entries}


def _read_entry(path: Path, entry: zipfile.ZipInfo) -> Array:
    """An array of a .npz file: mapped into memory if it is stored as it is, read if it is compressed."""
    if entry.compress_type != zipfile.ZIP_STORED:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as member:
            compressed: Array = np.lib.format.read_array(member, allow_pickle=False)
            return compressed
    with open(path, "rb") as file:
        # The entry's own header stands before it: 30 bytes, the last four the lengths of a name and of extra fields.
        file.seek(entry.header_offset + 26)
        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
        shape, fortran, dtype = _read_header(file)
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds Python objects")
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type of the .npy content that starts here; the numbers come next."""
    major, _ = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    return shape, fortran, dtype


def _read_safetensors(path: Path) -> Members:
    file = safe_open(path, framework="pt")
    names: list[str] = file.keys()  # type: ignore[no-untyped-call]
    return {name: partial(file.get_tensor, name) for name in names}


def _read_torch(path: Path) -> Members:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about files that it refuses in the end
            # Files older than PyTorch 1.6 are no archives and cannot be mapped.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            "it holds more than tensors, which would mean running code; save a tensor or a dictionary of tensors"
        ) from error
    if isinstance(content, dict):
        return _constant({str(name): value for name, value in content.items()})
    return _constant({"": content})


def _read_pickle(path: Path) -> Members:
    with open(path, "rb") as file:
        return _constant(load_arrays(file))


# What the formats' own readers raise for a damaged file; unpickling garbage may raise nearly anything of this kind.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


def _constant(content: dict[str, Any]) -> Members:
    return {name: partial(_return, value) for name, value in content.items()}


def _return(value: Any) -> Any:
    return value


_READERS: dict[str, Callable[[Path], Members]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
}
