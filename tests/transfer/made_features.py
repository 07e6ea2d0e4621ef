"""Features made for the tests of dds_transfer."""

from __future__ import annotations

import numpy as np
from dds_transfer.tables import TASKONOMY_TASKS
from numpy.typing import NDArray

Features = dict[str, NDArray[np.float64]]

# The 20 Taskonomy models of the authors' activation file, and the Pascal VOC model that is its 21st entry.
AUTHORS_KEYS = (*TASKONOMY_TASKS, "colorization", "class_places", "inpainting_whole", "pascal_voc_segmentation")


def related_features(names: tuple[str, ...], n: int, d: int) -> Features:
    """Features (n, d) that share a signal, the more of it the later the name."""
    random = np.random.default_rng(0)
    signal = random.standard_normal((n, d))
    return {name: signal * 0.2 * i + random.standard_normal((n, d)) for i, name in enumerate(names)}
