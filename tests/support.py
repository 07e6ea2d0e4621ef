"""What the tests of the engine share: sizes, inputs, and how far a result may be from the float64 reference.

Every tolerance of the suite is defined here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dds_ext import reference

Array = NDArray[Any]

NORMALIZATIONS = tuple(reference.NORMALIZATIONS)
METRICS = tuple(reference.METRICS)
CENTERINGS = tuple(reference.CENTERINGS)
COMPARISONS = tuple(reference.COMPARISONS)

KERNELS = ("laplacian", "rbf")  # 1 on the diagonal
DISTANCES = ("pearson", "euclidean", "cosine", "manhattan", "sqeuclidean")  # 0 on the diagonal
PRODUCTS = ("linear", "pearson", "cosine")  # made of products of features
RELATIVE = ("manhattan", "euclidean", "sqeuclidean")  # held to a relative error

# float32, against the float64 reference on the same input values: what the engine promises. Half-precision input is
# held to the same, since it is converted exactly.
ABSOLUTE_32 = 2e-6  # laplacian, rbf, cosine, pearson; times |x| |y| for linear
RELATIVE_32 = 1e-5
SCORE_32 = 1e-5

# float64: the same formulas in arithmetic 2^29 finer would give 4e-15 and 2e-14, but now the reference rounds as well,
# and neither the accumulation over d <= 1e5 terms (random-walk growth sqrt(d) 2^-53 = 4e-14) nor the statistics over n
# images can be neglected any more. 1e-12 leaves room for both.
ABSOLUTE_64 = 1e-12
RELATIVE_64 = 1e-12
SCORE_64 = 1e-11

# What the reference's own roundings make of a normalised feature: a mean, a difference and a quotient, the mean being
# some deviations from 0.
REFERENCE = 2.0**-47

DTYPES = ("float16", "bfloat16", "float32", "float64")

# (n, d). n straddles the rows of a tile (4, 8, 16, 48) and d the lanes of a vector (4, 8, 16), the blocks of k (256,
# 512, 2048) and more than one of the largest.
SIZES = (
    (2, 1),
    (3, 2),
    (4, 3),
    (5, 4),
    (7, 5),
    (8, 7),
    (9, 8),
    (12, 9),
    (13, 15),
    (15, 16),
    (16, 17),
    (17, 24),
    (23, 31),
    (24, 33),
    (25, 48),
    (31, 63),
    (33, 65),
    (47, 127),
    (48, 129),
    (49, 200),
    (6, 255),
    (10, 256),
    (97, 257),
    (11, 511),
    (50, 512),
    (18, 513),
    (64, 1023),
    (20, 1025),
    (4, 2047),
    (19, 2048),
    (5, 2049),
    (21, 4097),
    (6, 6151),
)


def to64(X: Any) -> NDArray[np.float64]:
    """The same values in float64; every served dtype converts exactly."""
    if isinstance(X, torch.Tensor):
        return X.detach().cpu().double().numpy()
    return np.asarray(X, dtype=np.float64)


def is_double(X: Any) -> bool:
    """Whether the engine computes this input in float64."""
    return str(X.dtype).removeprefix("torch.") == "float64"


def features(n: int, d: int, dtype: str = "float32", seed: int = 0) -> torch.Tensor:
    """(n, d) features of different scales and offsets, like those of a layer, in one of the served dtypes."""
    random = np.random.default_rng((seed, n, d))
    X = random.normal(size=(n, d)) * np.exp(0.5 * random.normal(size=d)) + random.normal(size=d)
    return torch.from_numpy(X).to(getattr(torch, dtype))


def views(X: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same values, laid out otherwise, with NaN between them."""
    n, d = X.shape
    stride = (d + 3) // 4 * 4 + 4  # rows begin where vectors of four do
    memory = torch.full((2 * n * stride + 1,), torch.nan, dtype=X.dtype, device=X.device)
    found = {
        "columns together": torch.empty_like(X.T, memory_format=torch.contiguous_format).T,
        "padded rows": memory.clone()[:-1].view(2 * n, stride)[:n, :d],
        "padded and misaligned rows": memory.clone()[1:].view(2 * n, stride)[:n, :d],
        "every other row": memory.clone()[:-1].view(n, 2 * stride)[:, :d],
        "every other column": memory.clone()[:-1].view(n, 2 * stride)[:, : 2 * d : 2],
    }
    for view in found.values():
        view.copy_(X)
    return found


