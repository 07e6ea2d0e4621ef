"""Functions of other packages, served by this engine: the same arguments, the same numbers, less time.

Import one in place of the function it stands for::

    from dds_ext.compat import pdist                  # was: from scipy.spatial.distance import pdist

or, for scripts that are not to be touched, put the whole set in place::

    dds_ext.compat.patch("rsatoolbox", "scipy")

Each takes what its original takes and returns what it returns: numbers differ by rounding alone, results are float64
wherever the original's are. What the engine does not serve (sparse input, weights, NaN, one of the rarer metrics) is
passed on to the original, which also raises its own errors. The packages are imported when one of their functions is
first asked for; none of them is needed otherwise.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dds_ext.compat._patch import PACKAGES, Calls, patch

if TYPE_CHECKING:
    from dds_ext.compat._drop_in import DropIn

_FUNCTIONS = {
    "sklearn": (
        "cosine_distances",
        "cosine_similarity",
        "euclidean_distances",
        "laplacian_kernel",
        "linear_kernel",
        "manhattan_distances",
        "pairwise_distances",
        "rbf_kernel",
    ),
    "scipy": ("cdist", "pdist"),
    "rsatoolbox": (
        "boot_noise_ceiling",
        "calc_rdm",
        "calc_rdm_correlation",
        "calc_rdm_euclidean",
        "compare",
        "compare_correlation",
        "compare_cosine",
        "compare_kendall_tau",
        "compare_kendall_tau_a",
        "compare_rho_a",
        "compare_spearman",
        "eval_bootstrap",
        "eval_bootstrap_pattern",
        "eval_bootstrap_rdm",
    ),
    "net2brain": ("dist",),
}
_PACKAGE_OF = {name: package for package, names in _FUNCTIONS.items() for name in names}

__all__ = ["PACKAGES", "Calls", "patch", *_PACKAGE_OF]


def __getattr__(name: str) -> Any:
    if name not in _PACKAGE_OF:
        raise AttributeError(f"module 'dds_ext.compat' has no attribute {name!r}")
    drop_ins: tuple[DropIn, ...] = importlib.import_module(f"dds_ext.compat._{_PACKAGE_OF[name]}").DROP_INS
    for drop_in in drop_ins:
        globals()[drop_in.name.rpartition(".")[2]] = drop_in.function()
    return globals()[name]
