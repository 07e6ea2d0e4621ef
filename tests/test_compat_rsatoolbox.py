"""Drop-ins for rsatoolbox: the installed package's own answers are the oracle."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rsatoolbox
from numpy.typing import NDArray
from rsatoolbox import inference
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.model import Model, ModelFixed, ModelInterpolate, ModelSelect, ModelWeighted
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm import compare as original_compare

from dds_ext import compat
from dds_ext.compat._weighted import METHODS, mid_ranks

Array = NDArray[Any]

# Scores are sums of at most some thousand products, divided by their norms: some roundings of float64.
SCORE = 1e-13
# Variances are means of squares of such scores.
VARIANCE = 1e-14


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def vectors(count: int, n: int, levels: int | None = None, seed: int = 0) -> Array:
    """(count, n (n - 1) / 2) dissimilarities that correlate; with `levels`, many tie."""
    random = np.random.default_rng((seed, count, n))
    V = random.random(n * (n - 1) // 2) + random.random((count, n * (n - 1) // 2))
    return np.floor(V * levels / 2) if levels else V


def answer(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except Exception as error:
        return type(error), str(error)


def assert_same_rdms(got: RDMs, wanted: RDMs, tolerance: float) -> None:
    assert type(got) is type(wanted)
    assert got.dissimilarities.dtype == wanted.dissimilarities.dtype
    np.testing.assert_allclose(got.dissimilarities, wanted.dissimilarities, rtol=0, atol=tolerance)
    assert got.dissimilarity_measure == wanted.dissimilarity_measure
    for kind in ("descriptors", "rdm_descriptors", "pattern_descriptors"):
        a, b = getattr(got, kind), getattr(wanted, kind)
        assert a.keys() == b.keys()
        for key in b:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("method", ["euclidean", "correlation", "mahalanobis", "poisson", "crossnobis", "nothing"])
@pytest.mark.parametrize("descriptor", [None, "condition"])
@pytest.mark.parametrize("remove_mean", [False, True])
def test_calc_rdm(method: str, descriptor: str | None, remove_mean: bool) -> None:
    random = np.random.default_rng(1)
    X = random.random((18, 11)) + 1
    constant = X.copy()
    constant[3:6] = 2.0
    nan = X.copy()
    nan[2, 3] = np.nan
    for measurements in (X, np.asfortranarray(X), X.astype(np.float32), (X * 9).astype(int), constant, nan, X[:, :1]):
        names = np.array([f"c{k}" for k in [5, 1, 4, 0, 2, 3] * 3])
        dataset = Dataset(
            measurements,
            descriptors={"session": 4},
            obs_descriptors={"condition": names, "run": np.repeat([0, 1, 2], 6)},
        )
        for data in (dataset, [dataset, dataset]):
            options = {"method": method, "descriptor": descriptor, "remove_mean": remove_mean}
            wanted = answer(rsatoolbox.rdm.calc_rdm, data, **options)
            got = answer(compat.calc_rdm, data, **options)
            if isinstance(wanted, tuple):
                assert got == wanted
            else:
                # squares of up to 30, as differences of larger ones in the original; float32 where that is its type
                assert_same_rdms(got, wanted, 2e-5 if measurements.dtype == np.float32 else 1e-12)


def test_calc_rdm_keeps_noise_and_the_measurements() -> None:
    X = np.random.default_rng(2).normal(size=(6, 4))
    dataset = Dataset(X.copy())
    noise = np.diag([1.0, 2, 3, 4])
    wanted = rsatoolbox.rdm.calc_rdm(dataset, "mahalanobis", noise=noise)
    assert_same_rdms(compat.calc_rdm(dataset, "mahalanobis", noise=noise), wanted, 1e-14)
    for f in ("euclidean", "correlation"):
        compat.calc_rdm(dataset, f, remove_mean=True)
    np.testing.assert_array_equal(dataset.measurements, X)


def numbered(count: int) -> list[Dataset]:
    """Counts of 6 observations in 4 channels, two of each condition."""
    random = np.random.default_rng(3)
    labels = {"condition": [0, 1, 2] * 2, "run": [0] * 3 + [1] * 3}
    return [
        Dataset(random.poisson(5, size=(6, 4)) + 1.0, descriptors={"session": k}, obs_descriptors=labels)
        for k in range(count)
    ]


@pytest.mark.parametrize("kind", [iter, lambda sets: (d for d in sets), lambda sets: map(copy.copy, sets)])
@pytest.mark.parametrize("method", ["euclidean", "crossnobis", "poisson", "nothing"])
def test_calc_rdm_of_an_iterator_loses_no_dataset(method: str, kind: Callable[[Any], Any]) -> None:
    sets = numbered(3)
    late = numbered(3)
    late[2].measurements[0, 0] = np.nan
    for data in (sets, late):
        wanted = answer(rsatoolbox.rdm.calc_rdm, kind(data), method, "condition")
        got = answer(compat.calc_rdm, kind(data), method, "condition")
        if isinstance(wanted, tuple):
            assert got == wanted
        else:
            assert got.n_rdm == 3
            assert_same_rdms(got, wanted, 1e-12)  # squares of up to 10, four of them


def test_evaluations_of_an_iterator_of_models_are_the_originals() -> None:
    data = grouped(6, 3)
    for name in ("eval_bootstrap", "eval_bootstrap_pattern", "eval_bootstrap_rdm"):
        for form in (iter, lambda m: (each for each in m)):
            wanted = answer(getattr(inference, name), form(models(6)), data, N=2)
            assert wanted[0] is TypeError
            assert answer(getattr(compat, name), form(models(6)), data, N=2) == wanted


@pytest.mark.parametrize("method", ["euclidean", "correlation", "mahalanobis", "nothing"])
def test_calc_rdm_of_measurements_over_time_is_the_originals_error(method: str) -> None:
    data = TemporalDataset(
        np.random.default_rng(4).normal(size=(5, 4, 3)),
        obs_descriptors={"stimulus": np.arange(5)},
        time_descriptors={"time": np.arange(3)},
    )
    for descriptor in (None, "stimulus"):
        wanted = answer(rsatoolbox.rdm.calc_rdm, data, method, descriptor)
        assert wanted[0] in (ValueError, NotImplementedError)
        assert answer(compat.calc_rdm, data, method, descriptor) == wanted


def test_arguments_of_other_types_are_the_originals_to_answer() -> None:
    X = np.random.default_rng(5).normal(size=(6, 4))
    for method in ("euclidean", "correlation", "mahalanobis"):
        wanted = rsatoolbox.rdm.calc_rdm(Dataset(np.ma.masked_array(X, X > 1)), method)
        got = compat.calc_rdm(Dataset(np.ma.masked_array(X, X > 1)), method)
        np.testing.assert_array_equal(got.dissimilarities, wanted.dissimilarities)
    V, fixed = vectors(3, 6), ModelFixed("m", vectors(1, 6)[0])
    for method in ("tau-a", "spearman", "cosine"):
        hidden = np.ma.masked_array(V, V > 1)
        np.testing.assert_array_equal(compat.compare(hidden, V, method), rsatoolbox.rdm.compare(hidden, V, method))
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("boot_noise_ceiling", (V,)),
        *((name, (fixed, V)) for name in ("eval_bootstrap", "eval_bootstrap_pattern", "eval_bootstrap_rdm")),
        ("eval_bootstrap", (fixed, RDMs(V), {1: None})),
    ]
    for name, arguments in calls:
        wanted = answer(getattr(inference, name), *arguments)
        assert wanted[0] in (AttributeError, KeyError)
        assert answer(getattr(compat, name), *arguments) == wanted
    for data in (None, 3, [3], V.tolist()):
        for function in ("calc_rdm", "compare"):
            arguments = (data, data) if function == "compare" else (data,)
            wanted = answer(getattr(rsatoolbox.rdm, function), *arguments)
            assert issubclass(wanted[0], Exception)
            with compat.patch("rsatoolbox") as counts:
                assert answer(getattr(rsatoolbox.rdm, function), *arguments) == wanted
            assert counts[f"rsatoolbox.rdm.{function}"].passed_on == 1


@pytest.mark.parametrize("method", ["euclidean", "correlation", "mahalanobis"])
def test_calc_rdm_with_a_list_of_noises(method: str) -> None:
    sets = numbered(2)
    one = np.diag([1.0, 2, 3, 4])
    for noise in ([one, one * 2], one, [None, None], [one], "no", {0: one, 1: one}):
        wanted = answer(rsatoolbox.rdm.calc_rdm, sets, method, "condition", noise)
        with compat.patch("rsatoolbox") as counts:
            got = answer(rsatoolbox.rdm.calc_rdm, sets, method, "condition", noise)
        if isinstance(wanted, tuple):
            assert got == wanted
            continue
        assert_same_rdms(got, wanted, 1e-12)  # squares of up to 10, four of them
        unused = method != "mahalanobis" or noise[0] is None  # by rsatoolbox itself
        assert counts["rsatoolbox.rdm.calc_rdm"].served == unused


AWKWARD = {
    "plain": vectors(3, 9),
    "ties": vectors(3, 9, levels=4),
    "float32": vectors(3, 9).astype(np.float32),
    "integers": vectors(3, 9, levels=50).astype(int),
    "one constant": np.concatenate([vectors(2, 9), np.full((1, 36), 0.25)]),
    "one zero": np.concatenate([vectors(2, 9), np.zeros((1, 36))]),
    "negative": vectors(3, 9) - 1,
    "one pair": vectors(3, 2),
    "three pairs": vectors(3, 3),
    "one vector": vectors(1, 9)[0],
    "NaN": np.where(np.arange(36) % 5 == 0, np.nan, vectors(3, 9)),
    "NaN in one": np.where(np.arange(108).reshape(3, 36) == 40, np.nan, vectors(3, 9)),
    "infinity": np.where(np.arange(108).reshape(3, 36) == 40, np.inf, vectors(3, 9)),
}


@pytest.mark.parametrize("method", [*METHODS, "corr_cov", "nothing"])
@pytest.mark.parametrize("kind", AWKWARD)
def test_compare(method: str, kind: str) -> None:
    a = AWKWARD[kind]
    others = [a, AWKWARD["plain"], AWKWARD["ties"].astype(np.float32)]
    for b in others:
        for first, second in ((a, b), (b, a)):
            wanted = answer(original_compare, first, second, method)
            got = answer(compat.compare, first, second, method)
            if isinstance(wanted, tuple):
                assert got == wanted
                continue
            assert got.dtype == wanted.dtype
            # the original forms the norms of float32 in float32: sums of 36 products
            tolerance = 1e-5 if np.float32 in (a.dtype, b.dtype) else SCORE
            np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
    if a.ndim == 2 and a.shape[1] in (3, 36):
        wanted = answer(original_compare, RDMs(a), RDMs(a[:2]), method)
        got = answer(compat.compare, RDMs(a), RDMs(a[:2]), method)
        np.testing.assert_equal(type(got), type(wanted))


ZEROS = np.concatenate([vectors(2, 5), np.zeros((2, 10))])
# 10 times 0.1, added one by one, is not 1
CONSTANTS = np.concatenate([vectors(2, 5), [[0.5] * 10], [[0.1] * 10]])


@pytest.mark.parametrize("method", ["cosine", "corr", "spearman"])
def test_compare_with_vectors_of_norm_0(method: str) -> None:
    for V in (ZEROS, CONSTANTS):
        for rows in itertools.product(range(4), repeat=3):
            for dtype in (np.float64, np.float32):
                a, b = V[list(rows)].astype(dtype), vectors(2, 5, seed=1)
                for first, second in ((a, b), (b, a), (a, a)):
                    wanted = original_compare(first, second, method)
                    got = compat.compare(first, second, method)
                    assert got.dtype == wanted.dtype
                    # the original forms the norms of float32 in float32: sums of 10 products
                    np.testing.assert_allclose(got, wanted, rtol=0, atol=SCORE if dtype == np.float64 else 1e-6)


@pytest.mark.parametrize("method", ["cosine", "corr", "spearman"])
def test_compare_serves_vectors_of_norm_0(method: str) -> None:
    b = vectors(2, 5, seed=1)
    with compat.patch("rsatoolbox") as counts:
        rsatoolbox.rdm.compare(ZEROS, b, method)
        rsatoolbox.rdm.compare(ZEROS[2:], b, method)
        rsatoolbox.rdm.compare(b, ZEROS[2:], method)
        rsatoolbox.rdm.compare(CONSTANTS[:3], b, method)
        assert counts["rsatoolbox.rdm.compare"] == compat.Calls(served=4)
        rsatoolbox.rdm.compare(ZEROS[[2, 0, 1]], b, method)  # the original's scores are not in their places
        assert counts["rsatoolbox.rdm.compare"] == compat.Calls(served=4, passed_on=1)


def test_compare_serves_constant_vectors_under_tau_a() -> None:
    b = vectors(2, 5, seed=1)
    pairs = [p for V in (CONSTANTS, CONSTANTS[2:], CONSTANTS[[2, 0, 3]]) for p in ((V, b), (b, V), (V, V))]
    wanted = [original_compare(first, second, "tau-a") for first, second in pairs]
    with compat.patch("rsatoolbox") as counts:
        got = [rsatoolbox.rdm.compare(first, second, "tau-a") for first, second in pairs]
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=SCORE)
    assert counts["rsatoolbox.rdm.compare"] == compat.Calls(served=9)


def test_noise_ceiling_of_zeros_is_the_originals_error() -> None:
    for method in ("cosine", "corr"):
        wanted = answer(inference.boot_noise_ceiling, RDMs(ZEROS), method)
        assert wanted[0] is ValueError
        assert answer(compat.boot_noise_ceiling, RDMs(ZEROS), method) == wanted


@pytest.mark.parametrize(
    "name",
    ["compare_cosine", "compare_correlation", "compare_spearman", "compare_rho_a", "compare_kendall_tau"],
)
def test_compare_by_name(name: str) -> None:
    a, b = RDMs(vectors(3, 8)), RDMs(vectors(4, 8, levels=6))
    np.testing.assert_allclose(getattr(compat, name)(a, b), getattr(rsatoolbox.rdm, name)(a, b), rtol=0, atol=SCORE)
    with compat.patch("rsatoolbox") as counts:
        getattr(rsatoolbox.rdm, name)(a, b)
    assert counts[f"rsatoolbox.rdm.{name}"] == compat.Calls(served=1)


def test_weighted_ranks_are_those_of_the_repeated_vector() -> None:
    from scipy.stats import rankdata

    random = np.random.default_rng(3)
    V = random.integers(0, 12, size=(5, 40)).astype(float)
    weights = random.integers(1, 5, size=40)
    first = weights.cumsum() - weights
    expected = rankdata(np.repeat(V, weights, axis=1), axis=1)[:, first]
    np.testing.assert_array_equal(mid_ranks(V, weights), expected)
    np.testing.assert_array_equal(mid_ranks(V), rankdata(V, axis=1))


def models(n: int) -> list[Model]:
    V = vectors(6, n, seed=5)
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n, 1)] = V[0]
    return [
        ModelFixed("vector", V[0]),
        ModelFixed("matrix", matrix + matrix.T),
        ModelFixed("rdms", RDMs(vectors(1, n, levels=3, seed=6))),
        ModelWeighted("weighted", V[1:3]),
        ModelInterpolate("interpolated", V[3:5]),
    ]


def grouped(n: int, count: int) -> RDMs:
    return RDMs(
        vectors(count, n, levels=30),
        rdm_descriptors={"subject": [f"s{k % 3}" for k in range(count)]},
        pattern_descriptors={"index": np.arange(n), "category": np.arange(n)[::-1] // 2},
    )


EVALUATIONS: list[tuple[str, dict[str, Any]]] = [
    ("eval_bootstrap", {}),
    ("eval_bootstrap", {"boot_noise_ceil": False}),
    ("eval_bootstrap", {"rdm_descriptor": "subject"}),
    ("eval_bootstrap_pattern", {}),
    ("eval_bootstrap_pattern", {"boot_noise_ceil": False, "rdm_descriptor": "subject"}),
    ("eval_bootstrap_rdm", {}),
    ("eval_bootstrap_rdm", {"rdm_descriptor": "subject"}),
    ("eval_bootstrap_rdm", {"boot_noise_ceil": False}),
]


def assert_same_result(got: Any, wanted: Any) -> None:
    assert type(got) is type(wanted)
    np.testing.assert_allclose(got.evaluations, wanted.evaluations, rtol=0, atol=SCORE)
    np.testing.assert_allclose(got.noise_ceiling, wanted.noise_ceiling, rtol=0, atol=SCORE)
    np.testing.assert_allclose(got.variances, wanted.variances, rtol=0, atol=VARIANCE)
    for kind in ("method", "cv_method", "dof", "n_rdm", "n_pattern", "n_model", "models"):
        assert getattr(got, kind) == getattr(wanted, kind), kind
    for kind in ("model_var", "diff_var", "noise_ceil_var"):
        a, b = getattr(got, kind), getattr(wanted, kind)
        if b is None:
            assert a is None
        else:
            np.testing.assert_allclose(a, b, rtol=0, atol=VARIANCE)


def assert_same_evaluation(name: str, *arguments: Any, served: bool = True, **options: Any) -> None:
    np.random.seed(7)
    wanted = answer(getattr(inference, name), *arguments, **options)
    next_wanted = np.random.random()
    np.random.seed(7)
    with compat.patch("rsatoolbox") as counts:
        got = answer(getattr(inference, name), *arguments, **options)
    assert np.random.random() == next_wanted, "the generator is where the original leaves it"
    calls = counts[f"rsatoolbox.inference.{name}"]
    assert (calls.served, calls.passed_on) == (served, not served)
    if isinstance(wanted, tuple):
        assert got == wanted
    else:
        assert_same_result(got, wanted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "options"), EVALUATIONS, ids=str)
def test_bootstrap(name: str, options: dict[str, Any], method: str) -> None:
    assert_same_evaluation(name, models(8), grouped(8, 6), method=method, N=12, **options)


@pytest.mark.parametrize("method", ["cosine", "spearman"])
def test_bootstrap_of_groups_of_conditions(method: str) -> None:
    data = grouped(12, 4)
    fixed = ModelFixed(
        "descriptors of its own", RDMs(vectors(1, 12), pattern_descriptors=dict(data.pattern_descriptors))
    )
    for name in ("eval_bootstrap", "eval_bootstrap_pattern"):
        assert_same_evaluation(name, fixed, data, method=method, N=9, pattern_descriptor="category")


@pytest.mark.parametrize("count", [1, 2])
def test_bootstrap_of_few_rdms_and_conditions(count: int) -> None:
    # with 4 conditions many samples hold fewer than 3 different ones: NaN
    data = RDMs(vectors(count, 4))
    fixed = ModelFixed("m", vectors(1, 4, seed=2)[0])
    for name in ("eval_bootstrap", "eval_bootstrap_pattern", "eval_bootstrap_rdm"):
        # rsatoolbox corrects variances over RDMs by n / (n - 1)
        served = count > 1 or name == "eval_bootstrap_pattern"
        assert_same_evaluation(name, fixed, data, method="corr", N=30, served=served)


class Noisy(ModelFixed):  # type: ignore[misc]
    """Predicts anew at every call."""

    def predict_rdm(self, theta: Any = None) -> RDMs:
        return RDMs(self.rdm[None] + np.random.random(self.rdm.shape))


def test_bootstrap_passed_on() -> None:
    data, fixed = grouped(7, 3), ModelFixed("m", vectors(1, 7)[0])
    for name in ("eval_bootstrap", "eval_bootstrap_rdm", "eval_bootstrap_pattern"):
        assert_same_evaluation(name, fixed, data, method="corr_cov", N=3, served=False)
        assert_same_evaluation(name, fixed, data, N=1, served=False)
        assert_same_evaluation(name, Noisy("m", vectors(1, 7)[0]), data, N=4, served=False)
        assert_same_evaluation(name, ModelSelect("m", vectors(2, 7)), data, N=4, served=False)
        assert_same_evaluation(name, "no model", data, N=4, served=False)
        assert_same_evaluation(name, fixed, grouped(8, 3), N=4, served=False)
    # constant RDMs correlate with nothing, and what was drawn before that is noticed is drawn again
    constant = RDMs(np.concatenate([vectors(2, 6), np.full((1, 15), 2.0)]))
    for method in ("tau-b", "corr", "spearman"):
        for name in ("eval_bootstrap", "eval_bootstrap_pattern"):
            assert_same_evaluation(name, ModelFixed("m", vectors(1, 6)[0]), constant, method=method, N=5, served=False)


@pytest.mark.parametrize("method", ["spearman", "tau-a"])
@pytest.mark.parametrize(("name", "n"), [("eval_bootstrap_pattern", 6), ("eval_bootstrap", 8)])
def test_samples_of_few_conditions_do_not_spoil_the_others(name: str, n: int, method: str) -> None:
    """Of 1000 samples some hold 3 conditions, where pooled ranks tie and the model of two categories is constant."""
    random = np.random.default_rng(8)
    data = RDMs(random.random((5, n * (n - 1) // 2)))
    categories = np.arange(n) % 2
    both = [
        ModelFixed("random", random.random(n * (n - 1) // 2)),
        ModelFixed("categories", (categories[:, None] != categories)[np.triu_indices(n, 1)].astype(float)),
    ]
    np.random.seed(3)
    with compat.patch("rsatoolbox") as counts:
        got = getattr(inference, name)(both, data, method=method, N=1000)
    assert counts[f"rsatoolbox.inference.{name}"] == compat.Calls(served=1)
    np.random.seed(3)
    compared = 0
    for k in range(1000):
        rdms = np.random.randint(0, 5, size=5) if name == "eval_bootstrap" else np.arange(5)
        conditions = np.random.randint(0, n, size=n)
        if len(np.unique(conditions)) != 3 or compared == 15:
            continue
        compared += 1
        sample = data.subsample("index", rdms).subsample_pattern("index", conditions)
        for m, model in enumerate(both):
            wanted = original_compare(model.predict_rdm().subsample_pattern("index", conditions), sample, method)
            np.testing.assert_allclose(got.evaluations[k, m], np.mean(wanted), rtol=0, atol=SCORE)
        ceiling = inference.boot_noise_ceiling(sample, method)
        np.testing.assert_allclose(got.noise_ceiling[:, k], ceiling, rtol=0, atol=SCORE)
    assert compared == 15


@pytest.mark.parametrize("method", [m for m in METHODS if m != "kendall"])
def test_bootstrap_with_samples_that_are_constant(method: str) -> None:
    """In samples of the last four conditions alone a model and an RDM of the data are constant, and one is 0."""
    data = grouped(6, 4)
    V = data.dissimilarities
    late = np.triu_indices(6, 1)[0] >= 2
    V[1, late], V[2, late] = 0.1, 0
    ceiling = method not in ("cosine", "corr")  # rsatoolbox raises for such a sample's
    fixed = ModelFixed("m", np.where(late, 0.3, vectors(1, 6, seed=1)[0]))
    for name in ("eval_bootstrap", "eval_bootstrap_pattern"):
        assert_same_evaluation(name, [fixed, models(6)[0]], data, method=method, N=40, boot_noise_ceil=ceiling)


def test_bootstrap_of_a_descriptor_that_is_none_is_the_originals_error() -> None:
    for name in ("eval_bootstrap", "eval_bootstrap_pattern"):
        wanted = answer(getattr(inference, name), models(6), grouped(6, 3), N=2, pattern_descriptor=None)
        assert wanted == (KeyError, "None")
        assert answer(getattr(compat, name), models(6), grouped(6, 3), N=2, pattern_descriptor=None) == wanted


@pytest.mark.parametrize("method", ["corr", "cosine"])
def test_noise_ceiling_of_rdms_that_cancel(method: str) -> None:
    V = vectors(3, 5) - 1
    V[1] = -V[0] / 3
    got, wanted = (f(RDMs(V), method) for f in (compat.boot_noise_ceiling, inference.boot_noise_ceiling))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=SCORE)


@pytest.mark.parametrize("method", ["spearman", "tau-a", "tau-b"])
def test_warns_of_mean_ranks_as_the_original_does(method: str) -> None:
    data = grouped(6, 3)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("boot_noise_ceiling", {}),
        ("eval_fixed", {"models": models(6)}),
        *((name, {"models": models(6), "N": 2, **options}) for name, options in EVALUATIONS),
    ]

    def told(name: str, options: dict[str, Any]) -> set[tuple[Any, str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            first = (options.pop("models"), data) if "models" in options else (data,)
            getattr(inference, name)(*first, method=method, **options)
        return {(w.category, str(w.message)) for w in caught}

    for name, options in calls:
        np.random.seed(1)
        wanted = told(name, dict(options))
        assert len(wanted) == (method != "spearman")
        np.random.seed(1)
        with compat.patch("rsatoolbox") as counts:
            assert told(name, dict(options)) == wanted
        assert sum(c.passed_on for c in counts.values()) == 0


def test_bootstrap_with_parameters() -> None:
    weighted = ModelWeighted("w", vectors(3, 7))
    theta = [np.array([0.2, 0.5, 1.0])]
    assert_same_evaluation("eval_bootstrap_pattern", [weighted], grouped(7, 4), theta, "spearman", 8)


@pytest.mark.parametrize("method", [*METHODS, "cosine_cov", "nothing"])
def test_noise_ceiling(method: str) -> None:
    for data in (RDMs(AWKWARD["plain"]), RDMs(AWKWARD["ties"]), RDMs(AWKWARD["NaN"]), RDMs(AWKWARD["NaN in one"])):
        wanted = answer(inference.boot_noise_ceiling, data, method)
        got = answer(compat.boot_noise_ceiling, data, method)
        if wanted[0] in (ValueError, TypeError, IndexError):
            assert got == wanted
        else:
            assert [type(g) for g in got] == [type(w) for w in wanted]
            np.testing.assert_allclose(got, wanted, rtol=0, atol=SCORE)


def test_a_workflow_is_served_throughout() -> None:
    """From measurements to the comparison of models, with other evaluations in between that compare by themselves."""

    def workflow() -> tuple[Any, Any, Any, Any]:
        np.random.seed(11)
        random = np.random.default_rng(12)
        signal = random.normal(size=(10, 30))
        sets = [
            Dataset(signal + random.normal(size=(10, 30)), obs_descriptors={"stimulus": np.arange(10)})
            for _ in range(5)
        ]
        data = rsatoolbox.rdm.calc_rdm(sets, method="correlation", descriptor="stimulus")
        candidates = [
            ModelFixed(str(k), rsatoolbox.rdm.calc_rdm(Dataset(signal[:, :k] + random.normal(size=(10, k)))))
            for k in (3, 10, 30)
        ]
        scores = rsatoolbox.rdm.compare(candidates[0].rdm_obj, data, method="spearman")
        fixed = inference.eval_fixed(candidates, data, method="rho-a")
        dual = inference.eval_dual_bootstrap(candidates, data, method="spearman", N=4)
        return scores, fixed, dual, inference.eval_bootstrap_pattern(candidates, data, method="spearman", N=50)

    wanted = workflow()
    with compat.patch("rsatoolbox") as counts:
        got = workflow()
    np.testing.assert_allclose(got[0], wanted[0], rtol=0, atol=SCORE)
    for a, b in zip(got[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(a.evaluations, b.evaluations, rtol=0, atol=SCORE)
        np.testing.assert_allclose(a.noise_ceiling, b.noise_ceiling, rtol=0, atol=SCORE)
        np.testing.assert_allclose(a.get_means(), b.get_means(), rtol=0, atol=SCORE)
    np.testing.assert_allclose(got[3].get_ci(0.95), wanted[3].get_ci(0.95), rtol=0, atol=1e-12)
    np.testing.assert_allclose(got[3].test_all()[0], wanted[3].test_all()[0], rtol=0, atol=1e-10)
    assert sum(c.passed_on for c in counts.values()) == 0
    assert counts["rsatoolbox.rdm.calc_rdm"].served == 4
    assert counts["rsatoolbox.inference.eval_bootstrap_pattern"].served == 1
