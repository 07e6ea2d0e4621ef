"""Inputs and results of more than 2^31 elements, where 32-bit indices, products and offsets wrap around.

Each of these tests holds about 9 GiB at most. They run by default where 20 GiB of memory are available, and are marked
`large`, so that `-m "not large"` leaves them out.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import ABSOLUTE_32, RELATIVE_32, to64

import dds_ext
from dds_ext import reference

pytestmark = pytest.mark.large

LIMIT = 2**31


def entries(n: int, count: int = 3000) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Random places in an (n, n) matrix, its corners, and the neighbourhood of flat index 2^31."""
    random = np.random.default_rng(0)
    i, j = random.integers(0, n, size=(2, count))
    edge = np.array([0, 1, 46, 47, 48, n - 49, n - 48, n - 2, n - 1])
    corners = np.stack(np.meshgrid(edge, edge)).reshape(2, -1)
    wrapped = np.stack(np.divmod(LIMIT + np.arange(-20, 21), n))
    i, j = np.concatenate([i, corners[0], wrapped[0]]), np.concatenate([j, corners[1], wrapped[1]])
    return i, j


def test_result_and_its_centring() -> None:
    """46400^2 entries. The sums of a row of squared distances have a closed form, so that U-centring can be checked."""
    n = 46400
    X = torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32))
    Z = to64(X)
    i, j = entries(n)
    out = torch.empty(n, n)
    assert out.numel() > LIMIT

    dds_ext.rdm(X, "laplacian", out=out)
    expected = np.exp(-np.abs(Z[i] - Z[j]).sum(axis=1) / 3)
    np.testing.assert_allclose(out[i, j], expected, rtol=0, atol=ABSOLUTE_32)
    assert torch.equal(out[i, j], out[j, i]) and bool((out.diagonal() == 1).all())

    dds_ext.rdm(X, "sqeuclidean", center="unbiased", out=out)
    squares = np.square(Z).sum(axis=1)
    rows = n * squares + squares.sum() - 2 * Z @ Z.sum(axis=0)
    bare = np.square(Z[i] - Z[j]).sum(axis=1)
    expected = bare - (rows[i] + rows[j]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    expected[i == j] = 0
    # The bare entry's relative error and, for the three means, that of the largest mean.
    bound = RELATIVE_32 * (bare + 3 * rows.max() / (n - 2))
    assert (np.abs(to64(out[i, j]) - expected) <= bound).all()
    assert torch.equal(out[i, j], out[j, i]) and bool((out.diagonal() == 0).all())


def test_condensed_result() -> None:
    """65700 images have 2.16e9 pairs."""
    n = 65700
    X = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    condensed = dds_ext.rdm(X, "manhattan", condensed=True)
    assert condensed.shape == (n * (n - 1) // 2,) and condensed.size > LIMIT
    i, j = entries(n)
    i, j = np.minimum(i, j)[i != j], np.maximum(i, j)[i != j]
    # The place of (i, j) among the pairs, row by row, as in scipy.spatial.distance.squareform.
    at = n * i - i * (i + 1) // 2 + j - i - 1
    np.testing.assert_allclose(condensed[at], np.abs(X[i].astype(np.float64) - X[j]).sum(axis=1), rtol=RELATIVE_32)


def test_many_features() -> None:
    """8 x 2.7e8 float16 features, overlapping in memory, so that they take half a GiB."""
    n, d, step = 8, 270_000_000, 1_000_003
    assert n * d > LIMIT
    random = np.random.default_rng(0)
    base = torch.from_numpy(random.integers(-100, 101, size=d + n * step, dtype=np.int8)).half()
    X = base.as_strided((n, d), (step, 1))

    manhattan, linear = dds_ext.rdm(X, "manhattan"), dds_ext.rdm(X, "linear")
    for i, j in ((0, 1), (3, 7), (6, 7)):
        distance = product = 0
        for k in range(0, d, 10_000_000):
            a, b = (X[row, k : k + 10_000_000].to(torch.int16) for row in (i, j))
            distance += int((a - b).abs().sum())
            product += int((a.int() * b.int()).sum())
        assert float(manhattan[i, j]) == pytest.approx(distance, rel=RELATIVE_32)
        norms = float((linear[i, i] * linear[j, j]).double().sqrt())
        assert float(linear[i, j]) == pytest.approx(product, abs=ABSOLUTE_32 * norms)


def test_many_images_against_few() -> None:
    """2.1 million images of 1025 features, windows that slide over one list of numbers; statistics over all of them."""
    n, d = 2_100_000, 1025
    assert n * d > LIMIT
    base = torch.from_numpy(np.random.default_rng(0).normal(size=n + d).astype(np.float16))
    X = base.as_strided((n, d), (1, 1))
    Y = X[-3:].clone()
    rows = np.concatenate([np.random.default_rng(1).integers(0, n, size=200), [0, n // 2, n - 2, n - 1]])
    few = to64(X[rows])

    K = dds_ext.rdm(X, "laplacian", Y=Y)
    assert K.shape == (n, 3)
    expected = reference.metric_laplacian(few, to64(Y))
    np.testing.assert_allclose(K[rows], expected, rtol=0, atol=ABSOLUTE_32)

    D = dds_ext.rdm(X, "euclidean", Y=Y, normalize="zscore")
    # Mean and variance of every window of n numbers.
    sums = np.cumsum(np.concatenate([[0.0], to64(base)]))
    squares = np.cumsum(np.concatenate([[0.0], to64(base) ** 2]))
    mean = (sums[n : n + d] - sums[:d]) / n
    deviation = np.sqrt((squares[n : n + d] - squares[:d]) / n - mean**2)
    expected = reference.metric_euclidean((few - mean) / deviation, (to64(Y) - mean) / deviation)
    # Rows of Y are rows of X: distances of exactly 0.
    np.testing.assert_allclose(D[rows], expected, rtol=RELATIVE_32, atol=0)


def test_strides_beyond_32_bits() -> None:
    """Rows 5e8 elements apart; all but the first few elements of each are never touched."""
    big = torch.empty(6, 500_000_000, dtype=torch.float16)
    X = big[:, :70]
    X.copy_(torch.from_numpy(np.random.default_rng(0).normal(size=(6, 70))))
    assert X.stride(0) * 5 > LIMIT
    for view in (X, X.numpy()[::-1], X.numpy()[::-1, ::-1]):
        for normalize in ("none", "zscore"):
            expected = dds_ext.rdm(np.ascontiguousarray(view), normalize=normalize)
            np.testing.assert_array_equal(dds_ext.rdm(view, normalize=normalize), expected)
