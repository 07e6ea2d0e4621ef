"""The definition of everything the engine computes, in plain float64 NumPy.

Nothing here is fast: each function is one formula, to be read beside the paper, and every test of the engine measures
against it. ``n`` and ``m`` count images, ``d`` features, ``C`` channels, ``S`` positions in space (``d = C * S``).

Sources: Dwivedi, Huang, Cichy and Roig, "Duality Diagram Similarity" (ECCV 2020) for the normalisations, f and g;
Szekely and Rizzo, "Partial distance correlation" (Annals of Statistics 2014) for U-centring; Kornblith et al.,
"Similarity of neural network representations revisited" (ICML 2019) for CKA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array: TypeAlias = NDArray[np.float64]

# Under the root of a variance, in the three normalisations that have it.
EPSILON = 1e-9
# The paper's RBF bandwidth is this fraction of the root of the median squared distance.
BANDWIDTH = 0.5


# ---------------------------------------------------------------------------------------------------------------------
# (Q, D): normalisations. X is (n, C, S) and supplies the statistics over images; Z is (m, C, S) and is normalised by
# them (Z is X itself unless there is a second set of images). Every variance is divided by N. Each returns (m, C, S).


def normalize_none(X: Array, Z: Array, groups: int) -> Array:
    """Z as it is."""
    return Z


def normalize_center(X: Array, Z: Array, groups: int) -> Array:
    """Subtract each feature's mean over the images of X."""
    mean: Array = X.mean(axis=0)
    return Z - mean


def normalize_zscore(X: Array, Z: Array, groups: int) -> Array:
    """Subtract each feature's mean over the images of X, divide by its standard deviation.

    A feature that is constant in X becomes 0.
    """
    # The standard deviation of a constant feature rounds to something like 1e-17, so it cannot tell which are constant.
    constant = X.max(axis=0) == X.min(axis=0)
    deviation = np.where(constant, 1.0, X.std(axis=0))
    return np.where(constant, 0.0, (Z - X.mean(axis=0)) / deviation)


def normalize_batch(X: Array, Z: Array, groups: int) -> Array:
    """Standardise each channel by its mean and variance over the images and positions of X."""
    mean: Array = X.mean(axis=(0, 2), keepdims=True)
    variance: Array = X.var(axis=(0, 2), keepdims=True)
    return (Z - mean) / np.sqrt(variance + EPSILON)


def normalize_instance(X: Array, Z: Array, groups: int) -> Array:
    """Standardise each channel of each image by its mean and variance over positions: a group for every channel."""
    return normalize_group(X, Z, groups=Z.shape[1])


def normalize_layer(X: Array, Z: Array, groups: int) -> Array:
    """Standardise each image by the mean and variance of all its features: a single group."""
    return normalize_group(X, Z, groups=1)


def normalize_group(X: Array, Z: Array, groups: int) -> Array:
    """Split the channels of each image into ``groups`` runs of neighbours; standardise each over channels and space."""
    m, channels, _ = Z.shape
    if channels % groups:
        raise ValueError(f"channels={channels} is not divisible by groups={groups}")
    grouped = Z.reshape(m, groups, -1)
    mean: Array = grouped.mean(axis=2, keepdims=True)
    variance: Array = grouped.var(axis=2, keepdims=True)
    return ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(Z.shape)


# Those whose statistics run over a channel, which flat features do not show.
NEEDS_CHANNELS = ("batch", "instance", "group")


def normalize(
    X: ArrayLike,
    method: str = "none",
    Y: ArrayLike | None = None,
    channels: int | None = None,
    channels_last: bool = False,
    groups: int = 2,
) -> tuple[Array, Array | None]:
    """Normalise X, and Y by the statistics of X, by name.

    X is (n, d), or (n, C, *space), or (n, *space, C) with ``channels_last``; a flat X is unflattened by ``channels`` in
    the same two orders. Returns (n, d) and (m, d), the features in the order in which they came; without a Y the second
    is None.
    """
    X = np.asarray(X, dtype=np.float64)
    if X.ndim > 2:
        channels = X.shape[-1 if channels_last else 1]
    elif channels is None and method in NEEDS_CHANNELS:
        raise ValueError(f"normalize={method!r} needs channels= for 2-D X")

    def unflatten(Z: Array) -> Array:
        """(m, ...) to (m, C, S)."""
        flat = Z.reshape(len(Z), -1)
        C = flat.shape[1] if channels is None else channels
        return flat.reshape(len(Z), -1, C).swapaxes(1, 2) if channels_last else flat.reshape(len(Z), C, -1)

    def flatten(Z: Array) -> Array:
        """(m, C, S) to (m, d)."""
        return (Z.swapaxes(1, 2) if channels_last else Z).reshape(len(Z), -1)

    function = NORMALIZATIONS[method]
    statistics = unflatten(X)
    X_normalized = flatten(function(statistics, statistics, groups))
    if Y is None:
        return X_normalized, None
    return X_normalized, flatten(function(statistics, unflatten(np.asarray(Y, dtype=np.float64)), groups))


