"""Functions of other packages, served by this engine: the same arguments, the same numbers, less time.

Import one in place of the function it stands for::

    from dds_ext.compat import pdist                  # was: from scipy.spatial.distance import pdist

or, for scripts that are not to be touched, put the whole set in place::

    dds_ext.compat.patch("rsatoolbox", "scipy")

Each takes what its original takes and returns what it returns: numbers differ by rounding alone, which is the
original's where it forms squared distances as |x|^2 + |y|^2 - 2 x.y; results are float64 wherever the original's are.
What the engine does not serve (sparse input, NaN, iterators, one of the rarer metrics) is passed on to the original,
which also raises its own errors. The packages are imported when one of their functions is first asked for; none of them
is needed otherwise, and the functions of those that are not installed are not there.
"""

from __future__ import annotations

import importlib.util
import sys
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


def _installed(package: str) -> bool:
    if package in sys.modules:  # None where somebody keeps it from being imported
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None


__all__ = ["PACKAGES", "Calls", "patch", *(name for name, package in _PACKAGE_OF.items() if _installed(package))]


def __getattr__(name: str) -> Any:
    if name not in _PACKAGE_OF:
        raise AttributeError(f"module 'dds_ext.compat' has no attribute {name!r}")
    package = _PACKAGE_OF[name]
    if not _installed(package):
        told = f"dds_ext.compat.{name} stands for a function of {package}, which is not installed: install {package}"
        # `from dds_ext.compat import name` would drop an AttributeError's words; CPython looks for the name here first
        imported = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        raise ModuleNotFoundError(told, name=package) if imported else AttributeError(told)
    globals().update({f.__qualname__: f for _, f in loaded(package).pairs})
    return globals()[name]
