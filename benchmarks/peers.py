"""Other libraries' ways to the matrices and scores that dds_ext computes, each as its users would call it.

A peer takes X (n, d) and gamma and returns what its library returns: a full (n, n) matrix or the n (n - 1) / 2 entries
above the diagonal, of whatever type and whatever kind of array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numkong
import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from scipy.spatial import distance
from sklearn.metrics import pairwise

Matrix = npt.NDArray[Any]
tensor = torch.from_numpy


@dataclass(frozen=True)
class Peer:
    name: str
    call: Callable[[Matrix, float], Any]
    slow: bool = False
    """A plain loop over pairs on one thread, or no faster than one."""
    whole: bool = True
    """Computes f; False where it is only the product inside it, as a yardstick."""


def _l1(finish: Callable[[Any, float], Any], sklearn: Peer) -> list[Peer]:
    return [
        sklearn,
        Peer("SciPy pdist", lambda X, gamma: finish(distance.pdist(X, "cityblock"), gamma), slow=True),
        Peer("torch.cdist", lambda X, gamma: finish(torch.cdist(tensor(X), tensor(X), p=1), gamma), slow=True),
        Peer("torch pdist", lambda X, gamma: finish(torch.nn.functional.pdist(tensor(X), p=1), gamma)),
    ]


def _exponential(D: Any, gamma: float) -> Any:
    D *= -gamma
    return D.exp_() if isinstance(D, torch.Tensor) else np.exp(D, out=D)


def _squared_exponential(D: torch.Tensor, gamma: float) -> torch.Tensor:
    return D.square_().mul_(-gamma).exp_()


GRAM = "torch X @ X.T"
_GRAM_ONLY = Peer(GRAM, lambda X, gamma: tensor(X) @ tensor(X).T, whole=False)

PEERS: dict[str, list[Peer]] = {
    "laplacian": _l1(
        _exponential, Peer("scikit-learn laplacian_kernel", lambda X, gamma: pairwise.laplacian_kernel(X), slow=True)
    ),
    "manhattan": _l1(
        lambda D, gamma: D,
        Peer("scikit-learn manhattan_distances", lambda X, gamma: pairwise.manhattan_distances(X), slow=True),
    ),
    "linear": [
        Peer(GRAM, lambda X, gamma: tensor(X) @ tensor(X).T),
        Peer("NumPy X @ X.T", lambda X, gamma: X @ X.T),
        Peer("NumKong cdist", lambda X, gamma: numkong.cdist(X, X, "dot")),
    ],
    "rbf": [
        Peer("scikit-learn rbf_kernel", lambda X, gamma: pairwise.rbf_kernel(X, gamma=gamma)),
        Peer("SciPy pdist", lambda X, gamma: _exponential(distance.pdist(X, "sqeuclidean"), gamma), slow=True),
        Peer("torch.cdist", lambda X, gamma: _squared_exponential(torch.cdist(tensor(X), tensor(X)), gamma)),
        _GRAM_ONLY,
    ],
    "euclidean": [
        Peer("scikit-learn euclidean_distances", lambda X, gamma: pairwise.euclidean_distances(X)),
        Peer("SciPy pdist", lambda X, gamma: distance.pdist(X), slow=True),
        Peer("torch.cdist", lambda X, gamma: torch.cdist(tensor(X), tensor(X))),
        Peer("torch pdist", lambda X, gamma: torch.nn.functional.pdist(tensor(X))),
        Peer("NumKong cdist", lambda X, gamma: numkong.cdist(X, X, "euclidean")),
        _GRAM_ONLY,
    ],
    "sqeuclidean": [
        Peer("scikit-learn euclidean_distances", lambda X, gamma: pairwise.euclidean_distances(X, squared=True)),
        Peer("SciPy pdist", lambda X, gamma: distance.pdist(X, "sqeuclidean"), slow=True),
        Peer("NumKong cdist", lambda X, gamma: numkong.cdist(X, X, "sqeuclidean")),
        _GRAM_ONLY,
    ],
    "pearson": [
        Peer("NumPy corrcoef", lambda X, gamma: 1 - np.corrcoef(X)),
        Peer("SciPy pdist", lambda X, gamma: distance.pdist(X, "correlation"), slow=True),
        Peer("torch.corrcoef", lambda X, gamma: 1 - torch.corrcoef(tensor(X))),
        _GRAM_ONLY,
    ],
    "cosine": [
        Peer("scikit-learn cosine_distances", lambda X, gamma: pairwise.cosine_distances(X)),
        Peer("SciPy pdist", lambda X, gamma: distance.pdist(X, "cosine"), slow=True),
        Peer("NumKong cdist", lambda X, gamma: numkong.cdist(X, X, "angular")),
        _GRAM_ONLY,
    ],
}
"""By the name of f. An f that nobody else offers is timed alone."""


def _correlation_distances(models: Sequence[Matrix]) -> Matrix:
    """(T, n (n - 1) / 2): 1 - Pearson of the images' centred features, above the diagonal."""
    upper = np.triu_indices(len(models[0]), 1)
    return np.stack([1 - np.corrcoef(X - X.mean(axis=0))[upper] for X in models])


def rsa_affinity_by_pairs(models: Sequence[Matrix]) -> Matrix:
    """(T, T) Spearman scores: spearmanr for every pair of models, their matrices computed once."""
    D = _correlation_distances(models)
    scores = np.eye(len(D))
    for i in range(len(D)):
        for j in range(i):
            scores[i, j] = scores[j, i] = stats.spearmanr(D[i], D[j]).statistic
    return scores


def rsa_affinity_by_stack(models: Sequence[Matrix]) -> Matrix:
    """(T, T) Spearman scores from one call of spearmanr, which ranks every matrix once."""
    return np.asarray(stats.spearmanr(_correlation_distances(models), axis=1).statistic)


def upper(K: Matrix) -> Matrix:
    return np.asarray(K[np.triu_indices(len(K), 1)])


def spearman(K1: Matrix, K2: Matrix) -> float:
    return float(stats.spearmanr(upper(K1), upper(K2)).statistic)


def kendall(K1: Matrix, K2: Matrix) -> float:
    return float(stats.kendalltau(upper(K1), upper(K2)).statistic)
