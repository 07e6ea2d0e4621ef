"""Agreement with the truth, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from dds_transfer import Table, evaluate, load_truth
from scipy import stats

RANDOM = np.random.default_rng(0)
NAMES = ["a", "b", "c", "d", "e", "f"]


def table(values: np.ndarray, sources: list[str] = NAMES, targets: list[str] = NAMES) -> Table:
    return Table(list(sources), list(targets), np.asarray(values, dtype=float))


def check(affinity: Table, truth: Table) -> None:
    """Each figure is SciPy's on the same columns, and the means are those of the columns."""
    result = evaluate(affinity, truth)
    spearman, pearson, off = [], [], []
    for j, target in enumerate(truth.targets):
        x, y = affinity.values[:, j], truth.values[:, j]
        others = [i for i, source in enumerate(truth.sources) if source != target]
        found = result.targets[target]
        assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert found.spearman_off_diagonal == pytest.approx(stats.spearmanr(x[others], y[others]).statistic, abs=1e-12)
        assert found.pearson_off_diagonal == pytest.approx(stats.pearsonr(x[others], y[others]).statistic, abs=1e-12)
        spearman.append(found.spearman)
        pearson.append(found.pearson)
        off.append(found.spearman_off_diagonal)
    assert result.mean.spearman == pytest.approx(np.mean(spearman))
    assert result.mean.pearson == pytest.approx(np.mean(pearson))
    assert result.mean.spearman_off_diagonal == pytest.approx(np.mean(off))
    assert result.notes == []


def test_figures_are_scipys() -> None:
    check(table(RANDOM.standard_normal((6, 6))), table(RANDOM.standard_normal((6, 6))))


def test_ties_take_average_ranks() -> None:
    check(table(RANDOM.integers(0, 3, (6, 6)) + np.eye(6)), table(RANDOM.integers(0, 3, (6, 6)) + 5 * np.eye(6)))


@pytest.mark.parametrize("name", ["taskonomy-affinity", "taskonomy-winrate"])
def test_figures_are_scipys_on_the_bundled_truth(name: str) -> None:
    truth = load_truth(name)
    check(Table(truth.sources, truth.targets, RANDOM.standard_normal((17, 17))), truth)


def test_a_table_agrees_fully_with_itself() -> None:
    truth = load_truth("taskonomy-winrate")
    mean = evaluate(truth, truth).mean
    assert mean.spearman == pytest.approx(1)
    assert mean.pearson_off_diagonal == pytest.approx(1)


def test_the_diagonal_alone_scores() -> None:
    """A measure that knows nothing but that a task resembles itself."""
    truth = load_truth("taskonomy-affinity")
    random = RANDOM.uniform(0, 0.01, (17, 17))
    mean = evaluate(Table(truth.sources, truth.targets, np.eye(17) + random), truth).mean
    assert mean.spearman is not None
    assert mean.spearman_off_diagonal is not None
    assert mean.spearman > mean.spearman_off_diagonal + 0.1


def test_names_are_matched_whatever_their_order() -> None:
    a, b = RANDOM.standard_normal((2, 6, 6))
    order = RANDOM.permutation(6)
    shuffled = [NAMES[i] for i in order]
    expected = evaluate(table(a), table(b))
    result = evaluate(table(a[np.ix_(order, order)], shuffled, shuffled), table(b))
    assert result == expected


def test_names_of_one_side_are_left_out_and_noted() -> None:
    a, b = RANDOM.standard_normal((2, 6, 6))
    affinity = table(a, [*NAMES[:5], "extra"], [*NAMES[:5], "other"])
    result = evaluate(affinity, table(b))
    assert list(result.targets) == NAMES[:5]
    assert result.targets["a"].spearman == pytest.approx(stats.spearmanr(a[:5, 0], b[:5, 0]).statistic)
    assert result.notes == [
        "sources only here, left out: extra",
        "sources only in the truth, left out: f",
        "targets only here, left out: other",
        "targets only in the truth, left out: f",
    ]


def test_targets_that_are_no_sources_have_no_diagonal() -> None:
    a, b = RANDOM.standard_normal((2, 6, 1))
    found = evaluate(table(a, NAMES, ["new"]), table(b, NAMES, ["new"])).targets["new"]
    assert found.spearman == found.spearman_off_diagonal


def test_a_constant_column_is_explained_and_left_out_of_the_mean() -> None:
    a, b = RANDOM.standard_normal((2, 6, 6))
    b[:, 1] = 0.25
    b[:, 2] = 0
    b[2, 2] = 1  # constant only once the diagonal is left out
    a[:, 3] = 7
    result = evaluate(table(a), table(b))
    assert result.targets["b"].spearman is None
    assert result.targets["c"].spearman is not None
    assert result.targets["c"].spearman_off_diagonal is None
    defined = [result.targets[name].spearman for name in "acef"]
    assert result.mean.spearman == pytest.approx(np.mean(defined))
    assert result.notes == [
        "no correlation for target 'b': the truth is 0.25 for each of the 6 sources",
        "no correlation without the diagonal for target 'b': the truth is 0.25 for each of the 5 sources",
        "no correlation without the diagonal for target 'c': the truth is 0 for each of the 5 sources",
        "no correlation for target 'd': the affinity is 7 for each of the 6 sources",
        "no correlation without the diagonal for target 'd': the affinity is 7 for each of the 5 sources",
    ]


def test_three_sources_leave_no_correlation_without_the_diagonal() -> None:
    names = NAMES[:3]
    values = np.array([[1.0, 2, 3], [2, 3, 1], [3, 1, 2]])
    result = evaluate(table(values, names, names), table(values.T, names, names))
    assert result.mean.spearman is not None
    assert result.mean.spearman_off_diagonal is None
    assert "no correlation without the diagonal for target 'a': it has 2 sources" in result.notes[0]


def test_too_little_in_common_names_both_sides() -> None:
    values = np.zeros((6, 6))
    with pytest.raises(ValueError, match="2 sources are also in the truth, at least 3 must be: here they are a, b"):
        evaluate(table(values[:2], ["a", "b"]), table(values))
    with pytest.raises(ValueError, match=r"0 targets are also in the truth.*here they are u, v, w, x and 2 more"):
        evaluate(table(values, NAMES, list("uvwxyz")), table(values))
