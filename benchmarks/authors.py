"""An affinity matrix as the authors of duality diagram similarity compute it: everything again for every pair.

Written anew from the paper and the order of steps in their implementation: scikit-learn's StandardScaler and
laplacian_kernel, U-centring, cosine; for each of the T (T + 1) / 2 pairs of a symmetric matrix, both models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import laplacian_kernel
from sklearn.preprocessing import StandardScaler

Matrix = npt.NDArray[Any]


def u_center(K: Matrix) -> Matrix:
    """(n, n) -> (n, n), every row summing to 0, the diagonal 0 (Szekely & Rizzo 2014)."""
    n = len(K)
    K = K.copy()
    np.fill_diagonal(K, 0)
    rows = K.sum(axis=0, keepdims=True) / (n - 2)
    K -= rows
    K -= rows.T
    K += rows.sum() / (n - 1)
    np.fill_diagonal(K, 0)
    return K


def matrix(X: Matrix) -> Matrix:
    """(n, d) features -> their (n, n) U-centred Laplacian kernel."""
    return u_center(laplacian_kernel(StandardScaler().fit_transform(X)))


def cosine(K1: Matrix, K2: Matrix) -> float:
    return float((K1 * K2).sum() / np.sqrt((K1 * K1).sum() * (K2 * K2).sum()))


def affinity(models: Sequence[Matrix]) -> Matrix:
    """(T, T) scores, both matrices of every pair computed for that pair."""
    scores = np.empty((len(models), len(models)))
    for i, X in enumerate(models):
        for j, Y in enumerate(models[: i + 1]):
            scores[i, j] = scores[j, i] = cosine(matrix(X), matrix(Y))
    return scores


def affinity_each_model_once(models: Sequence[Matrix]) -> Matrix:
    """The same scores from the same functions, as somebody who reuses the matrices would write it."""
    K = np.stack([matrix(X).ravel() for X in models])
    K /= np.linalg.norm(K, axis=1, keepdims=True)
    scores: Matrix = K @ K.T
    return scores
