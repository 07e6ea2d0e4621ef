"""The lines that docs/use-it-from-your-tool.md gives for tools without a drop-in, against those tools' formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

import dds_ext

PAGE = (Path(__file__).parent.parent / "docs" / "use-it-from-your-tool.md").read_text()
random = np.random.default_rng(0)
X = random.normal(size=(24, 15)) + 1
Y = np.tanh(X @ random.normal(size=(15, 9)))
A, B = pdist(X, "correlation"), pdist(Y, "correlation")
SUBJECTS = np.stack([squareform(pdist(X + random.normal(size=X.shape))) for _ in range(4)])
H = np.eye(24) - 1 / 24


def alignment(K: Any, L: Any) -> float:
    K, L = H @ K @ H, H @ L @ H
    return float((K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L))


def gaussian(Z: Any, sigma: float) -> Any:
    return np.exp(-squareform(pdist(Z, "sqeuclidean")) / (2 * sigma**2))


SQUARES = squareform(pdist(X, "sqeuclidean"))
LINES = [
    (
        'np.mean(dds_ext.compare(model[None], subjects, "spearman") ** 2)',
        np.mean([stats.spearmanr(A, squareform(S)).statistic ** 2 for S in SUBJECTS]),
    ),
    ('dds_ext.rdm(X, "pearson")', 1 - np.corrcoef(X)),
    (
        '1 - dds_ext.rdm(X, "rbf", gamma=1 / dds_ext.rdm(X, "sqeuclidean").mean())',
        1 - np.exp(-SQUARES / SQUARES.mean()),
    ),
    ("dds_ext.cka(X, Y, unbiased=u)", alignment(X @ X.T, Y @ Y.T)),
    ('dds_ext.cka(X, Y, kernel="rbf", gamma=1 / (2 * s**2))', alignment(gaussian(X, 3.0), gaussian(Y, 3.0))),
    ('dds_ext.rdm(X, "pearson", condensed=True)', A),
    ('dds_ext.compare(squareform(a), squareform(b), "spearman")', stats.spearmanr(A, B).statistic),
    ("np.arccos(dds_ext.cka(X, Y))", np.arccos(alignment(X @ X.T, Y @ Y.T))),
    (
        'dds_ext.similarity(X, Y, f="sqeuclidean", normalize="none", center="none", g="cosine")',
        1 - pdist(np.stack([pdist(Z, "sqeuclidean") for Z in (X, Y)]), "cosine")[0],
    ),
]


@pytest.mark.parametrize(("line", "wanted"), LINES, ids=[line for line, _ in LINES])
def test_line(line: str, wanted: Any) -> None:
    assert f"`{line}`" in PAGE
    names = {
        "dds_ext": dds_ext,
        "np": np,
        "squareform": squareform,
        "X": X,
        "Y": Y,
        "a": A,
        "b": B,
        "u": False,
        "s": 3.0,
    }
    got = eval(line, names | {"model": squareform(A), "subjects": SUBJECTS})
    # float64 sums of up to 24^2 terms
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


def test_every_drop_in_is_in_the_table() -> None:
    from dds_ext import compat

    by_name_only = {name for name in compat.__all__ if name.startswith(("compare_", "calc_rdm_"))}
    for name in set(compat.__all__) - by_name_only - {"Calls", "PACKAGES"}:
        assert name in PAGE
