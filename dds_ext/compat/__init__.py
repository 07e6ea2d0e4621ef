"""Functions of other packages, served by this engine: the same arguments, the same numbers, less time.

Import one in place of the function it stands for::

    from dds_ext.compat import pdist                  # was: from scipy.spatial.distance import pdist

or, for scripts that are not to be touched, put the whole set in place::

    dds_ext.compat.patch("rsatoolbox", "scipy")

Each takes what its original takes and returns what it returns: numbers differ by rounding alone, which is the
original's where it forms squared distances as |x|^2 + |y|^2 - 2 x.y; results are float64 wherever the original's are.
What the engine does not serve (sparse input, weights, NaN, one of the rarer metrics) is passed on to the original,
which also raises its own errors. The packages are imported when one of their functions is first asked for; none of them
is needed otherwise.
"""

from __future__ import annotations

from typing import Any

from dds_ext.compat._patch import PACKAGES, Calls, loaded, patch

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
    globals().update({f.__qualname__: f for _, f in loaded(_PACKAGE_OF[name]).pairs})
    return globals()[name]
