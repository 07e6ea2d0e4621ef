"""Drop-ins for rsatoolbox: RDMs, their comparison, bootstraps and noise ceilings."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import rsatoolbox.inference
import rsatoolbox.rdm
from rsatoolbox.data import average_dataset_by
from rsatoolbox.inference import Result
from rsatoolbox.inference import boot_noise_ceiling as original_noise_ceiling
from rsatoolbox.model import ModelFixed, ModelInterpolate, ModelSelect, ModelWeighted
from rsatoolbox.rdm import RDMs, concat
from rsatoolbox.rdm import compare as original_compare
from rsatoolbox.rdm.combine import from_partials
from rsatoolbox.rdm.compare import compare_kendall_tau_a as original_tau_a
from rsatoolbox.util.build_rdm import _build_rdms
from rsatoolbox.util.inference_util import input_check_model

from dds_ext.compat._bootstrap import Bootstrap, Drawn, Draws, Evaluator, Scores
from dds_ext.compat._drop_in import DropIn, NotServed
from dds_ext.compat._weighted import METHODS, TAUS, Vectors, prepared, similarities
from dds_ext.pairwise import rdm

_MODELS = (ModelFixed, ModelInterpolate, ModelSelect, ModelWeighted)


def _measured(dataset: Any, descriptor: str | None) -> tuple[npt.NDArray[Any], Any]:
    """The measurements, averaged over what has the same value of the descriptor, and those values."""
    with _refused_by_rsatoolbox():
        if descriptor is None:
            X, values = dataset.measurements, None
        else:
            X, values, _ = average_dataset_by(dataset, descriptor)
    if (
        type(X) not in (np.ndarray, np.memmap)
        or X.ndim != 2
        or X.dtype.kind not in "biuf"
        or X.dtype.itemsize > 8
        or X.dtype == np.float16
    ):
        raise NotServed("measurements of another type or shape")
    return X if X.dtype == np.float32 else X.astype(np.float64, copy=False), values


def calc_rdm_euclidean(dataset: Any, descriptor: str | None = None, remove_mean: bool = False) -> RDMs:
    """rsatoolbox.rdm.calc_rdm_euclidean: |x - y|^2 / d, the squared distance divided by the number of channels.

    Of float32 measurements the result is float32, else float64. `remove_mean` takes each pattern's mean off first.
    """
    X, values = _measured(dataset, descriptor)
    if remove_mean:
        X = X - X.mean(axis=1, keepdims=True)
    D = rdm(X, "sqeuclidean", condensed=True) / X.shape[1]
    return _build_rdms(D, dataset, "squared euclidean", descriptor, values)


def calc_rdm_correlation(dataset: Any, descriptor: str | None = None) -> RDMs:
    """rsatoolbox.rdm.calc_rdm_correlation: 1 - r of the patterns; dissimilarities in float64.

    Constant patterns and NaN are passed on.
    """
    X, values = _measured(dataset, descriptor)
    D = rdm(X, "pearson", condensed=True).astype(np.float64, copy=False)
    return _build_rdms(D, dataset, "correlation", descriptor, values)


def calc_rdm(
    dataset: Any,
    method: str = "euclidean",
    descriptor: str | None = None,
    noise: Any = None,
    cv_descriptor: str | None = None,
    prior_lambda: float = 1.0,
    prior_weight: float = 0.1,
    remove_mean: bool = False,
) -> RDMs:
    """rsatoolbox.rdm.calc_rdm, served for three methods; returns rsatoolbox's RDMs, sorted by `descriptor` where given.

    "euclidean" is `calc_rdm_euclidean` (squared, divided by the number of channels), "correlation" is
    `calc_rdm_correlation`, "mahalanobis" without `noise` is "euclidean". A list of datasets gives the RDMs of all, and
    may come with a list of noises. Others ("mahalanobis" with noise, "crossnobis", "poisson", "poisson_cv") are passed
    on, and so are iterators over datasets and measurements over time.
    """
    if method not in ("euclidean", "correlation", "mahalanobis"):
        raise NotServed(f"method {method!r}")
    if not isinstance(dataset, Iterable):
        return _rdm_of_one(dataset, method, descriptor, noise, remove_mean)
    datasets, one_each = list(dataset), isinstance(noise, Iterable)
    with _refused_by_rsatoolbox():
        noises = [noise[i] if one_each else noise for i in range(len(datasets))]
    if method == "mahalanobis" and any(own is not None for own in noises):
        raise NotServed("mahalanobis with noise")
    each = [_rdm_of_one(d, method, descriptor, n, remove_mean) for d, n in zip(datasets, noises, strict=True)]
    return concat(each) if descriptor is None else from_partials(each, descriptor=descriptor)


def _rdm_of_one(dataset: Any, method: str, descriptor: str | None, noise: Any, remove_mean: bool) -> RDMs:
    if method == "correlation":
        result = calc_rdm_correlation(dataset, descriptor)
    elif method == "euclidean" or noise is None:
        result = calc_rdm_euclidean(dataset, descriptor, remove_mean)
    else:
        raise NotServed("mahalanobis with noise")
    if descriptor is not None:
        result.sort_by(reindex=True, **{descriptor: "alpha"})
    return result


def _vectors(rdms: Any) -> npt.NDArray[Any]:
    if type(rdms) is not np.ndarray and not isinstance(rdms, RDMs):
        raise NotServed("neither RDMs nor a plain array")
    V = rdms if isinstance(rdms, np.ndarray) else rdms.get_vectors()
    V = V.reshape(1, -1) if V.ndim == 1 else V
    if V.ndim != 2 or V.dtype.kind not in "iuf" or V.dtype.itemsize > 8 or V.dtype == np.float16:
        raise NotServed("dissimilarities of another type or shape")
    return V


def compare(rdm1: Any, rdm2: Any, method: str = "cosine", sigma_k: Any = None) -> npt.NDArray[Any]:
    """rsatoolbox.rdm.compare, served for six methods.

    Parameters
    ----------
    rdm1, rdm2 : RDMs, or arrays (k, P) or (P,) of dissimilarities, P = n (n - 1) / 2.
    method : "cosine"; "corr", Pearson; "spearman", ties sharing their mean rank; "rho-a", Spearman without correction
        for ties; "tau-a"; "tau-b" or "kendall". Others are passed on.
    sigma_k : for the methods that are passed on.

    Returns
    -------
    (k1, k2) scores; float32 for "cosine" and "corr" of float32 dissimilarities, else float64. A position that is NaN in
    any RDM is left out of all; rdm1 and rdm2 must have the same such positions.

    A vector that is 0 under "cosine", or constant under "corr", "spearman" or "tau-a", scores 0 with all. Where such a
    vector stands among others, rsatoolbox 0.3.2 may, but for "tau-a", repeat and move the others' scores; those calls
    are passed on. So are float32 with such a vector under "cosine" and "corr", a constant whose mean is rounded under
    "corr" (rsatoolbox correlates what rounding leaves), and constant vectors under "tau-b" (it is NaN).
    """
    if method not in METHODS:
        raise NotServed(f"method {method!r}")
    a, b = _vectors(rdm1), _vectors(rdm2)
    if method == "cosine" and a.dtype.kind != "f" and b.dtype.kind != "f":
        raise NotServed("cosine of integers")  # rsatoolbox refuses it
    known = ~np.isnan(a).any(axis=0)
    if a.shape[1] != b.shape[1] or not np.array_equal(known, ~np.isnan(b).any(axis=0)):
        raise NotServed("NaN in different places, or different numbers of dissimilarities")
    singles = [V.dtype == np.float32 and method in ("cosine", "corr") for V in (a, b)]
    if not known.all():
        a, b = a[:, known], b[:, known]
    a, b = _finite(a), _finite(b)
    if a.shape[1] < 2:
        raise NotServed("fewer than 2 dissimilarities")
    a, b = prepared(a, method), prepared(b, method)
    if method not in ("cosine", "corr", "spearman") or (a.any(axis=1).all() and b.any(axis=1).all()):
        scores = similarities(a, b, method)
        return scores.astype(np.float32) if all(singles) else scores
    if any(singles):
        raise NotServed("float32 vectors of norm 0")
    return _with_zeros(a, b, method)


def _with_zeros(a: Vectors, b: Vectors, method: str) -> Vectors:
    """Cosines where some vectors are 0. rsatoolbox puts the others' in place by `np.putmask`."""
    some = a.any(axis=1), b.any(axis=1)
    nonzero = np.outer(*some)
    served, theirs = np.zeros(nonzero.shape), np.zeros(nonzero.shape)
    served[nonzero] = similarities(a[some[0]], b[some[1]], method).ravel()
    np.putmask(theirs, nonzero, served[nonzero])
    if not np.array_equal(served, theirs):
        raise NotServed("vectors of norm 0 among others")
    return served