# ---------------------------------------------------------------------------------------------------------------------
# f: kernels and distances. X is (n, d), Y is (m, d), and each returns (n, m). X and Y being one object asks for the
# matrix of a set with itself, where the diagonal is known. `gamma` matters to the two exponentials alone.


def metric_linear(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """Linear kernel: x . y."""
    K: Array = X @ Y.T
    return K


def metric_laplacian(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """Laplacian kernel: exp(-gamma |x - y|_1), gamma 1/d by default."""
    return np.exp(-(1 / X.shape[1] if gamma is None else gamma) * metric_manhattan(X, Y))


def metric_rbf(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """Gaussian kernel: exp(-gamma |x - y|_2^2).

    By default gamma is 1 / (2 t^2 median) with t = 0.5, the median over all n^2 squared distances within X, the
    zeros of the diagonal included.
    """
    if gamma is None:
        median = float(np.median(metric_sqeuclidean(X, X)))
        if median == 0:
            raise ValueError("the median squared distance is 0: more than half of the pairs are duplicates; give gamma")
        gamma = 1 / (2 * BANDWIDTH**2 * median)
    return np.exp(-gamma * metric_sqeuclidean(X, Y))


def metric_pearson(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """Correlation distance: 1 - r, r the Pearson correlation of the features of two images."""
    for name, Z in (("X", X), ("Y", Y)):
        constant = np.flatnonzero(Z.max(axis=1) == Z.min(axis=1))
        if len(constant):
            raise ValueError(f"pearson is undefined for constant features: constant rows {constant.tolist()} of {name}")
    X_centered = X - X.mean(axis=1, keepdims=True)
    return metric_cosine(X_centered, X_centered if Y is X else Y - Y.mean(axis=1, keepdims=True))


def metric_euclidean(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """Euclidean distance: |x - y|_2."""
    return np.sqrt(metric_sqeuclidean(X, Y))


def metric_cosine(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """Cosine distance: 1 - x . y / (|x| |y|); a zero row is at distance 1 from every other row and 0 from itself."""

    def unit(Z: Array) -> Array:
        norm = np.linalg.norm(Z, axis=1, keepdims=True)
        return Z / np.where(norm == 0, 1.0, norm)

    X_unit = unit(X)
    D: Array = 1 - X_unit @ (X_unit if Y is X else unit(Y)).T
    if Y is X:
        np.fill_diagonal(D, 0.0)
    return D


def metric_manhattan(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """City-block distance: |x - y|_1."""
    return np.stack([np.abs(x - Y).sum(axis=1) for x in X])


def metric_sqeuclidean(X: Array, Y: Array, gamma: float | None = None) -> Array:
    """Squared Euclidean distance: |x - y|_2^2."""
    return np.stack([np.square(x - Y).sum(axis=1) for x in X])


def rdm(
    X: ArrayLike,
    f: str = "laplacian",
    *,
    Y: ArrayLike | None = None,
    gamma: float | None = None,
    normalize: str = "none",
    center: str = "none",
    channels: int | None = None,
    channels_last: bool = False,
    groups: int = 2,
) -> Array:
    """The pairwise matrix of X (n images) with itself, or with Y (m images): (n, n) or (n, m)."""
    if Y is not None and center != "none":
        raise ValueError(f"center={center!r} is defined for the matrix of X with itself, not with Y")
    X_normalized, Y_normalized = _normalize(X, normalize, Y, channels, channels_last, groups)
    K = METRICS[f](X_normalized, X_normalized if Y_normalized is None else Y_normalized, gamma)
    return CENTERINGS[center](K)


# The two parameters of `rdm` hide the functions of the same names.
_normalize = normalize


# ---------------------------------------------------------------------------------------------------------------------
# Centring of a symmetric (n, n) matrix.


def center_none(K: Array) -> Array:
    """K as it is."""
    return K


def center_double(K: Array) -> Array:
    """H K H with H = I - 11'/n, K being symmetric."""
    rows: Array = K.mean(axis=1)
    centered: Array = K - (rows[:, None] + rows[None, :]) + rows.mean()
    return centered


def center_unbiased(K: Array) -> Array:
    """U-centring of Szekely and Rizzo (2014), n >= 4.

    The diagonal of K does not matter; every row of the result sums to 0.
    """
    n = len(K)
    if n < 4:
        raise ValueError(f"center='unbiased' needs at least 4 images, K has {n}")
    hollow = K.copy()
    np.fill_diagonal(hollow, 0.0)
    rows: Array = hollow.sum(axis=1)
    centered: Array = hollow - (rows[:, None] + rows[None, :]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centered, 0.0)
    return centered


def center(K: ArrayLike, mode: str) -> Array:
    """Centre a symmetric (n, n) matrix, by name."""
    return CENTERINGS[mode](np.asarray(K, dtype=np.float64))


# ---------------------------------------------------------------------------------------------------------------------
# g: comparisons of two (n, n) matrices. All but the cosine see the strict upper triangles as two lists of n(n-1)/2
# numbers.


def compare_cosine(K1: Array, K2: Array) -> float:
    """<K1, K2> / (|K1| |K2|), Frobenius; of centred matrices this is CKA and DDS."""
    norms = np.linalg.norm(K1) * np.linalg.norm(K2)
    if norms == 0:
        raise ValueError("a matrix has zero norm")
    return float(np.sum(K1 * K2) / norms)


def compare_pearson(K1: Array, K2: Array) -> float:
    """Pearson correlation of the strict upper triangles."""
    return _correlation(_upper(K1), _upper(K2))


def compare_spearman(K1: Array, K2: Array) -> float:
    """Pearson correlation of the ranks in the strict upper triangles; ties take their average rank."""
    return _correlation(stats.rankdata(_upper(K1)), stats.rankdata(_upper(K2)))


def compare_kendall(K1: Array, K2: Array) -> float:
    """Kendall's tau-b of the strict upper triangles."""
    return float(stats.kendalltau(_upper(K1), _upper(K2)).statistic)


def _upper(K: Array) -> Array:
    """The n(n-1)/2 values above the diagonal, row by row."""
    upper: Array = K[np.triu_indices(len(K), 1)]
    return upper


def _correlation(a: Array, b: Array) -> float:
    """Pearson correlation of two lists."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise ValueError("a matrix is constant")
    a, b = a - a.mean(), b - b.mean()
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def compare(K1: ArrayLike, K2: ArrayLike, g: str = "pearson") -> float | Array:
    """Compare two (n, n) matrices, by name; stacks (S, n, n) and (T, n, n) give (S, T)."""
    K1, K2 = np.asarray(K1, dtype=np.float64), np.asarray(K2, dtype=np.float64)
    if K1.ndim == 2 and K2.ndim == 2:
        return COMPARISONS[g](K1, K2)
    return np.array([[COMPARISONS[g](A, B) for B in K2] for A in K1])


# ---------------------------------------------------------------------------------------------------------------------
# The registries: one name per formula, the part of the function's name behind the prefix.


def _named(prefix: str) -> dict[str, Callable[..., Any]]:
    return {name.removeprefix(prefix): function for name, function in globals().items() if name.startswith(prefix)}


NORMALIZATIONS: dict[str, Callable[[Array, Array, int], Array]] = _named("normalize_")
METRICS: dict[str, Callable[[Array, Array, float | None], Array]] = _named("metric_")
CENTERINGS: dict[str, Callable[[Array], Array]] = _named("center_")
COMPARISONS: dict[str, Callable[[Array, Array], float]] = _named("compare_")


# ---------------------------------------------------------------------------------------------------------------------
# Models.


def similarity(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    f: str = "laplacian",
    normalize: str = "zscore",
    center: str = "unbiased",
    g: str = "cosine",
    **options: Any,
) -> float:
    """Similarity of two models from their features of the same n images, by default DDS; ``options`` as in `rdm`."""
    K1, K2 = (rdm(Z, f, normalize=normalize, center=center, **options) for Z in (X, Y))
    return COMPARISONS[g](K1, K2)


def affinity(
    sources: Mapping[str, ArrayLike] | Sequence[ArrayLike],
    targets: Mapping[str, ArrayLike] | Sequence[ArrayLike] | None = None,
    **options: Any,
) -> Array:
    """Similarity of every source model (rows) to every target model (columns), (S, T).

    The targets are the sources by default; ``options`` as in `similarity`.
    """

    def features(models: Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> list[ArrayLike]:
        return list(models.values() if isinstance(models, Mapping) else models)

    S, T = features(sources), features(sources if targets is None else targets)
    return np.array([[similarity(X, Y, **options) for Y in T] for X in S])
