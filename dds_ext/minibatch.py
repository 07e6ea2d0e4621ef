"""CKA of sets of images too large for one pairwise matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import zip_longest

import numpy as np
import torch

from dds_ext._arrays import Array, refuse_gradients
from dds_ext.pairwise import rdm


def minibatch_cka(X: Iterable[Array], Y: Iterable[Array]) -> float:
    """Linear CKA from minibatches (Nguyen, Raghu and Kornblith, ICLR 2021, equations 2 and 3).

    Parameters
    ----------
    X, Y : the batches of either model, of the same images in the same order: each (n, d) or (n, C, *spatial), n >= 4.
        Any iterables, such as a generator over a data loader; one batch of each is held at a time.

    Returns
    -------
    float : the sum over the batches of the unbiased HSIC of X and Y, divided by the root of the product of those of X
    and of Y with themselves. What it estimates does not depend on the size of the batches, which should be equal.

    Raises
    ------
    ValueError : no batches, different numbers of batches or of images, n < 4, NaN or infinity, or an estimate of
        HSIC(X, X) or HSIC(Y, Y) that is not positive, which noise can make of few images: take larger batches.

    Equivalent to, with U for U-centring::

        def hsic(P, Q):
            return sum((U(A @ A.T) * U(B @ B.T)).sum() / (len(A) * (len(A) - 3)) for A, B in zip(P, Q))

        hsic(X, Y) / np.sqrt(hsic(X, X) * hsic(Y, Y))
    """
    xy = xx = yy = 0.0
    batches = 0
    for k, (x, y) in enumerate(zip_longest(X, Y)):
        if x is None or y is None:
            raise ValueError(f"{'X' if x is None else 'Y'} has {k} batches, and the other has more")
        try:
            for z, name in ((x, "X"), (y, "Y")):
                refuse_gradients(z, name)
            a, b = (_wide(rdm(z, "linear", center="unbiased")) for z in (x, y))
        except (TypeError, ValueError) as error:
            raise type(error)(f"batch {k}: {error}") from error
        n = len(a)
        if len(b) != n:
            raise ValueError(f"batch {k} has {n} images in X and {len(b)} in Y")
        xy, xx, yy = (
            total + float((p * q).sum()) / (n * (n - 3)) for total, p, q in ((xy, a, b), (xx, a, a), (yy, b, b))
        )
        batches += 1
    if not batches:
        raise ValueError("X and Y have no batches")
    for name, hsic in (("X", xx), ("Y", yy)):
        if not hsic > 0:
            raise ValueError(f"the estimate of HSIC({name}, {name}) is {hsic:g}, not positive; take larger batches")
    return xy / math.sqrt(xx * yy)


def _wide(K: Array) -> Array:
    """A matrix whose sums are formed in float64."""
    return K.double() if isinstance(K, torch.Tensor) else np.asarray(K, np.float64)
