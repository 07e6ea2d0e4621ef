"""CKA from minibatches, against the formula of Song et al. that Nguyen et al. quote, and against CKA of one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import dds_ext


def hsic(K: Any, L: Any) -> float:
    """Equation 3 of Nguyen, Raghu and Kornblith (ICLR 2021)."""
    n = len(K)
    K, L = K * (1 - np.eye(n)), L * (1 - np.eye(n))
    product = np.trace(K @ L) + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (K @ L).sum()
    return float(product / (n * (n - 3)))


def batches(sizes: list[int], seed: int = 0) -> tuple[list[Any], list[Any]]:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(12, 7))
    X = [random.normal(size=(n, 12)) + 1 for n in sizes]
    return X, [np.tanh(x @ weights) for x in X]


@pytest.mark.parametrize("sizes", [[16, 16, 16], [20], [9, 4, 31]])
def test_formula(sizes: list[int]) -> None:
    X, Y = batches(sizes)
    K, L = [x @ x.T for x in X], [y @ y.T for y in Y]
    xy, xx, yy = (sum(map(hsic, a, b)) for a, b in ((K, L), (K, K), (L, L)))
    # sums of up to 31^2 terms in float64
    assert dds_ext.minibatch_cka(X, Y) == pytest.approx(xy / np.sqrt(xx * yy), abs=1e-12)


def test_one_batch_is_unbiased_cka() -> None:
    X, Y = batches([40])
    assert dds_ext.minibatch_cka(X, Y) == pytest.approx(dds_ext.cka(X[0], Y[0], unbiased=True), abs=1e-12)


def test_data_loaders_kinds_and_shapes() -> None:
    X, Y = batches([8, 8, 8])
    wanted = dds_ext.minibatch_cka(X, Y)
    tensors = torch.from_numpy(np.concatenate(X)).float().reshape(24, 3, 2, 2)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(tensors), batch_size=8)
    # float32 features
    assert dds_ext.minibatch_cka((x for (x,) in loader), iter(Y)) == pytest.approx(wanted, abs=1e-5)
    assert dds_ext.minibatch_cka(X, X) == pytest.approx(1, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_kinds_may_differ() -> None:
    X, Y = batches([8, 9])
    wanted = dds_ext.minibatch_cka(X, Y)
    P, Q = ([torch.from_numpy(z) for z in side] for side in (X, Y))
    for a, b in ((X, Q), (P, Y), (P, Q)):
        # the same sums of up to 9^2 terms in float64
        assert dds_ext.minibatch_cka(a, b) == pytest.approx(wanted, abs=1e-12)


def test_errors() -> None:
    X, Y = batches([8, 8])
    with pytest.raises(ValueError, match="no batches"):
        dds_ext.minibatch_cka([], [])
    with pytest.raises(ValueError, match="Y has 1 batches, and the other has more"):
        dds_ext.minibatch_cka(X, Y[:1])
    with pytest.raises(ValueError, match="batch 1 has 8 images in X and 7 in Y"):
        dds_ext.minibatch_cka(X, [Y[0], Y[1][:7]])
    with pytest.raises(ValueError, match=r"batch 0: .*at least 4 images"):
        dds_ext.minibatch_cka([X[0][:3]], [Y[0][:3]])
    with pytest.raises(ValueError, match=r"batch 1: .*NaN"):
        dds_ext.minibatch_cka([X[0], X[1] * np.nan], Y)
    with pytest.raises(TypeError, match="batch 0: "):
        dds_ext.minibatch_cka(["text"], Y)
    with pytest.raises(ValueError, match=r"HSIC\(X, X\) is 0, not positive"):
        dds_ext.minibatch_cka([np.ones((8, 3))], Y[:1])
