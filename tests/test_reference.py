"""The reference itself, against SciPy, scikit-learn, torch and identities from the papers; nothing needs the engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.metrics.pairwise import cosine_distances, laplacian_kernel, linear_kernel, rbf_kernel
from sklearn.preprocessing import KernelCenterer, StandardScaler, scale

# By path, as a script without the compiled engine would: the package is found but not imported.
SPEC = importlib.util.find_spec("dds_ext")
assert SPEC is not None and SPEC.submodule_search_locations
PATH = Path(next(iter(SPEC.submodule_search_locations))) / "reference.py"
_spec = importlib.util.spec_from_file_location("dds_reference", PATH)
assert _spec is not None and _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

Array = NDArray[np.float64]

N, M, CHANNELS, SPACE = 15, 6, 6, 4
D = CHANNELS * SPACE


@pytest.fixture
def X() -> Array:
    return np.random.default_rng(0).normal(size=(N, D)) + 0.3


@pytest.fixture
def Y() -> Array:
    return np.random.default_rng(1).normal(size=(M, D))


def close(actual: object, expected: object) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)


def test_needs_numpy_and_scipy_alone() -> None:
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('r', sys.argv[1]); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); assert not {'torch', 'dds_ext'} & set(sys.modules); assert m.METRICS"
    )
    subprocess.run([sys.executable, "-c", code, str(PATH)], check=True)


# ---------------------------------------------------------------------------------------------------------------------
# f

CITED = {
    "pearson": "correlation",
    "euclidean": "euclidean",
    "cosine": "cosine",
    "manhattan": "cityblock",
    "sqeuclidean": "sqeuclidean",
}


@pytest.mark.parametrize("f", CITED)
def test_distances_are_scipys(f: str, X: Array, Y: Array) -> None:
    close(reference.rdm(X, f, Y=Y), cdist(X, Y, CITED[f]))
    close(reference.rdm(X, f), squareform(pdist(X, CITED[f])))


def test_kernels_are_scikit_learns(X: Array, Y: Array) -> None:
    close(reference.rdm(X, "linear", Y=Y), linear_kernel(X, Y))
    close(reference.rdm(X, "laplacian", Y=Y), laplacian_kernel(X, Y))
    close(reference.rdm(X, "laplacian", Y=Y, gamma=0.7), laplacian_kernel(X, Y, gamma=0.7))
    close(reference.rdm(X, "rbf", Y=Y, gamma=0.7), rbf_kernel(X, Y, gamma=0.7))


def test_median_gamma(X: Array, Y: Array) -> None:
    """The median is over the whole matrix of X with itself, also where the kernel is with Y."""
    gamma = 2 / np.median(cdist(X, X, "sqeuclidean"))
    close(reference.rdm(X, "rbf"), np.exp(-gamma * cdist(X, X, "sqeuclidean")))
    close(reference.rdm(X, "rbf", Y=Y), np.exp(-gamma * cdist(X, Y, "sqeuclidean")))
    with pytest.raises(ValueError, match="median squared distance is 0"):
        reference.rdm(np.repeat(X[:3], 6, axis=0)[:-2] * 0, "rbf")


def test_self_matrices_are_symmetric_with_exact_diagonals(X: Array) -> None:
    for f in reference.METRICS:
        K = reference.rdm(X, f)
        np.testing.assert_array_equal(K, K.T)
        if f != "linear":
            assert (np.diag(K) == (1 if f in ("laplacian", "rbf") else 0)).all(), f


def test_zero_rows_and_constant_rows(X: Array) -> None:
    X[3] = 0
    close(reference.rdm(X, "cosine"), cosine_distances(X))
    assert reference.rdm(X, "cosine")[3, 4] == 1
    with pytest.raises(ValueError, match=r"constant rows \[3\] of X"):
        reference.rdm(X, "pearson")
    with pytest.raises(ValueError, match=r"constant rows \[3\] of Y"):
        reference.rdm(X[4:], "pearson", Y=X)


def test_a_centring_refuses_a_second_set(X: Array, Y: Array) -> None:
    with pytest.raises(ValueError, match="not with Y"):
        reference.rdm(X, Y=Y, center="double")


# ---------------------------------------------------------------------------------------------------------------------
# (Q, D)


def test_statistics_over_images_are_scikit_learns(X: Array, Y: Array) -> None:
    X[:, 2] = 0.1
    for method, with_std in (("center", False), ("zscore", True)):
        X_normalized, Y_normalized = reference.normalize(X, method, Y)
        scaler = StandardScaler(with_std=with_std).fit(X)
        # Where X is constant, scikit-learn divides by 1 and the z-score here is 0 by definition.
        varying = np.arange(D) != 2
        close(X_normalized[:, varying], scaler.transform(X)[:, varying])
        close(Y_normalized[:, varying], scaler.transform(Y)[:, varying])
    assert (X_normalized[:, 2] == 0).all() and (Y_normalized[:, 2] == 0).all()


def test_statistics_within_images_are_torchs(X: Array) -> None:
    images = torch.from_numpy(X).reshape(N, CHANNELS, 2, 2)
    norm = torch.nn.functional
    expected = {
        "none": images,
        "batch": norm.batch_norm(images, None, None, training=True, eps=1e-9),
        "instance": norm.instance_norm(images, eps=1e-9),
        "layer": norm.layer_norm(images, images.shape[1:], eps=1e-9),
        "group": norm.group_norm(images, 3, eps=1e-9),
    }
    for method, result in expected.items():
        options = {"groups": 3}
        close(reference.normalize(images.numpy(), method, **options)[0], result.reshape(N, -1))
        close(reference.normalize(X, method, channels=CHANNELS, **options)[0], result.reshape(N, -1))
        last, result_last = (Z.permute(0, 2, 3, 1).reshape(N, -1).numpy() for Z in (images, result))
        close(reference.normalize(last, method, channels=CHANNELS, channels_last=True, **options)[0], result_last)
        unflattened = images.permute(0, 2, 3, 1).numpy()
        close(reference.normalize(unflattened, method, channels_last=True, **options)[0], result_last)


def test_batch_statistics_apply_to_a_second_set(X: Array, Y: Array) -> None:
    images = torch.from_numpy(X).reshape(N, CHANNELS, SPACE)
    mean, variance = images.mean(dim=(0, 2)), images.var(dim=(0, 2), correction=0)
    others = torch.from_numpy(Y).reshape(M, CHANNELS, SPACE)
    expected = torch.nn.functional.batch_norm(others, mean, variance, eps=1e-9)
    close(reference.normalize(X, "batch", Y, channels=CHANNELS)[1], expected.reshape(M, -1))


def test_what_does_not_divide_is_refused(X: Array) -> None:
    with pytest.raises(ValueError, match="channels=6 is not divisible by groups=4"):
        reference.normalize(X, "group", channels=CHANNELS, groups=4)
    with pytest.raises(ValueError, match="normalize='batch' needs channels="):
        reference.normalize(X, "batch")


# ---------------------------------------------------------------------------------------------------------------------
# Centring and g


def test_double_centring_is_scikit_learns(X: Array) -> None:
    K = laplacian_kernel(X)
    H = np.eye(N) - 1 / N
    close(reference.center(K, "double"), H @ K @ H)
    close(reference.center(K, "double"), KernelCenterer().fit_transform(K))


def test_u_centring() -> None:
    """Rows sum to 0, the diagonal is 0 and does not matter, a_i + a_j vanishes, and twice is once: a projection."""
    random = np.random.default_rng(0)
    for n in (4, 5, 30):
        K = random.normal(size=(n, n))
        K = K + K.T
        centered = reference.center(K, "unbiased")
        close(centered.sum(axis=1), 0)
        assert (np.diag(centered) == 0).all()
        close(reference.center(K + np.diag(random.normal(size=n)), "unbiased"), centered)
        close(reference.center(centered, "unbiased"), centered)
        a = random.normal(size=n)
        close(reference.center(K + a[:, None] + a[None, :], "unbiased"), centered)
    with pytest.raises(ValueError, match="at least 4 images"):
        reference.center(np.eye(3), "unbiased")


def unbiased_hsic(K: Array, L: Array) -> float:
    """The estimator of Song et al. (2012) in the form usually printed, from hollow matrices and their sums."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    inside = (
        np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    )
    return float(inside / (n * (n - 3)))


