"""The lines that docs/use-it-from-your-tool.md gives for tools without a drop-in: against those tools' formulas, and
against the tools themselves where they are installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


PACKAGES = [
    ("thingsvision.core.rsa", 'compute_rdm(X, method="correlation")', 'dds_ext.rdm(X, "pearson")'),
    (
        "thingsvision.core.rsa",
        'compute_rdm(X, method="gaussian")',
        '1 - dds_ext.rdm(X, "rbf", gamma=1 / dds_ext.rdm(X, "sqeuclidean").mean())',
    ),
    ("thingsvision.core.rsa", 'correlate_rdms(A, B, correlation="spearman")', 'dds_ext.compare(A, B, "spearman")'),
    (
        "thingsvision.core.cka",
        'get_cka("numpy", m=n, kernel="linear", unbiased=u).compare(X, Y)',
        "dds_ext.cka(X, Y, unbiased=u)",
    ),
    (
        "thingsvision.core.cka",
        'get_cka("numpy", m=n, kernel="rbf", sigma=s).compare(X, Y)',
        'dds_ext.cka(X, Y, kernel="rbf", gamma=1 / (2 * s**2))',
    ),
    ("mne_rsa", "mne_rsa.compute_rdm(X)", 'dds_ext.rdm(X, "pearson", condensed=True)'),
    (
        "mne_rsa",
        'mne_rsa.rsa(a, b, metric="spearman")',
        'dds_ext.compare(squareform(a), squareform(b), "spearman")',
    ),
]


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(("module", "before", "after"), PACKAGES, ids=[before for _, before, _ in PACKAGES])
def test_line_against_the_package(module: str, before: str, after: str, unbiased: bool) -> None:
    package = pytest.importorskip(module, reason=f"{module} is not installed")
    assert f"| `{before}` | `{after}` |" in PAGE
    names = {"dds_ext": dds_ext, "squareform": squareform, "X": X, "Y": Y, "n": len(X), "u": unbiased, "s": 3.0}
    names |= {"A": squareform(A), "B": squareform(B), "a": A, "b": B}
    wanted = eval(before, vars(package) | {module: package} | names)
    # float64 sums of up to 24^2 terms
    np.testing.assert_allclose(eval(after, names), wanted, rtol=0, atol=1e-12)


def test_minibatch_cka_against_torch_cka() -> None:
    torch_cka = pytest.importorskip("torch_cka", reason="torch_cka is not installed")
    after = "dds_ext.minibatch_cka((f1(x) for x, *_ in loader), (f2(x) for x, *_ in loader))"
    assert f"| `CKA(m1, m2, model1_layers=[a], model2_layers=[b]).compare(loader)` | `{after}` |" in PAGE
    torch.manual_seed(0)
    m1, m2 = (torch.nn.Sequential(torch.nn.Linear(15, d), torch.nn.Tanh(), torch.nn.Linear(d, 5)) for d in (20, 8))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(72, 15)), batch_size=24)
    theirs = torch_cka.CKA(m1, m2, "one", "two", model1_layers=["1"], model2_layers=["1"])
    with torch.no_grad():
        theirs.compare(loader, loader)
        got = eval(after, {"dds_ext": dds_ext, "loader": loader, "f1": m1[:2], "f2": m2[:2]})
    # its sums of 24^2 products are in float32, and their parts some 10 times what is left of them: 240 roundings
    np.testing.assert_allclose(got, theirs.export()["CKA"].item(), rtol=0, atol=240 * 2**-24)


def test_every_drop_in_is_in_the_table() -> None:
    from dds_ext import compat

    by_name_only = {name for name in compat.__all__ if name.startswith(("compare_", "calc_rdm_"))}
    for name in set(compat.__all__) - by_name_only - {"Calls", "PACKAGES"}:
        assert name in PAGE
