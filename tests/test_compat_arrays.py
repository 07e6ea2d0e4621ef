"""Drop-ins for scikit-learn, SciPy and Net2Brain: the originals' own answers are the oracle."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from scipy.spatial import distance
from sklearn.metrics import pairwise

from dds_ext import compat
from dds_ext.compat import _patch

random = np.random.default_rng(0)
DENSE = random.normal(size=(23, 17))

INPUTS: dict[str, Any] = {
    "dense": DENSE,
    "wide": random.normal(size=(5, 3000)) + 3,
    "one column": random.normal(size=(9, 1)),
    "one row": random.normal(size=(1, 8)),
    "one zero row": np.zeros((1, 8)),
    "float32": DENSE.astype(np.float32),
    "float16": DENSE.astype(np.float16),
    "integers": random.integers(-5, 6, size=(12, 7)),
    "booleans": random.random((12, 7)) > 0.5,
    "Fortran order": np.asfortranarray(DENSE),
    "strided": DENSE[::2, ::-3],
    "big-endian": DENSE.astype(">f8"),
    "list": DENSE[:4].tolist(),
    "data frame": pd.DataFrame(DENSE),
    "duplicates": np.repeat(DENSE[:6], 2, axis=0),
    "constant rows": np.where(np.arange(23)[:, None] % 4 == 0, 1.5, DENSE),
    "zero rows": np.where(np.arange(23)[:, None] % 5 == 0, 0.0, DENSE),
    "NaN": np.where(np.eye(23, 17) > 0, np.nan, DENSE),
    "infinity": np.where(np.eye(23, 17) > 0, np.inf, DENSE),
    "empty": np.empty((0, 4)),
    "no columns": np.empty((4, 0)),
    "one dimension": DENSE[0],
    "complex": DENSE + 1j,
    "text": np.array([["a", "b"], ["c", "d"]]),
    "sparse": scipy.sparse.csr_matrix(DENSE),
}


def answer(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result, or what was raised."""
    try:
        with np.errstate(all="ignore"):
            return function(*arguments, **options)
    except Exception as error:
        return type(error), str(error)


def assert_same(name: str, original: Callable[..., Any], *arguments: Any, exact: float = 1e-13, **options: Any) -> None:
    """The drop-in gives what the original gives: the kind, type, shape and values, or the error with its message.

    Both sum at most 3000 products of numbers near 1 to 10 in float64: 1e-13 relative to the largest is some hundred
    roundings. A Euclidean distance by the difference of squares, as scikit-learn's, is off by the root of that where
    rows are the same.
    """
    wanted = answer(original, *arguments, **options)
    got = answer(getattr(compat, name), *arguments, **options)
    if isinstance(wanted, tuple):
        assert got == wanted
        return
    assert type(got) is type(wanted)
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    if scipy.sparse.issparse(wanted):
        got, wanted = got.toarray(), wanted.toarray()
    scale = max(1.0, np.nanmax(np.abs(wanted), initial=0, where=np.isfinite(wanted)))
    # what float32 rounds, where that is the originals' type: two units in the last place, for products some more
    tolerance = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): exact}[wanted.dtype]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)