def test_unbiased_cka_is_the_ratio_of_unbiased_hsics(X: Array) -> None:
    """... and of bias-corrected distance covariances, U-centring being what both are made of."""
    Z = np.random.default_rng(2).normal(size=(N, 9)) + X[:, :9]
    for f in ("linear", "euclidean", "laplacian"):
        K, L = reference.rdm(X, f), reference.rdm(Z, f)
        expected = unbiased_hsic(K, L) / np.sqrt(unbiased_hsic(K, K) * unbiased_hsic(L, L))
        close(reference.similarity(X, Z, f=f, normalize="none", center="unbiased", g="cosine"), expected)


def test_biased_distance_correlation(X: Array) -> None:
    """Euclidean distances, double centring and the cosine are Szekely's (squared) distance correlation."""
    Z = X[:, :5] ** 2
    H = np.eye(N) - 1 / N
    A, B = (H @ cdist(V, V) @ H for V in (X, Z))
    expected = np.mean(A * B) / np.sqrt(np.mean(A * A) * np.mean(B * B))
    close(reference.similarity(X, Z, f="euclidean", normalize="none", center="double"), expected)


def test_linear_cka_from_examples_is_the_feature_space_form(X: Array) -> None:
    """Kornblith et al. (2019), section 3: |Y'X|_F^2 / (|X'X|_F |Y'Y|_F) of centred features."""
    Z = np.tanh(X[:, :7])
    Xc, Zc = X - X.mean(axis=0), Z - Z.mean(axis=0)
    expected = np.linalg.norm(Zc.T @ Xc) ** 2 / (np.linalg.norm(Xc.T @ Xc) * np.linalg.norm(Zc.T @ Zc))
    close(reference.similarity(X, Z, f="linear", normalize="none", center="double"), expected)
    # Centring the features beforehand is the same thing.
    close(reference.similarity(X, Z, f="linear", normalize="center", center="none"), expected)