UNKIND: dict[str, Callable[[Array], Array]] = {
    "sizes of any order": lambda z: np.exp(6 * z),
    "columns of any scale": lambda z: z * np.logspace(-12, 3, z.shape[1]),
    "rows of any scale": lambda z: z * np.logspace(-9, 9, len(z))[:, None],
    "one large feature": lambda z: z * np.where(np.arange(z.shape[1]) == 5, 1e2, 1),
    "one very large feature": lambda z: z * np.where(np.arange(z.shape[1]) == 5, 1e4, 1),
    "multiples of a row": lambda z: z[:1] * np.linspace(1, 3, len(z))[:, None],
    "far from zero": lambda z: 1000 + z,
    "mostly zero": lambda z: np.maximum(z - 2, 0),
    "small": lambda z: 1e-9 * z,
    "a row of zeros": lambda z: z * (np.arange(len(z)) != 3)[:, None],
}


def unkind(kind: str, n: int, d: int) -> torch.Tensor:
    """(n, d) float32 features, of a kind that costs places."""
    return torch.from_numpy(UNKIND[kind](np.random.default_rng(0).standard_normal((n, d))).astype(np.float32))


def close_sets() -> tuple[torch.Tensor, torch.Tensor]:
    """X (320, 1) and Y (120, 1), to be z-scored, with pairs at all distances around those from which on a pair is
    summed again, and closer ones. A row of Y is one whose z-score float32 rounds most, and the row of X of the same
    number is near the mean: where a pair's size is taken from X alone, pairs stay that are off by more than 1e-5.
    """
    random = np.random.default_rng(110)
    small, large = 1e-3 * random.random(120), 2.6 * np.tile([1.0, -1.0], 40)
    sides = np.array([1.0, -1.0])
    X = np.float32(np.concatenate([small, large, (1 + 0.1 * random.random(120)) * sides.repeat(60)]) + 0.01)
    pool = np.float32((1 + 0.1 * random.random(20000)) * sides.repeat(10000) + 0.01)
    mean, scale = X.mean(dtype=np.float64), 1 / X.std(dtype=np.float64)
    rounded = np.float32((pool - np.float32(mean)) * np.float64(np.float32(scale)) + (np.float32(mean) - mean) * scale)
    off = rounded - (pool - mean) * scale
    Y = pool[np.argsort(off)[np.r_[:60, -60:0]]]
    Y[0] = np.nextafter(X[200], np.float32(2))
    return torch.from_numpy(X[:, None]), torch.from_numpy(Y[:, None])


def smallest_divisor(number: int, least: int) -> int:
    """The smallest divisor that is not below `least`, else the number itself."""
    return next((k for k in range(least, number + 1) if number % k == 0), number)


def layout(d: int) -> dict[str, int]:
    """`channels` and `groups` that divide d features.

    A channel has three positions or more: the z-scores of two are 1 and -1 whatever they were.
    """
    channels = d // smallest_divisor(d, least=3)
    return {"channels": channels, "groups": smallest_divisor(channels, least=2)}