SKLEARN: list[tuple[str, dict[str, Any]]] = [
    ("laplacian_kernel", {}),
    ("laplacian_kernel", {"gamma": 0.3}),
    ("laplacian_kernel", {"gamma": 0}),
    ("laplacian_kernel", {"gamma": -1}),
    ("laplacian_kernel", {"gamma": "auto"}),
    ("rbf_kernel", {}),
    ("rbf_kernel", {"gamma": 2}),
    ("rbf_kernel", {"gamma": True}),
    ("linear_kernel", {}),
    ("linear_kernel", {"dense_output": "yes"}),
    ("cosine_similarity", {}),
    ("cosine_distances", {}),
    ("manhattan_distances", {}),
    ("euclidean_distances", {}),
    ("euclidean_distances", {"squared": True}),
    ("euclidean_distances", {"squared": 3}),
    *(("pairwise_distances", {"metric": m}) for m in ("manhattan", "cityblock", "l1", "euclidean", "l2", "cosine")),
    *(
        ("pairwise_distances", {"metric": m})
        for m in ("sqeuclidean", "correlation", "chebyshev", "hamming", "nonsense")
    ),
    ("pairwise_distances", {"n_jobs": 2}),
    ("pairwise_distances", {"n_jobs": "all"}),
    ("pairwise_distances", {"metric": "nan_euclidean", "ensure_all_finite": "allow-nan"}),
]


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("name", "options"), SKLEARN, ids=str)
def test_sklearn(name: str, options: dict[str, Any], kind: str) -> None:
    X = INPUTS[kind]
    # rows that are the same, and the diagonal: sqrt(1e-15) of scikit-learn's own
    exact = 1e-6 if "euclid" in name + str(options) or options.get("metric") in ("l2", None) else 1e-13
    assert_same(name, getattr(pairwise, name), X, exact=exact, **options)


@pytest.mark.parametrize(("name", "options"), SKLEARN, ids=str)
def test_sklearn_of_two_sets(name: str, options: dict[str, Any]) -> None:
    original = getattr(pairwise, name)
    for X, Y in (
        (DENSE, DENSE[:7] + 1),
        (DENSE.astype(np.float32), DENSE[:7].astype(np.float32) + 1),
        (DENSE.astype(np.float32), DENSE[:7] + 1),
        (INPUTS["integers"], [[1, 2, 3, 4, 5, 6, 7]]),
        (DENSE, DENSE[:, :5]),
    ):
        assert_same(name, original, X, Y, **options)


@pytest.mark.parametrize("kind", ["float32", "integers", "zero rows", "one zero row"])
@pytest.mark.parametrize("metric", ["manhattan", "euclidean", "cosine", "sqeuclidean", "correlation"])
def test_sklearn_in_jobs(metric: str, kind: str) -> None:
    """More than one job gives float32 of float32, and the diagonal of a zero row is not known to be one."""
    X = INPUTS[kind]
    exact = 1e-6 if metric == "euclidean" else 1e-13  # sqrt(1e-15) of scikit-learn's own
    for options in ({"n_jobs": 2}, {"Y": X[:3].astype(float), "n_jobs": 2}):
        assert_same("pairwise_distances", pairwise.pairwise_distances, X, metric=metric, exact=exact, **options)
    with joblib.parallel_config("threading", n_jobs=2):
        assert_same("pairwise_distances", pairwise.pairwise_distances, X, metric=metric, exact=exact)


@pytest.mark.parametrize("offset", [0, 1e4, 1e8])
def test_squared_distances_do_not_cancel(offset: float) -> None:
    """Against sums in extended precision, where |x|^2 + |y|^2 - 2 x.y has lost the digits that the rows share."""
    X = DENSE + offset
    wide = X.astype(np.longdouble)
    squares = ((wide[:, None] - wide) ** 2).sum(axis=-1)
    # a difference, its square and 17 additions, of one sign: at most 20 roundings of 1.1e-16, relative
    tolerance = 2.3e-15
    np.testing.assert_allclose(compat.euclidean_distances(X, X.copy()), np.sqrt(squares), rtol=tolerance)
    np.testing.assert_allclose(compat.pdist(X, "sqeuclidean"), distance.squareform(squares), rtol=tolerance)
    # exp(-s) takes a relative error of s to an absolute one of at most exp(-1) of it
    np.testing.assert_allclose(compat.rbf_kernel(X, X.copy()), np.exp(-squares / 17), rtol=0, atol=tolerance)


def test_sklearn_with_awkward_gamma() -> None:
    for gamma in (np.float32(2), np.int8(1), 10**400, np.inf, np.nan, 1 + 0j, np.complex64(1), np.array(1.0), [1.0]):
        for name in ("laplacian_kernel", "rbf_kernel"):
            assert_same(name, getattr(pairwise, name), DENSE, gamma=gamma)


