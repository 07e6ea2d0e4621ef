"""Win rates and the Analytic Hierarchy Process: plain loops, power iteration, known properties."""

from __future__ import annotations

import numpy as np
import pytest
from dds_transfer import Table, ahp_affinity, ahp_weights, evaluate, win_rates

RANDOM = np.random.default_rng(0)


def looped_win_rates(losses: np.ndarray) -> np.ndarray:
    S, T, n = losses.shape
    wins = np.zeros((T, S, S))
    for t in range(T):
        for i in range(S):
            for j in range(S):
                for image in range(n):
                    wins[t, i, j] += (losses[i, t, image] < losses[j, t, image]) / n
    return wins


def power_iteration(matrix: np.ndarray) -> np.ndarray:
    """The principal eigenvector with sum 1, by nothing but multiplication."""
    w = np.ones(len(matrix))
    for _ in range(10_000):
        w = matrix @ w
        w /= w.sum()
    return w


def test_win_rates_are_those_of_a_plain_loop() -> None:
    losses = RANDOM.integers(0, 6, (5, 3, 40)).astype(float)  # with many ties
    wins = win_rates(losses)
    # Sums of 40 terms of 1/40 against one division: 40 roundings of at most 1.1e-16.
    np.testing.assert_allclose(wins, looped_win_rates(losses), atol=5e-15)
    assert wins.shape == (3, 5, 5)
    np.testing.assert_array_equal(np.einsum("tii->ti", wins), 0)
    ties = (losses[0, 1] == losses[1, 1]).mean()
    assert ties > 0
    assert wins[1, 0, 1] + wins[1, 1, 0] == pytest.approx(1 - ties)


def test_win_rates_know_only_the_order_of_losses_of_one_target() -> None:
    losses = RANDOM.exponential(size=(4, 3, 50))
    scaled = np.log(losses) * np.array([1, 1000, 0.001])[:, None]
    np.testing.assert_array_equal(win_rates(losses), win_rates(scaled))


@pytest.mark.parametrize("size", [1, 2, 5, 26])
def test_a_consistent_ratio_matrix_gives_its_weights_back(size: int) -> None:
    w = RANDOM.uniform(0.1, 1, size)
    w /= w.sum()
    # LAPACK finds the exact vector of a matrix that is off by a small multiple of size * 1.1e-16 of its norm; the only
    # eigenvalue but 0 is the size, so the vector is hardly more sensitive than that: 26 * 1.1e-16 * 100 is 3e-13.
    np.testing.assert_allclose(ahp_weights(np.divide.outer(w, w)), w, rtol=1e-12)


def test_weights_are_the_principal_eigenvector() -> None:
    wins = RANDOM.uniform(0.05, 0.95, (3, 6, 6))
    ratios = wins / wins.swapaxes(1, 2)
    weights = ahp_weights(ratios)
    for matrix, w in zip(ratios, weights, strict=True):
        np.testing.assert_allclose(w, power_iteration(matrix), rtol=1e-10)
        values, vectors = np.linalg.eig(matrix)
        largest = np.abs(vectors[:, values.real.argmax()])
        np.testing.assert_allclose(w, largest / largest.sum(), rtol=1e-10)
        assert w.sum() == pytest.approx(1)
        # Saaty: the largest eigenvalue of a reciprocal matrix is at least its size, and equals it if it is consistent.
        assert values.real.max() > 6


def test_affinity_clips_as_published() -> None:
    """A source that always wins counts as winning 999 of 1000."""
    losses = np.stack([np.full((1, 10), value) for value in (1.0, 2.0)])
    affinity = ahp_affinity(win_rates(losses))
    # Two sources are consistent: the weights are in the ratio 0.999 / 0.001.
    np.testing.assert_allclose(affinity[:, 0], [0.999, 0.001], rtol=1e-9)


def test_affinity_orders_sources_by_their_losses_and_can_be_a_truth() -> None:
    """Sources with ever higher losses get ever lower affinities, whatever the scale of the target."""
    quality = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]).T[:, :, None]  # (S, T, 1)
    losses = (quality + RANDOM.standard_normal((5, 2, 400))) * np.array([1, 1e4])[:, None]
    affinity = ahp_affinity(win_rates(losses))
    assert affinity.shape == (5, 2)
    np.testing.assert_allclose(affinity.sum(axis=0), 1)
    assert (np.diff(affinity[:, 0]) < 0).all()
    assert (np.diff(affinity[:, 1]) > 0).all()
    truth = Table(list("abcde"), ["x", "y"], affinity)
    better_is_higher = Table(truth.sources, truth.targets, -losses.mean(axis=2))
    assert evaluate(better_is_higher, truth).mean.spearman == pytest.approx(1)


def test_equal_sources_share() -> None:
    losses = np.ones((4, 2, 7))
    np.testing.assert_allclose(ahp_affinity(win_rates(losses)), 0.25, rtol=1e-12)


def test_bad_input_is_named() -> None:
    losses = np.ones((3, 2, 4))
    losses[2, 1, 3] = np.nan
    with pytest.raises(ValueError, match="source 2, target 1, image 3 is NaN"):
        win_rates(losses)
    for shape in ((3, 4), (1, 2, 4), (3, 2, 0)):
        with pytest.raises(ValueError, match=r"losses of shape \(.*\); \(sources, targets, images\) are needed"):
            win_rates(np.ones(shape))
    with pytest.raises(ValueError, match=r"ratios of shape \(2, 3\); square"):
        ahp_weights(np.ones((2, 3)))
    for bad in (0.0, -1.0, np.nan, 2.0):
        ratios = np.ones((3, 3))
        ratios[0, 1] = bad
        with pytest.raises(ValueError, match="must be positive, and entry"):
            ahp_weights(ratios)
    with pytest.raises(ValueError, match=r"win rates of shape \(3, 3\)"):
        ahp_affinity(np.ones((3, 3)))
    for bad in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            ahp_affinity(np.full((1, 3, 3), bad))
