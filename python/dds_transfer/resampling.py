"""Scores of source models on random draws of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

import dds_ext

# A NumPy array, a torch tensor on any device, or another array that dds_ext takes and that can be indexed by rows.
Array: TypeAlias = Any
Matrix: TypeAlias = NDArray[np.float64]


def whole_number(what: str, value: Any, least: int) -> int:
    """A number of draws or images; ValueError naming ``what`` it is of if it is not whole or too small."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{what} must be a whole number, at least {least}, got {value!r}")
    return int(value)


def draw_rows(n: int, images: int, draws: int, seed: int, replacement: bool = False) -> list[NDArray[np.intp]]:
    """Random draws of images.

    Args:
        n: images there are.
        images: images in a draw, at most n.
        draws: number of draws.
        seed: of NumPy's RandomState; with 1993 these are, without replacement, the draws of the DDS authors' scripts.
        replacement: whether a draw may hold an image several times.

    Raises:
        ValueError: n images of n without replacement, fewer than 1 or more than n.
    """
    if whole_number("the number of images in a draw", images, 1) > n:
        raise ValueError(f"draws of {images} images are asked for, and there are {n}")
    if images == n and not replacement:
        raise ValueError(f"every draw of {n} out of {n} images is the same; ask for fewer images")
    random = np.random.RandomState(seed)  # the legacy generator, for the sake of the published draws
    return [random.choice(n, images, replace=replacement) for _ in range(draws)]


def scores_on_draws(
    target: Array,
    sources: Mapping[str, Array],
    draws: Sequence[NDArray[np.intp]],
    options: Mapping[str, Any],
    step: Callable[[], None],
) -> Matrix:
    """Similarity of every source to the target on each draw of images, normalised by the statistics of that draw.

    A draw without repetitions is a smaller set of images, and ``dds_ext.affinity`` scores it. Where an image was drawn
    several times, two of its copies make a pair whose similarity every model knows: counting it would raise all scores,
    the more the more copies there are (Schuett, Kipnis, Diedrichsen and Kriegeskorte, eLife 2023, leave these pairs out
    for that reason, and so does rsatoolbox). Of such a draw of m images:

    - Normalisation, and the default gamma of ``rbf``, see the m images as they were drawn, copies and all.
    - Pairs of copies are left out of the comparison g: ``pearson``, ``spearman`` and ``kendall`` run over the pairs
      above the diagonal that are left, each as often as it was drawn, with ranks among these alone; ``cosine`` runs
      over all entries of the matrices but those.
    - They are left out of the centring too, for they would pull the means of the rows and so come back in every other
      entry. Both centrings are orthogonal projections, onto the symmetric matrices (``double``), or those with a zero
      diagonal (``unbiased``), whose rows sum to 0. With copies it is the projection onto the matrices of this kind that
      are also zero at the pairs of copies: a_i + a_j is subtracted from every other entry, with the a that makes
      all rows sum to 0. Without copies that is H K H, and U-centring.
    - The diagonal, an image with itself, plays the part that it always has: none under ``unbiased`` and for the
      correlations, m entries of the cosine otherwise.

    Args:
        target: (n, d) or (n, C, *spatial) features.
        sources: S arrays of features of the same images, by name; d may differ.
        draws: the rows of each draw, (m,).
        options: those of ``dds_ext.affinity``, with ``f``, ``normalize``, ``center`` and ``g`` among them.
        step: called after every draw.

    Returns:
        (draws, S) float64.

    Raises:
        ValueError: what ``dds_ext`` refuses in a draw, fewer than 4 different images in it, or one image in half of
            its places; it names the draw.
    """
    scores = np.empty((len(draws), len(sources)))
    for number, rows in enumerate(draws):
        try:
            if len(np.unique(rows)) == len(rows):
                drawn = {name: X[rows] for name, X in sources.items()}
                scores[number] = dds_ext.affinity(drawn, {"target": target[rows]}, **options)[:, 0]
            else:
                scores[number] = _scores_with_copies(target, sources, rows, **options)
        except ValueError as error:
            raise ValueError(f"draw {number + 1}, of {len(rows)} images: {error}") from error
        step()
    return scores


def _scores_with_copies(
    target: Array,
    sources: Mapping[str, Array],
    rows: NDArray[np.intp],
    *,
    f: str,
    normalize: str,
    center: str,
    g: str,
    **options: Any,
) -> list[float]:
    m = len(rows)
    _, first, image, counts = np.unique(rows, return_index=True, return_inverse=True, return_counts=True)
    if len(first) < 4 or 2 * counts.max() >= m:
        raise ValueError(
            f"it holds {len(first)} different images, one of them {counts.max()} times; at least 4 are needed, and "
            "none in half the places: take more images, or draw without replacement"
        )
    same = first[image]  # (m,) where the image of each place was drawn first
    different = rows[:, None] != rows[None, :]
    own = center != "unbiased"  # whether the diagonal counts
    pairs = (different | np.eye(m, dtype=bool)) if own else different
    # Row i of the centred matrix sums to 0 over its pairs if its sum r_i is (number of pairs) a_i + (sum of their a).
    # With A the sum of all a, and c_i copies of the image, that is r_i = (m - 2 (c_i - own)) a_i + A.
    weight = 1 / (m - 2 * (counts[image] - own))
    above = np.triu(different, 1)

    def compared(name: str, X: Array) -> Matrix:
        """What g sees of a model, scaled so that the inner product of two models is their score."""
        try:
            K = dds_ext.rdm(X[rows], f, normalize=normalize, **options)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        K = (K.cpu().numpy() if isinstance(K, torch.Tensor) else np.asarray(K)).astype(np.float64)
        # Copies are alike only up to rounding, here and below, but ranks must see them tie: the first stands for all.
        K = K[np.ix_(same, same)]
        if center != "none":
            r = K.sum(axis=1, where=pairs)
            a = (weight * (r - (weight * r).sum() / (1 + weight.sum())))[same]
            K -= a[:, None] + a[None, :]
        values: Matrix = np.where(pairs, K, 0).ravel() if g == "cosine" else K[above]
        if np.ptp(values) == 0:
            raise ValueError(f"the matrix of {name} is constant, so that g={g!r} is undefined")
        if g == "kendall":
            return values
        if g == "spearman":
            values = rankdata(values)
        if g != "cosine":
            values = values - values.mean()
        values /= np.abs(values).max()  # so that squares stay in range, whatever the scale of the features
        values /= np.sqrt(_inner(values, values))
        return values

    aim = compared("the target", target)

    def score(values: Matrix) -> float:
        return float(kendalltau(aim, values).statistic) if g == "kendall" else _inner(aim, values)

    return [score(compared(f"source {name!r}", X)) for name, X in sources.items()]


def _inner(a: Matrix, b: Matrix) -> float:
    # NumPy's own loop: BLAS would wake threads of its own, which then fight with the engine's for the cores.
    return float(np.einsum("i,i", a, b))
