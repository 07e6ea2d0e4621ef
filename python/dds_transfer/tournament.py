"""Taskonomy's own measure of transfer: from losses on test images, by a tournament between sources, to affinities.

Zamir, Sax, Shen, Guibas, Malik and Savarese, "Taskonomy", CVPR 2018, section 3.3. Losses of different targets have
different scales, so for each target the sources are compared pairwise, image by image, and the Analytic Hierarchy
Process (Saaty) turns the results into one number per source.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]

# Win rates are clipped to [CLIP, 1 - CLIP], as published, so that no ratio is infinite.
CLIP = 0.001


def win_rates(losses: ArrayLike) -> Array:
    """Tournament between the sources of each target: on which share of the images one beats another.

    Args:
        losses: (S, T, n), the loss on test image i after transfer from source s to target t; lower is better. Only
            losses of one target are compared, so that each target may have a scale and images of its own.

    Returns:
        (T, S, S): entry (t, i, j) is the share of images on which source i has a lower loss than source j. An image on
        which they tie counts for neither, as published; so the diagonal is 0.

    Raises:
        ValueError: another shape, fewer than 2 sources, no images, or a loss that is NaN.

    Equivalent to ``(losses[:, None] < losses[None, :]).mean(axis=3).transpose(2, 0, 1)``.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 3 or len(losses) < 2 or losses.size == 0:
        raise ValueError(
            f"losses of shape {losses.shape}; (sources, targets, images) are needed, with 2 sources or more"
        )
    if np.isnan(losses).any():
        s, t, i = np.argwhere(np.isnan(losses))[0]
        raise ValueError(f"the loss of source {s}, target {t}, image {i} is NaN; leave the image out, for all sources")
    # A source at a time: all pairs at once would take S times the memory of the losses.
    return np.stack([(row < losses).mean(axis=2).T for row in losses], axis=1)


def ahp_weights(ratios: ArrayLike) -> Array:
    """Weights by the Analytic Hierarchy Process: the principal eigenvector of a matrix of pairwise ratios.

    Args:
        ratios: (..., S, S), entry (i, j) says how many times better i is than j; positive, and reciprocal: entry (j, i)
            is its inverse.

    Returns:
        (..., S), positive, with sum 1. If the ratios are consistent, w_i / w_j for some w, then w is returned.

    Raises:
        ValueError: matrices that are not square, or not positive and reciprocal.

    Equivalent to, for one matrix::

        values, vectors = np.linalg.eig(ratios)
        w = np.abs(vectors[:, values.real.argmax()])
        w / w.sum()
    """
    ratios = np.asarray(ratios, dtype=np.float64)
    if ratios.ndim < 2 or ratios.shape[-1] != ratios.shape[-2] or ratios.size == 0:
        raise ValueError(f"ratios of shape {ratios.shape}; square matrices are needed")
    # "Not above 0" finds NaN too. A quotient times the inverse quotient is 1 but for roundings.
    if not (ratios > 0).all() or not np.allclose(ratios * ratios.swapaxes(-1, -2), 1, rtol=1e-9, atol=0):
        raise ValueError("ratios must be positive, and entry (j, i) the inverse of entry (i, j)")
    values, vectors = np.linalg.eig(ratios)
    # By Perron and Frobenius the largest eigenvalue is real and its vector has one sign.
    largest = values.real.argmax(axis=-1)[..., None, None]
    weights = np.abs(np.take_along_axis(vectors, largest, axis=-1)[..., 0])
    scaled: Array = weights / weights.sum(axis=-1, keepdims=True)
    return scaled


def ahp_affinity(wins: ArrayLike) -> Array:
    """Affinities from win rates: for each target the AHP's weights of the sources, in Taskonomy's way.

    Args:
        wins: (T, S, S) as from :func:`win_rates`.

    Returns:
        (S, T), the affinity of each source to each target, higher is better. Each column has sum 1: affinities compare
        the sources of one target. ``Table(sources, targets, ahp_affinity(...))`` is a truth for :func:`evaluate`.

    Raises:
        ValueError: another shape, or a rate outside [0, 1].

    Equivalent to, for each target t::

        W = wins[t].clip(0.001, 0.999)
        affinity[:, t] = ahp_weights(W / W.T)
    """
    wins = np.asarray(wins, dtype=np.float64)
    if wins.ndim != 3 or wins.shape[1] != wins.shape[2]:
        raise ValueError(f"win rates of shape {wins.shape}; (targets, sources, sources) are needed")
    if not ((wins >= 0) & (wins <= 1)).all():
        raise ValueError("win rates are shares of images, between 0 and 1")
    clipped = wins.clip(CLIP, 1 - CLIP)
    affinity: Array = ahp_weights(clipped / clipped.swapaxes(1, 2)).T
    return affinity