def test_sklearn_with_norms() -> None:
    norms = (DENSE**2).sum(axis=1)
    assert_same("euclidean_distances", pairwise.euclidean_distances, DENSE, DENSE[:5], X_norm_squared=norms)


SCIPY = (
    "cityblock",
    "C",
    "euclidean",
    "eu",
    "sqeuclidean",
    "cosine",
    "Cos",
    "correlation",
    "co",
    "chebyshev",
    "nothing",
)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("metric", SCIPY)
def test_scipy(metric: str, kind: str) -> None:
    X = INPUTS[kind]
    assert_same("pdist", distance.pdist, X, metric)
    assert_same("cdist", distance.cdist, X, DENSE[:3, : np.shape(X)[-1]], metric)


def test_scipy_options() -> None:
    weights = random.random(17)
    for options in ({}, {"metric": "minkowski", "p": 3}, {"w": weights}, {"metric": distance.cosine}, {"metric": 3}):
        assert_same("pdist", distance.pdist, DENSE, **options)
        assert_same("cdist", distance.cdist, DENSE, DENSE[:4], **options)
    assert_same("pdist", distance.pdist, DENSE, "minkowski", 3)
    np.testing.assert_allclose(
        distance.squareform(compat.pdist(DENSE)), distance.squareform(distance.pdist(DENSE)), rtol=1e-13
    )


@pytest.mark.parametrize("metric", SCIPY)
def test_scipy_with_weights(metric: str) -> None:
    some = random.random(17) * (np.arange(17) % 4 > 0)
    first = np.eye(17)[0]
    for X in (DENSE, DENSE.astype(np.float32), INPUTS["duplicates"], INPUTS["zero rows"], INPUTS["constant rows"]):
        for w in (some, some.astype(np.float32), np.arange(17), first, first * 0, None):
            assert_same("pdist", distance.pdist, X, metric, w=w)
            assert_same("cdist", distance.cdist, X, DENSE[:4], metric, w=w)
    for wrong in (-some, some[:5], some[None], list(some), np.full(17, np.nan), np.full(17, np.inf), some + 1j, "text"):
        assert_same("pdist", distance.pdist, DENSE, metric, w=wrong)
        assert_same("cdist", distance.cdist, DENSE, DENSE[:4], metric, w=wrong)
    hidden = np.ma.masked_array(some, some > 0.5)
    assert_same("pdist", distance.pdist, DENSE, metric, w=hidden)
    for narrow in (DENSE[:, :1], DENSE[:, :5], DENSE[:0]):  # one column would be stretched to the other set's
        assert_same("pdist", distance.pdist, narrow, metric, w=some)
        assert_same("cdist", distance.cdist, DENSE, narrow, metric, w=some)
        assert_same("cdist", distance.cdist, narrow, DENSE, metric, w=some)
    with compat.patch("scipy") as counts:
        answer(distance.pdist, DENSE, metric, w=some)
    assert counts["scipy.spatial.distance.pdist"].served == (metric not in ("chebyshev", "nothing"))


@pytest.mark.parametrize("metric", ["cityblock", "euclidean", "sqeuclidean"])
def test_weighted_distances_do_not_cancel(metric: str) -> None:
    """Against sums in extended precision of rows that share eight digits."""
    X, w = DENSE + 1e8, random.random(17)
    differences = np.abs(X.astype(np.longdouble)[:, None] - X)
    sums = (w * (differences if metric == "cityblock" else differences**2)).sum(axis=-1)
    wanted = np.sqrt(sums) if metric == "euclidean" else sums
    # differences of rows within 1 to 10 of the first, with their weights: some 30 roundings of 1.1e-16 of the largest
    np.testing.assert_allclose(
        distance.squareform(compat.pdist(X, metric, w=w)), wanted, rtol=0, atol=4e-15 * float(wanted.max())
    )