def test_pearson_and_cosine_agree_on_u_centred_matrices(X: Array) -> None:
    K, L = (reference.rdm(V, "laplacian", center="unbiased") for V in (X, X[:, :8] ** 2))
    close(reference.compare(K, L, "pearson"), reference.compare(K, L, "cosine"))


def test_comparisons_are_scipys(X: Array) -> None:
    i = np.triu_indices(N, 1)
    K, L = np.round(squareform(pdist(X)), 1), np.round(squareform(pdist(X[:, :8])), 1)  # rounded: many ties
    close(reference.compare(K, L, "pearson"), stats.pearsonr(K[i], L[i]).statistic)
    close(reference.compare(K, L, "spearman"), stats.spearmanr(K[i], L[i]).statistic)
    close(reference.compare(K, L, "kendall"), stats.kendalltau(K[i], L[i]).statistic)
    close(reference.compare(K, L, "cosine"), 1 - cdist([K.ravel()], [L.ravel()], "cosine")[0, 0])
    stack = np.stack([K, L, K + L])
    for g in reference.COMPARISONS:
        table = reference.compare(stack, stack[:2], g)
        assert table.shape == (3, 2)
        close(table[2, 1], reference.compare(K + L, L, g))
    for g, culprit in (("cosine", "zero norm"), ("pearson", "constant"), ("spearman", "constant")):
        with pytest.raises(ValueError, match=culprit):
            reference.compare(K, np.zeros_like(K), g)


# ---------------------------------------------------------------------------------------------------------------------
# The named measures, spelled out without the reference's own parts


def test_dds_spelled_out(X: Array) -> None:
    """z-scores, Laplacian kernel of gamma 1/d, U-centring, cosine."""
    Z = np.tanh(X[:, :10]) + X[:, 10:20]

    def duality_diagram(V: Array) -> Array:
        K = laplacian_kernel(scale(V))
        np.fill_diagonal(K, 0)
        n = len(K)
        r = K.sum(axis=1, keepdims=True)
        K = K - r / (n - 2) - r.T / (n - 2) + K.sum() / ((n - 1) * (n - 2))
        return K - np.diag(np.diag(K))

    A, B = duality_diagram(X), duality_diagram(Z)
    expected = np.vdot(A, B) / np.sqrt(np.vdot(A, A) * np.vdot(B, B))
    close(reference.similarity(X, Z), expected)
    close(reference.affinity({"x": X, "z": Z}), [[1, expected], [expected, 1]])
    close(reference.affinity([X], [Z, X]), [[expected, 1]])


def test_rsa_spelled_out(X: Array) -> None:
    """Centred features, correlation distances, Spearman over the pairs."""
    Z = np.tanh(X[:, :10])
    expected = stats.spearmanr(pdist(X - X.mean(0), "correlation"), pdist(Z - Z.mean(0), "correlation")).statistic
    options = {"f": "pearson", "normalize": "center", "center": "none", "g": "spearman"}
    close(reference.similarity(X, Z, **options), expected)


def test_cka_is_invariant_to_rotation_and_scale(X: Array) -> None:
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(D, D)))[0]
    for center in ("double", "unbiased"):
        for f in ("linear", "rbf"):
            close(reference.similarity(X, 3 * X @ rotation, f=f, normalize="none", center=center), 1)