def compare_cosine(rdm1: Any, rdm2: Any) -> npt.NDArray[Any]:
    """rsatoolbox.rdm.compare_cosine: `compare` by "cosine"."""
    return compare(rdm1, rdm2, "cosine")


def compare_correlation(rdm1: Any, rdm2: Any) -> npt.NDArray[Any]:
    """rsatoolbox.rdm.compare_correlation: `compare` by "corr"."""
    return compare(rdm1, rdm2, "corr")


def compare_spearman(rdm1: Any, rdm2: Any) -> npt.NDArray[Any]:
    """rsatoolbox.rdm.compare_spearman: `compare` by "spearman"."""
    return compare(rdm1, rdm2, "spearman")


def compare_rho_a(rdm1: Any, rdm2: Any) -> npt.NDArray[Any]:
    """rsatoolbox.rdm.compare_rho_a: `compare` by "rho-a"."""
    return compare(rdm1, rdm2, "rho-a")


def compare_kendall_tau(rdm1: Any, rdm2: Any) -> npt.NDArray[Any]:
    """rsatoolbox.rdm.compare_kendall_tau: `compare` by "tau-b"."""
    return compare(rdm1, rdm2, "tau-b")


def compare_kendall_tau_a(rdm1: Any, rdm2: Any) -> npt.NDArray[Any]:
    """rsatoolbox.rdm.compare.compare_kendall_tau_a: `compare` by "tau-a"."""
    return compare(rdm1, rdm2, "tau-a")