def error_bound(f: str, K: Array, X: Array, Y: Array, double: bool) -> NDArray[np.float64]:
    """How far each entry of a bare matrix may be from K (n, m), the reference; X and Y are the normalised features."""
    absolute, relative = (ABSOLUTE_64, RELATIVE_64) if double else (ABSOLUTE_32, RELATIVE_32)
    if f in RELATIVE:
        # The reference rounds each feature, so it does not know the distance of two rows that are closer than this.
        order = 1 if f == "manhattan" else 2
        unknown = REFERENCE * np.add.outer(np.linalg.norm(X, order, axis=1), np.linalg.norm(Y, order, axis=1))
        if f == "sqeuclidean":
            unknown = unknown * (2 * np.sqrt(K) + unknown)
        # Below 1e-38 float32 has fewer digits.
        return relative * np.abs(K) + unknown + (0.0 if double else 2.0**-149)
    if f == "linear":
        return absolute * np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(Y, axis=1))
    return np.full(K.shape, absolute)


def centered_bound(bound: Array, K: Array, center: str, double: bool) -> NDArray[np.float64]:
    """How far each entry of a centred matrix may be, given `bound`, that of the bare matrix K.

    Centring is linear: the error of an entry is at most its own, plus the means (or the corrected means, with
    `unbiased`) of the errors in its row, in its column, and in the whole. The bare matrix and the result are both
    rounded to the type of the result.
    """
    if center == "none":
        return bound
    rounding = (2.0**-52 if double else 2.0**-23) * np.abs(K)
    error, n = bound + rounding, len(K)
    if center == "double":
        rows = error.mean(axis=0)
        return np.asarray(error + rows[:, None] + rows[None, :] + error.mean())
    np.fill_diagonal(error, 0.0)
    rows = error.sum(axis=0)
    return np.asarray(error + (rows[:, None] + rows[None, :]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2)))


def complaint(K: Any, expected: Array, bound: Array) -> str:
    """Empty when K is within the bound of what is expected everywhere, else one line about the worst entry."""
    K = to64(K)
    if K.shape != expected.shape:
        return f"shape {K.shape}, expected {expected.shape}"
    # Also true for NaN.
    wrong = ~(np.abs(K - expected) <= bound)
    if not wrong.any():
        return ""
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(wrong, np.nan_to_num(np.abs(K - expected) / bound, nan=np.inf), 0.0)
    at = tuple(int(i) for i in np.unravel_index(np.argmax(excess), K.shape))
    return (
        f"{int(wrong.sum())} of {K.size} entries are off, worst at {at}: {K[at]!r}, expected {expected[at]!r} "
        f"within {bound[at]:.3g}"
    )


def symmetry_complaint(K: Any, f: str, center: str) -> str:
    """Empty when a self-matrix is exactly symmetric with an exact diagonal, else one line."""
    K = to64(K)
    if not np.array_equal(K, K.T):
        return "not exactly symmetric"
    known = {"none": 1.0 if f in KERNELS else 0.0 if f in DISTANCES else None, "unbiased": 0.0}.get(center)
    if known is not None and not (np.diag(K) == known).all():
        return f"the diagonal is not exactly {known}: {np.diag(K)}"
    return ""


def check_rdm(
    K: Any, X: Any, f: str, *, Y: Any = None, gamma: float | None = None, center: str = "none", **options: Any
) -> str:
    """Empty when K is what rdm(X, f, ...) promises: values, type, symmetry; else one line."""
    Z, W = reference.normalize(to64(X), options.pop("normalize", "none"), None if Y is None else to64(Y), **options)
    bare = reference.METRICS[f](Z, Z if W is None else W, gamma)
    double = is_double(X)
    if is_double(K) != double:
        return f"{X.dtype} in gave {K.dtype} out"
    bound = error_bound(f, bare, Z, Z if W is None else W, double)
    message = complaint(K, reference.center(bare, center), centered_bound(bound, bare, center, double))
    return message or ("" if W is not None else symmetry_complaint(K, f, center))


def fail_with(complaints: list[str]) -> None:
    """Fail with the first of what a loop over many cases found."""
    assert not complaints, f"{len(complaints)} cases fail:\n" + "\n".join(complaints[:25])
