"""Comparisons of vectors of dissimilarities whose entries count several times, as they do in a bootstrap sample.

A sample that holds condition i c_i times holds the dissimilarity of i and j c_i c_j times. With those numbers as
weights a sample's comparisons are sums over the distinct pairs alone, and its ranks are cumulative sums over an order
that is found once for all samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dds_ext._arrays import to_numpy
from dds_ext.comparison import _ranks, scores
from dds_ext.compat._drop_in import NotServed

METHODS = ("cosine", "corr", "spearman", "rho-a", "tau-a", "tau-b", "kendall")
"""rsatoolbox's names of the comparisons served; "kendall" is its other name of "tau-b"."""
TAUS = ("tau-a", "tau-b", "kendall")

Vectors = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int64]


def mid_ranks(V: Vectors, weights: Weights | None = None, order: npt.NDArray[np.intp] | None = None) -> Vectors:
    """Ranks, from 1, of each row of `V` (k, L) whose entries count `weights` (L,) times; ties share the mean of theirs.

    `order` is V.argsort(axis=1), if known. Equivalent to
    ``rankdata(np.repeat(V, weights, axis=1), axis=1)``, one entry of each repeated one.
    """
    if weights is None:
        return np.asarray(_ranks(np.ascontiguousarray(V)))
    if order is None:
        order = V.argsort(axis=1)
    ordered = np.take_along_axis(V, order, axis=1)
    through = weights[order].cumsum(axis=1, dtype=np.float64)  # copies up to each entry, itself included
    ends = np.ones(V.shape, bool)  # where a run of equal values ends
    ends[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    total = through[:, -1:]
    last = np.minimum.accumulate(np.where(ends, through, total)[:, ::-1], axis=1)[:, ::-1]
    before = np.zeros(V.shape)
    before[:, 1:] = np.where(ends[:, :-1], through[:, :-1], 0)
    before = np.maximum.accumulate(before, axis=1)
    ranks = np.empty(V.shape)
    np.put_along_axis(ranks, order, (before + last + 1) / 2, axis=1)
    return ranks


def prepared(
    V: Vectors, method: str, weights: Weights | None = None, order: npt.NDArray[np.intp] | None = None
) -> Vectors:
    """What a method compares of vectors: themselves, centred, as ranks, or as centred ranks.

    A constant vector that rounding does not centre to 0 is not served: rsatoolbox correlates what is left of it. With
    weights no constant one is, since what is left depends on the copies.
    """
    if method in ("spearman", "rho-a", *TAUS):
        V = mid_ranks(V, weights, order)
    if method in ("corr", "spearman", "rho-a"):
        centred = V - (V.mean(axis=1) if weights is None else V @ weights / weights.sum())[:, None]
        if method == "corr":
            constant = V.min(axis=1) == V.max(axis=1)
            one_by_one = V[constant].cumsum(axis=1)[:, -1] / V.shape[1]  # as NumPy adds in Fortran order
            rounded = centred[constant].any() or (one_by_one != V[constant, 0]).any()
            if rounded or (weights is not None and constant.any()):
                raise NotServed("a constant vector whose mean is rounded")
        V = centred
    return V


def norms(a: Vectors, weights: Weights | None = None) -> Vectors:
    """Euclidean norm of each row."""
    squares = np.einsum("ij,ij->i", a, a) if weights is None else np.einsum("ij,ij,j->i", a, a, weights)
    return np.asarray(np.sqrt(squares))


def similarities(a: Vectors, b: Vectors, method: str, weights: Weights | None = None) -> Vectors:
    """The scores (k, l) of prepared vectors (k, L) and (l, L).

    The cosine, which is 0 for a vector of `a` that is 0; those of `b` may not be. Except: rho-a, 12 / (L^3 - L) times
    the product of centred ranks; the taus, which take no weights: tau-a is 0 for constant vectors, tau-b takes none.
    """
    if method in TAUS:
        return _taus(a, b, method)
    products = (a if weights is None else a * weights) @ b.T
    if method == "rho-a":
        length = float(a.shape[1] if weights is None else weights.sum())
        return np.asarray(products * 12 / (length**3 - length))
    lengths, others = norms(a, weights), norms(b, weights)
    if not others.all():
        raise NotServed("a vector of norm 0")
    return np.asarray(products / np.outer(np.where(lengths == 0, 1, lengths), others))


def _taus(a: Vectors, b: Vectors, method: str) -> Vectors:
    vary = [V.min(axis=1) < V.max(axis=1) for V in (a, b)]
    if method != "tau-a":
        if not all(each.all() for each in vary):
            raise NotServed("a constant vector")  # whose tau-b is NaN
        return _tau_b(a, b)
    # tau-b divides by the pairs that are not tied, tau-a by all
    tau = np.zeros((len(a), len(b)))
    a, b = a[vary[0]], b[vary[1]]
    if len(a) and len(b):
        pairs = a.shape[1] * (a.shape[1] - 1) / 2
        scale = np.sqrt(np.outer(1 - _tied(a) / pairs, 1 - _tied(b) / pairs))
        tau[np.outer(*vary)] = (_tau_b(a, b) * scale).ravel()
    return tau


def _tau_b(a: Vectors, b: Vectors) -> Vectors:
    return to_numpy(scores(a, b, "kendall", ["rdm1"] * len(a), ["rdm2"] * len(b)))


def _tied(a: Vectors) -> Vectors:
    """The number of pairs of equal ranks in each row."""
    counts = [np.bincount((2 * row).astype(np.int64)) for row in a]  # a mean rank is a multiple of a half
    return np.array([(c * (c - 1) / 2).sum() for c in counts])


def expanded(V: Any, weights: Weights) -> Any:
    """The columns of V, each as many times as it counts."""
    return np.repeat(V, weights, axis=-1)