def _finite(V: npt.NDArray[Any]) -> Vectors:
    if not np.isfinite(V).all():
        raise NotServed("NaN or infinity")
    return V.astype(np.float64, copy=False)


def boot_noise_ceiling(rdms: RDMs, method: str = "cosine", rdm_descriptor: str = "index") -> tuple[Any, Any]:
    """rsatoolbox.inference.boot_noise_ceiling: (lower, upper) bound of a model's score.

    Upper: the mean score of the RDMs' pooled mean on each group of RDMs; lower: that of the mean of the other groups.
    Served for the methods of `compare`, where NaN is in the same places in all RDMs. Those of the taus are of mean
    ranks, and rsatoolbox's UserWarning says so.
    """
    if method not in METHODS:
        raise NotServed(f"method {method!r}")
    if not isinstance(rdms, RDMs):
        raise NotServed("no RDMs")
    V = _vectors(rdms)
    known = ~np.isnan(V[0])
    V = _finite(V[:, known])
    groups = Draws.of(rdms.rdm_descriptors, rdm_descriptor).labels
    evaluator = Evaluator(np.empty((0, V.shape[1])), V, groups, method)
    _, bounds = evaluator.evaluate(None, np.ones(len(V), np.int64), ceiling=True)
    assert bounds is not None
    _warn_of_mean_ranks(method)
    return np.float64(bounds[0]), np.float64(bounds[1])


