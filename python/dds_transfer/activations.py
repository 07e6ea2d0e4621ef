"""Activations that come as one large pickle, as the DDS authors' do: turned once into files that can be mapped.

Unpickling holds all arrays in memory. A folder with a .npy file each can be read image by image, again and again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dds_transfer.features import Features, load_features
from dds_transfer.output import write_json, writing_folder

INDEX = "index.json"


def load_activations(path: str | Path, store: str | Path | None = None) -> list[Features]:
    """The models in a feature file or folder, mapped into memory.

    Args:
        path: as for :func:`load_features`. The DDS authors' file is a pickled dictionary of 21 arrays (5000, 2048),
            float64, about 1.7 GB, written by ``np.save``.
        store: the folder that the arrays of a pickle (.npy of a dictionary, .pkl, .pickle) are written to, a .npy file
            each and an index; default ``path`` with ``.arrays`` at its end. It is written once, and again when the
            pickle has another size or time of change. Writing it takes as much memory as the pickle has bytes, and as
            much disk; nothing in the pickle is executed. Other formats need no store.

    Raises:
        ValueError: what :func:`load_features` refuses, or a name in a pickle that cannot be a file's.
        OSError: the file system's own errors, such as a folder that cannot be written; name another as ``store``.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".pkl", ".pickle") or not path.is_file():
        return load_features([path])
    store = path.with_name(f"{path.name}.arrays") if store is None else Path(store)
    state = path.stat()
    made_from = {"file": path.name, "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
    if _index(store).get("made_from") != made_from:
        models = load_features([path])
        if all(isinstance(model.X, np.memmap) for model in models):
            return models
        _write(models, store, made_from)
        del models  # the memory is free before the store is used
    return load_features([store])


def _write(models: list[Features], store: Path, made_from: dict[str, Any]) -> None:
    if store.exists() and not (store / INDEX).is_file():
        raise ValueError(f"{store} exists and is no store of arrays; name another folder")
    with writing_folder(store) as folder:
        for model in models:
            if "/" in model.name or "\0" in model.name or model.name.startswith("."):
                raise ValueError(f"{model.path} holds an array named {model.name!r}, which cannot be a file's name")
            np.save(folder / f"{model.name}.npy", model.X)
        shapes = {model.name: [list(model.X.shape), model.X.dtype.str] for model in models}
        write_json(folder / INDEX, {"made_from": made_from, "arrays": shapes})


def _index(store: Path) -> dict[str, Any]:
    """A store's index, empty if there is none or it cannot be read."""
    try:
        content = json.loads((store / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
