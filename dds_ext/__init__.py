"""Pairwise matrices, duality diagram similarity, RSA and CKA: arrays in, matrices and scores out."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

try:
    from dds_ext import _cpu
except ImportError as error:
    raise ImportError(
        f"the compiled part of dds_ext cannot be imported ({error}); in its source folder, run Python elsewhere "
        "or install with pip install -e ."
    ) from error

from dds_ext import _cuda_backend
from dds_ext import operators as operators
from dds_ext._requests import CENTERINGS, METRICS, NORMALIZATIONS, isa
from dds_ext.comparison import COMPARISONS, center, compare
from dds_ext.measures import MEASURES, affinity, cka, dds, grid, rsa, similarity
from dds_ext.minibatch import minibatch_cka
from dds_ext.pairwise import (
    cosine_rdm,
    euclidean_rdm,
    laplacian_rdm,
    linear_rdm,
    pearson_rdm,
    rbf_rdm,
    rdm,
)

__all__ = [
    "CENTERINGS",
    "COMPARISONS",
    "MEASURES",
    "METRICS",
    "NORMALIZATIONS",
    "affinity",
    "center",
    "cka",
    "compare",
    "cosine_rdm",
    "dds",
    "euclidean_rdm",
    "grid",
    "info",
    "laplacian_rdm",
    "linear_rdm",
    "minibatch_cka",
    "pearson_rdm",
    "rbf_rdm",
    "rdm",
    "rsa",
    "similarity",
]

try:
    __version__ = version("dds_ext")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def info() -> dict[str, Any]:
    """What this installation runs: version, instruction set in use and those available, threads, and the CUDA part."""
    isas = _cpu.available_isas()
    return {
        "version": __version__,
        "isa": isa() or isas[-1],
        "isas": isas,
        "threads": torch.get_num_threads(),
        "cuda": _cuda_backend.describe(),
    }