def _warn_of_mean_ranks(method: str) -> None:
    if method in TAUS:
        warnings.warn("Noise ceiling for tau based on averaged ranks!", stacklevel=3)


@contextlib.contextmanager
def _undrawn_on_failure() -> Iterator[None]:
    before = np.random.get_state()
    try:
        yield
    except BaseException:
        np.random.set_state(before)
        raise


@contextlib.contextmanager
def _refused_by_rsatoolbox() -> Iterator[None]:
    """For its own code on the caller's models and parameters, which has no one type of error for what does not fit."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError) as error:
        raise NotServed(str(error)) from error


class _Evaluation:
    """The arguments that the bootstraps have in common, checked."""

    def __init__(
        self, models: Any, data: RDMs, theta: Any, method: str, N: int, rdm_descriptor: str, ceiling: bool
    ) -> None:
        if method not in METHODS or isinstance(N, bool) or not isinstance(N, int | np.integer) or N < 2:
            raise NotServed(f"method {method!r} or N={N!r}")
        if not isinstance(data, RDMs):
            raise NotServed("data that are not RDMs")
        with _refused_by_rsatoolbox():
            models, _, theta, _ = input_check_model(models, theta, None, N)
        # other models may predict anew at every call
        if not models or not all(type(m) in _MODELS for m in models):
            raise NotServed("models of another kind")
        with _refused_by_rsatoolbox():
            self.predicted = [m.predict_rdm(theta=theta[k]) for k, m in enumerate(models)]
        if any(p.n_rdm != 1 or p.n_cond != data.n_cond for p in self.predicted):
            raise NotServed("models of another size")
        self.models, self.data, self.method, self.N, self.ceiling = models, data, method, N, ceiling
        self.rdms = Draws.of(data.rdm_descriptors, rdm_descriptor)

    def patterns(self, descriptor: str) -> Draws:
        """The bootstrap over conditions. The same draw must select the same of the models' and of the data's."""
        draws = Draws.of(self.data.pattern_descriptors, descriptor)
        for p in self.predicted:
            if not np.array_equal(p.pattern_descriptors.get(descriptor), self.data.pattern_descriptors[descriptor]):
                raise NotServed("conditions in another order")
        return draws

    def _by_rsatoolbox(self, rdms: Drawn | None, patterns: Drawn | None) -> Scores:
        sample, predicted = self.data, self.predicted
        if rdms is not None:
            sample = sample.subsample(*rdms.selection)
        if patterns is not None:
            sample = sample.subsample_pattern(*patterns.selection)
            predicted = [p.subsample_pattern(*patterns.selection) for p in predicted]
        scores = np.array([np.mean(original_compare(p, sample, self.method)) for p in predicted])
        return scores, original_noise_ceiling(sample, self.method, self.rdms.descriptor) if self.ceiling else None

    @_undrawn_on_failure()
    def bootstrap(self, cv_method: str, rdms: Draws | None = None, patterns: Draws | None = None) -> Result:
        """The bootstrap over the dimensions given. Where it fails NumPy's generator is left as it was, so that the
        original draws the same samples.
        """
        data = self.data
        if rdms is not None and data.n_rdm == 1:
            raise NotServed("a bootstrap over one RDM")  # whose variance rsatoolbox divides by 0
        V = np.concatenate([_finite(_vectors(p)) for p in self.predicted])
        evaluator = Evaluator(V, _finite(_vectors(data)), self.rdms.labels, self.method)

        ceiling = None if self.ceiling else np.array(boot_noise_ceiling(data, self.method, self.rdms.descriptor))
        scores, ceilings = Bootstrap(evaluator, rdms, patterns, self._by_rsatoolbox).run(self.N, self.ceiling)
        if self.ceiling:
            _warn_of_mean_ranks(self.method)
            ceiling = ceilings
        valid = np.isfinite(scores[:, 0])
        if patterns is None:  # rsatoolbox has the noise ceiling's variance in the others alone
            variances = np.cov(scores.T)
        elif self.ceiling:
            variances = np.cov(np.concatenate([scores[valid].T, ceilings[:, valid]]))
        else:
            variances = np.cov(scores[valid].T)
        sizes = {"n_rdm": None if rdms is None else data.n_rdm, "n_pattern": None if patterns is None else data.n_cond}
        result = Result(
            self.models,
            scores,
            method=self.method,
            cv_method=cv_method,
            noise_ceiling=ceiling,
            variances=variances,
            dof=min(size for size in sizes.values() if size is not None) - 1,
            **sizes,
        )
        # the constructor corrects variances for the sizes of what was drawn; the result tells both
        result.n_rdm, result.n_pattern = data.n_rdm, data.n_cond
        return result


def eval_bootstrap(
    models: Any,
    data: RDMs,
    theta: Any = None,
    method: str = "cosine",
    N: int = 1000,
    pattern_descriptor: str = "index",
    rdm_descriptor: str = "index",
    boot_noise_ceil: bool = True,
) -> Result:
    """rsatoolbox.inference.eval_bootstrap: models on N bootstrap samples of RDMs and conditions.

    Samples are drawn by NumPy's global generator in rsatoolbox's order: the same `np.random.seed` gives the same
    numbers. Served for the methods of `compare` and rsatoolbox's four kinds of models, on finite dissimilarities;
    without a progress bar. Single samples that `compare` passes on, with constant RDMs for example, are scored by
    rsatoolbox itself.
    """
    evaluation = _Evaluation(models, data, theta, method, N, rdm_descriptor, boot_noise_ceil)
    return evaluation.bootstrap("bootstrap", evaluation.rdms, evaluation.patterns(pattern_descriptor))


def eval_bootstrap_pattern(
    models: Any,
    data: RDMs,
    theta: Any = None,
    method: str = "cosine",
    N: int = 1000,
    pattern_descriptor: str = "index",
    rdm_descriptor: str = "index",
    boot_noise_ceil: bool = True,
) -> Result:
    """rsatoolbox.inference.eval_bootstrap_pattern: as `eval_bootstrap`, over conditions alone."""
    evaluation = _Evaluation(models, data, theta, method, N, rdm_descriptor, boot_noise_ceil)
    return evaluation.bootstrap("bootstrap_pattern", patterns=evaluation.patterns(pattern_descriptor))


def eval_bootstrap_rdm(
    models: Any,
    data: RDMs,
    theta: Any = None,
    method: str = "cosine",
    N: int = 1000,
    rdm_descriptor: str = "index",
    boot_noise_ceil: bool = True,
) -> Result:
    """rsatoolbox.inference.eval_bootstrap_rdm: as `eval_bootstrap`, over RDMs alone."""
    evaluation = _Evaluation(models, data, theta, method, N, rdm_descriptor, boot_noise_ceil)
    return evaluation.bootstrap("bootstrap_rdm", rdms=evaluation.rdms)


DROP_INS = (
    *(
        DropIn(f"rsatoolbox.rdm.{fast.__name__}", getattr(rsatoolbox.rdm, fast.__name__), fast)
        for fast in (
            calc_rdm,
            calc_rdm_euclidean,
            calc_rdm_correlation,
            compare,
            compare_cosine,
            compare_correlation,
            compare_spearman,
            compare_rho_a,
            compare_kendall_tau,
        )
    ),
    DropIn("rsatoolbox.rdm.compare.compare_kendall_tau_a", original_tau_a, compare_kendall_tau_a),
    *(
        DropIn(f"rsatoolbox.inference.{fast.__name__}", getattr(rsatoolbox.inference, fast.__name__), fast)
        for fast in (boot_noise_ceiling, eval_bootstrap, eval_bootstrap_pattern, eval_bootstrap_rdm)
    ),
)
