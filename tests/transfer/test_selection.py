"""Rankings with intervals and their stability: against plain loops over the float64 reference and SciPy."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dds_transfer import Bootstrap, Ranking, rank_models, stability
from dds_transfer.resampling import draw_rows, scores_on_draws
from dds_transfer.selection import measure_options
from made_features import Features, related_features
from numpy.typing import NDArray
from scipy import stats

import dds_ext
from dds_ext import reference

Rows = NDArray[np.intp]

# Every centring with every kind of g, every f that is special, and normalisations of both kinds.
MEASURES: dict[str, str | dict[str, Any]] = {
    **{name: name for name in dds_ext.MEASURES},
    "euclidean, unbiased, pearson": {"f": "euclidean", "g": "pearson"},
    "linear, none, cosine": {"normalize": "none", "f": "linear", "center": "none"},
    "laplacian, double, spearman": {"normalize": "center", "center": "double", "g": "spearman"},
    "rbf, unbiased, kendall": {"f": "rbf", "g": "kendall"},
    "cosine, none, kendall": {"normalize": "layer", "f": "cosine", "center": "none", "g": "kendall"},
    "batch": {"normalize": "batch", "f": "manhattan", "channels": 4},
}


@pytest.fixture
def sources() -> Features:
    return related_features(("a", "b", "c", "d"), 30, 12)


@pytest.fixture
def target() -> NDArray[np.float64]:
    return related_features(("", "", "", "", "", "target"), 30, 12)["target"]


def reference_score(X: NDArray[np.float64], Y: NDArray[np.float64], measure: str | Mapping[str, Any]) -> float:
    return reference.similarity(X, Y, **measure_options(measure)[1])


def score_with_copies(X: NDArray[np.float64], Y: NDArray[np.float64], rows: Rows, options: Mapping[str, Any]) -> float:
    """The definition entry by entry: which entries count, least squares for the centring, SciPy for the rest."""
    m, center, g = len(rows), options["center"], options["g"]
    entries = [(i, j) for i in range(m) for j in range(m) if rows[i] != rows[j] or (i == j and center != "unbiased")]
    columns = []
    for features in (X, Y):
        names = ("f", "normalize", "channels")
        K = reference.rdm(features[rows], **{name: options[name] for name in names if name in options})
        values = np.array([K[entry] for entry in entries])
        if center != "none":
            # Subtracting the best a_i + a_j from the entries is projecting onto what has no row sums.
            design = np.zeros((len(entries), m))
            for k, (i, j) in enumerate(entries):
                design[k, i] += 1
                design[k, j] += 1
            values = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        columns.append(values)
    if g == "cosine":
        x, y = columns
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))
    # Copies of a pair tie but for rounding, some 1e-15; other pairs differ by more than 1e-10 here.
    x, y = (np.round([v for v, (i, j) in zip(values, entries, strict=True) if i < j], 10) for values in columns)
    correlate = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}[g]
    return float(correlate(x, y).statistic)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_draws_without_replacement_are_scored_as_sets_of_their_own(
    sources: Features, target: NDArray[np.float64], measure: str | dict[str, Any]
) -> None:
    ranking = rank_models(target, sources, measure, bootstrap=5, images=11)
    legacy = np.random.RandomState(1993)
    draws = [legacy.choice(range(30), 11, replace=False) for _ in range(5)]
    expected = [[reference_score(sources[s][rows], target[rows], measure) for s in ranking.sources] for rows in draws]
    assert ranking.bootstrap is not None
    # float64 in, so both sides round at 1e-16; a thousand terms and a small norm leave 1e-9.
    np.testing.assert_allclose(ranking.bootstrap.scores, expected, atol=1e-9)
    everything = {name: reference_score(X, target, measure) for name, X in sources.items()}
    assert ranking.sources == sorted(everything, key=lambda name: -everything[name])
    np.testing.assert_allclose(ranking.scores, [everything[name] for name in ranking.sources], atol=1e-9)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_draws_with_replacement_leave_pairs_of_copies_out(
    sources: Features, target: NDArray[np.float64], measure: str | dict[str, Any]
) -> None:
    ranking = rank_models(target, sources, measure, bootstrap=4, replacement=True)
    legacy = np.random.RandomState(1993)
    draws = [legacy.choice(30, 30, replace=True) for _ in range(4)]
    assert all(len(np.unique(rows)) < 30 for rows in draws)
    options = measure_options(measure)[1]
    expected = [[score_with_copies(sources[s], target, rows, options) for s in ranking.sources] for rows in draws]
    assert ranking.bootstrap is not None
    np.testing.assert_allclose(ranking.bootstrap.scores, expected, atol=1e-9)


def test_without_copies_the_definition_for_copies_is_the_usual_one(
    sources: Features, target: NDArray[np.float64]
) -> None:
    rows = np.arange(20)
    for measure in MEASURES.values():
        options = measure_options(measure)[1]
        usual = reference_score(sources["b"][rows], target[rows], measure)
        assert score_with_copies(sources["b"], target, rows, options) == pytest.approx(usual, abs=1e-9)


def test_copies_do_not_raise_the_score_of_unrelated_models() -> None:
    """Their scores are 0 on average, however many copies there are."""
    random = np.random.default_rng(0)
    means = []
    for _ in range(40):
        X, Y = random.standard_normal((2, 20, 40))
        draws = draw_rows(20, 20, 10, int(random.integers(2**31)), replacement=True)
        means.append(scores_on_draws(Y, {"x": X}, draws, dds_ext.MEASURES["dds"], lambda: None).mean())
    # 40 independent means; with the pairs of copies counted the mean is 0.96.
    assert abs(np.mean(means)) < 4 * np.std(means, ddof=1) / np.sqrt(40)
    assert np.std(means, ddof=1) / np.sqrt(40) < 0.05


def test_draws_of_half_the_images_spread_like_the_score_itself() -> None:
    """The variance without replacement tends to n / m - 1 times the sampling variance of the score of all n."""
    random = np.random.default_rng(0)
    n, d, samples = 240, 8, 150
    scores, variances = [], []
    for k in range(samples):
        X, noise = random.standard_normal((2, n, d))
        ranking = rank_models(X + noise, {"x": X}, bootstrap=10, images=n // 2, seed=k)
        assert ranking.bootstrap is not None
        scores.append(ranking.scores[0])
        variances.append(ranking.bootstrap.scores.var(ddof=1))
    # The variance of 150 normal scores is off by sqrt(2 / 149) = 12%, three times that is 35%; a score of 120 images
    # has terms of second order in 1 / m, worth another 20%. A draw of a quarter of the images would give above 3.
    assert 0.65 < np.mean(variances) / np.var(scores, ddof=1) < 1.2 * 1.35


def test_intervals_are_percentiles_and_first_places_are_shared() -> None:
    scores = np.array([[0.5, 0.5, 0.1], [0.4, 0.6, 0.2], [0.9, 0.1, 0.3], [0.2, 0.1, 0.15]])
    draws = Bootstrap(scores, 10, False, 0.9, 0)
    np.testing.assert_allclose(draws.low, np.percentile(scores, 5, axis=0))
    np.testing.assert_allclose(draws.high, np.percentile(scores, 95, axis=0))
    np.testing.assert_allclose(draws.mean, scores.mean(axis=0))
    np.testing.assert_allclose(draws.first_share, [(0.5 + 1 + 1) / 4, (0.5 + 1) / 4, 0])
    ranking = Ranking("t", "dds", {}, 20, ["a", "b", "c"], np.array([0.5, 0.5, 0.2]), draws)
    assert ranking.ranks == [1, 1, 3]


def test_draws_repeat_with_their_seed_and_do_not_depend_on_the_order_of_sources(
    sources: Features, target: NDArray[np.float64]
) -> None:
    for replacement in (False, True):
        first, again = (
            rank_models(target, s, bootstrap=3, replacement=replacement).bootstrap
            for s in (sources, dict(reversed(sources.items())))
        )
        other = rank_models(target, sources, bootstrap=3, replacement=replacement, seed=1).bootstrap
        assert first is not None and again is not None and other is not None
        np.testing.assert_array_equal(first.scores, again.scores)
        assert (first.scores != other.scores).any()


def test_default_number_of_images(target: NDArray[np.float64], sources: Features) -> None:
    def images(n: int, **options: Any) -> int:
        many = {name: np.resize(X, (n, 3)) + np.arange(n)[:, None] % 7 for name, X in sources.items()}
        draws = rank_models(np.resize(target, (n, 3)), many, "cka-linear", bootstrap=1, **options).bootstrap
        assert draws is not None
        return draws.images

    assert images(30) == 15
    assert images(450) == 200
    assert images(30, replacement=True) == 30
    assert images(30, replacement=True, images=20) == 20


@pytest.mark.parametrize("limit", [0, 8 * 30**2, 2 * 8 * 30**2, 100 * 8 * 30**2])
def test_sources_are_compared_some_at_a_time_where_their_matrices_are_large(
    sources: Features, target: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    expected = dds_ext.affinity(sources, {"target": target})[:, 0]
    held: list[int] = []

    def affinity(models: Features, *rest: Any, **options: Any) -> NDArray[np.float64]:
        held.append(len(models))
        return original(models, *rest, **options)

    original = dds_ext.affinity
    monkeypatch.setattr(dds_ext, "affinity", affinity)
    monkeypatch.setattr("dds_transfer.selection.MATRIX_BYTES", limit)
    ranking = rank_models(target, sources, bootstrap=None)
    assert max(held) == min(max(1, limit // (8 * 30**2)), len(sources)) and sum(held) == len(sources)
    assert dict(zip(ranking.sources, ranking.scores, strict=True)) == pytest.approx(
        dict(zip(sources, expected, strict=True)), abs=1e-9
    )


def test_tensors_and_arrays_give_the_same(sources: Features, target: NDArray[np.float64]) -> None:
    spatial = {name: X.reshape(30, 3, 2, 2) for name, X in sources.items()}
    tensors = {name: torch.from_numpy(X) for name, X in spatial.items()}
    aim = target.reshape(30, 3, 2, 2)
    for replacement in (False, True):
        options: dict[str, Any] = {"measure": {"normalize": "instance"}, "bootstrap": 2, "replacement": replacement}
        a = rank_models(aim, spatial, **options).bootstrap
        b = rank_models(torch.from_numpy(aim), tensors, **options).bootstrap
        assert a is not None and b is not None
        np.testing.assert_array_equal(a.scores, b.scores)


def test_what_is_wrong_is_said(sources: Features, target: NDArray[np.float64]) -> None:
    def refuses(message: str, kind: type[Exception] = ValueError, **options: Any) -> None:
        with pytest.raises(kind, match=message):
            rank_models(**{"target": target, "sources": sources, **options})

    refuses("every draw of 30 out of 30 images is the same; ask for fewer images", images=30)
    refuses("draws of 31 images are asked for, and there are 30", images=31, replacement=True)
    refuses("the number of images in a draw must be a whole number, at least 1, got 0", images=0)
    refuses("images in a draw must be a whole number, at least 1, got 20.5", images=20.5)
    refuses("draw 1, of 3 images: center='unbiased' needs at least 4 images", images=3)
    refuses("confidence must be between 0 and 1, got 95", confidence=95)
    for wrong in (0, 2.5, True):
        refuses(f"bootstrap, the number of draws, must be a whole number, at least 1, got {wrong}", bootstrap=wrong)
    refuses("unknown measure 'svcca'; choose from dds, rsa, cka-linear, cka-rbf", measure="svcca")
    refuses("measure must be a name or a mapping of options, got NoneType", TypeError, measure=None)
    refuses("unknown option 'kernel'", TypeError, measure={"kernel": "rbf"})
    refuses("unknown f 'chi2'", measure={"f": "chi2"})
    refuses("sources must be a mapping from names to features, got list", TypeError, sources=list(sources.values()))
    refuses("different numbers of images: source 'a' has 30, target 'target' has 29", target=target[:29])
    refuses("it holds 3 different images, one of them 2 times", images=4, replacement=True, bootstrap=100)
    # Image 7 differs from the others in one feature that is all that tells images apart.
    flat = np.zeros((30, 2))
    flat[7] = 1
    refuses(r"draw \d+, of 10 images: .*source 'a'", sources={"a": flat}, measure="cka-linear", images=10)
    refuses(
        r"draw \d+, of 30 images: the matrix of source 'a' is constant",
        sources={"a": flat},
        measure={"normalize": "none", "f": "manhattan", "center": "none", "g": "pearson"},
        replacement=True,
    )


def test_the_scale_of_the_features_does_not_matter(sources: Features, target: NDArray[np.float64]) -> None:
    for replacement in (False, True):
        options: dict[str, Any] = {"measure": "cka-linear", "bootstrap": 2, "replacement": replacement}
        usual, large = (
            rank_models(target, {name: X * scale for name, X in sources.items()}, **options).bootstrap
            for scale in (1, 1e120)
        )
        assert usual is not None and large is not None
        np.testing.assert_allclose(large.scores, usual.scores, atol=1e-9)


def test_a_draw_that_cannot_be_scored_is_named_with_the_model(target: NDArray[np.float64]) -> None:
    X = np.repeat(target[:, :1], 2, axis=1)
    X[4, 1] += 1  # in a draw without image 4, all images have two equal features
    measure = {"f": "pearson", "center": "none", "g": "spearman"}
    for replacement in (False, True):
        with pytest.raises(
            ValueError,
            match=r"draw \d+, of 20 images: source 'x'.* f='pearson' is undefined|"
            r"draw \d+, of 20 images: f='pearson' is undefined .* of source 'x'",
        ):
            rank_models(target, {"x": X}, measure, bootstrap=20, images=20, replacement=replacement)


def test_a_ranking_shows_and_writes_itself(tmp_path: Path, sources: Features, target: NDArray[np.float64]) -> None:
    ranking = rank_models(target, {"<b>": sources["b"], "d": sources["d"]}, bootstrap=20, images=10, name="aim")
    text = str(ranking)
    assert text == repr(ranking)
    assert text.startswith("Sources for aim by dds, 30 images; 95% intervals of 20 draws of 10 without replacement\n")
    assert [line.split()[1] for line in text.splitlines()[4:]] == ranking.sources
    html = ranking._repr_html_()
    assert "<td>&lt;b&gt;</td>" in html and "<th>first share</th>" in html
    assert html.count("<tr>") == 3

    ranking.to_csv(tmp_path / "r.csv")
    ranking.to_json(str(tmp_path / "r.json"))
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["ranking"] == ranking.records
    assert content["bootstrap"] == {
        "draws": 20, "images": 10, "replacement": False, "confidence": 0.95, "seed": 1993,
    }  # fmt: skip
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["rank", "source", "score", "mean", "low", "high", "first_share"]
    assert ranking.bootstrap is not None
    assert [float(row["low"]) for row in rows] == ranking.bootstrap.low.tolist()

    figure = ranking.plot(tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), ranking.scores)
    segments = np.array([path.vertices[:, 0] for path in axes.collections[0].get_paths()])
    np.testing.assert_allclose(segments, np.stack([ranking.bootstrap.low, ranking.bootstrap.high], axis=1))


def test_a_ranking_without_draws(tmp_path: Path, sources: Features, target: NDArray[np.float64]) -> None:
    ranking = rank_models(target, sources, bootstrap=None)
    assert ranking.bootstrap is None
    assert ranking.title == "Sources for target by dds, 30 images"
    assert list(ranking.records[0]) == ["rank", "source", "score"]
    assert ranking.to_dict()["bootstrap"] is None
    ranking.plot(tmp_path / "r.svg")
    assert "<svg" in (tmp_path / "r.svg").read_text()


@pytest.mark.parametrize("measure", ["dds", "rsa"])
def test_stability_is_the_agreement_of_rankings(sources: Features, target: NDArray[np.float64], measure: str) -> None:
    result = stability(target, sources, [6, 20], 15, measure, seed=3)
    everything = [reference_score(X, target, measure) for X in sources.values()]
    for m, record in zip((6, 20), result.records, strict=True):
        legacy = np.random.RandomState(3)
        draws = [legacy.choice(30, m, replace=False) for _ in range(15)]
        scores = [[reference_score(X[rows], target[rows], measure) for X in sources.values()] for rows in draws]
        correlations = [stats.spearmanr(drawn, everything).statistic for drawn in scores]
        same = [np.argmax(drawn) == np.argmax(everything) for drawn in scores]
        assert record == pytest.approx(
            {
                "images": m,
                "spearman": np.mean(correlations),
                "spearman_sd": np.std(correlations, ddof=1),
                "same_first_share": np.mean(same),
            },
            abs=1e-9,
        )


def test_smaller_draws_are_part_of_larger_ones() -> None:
    for small, large in zip(draw_rows(90, 10, 5, 7), draw_rows(90, 40, 5, 7), strict=True):
        np.testing.assert_array_equal(small, large[:10])


def test_stability_shows_and_writes_itself(tmp_path: Path, sources: Features, target: NDArray[np.float64]) -> None:
    steps: list[None] = []
    result = stability(target, sources, [5, 10, 20], 4, name="aim", step=lambda: steps.append(None))
    assert len(steps) == 12
    assert str(result).startswith("Sources for aim by dds: rankings from fewer images and from all 30, 4 draws each\n")
    assert [line.split()[0] for line in str(result).splitlines()[4:]] == ["5", "10", "20"]
    result.to_json(tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["stability"] == result.records
    axes = result.plot().axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [record["spearman"] for record in result.records])


def test_stability_says_what_is_wrong(sources: Features, target: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="too few sources: 2; rankings correlate from 3 on"):
        stability(target, {"a": sources["a"], "b": sources["b"]})
    with pytest.raises(ValueError, match="the number of draws must be a whole number, at least 2, got 1"):
        stability(target, sources, draws=1)
    with pytest.raises(ValueError, match="every draw of 30 out of 30 images is the same"):
        stability(target, sources, [10, 30])
    for wrong in ([], 30, "30"):
        with pytest.raises(
            ValueError, match=r"n_images must be one or more numbers of images, such as \[50, 100\], got"
        ):
            stability(target, sources, wrong)
    with pytest.raises(ValueError, match="n_images has 10 twice"):
        stability(target, sources, [10, 20, 10])
    with pytest.raises(ValueError, match=r"images in a draw must be a whole number, at least 1, got 10\.5"):
        stability(target, sources, [10.5])
    with pytest.raises(ValueError, match="all sources score the same"):
        stability(target, dict.fromkeys("abc", sources["a"]), [10], 2)
    with pytest.raises(ValueError, match="there are 20 images, too few for the default numbers of images"):
        stability(target[:20], {name: X[:20] for name, X in sources.items()})
    assert stability(target, sources, draws=2).n_images == [25]
