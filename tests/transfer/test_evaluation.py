"""Agreement with the truth, against SciPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from itertools import permutations
from math import comb
from pathlib import Path

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
    spearman, pearson, kendall, off = [], [], [], []
    for j, target in enumerate(truth.targets):
        x, y = affinity.values[:, j], truth.values[:, j]
        others = [i for i, source in enumerate(truth.sources) if source != target]
        found = result.targets[target]
        assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert found.spearman_off_diagonal == pytest.approx(stats.spearmanr(x[others], y[others]).statistic, abs=1e-12)
        assert found.pearson_off_diagonal == pytest.approx(stats.pearsonr(x[others], y[others]).statistic, abs=1e-12)
        assert found.kendall == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
        assert found.kendall_off_diagonal == pytest.approx(stats.kendalltau(x[others], y[others]).statistic, abs=1e-12)
        spearman.append(found.spearman)
        kendall.append(found.kendall)
        pearson.append(found.pearson)
        off.append(found.spearman_off_diagonal)
    assert result.mean.spearman == pytest.approx(np.mean(spearman))
    assert result.mean.pearson == pytest.approx(np.mean(pearson))
    assert result.mean.kendall == pytest.approx(np.mean(kendall))
    assert result.mean.spearman_off_diagonal == pytest.approx(np.mean(off))
    assert result.notes == []


def test_figures_are_scipys() -> None:
    check(table(RANDOM.standard_normal((6, 6))), table(RANDOM.standard_normal((6, 6))))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_figures_are_scipys_at_any_scale(scale: float) -> None:
    a, b = RANDOM.uniform(-1, 1, (2, 6, 6))
    found, expected = (evaluate(table(a * factor), table(b * factor)).targets for factor in (scale, 1))
    for name in NAMES:
        assert found[name].pearson == pytest.approx(expected[name].pearson, abs=1e-12)


def test_what_was_not_measured_is_left_out() -> None:
    """Each target is compared as if only its measured sources were there."""
    a, b = RANDOM.standard_normal((2, 6, 6))
    np.fill_diagonal(b, np.nan)
    b[2, 0] = np.nan
    b[1:, 5] = np.nan
    result = evaluate(table(a), table(b))
    assert list(result.targets) == list("abcde")
    for j, (name, found) in enumerate(result.targets.items()):
        rows = ~np.isnan(b[:, j])
        names = [source for source, there in zip(NAMES, rows, strict=True) if there]
        alone = evaluate(table(a[rows, j : j + 1], names, [name]), table(b[rows, j : j + 1], names, [name]))
        assert found == alone.targets[name]
    assert result.mean.sources == 4.8 and len(result.mean.at_k) == 4
    assert "sources not measured for target a, left out there: a, c" in result.notes
    assert "targets with fewer than 3 sources measured, left out: f" in result.notes
    b[:] = np.nan
    with pytest.raises(ValueError, match="no target with 3 sources measured"):
        evaluate(table(a), table(b))


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


def broken_ties(values: np.ndarray) -> Iterator[list[int]]:
    """Every ranking of a column, best first, that breaks its ties in some way."""
    for order in permutations(range(len(values))):
        ranked = values[list(order)]
        if (ranked[:-1] >= ranked[1:]).all():
            yield list(order)


def looped(a: np.ndarray, b: np.ndarray) -> tuple[float, list[tuple[float, ...]]]:
    """Regret, and overlap, best found, precision and recall at every K: means over all ways to break ties."""
    regrets, figures = [], []
    for chosen in broken_ties(a):
        for wanted in broken_ties(b):
            regrets.append(b.max() - b[chosen[0]])
            at_k = []
            for k in range(1, len(a) + 1):
                hits = len(set(chosen[:k]) & set(wanted[:5]))
                common = len(set(chosen[:k]) & set(wanted[:k]))
                at_k.append((common / k, float(wanted[0] in chosen[:k]), hits / k, hits / 5))
            figures.append(at_k)
    return float(np.mean(regrets)), np.mean(figures, axis=0).tolist()


@pytest.mark.parametrize("ties", [False, True])
def test_choices_are_those_of_a_plain_loop_over_all_ways_to_break_ties(ties: bool) -> None:
    names = list("abcdefg")
    a, b = RANDOM.standard_normal((2, 7, 2))
    if ties:
        a[:, 0], a[:, 1] = [3, 3, 1, 1, 1, 0, 2], [1, 2, 3, 4, 5, 6, 7]
        b[:, 0], b[:, 1] = [0, 0, 0, 0.5, 0.5, 2, 1], [3, 3, 2, 1, 1, 0, 0]
    targets = ["a", "new"]  # one that is a source itself, and one that is not
    result = evaluate(table(a, names, targets), table(b, names, targets))
    for j, (target, first) in enumerate(zip(targets, (1, 0), strict=True)):
        x, y = a[first:, j], b[first:, j]
        regret, figures = looped(x, y)
        found = result.targets[target]
        # Sums of at most 7 products of shares: a few roundings of 2.2e-16.
        assert found.regret == pytest.approx(regret, abs=1e-14)
        assert found.relative_regret == pytest.approx(regret / (y.max() - y.mean()), abs=1e-13)
        assert [entry.k for entry in found.at_k] == list(range(1, len(x) + 1))
        got = [(entry.overlap, entry.best_found, entry.precision, entry.recall) for entry in found.at_k]
        np.testing.assert_allclose(got, figures, atol=1e-14)
    assert result.mean.regret == pytest.approx(np.mean([found.regret for found in result.targets.values()]))
    assert [entry.k for entry in result.mean.at_k] == [1, 2, 3, 4, 5, 6]  # one target has no more to choose from
    firsts = [found.at_k[0].precision for found in result.targets.values()]
    assert result.mean.at_k[0].precision == pytest.approx(np.mean(firsts))


def test_the_random_baseline_is_what_random_rankings_score() -> None:
    """The hypergeometric expectation, which Song et al. plot: of 19 sources 5 are relevant."""
    names = [f"task{i:02}" for i in range(20)]
    truth = table(RANDOM.standard_normal((20, 20)), names, names)
    random = table(RANDOM.standard_normal((20, 20)), names, names)
    found = evaluate(random, truth).mean.at_k
    assert [entry.k for entry in found] == list(range(1, 20))
    for entry in found:
        ways = [comb(5, i) * comb(14, entry.k - i) if i <= entry.k else 0 for i in range(6)]
        hits = sum(i * count for i, count in enumerate(ways)) / comb(19, entry.k)
        assert entry.random_precision == pytest.approx(hits / entry.k)
        assert entry.random_recall == pytest.approx(hits / 5)
        # The mean over 20 targets of a random ranking is within 5 standard deviations of its expectation, by the
        # hypergeometric variance; at k = 19 that is 0, and a few roundings remain.
        deviation = np.sqrt(entry.k * 5 / 19 * 14 / 19 * (19 - entry.k) / 18) / entry.k
        assert abs(entry.precision - entry.random_precision) <= 5 * deviation / np.sqrt(20) + 1e-15
    ideal = evaluate(truth, truth).mean
    assert [entry.precision for entry in ideal.at_k] == pytest.approx([min(1, 5 / k) for k in range(1, 20)])
    assert [entry.recall for entry in ideal.at_k] == pytest.approx([min(1, k / 5) for k in range(1, 20)])
    assert [entry.best_found for entry in ideal.at_k] == [1] * 19
    assert [entry.overlap for entry in ideal.at_k] == [1] * 19
    assert (ideal.regret, ideal.relative_regret) == (0, 0)


def test_a_constant_affinity_loses_what_chance_does() -> None:
    names = [f"task{i}" for i in range(9)]
    truth = table(RANDOM.standard_normal((9, 9)), names, names)
    mean = evaluate(table(np.ones((9, 9)), names, names), truth).mean
    assert mean.relative_regret == pytest.approx(1)
    for entry in mean.at_k:
        assert entry.precision == pytest.approx(entry.random_precision)
        assert entry.recall == pytest.approx(entry.random_recall)


def test_choices_do_not_depend_on_the_order_of_sources() -> None:
    truth = load_truth("taskonomy-winrate")  # with many ties
    affinity = Table(truth.sources, truth.targets, RANDOM.integers(0, 4, (17, 17)).astype(float))
    order = [truth.sources[i] for i in RANDOM.permutation(17)]
    first = evaluate(affinity, truth).mean
    second = evaluate(affinity, truth.part(order, truth.targets)).mean
    assert first.regret == pytest.approx(second.regret, abs=1e-14)
    for one, other in zip(first.at_k, second.at_k, strict=True):
        assert astuple(one) == pytest.approx(astuple(other), abs=1e-14)


def test_choices_that_are_not_defined() -> None:
    a, b = RANDOM.standard_normal((2, 6, 6))
    b[:, 0] = 0.1
    result = evaluate(table(a), table(b))
    assert result.targets["a"].relative_regret is None
    assert result.targets["a"].regret == 0
    # With 5 sources besides the target, all are relevant.
    assert all(entry.precision is entry.recall is entry.random_recall is None for entry in result.mean.at_k)
    assert result.mean.at_k[4].best_found == pytest.approx(1)


def test_numbers_must_be_finite() -> None:
    a, b = RANDOM.standard_normal((2, 6, 6))
    b[2, 1] = np.inf
    with pytest.raises(ValueError, match="the truth holds inf at source 'c', target 'b'"):
        evaluate(table(a), table(b))
    a[3, 0] = np.nan
    with pytest.raises(ValueError, match="the affinity holds nan at source 'd', target 'a'"):
        evaluate(table(a), table(b))


def test_too_little_in_common_names_both_sides() -> None:
    values = np.zeros((6, 6))
    with pytest.raises(ValueError, match="2 sources are also in the truth, at least 3 must be: here they are a; b"):
        evaluate(table(values[:2], ["a", "b"]), table(values))
    with pytest.raises(
        ValueError, match=r"0 targets are also in the truth.*here they are u; v; w; x; y; z; in the truth a"
    ):
        evaluate(table(values, NAMES, list("uvwxyz")), table(values))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_pearson_of_any_scale(scale: float) -> None:
    names = list("abcde")
    values = np.random.default_rng(0).random((5, 5))
    truth = Table(names, names, np.random.default_rng(1).random((5, 5)))
    found = evaluate(Table(names, names, values * scale), truth).mean.pearson
    expected = np.mean([stats.pearsonr(values[:, j], truth.values[:, j]).statistic for j in range(5)])
    assert found == pytest.approx(expected, rel=1e-12)


def test_means_over_targets_of_different_numbers_of_sources() -> None:
    """At each k the same targets: else a random ranking's recall would fall where a target drops out."""
    random = np.random.default_rng(0)
    names = [f"m{i}" for i in range(12)]
    truth = Table(names, names[:5], random.random((12, 5)))
    for j, missing in enumerate((0, 1, 2, 3, 3)):
        truth.values[np.flatnonzero(np.arange(12) != j)[:missing], j] = np.nan
    found = evaluate(Table(names, names[:5], random.random((12, 5))), truth)
    assert [agreement.sources for agreement in found.targets.values()] == [12, 11, 10, 9, 9]
    assert found.mean.sources == 51 / 5
    assert [entry.k for entry in found.mean.at_k] == list(range(1, 9))
    recall = [entry.random_recall for entry in found.mean.at_k]
    expected = [np.mean([k / others for others in (11, 10, 9, 8, 8)]) for k in range(1, 9)]
    np.testing.assert_allclose(np.array(recall, float), expected, rtol=1e-12)


def test_it_shows_itself_as_a_table(tmp_path: Path) -> None:
    found = evaluate(load_truth("taskonomy-winrate"), load_truth("taskonomy-affinity"))
    lines = str(found).splitlines()
    assert lines[0] == "Agreement with measured transfer, 17 targets" and len(lines) == 1 + 3 + 17 + 1
    assert lines[-1].split()[:3] == ["mean", "17", f"{found.mean.spearman:.3f}"]
    found.to_csv(tmp_path / "e.csv")
    assert (tmp_path / "e.csv").read_text().startswith("target,sources,spearman,")
    figure = found.plot(tmp_path / "e.png")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(found.targets)
    dots = figure.axes[0].lines[0].get_xdata()
    np.testing.assert_array_equal(dots, [each.spearman_off_diagonal for each in found.targets.values()])