def test_scipy_writes_to_out() -> None:
    out = np.empty(23 * 22 // 2)
    assert compat.pdist(DENSE, "cosine", out=out) is out
    np.testing.assert_allclose(out, distance.pdist(DENSE, "cosine"), rtol=0, atol=1e-14)
    for wrong in (np.empty(3), np.empty(23 * 22 // 2, np.float32), np.empty(23 * 22)[::2]):
        assert_same("pdist", distance.pdist, DENSE, "cosine", out=wrong)
    out = np.empty((23, 4))
    assert compat.cdist(DENSE, DENSE[:4], out=out) is out
    np.testing.assert_allclose(out, distance.cdist(DENSE, DENSE[:4]), rtol=0, atol=1e-13)


# Net2Brain is not on PyPI. What stands here for it is its formulas, as its documentation gives them, in plain torch.
def _net2brain_dist(x: Any, y: Any = None, chunk_size: Any = None, metric: Any = "euclidean", **kwargs: Any) -> Any:
    if callable(metric):
        return metric(x)
    x = torch.as_tensor(x).to(device=kwargs.get("device"), dtype=kwargs.get("dtype"))
    y = x if y is None else torch.as_tensor(y).to(x)
    if metric == "pearson":
        return 1 - torch.corrcoef((x - x.mean(0)) / (x.std(0, correction=0) + 1e-7))
    if metric in ("euclidean", "l2", "manhattan", "l1"):
        return torch.linalg.vector_norm(x[..., None, :] - y, ord=1 if metric in ("manhattan", "l1") else 2, dim=-1)
    if metric == "correlation":
        x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    elif metric != "cosine":
        raise ValueError(f"Unknown distance metric {metric}.")
    return 1 - (x / x.norm(dim=1, keepdim=True)) @ (y / y.norm(dim=1, keepdim=True)).T


@pytest.fixture
def net2brain(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    package, rdm, dist_utils, creation = (
        types.ModuleType(f"net2brain{name}") for name in ("", ".rdm", ".rdm.dist_utils", ".rdm_creation")
    )
    package.__path__, rdm.__path__ = [], []
    for module in (package, rdm, dist_utils, creation):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for module in (rdm, dist_utils, creation):
        vars(module)["dist"] = _net2brain_dist
    vars(rdm)["dist_utils"] = dist_utils
    monkeypatch.setitem(_patch._LOADED, "net2brain", _patch._Package("net2brain"))
    yield creation
    sys.modules.pop("dds_ext.compat._net2brain", None)
    vars(compat).pop("dist", None)


@pytest.mark.parametrize(
    "metric", ["euclidean", "l2", "manhattan", "l1", "cosine", "correlation", "pearson", "unknown", torch.corrcoef]
)
def test_net2brain(metric: Any, net2brain: types.ModuleType) -> None:
    with compat.patch("net2brain") as counts:
        for X in (DENSE, DENSE.astype(np.float32), INPUTS["zero rows"], INPUTS["constant rows"]):
            x = torch.from_numpy(X)
            for options in ({}, {"device": "cpu"}, {"dtype": torch.float64, "verbose": True}, {"chunk_size": 5}):
                got = answer(net2brain.dist, x, metric=metric, **options)
                wanted = answer(_net2brain_dist, x, metric=metric, **options)
                if isinstance(wanted, tuple):
                    assert got == wanted
                    continue
                # the same sums of 17 terms, in float32 or float64
                torch.testing.assert_close(
                    got, wanted, rtol=0, atol=1e-5 if got.dtype == torch.float32 else 1e-12, equal_nan=True
                )
    if metric in ("euclidean", "manhattan"):
        assert counts["net2brain.rdm.dist"] == compat.Calls(served=16, passed_on=0)
    assert net2brain.dist is _net2brain_dist
