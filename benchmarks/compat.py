"""Times the drop-ins beside the functions they replace: `python benchmarks/compat.py --only 'rsatoolbox-*'`.

Both take turns in one process, with one number of threads, on sizes that the originals' users have. The error is the
largest difference from the original's own answer.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import rsatoolbox
from cases import OURS, Case, features
from measure import Contender
from rsatoolbox import inference
from rsatoolbox.model import ModelFixed
from run import run_some
from scipy.spatial import distance
from sklearn.metrics import pairwise

from dds_ext import compat

OUTPUT = Path(__file__).parent / "results" / "compat.json"
IMAGES, CHANNELS = 1000, 10_000
CONDITIONS, SUBJECTS, MODELS, SAMPLES = 50, 10, 5, 100


def _numbers(result: Any) -> npt.NDArray[Any]:
    for attribute in ("evaluations", "dissimilarities"):
        result = getattr(result, attribute, result)
    return np.asarray(result)


def _case(name: str, package: str, about: str, call: Callable[[Any], Any]) -> Case:
    """`call` of the module that holds the original, and of `compat`."""
    modules = {
        "scikit-learn": pairwise,
        "SciPy": distance,
        "rsatoolbox.rdm": rsatoolbox.rdm,
        "rsatoolbox.inference": inference,
    }

    def timed(module: Any) -> Callable[[], Any]:
        def once() -> Any:
            np.random.seed(0)  # a bootstrap's draws
            with contextlib.redirect_stderr(io.StringIO()):  # and its progress bar
                return call(module)

        return once

    def prepare() -> list[Contender]:
        original = timed(modules[package])
        wanted = lru_cache(lambda: _numbers(original()))
        return [
            Contender(OURS, timed(compat), lambda result: float(np.abs(_numbers(result) - wanted()).max())),
            Contender(package.partition(".")[0], original),
        ]

    return Case(name, about, prepare, small=True)


def _cases() -> list[Case]:
    cases = []
    for dtype in ("float64", "float32"):

        def X(dtype: str = dtype) -> npt.NDArray[Any]:
            return features(IMAGES, 2048, dtype)

        for name in (
            "laplacian_kernel",
            "rbf_kernel",
            "linear_kernel",
            "cosine_similarity",
            "manhattan_distances",
            "euclidean_distances",
        ):
            about = f"{name}, {IMAGES} x 2048, {dtype}"
            cases.append(
                _case(f"sklearn-{name}-{dtype}", "scikit-learn", about, lambda m, name=name, X=X: getattr(m, name)(X()))
            )
    for metric in ("cityblock", "euclidean", "sqeuclidean", "cosine", "correlation"):
        for name in ("pdist", "cdist"):

            def call(m: Any, name: str = name, metric: str = metric) -> Any:
                A = features(IMAGES, 2048, "float64")
                return m.pdist(A, metric) if name == "pdist" else m.cdist(A, A[:500], metric)

            cases.append(_case(f"scipy-{name}-{metric}", "SciPy", f"{name} {metric}, {IMAGES} x 2048", call))
    for method in ("euclidean", "correlation"):

        def calc(m: Any, method: str = method) -> Any:
            return m.calc_rdm(_dataset(), method)

        about = f"calc_rdm {method}, {IMAGES} x {CHANNELS}, float64"
        cases.append(_case(f"rsatoolbox-calc_rdm-{method}", "rsatoolbox.rdm", about, calc))
    for method in ("cosine", "corr", "spearman", "rho-a", "tau-a", "tau-b"):

        def compare(m: Any, method: str = method) -> Any:
            return m.compare(_rdms(200, 5, 1), _rdms(200, 10, 2), method)

        about = f"compare {method}, 5 with 10 RDMs of 200 conditions"
        cases.append(_case(f"rsatoolbox-compare-{method}", "rsatoolbox.rdm", about, compare))
    for name, method, samples in (
        *(("eval_bootstrap_pattern", m, SAMPLES) for m in ("spearman", "rho-a", "cosine", "corr", "tau-a")),
        ("eval_bootstrap_pattern", "spearman", 1000),
        ("eval_bootstrap", "spearman", SAMPLES),
        ("eval_bootstrap_rdm", "spearman", SAMPLES),
    ):

        def bootstrap(m: Any, name: str = name, method: str = method, samples: int = samples) -> Any:
            models = [ModelFixed(f"{k}", v) for k, v in enumerate(_rdms(CONDITIONS, MODELS, 1).dissimilarities)]
            return getattr(m, name)(models, _rdms(CONDITIONS, SUBJECTS, 2), method=method, N=samples)

        about = f"{name} {method}: {samples} samples, {MODELS} models, {SUBJECTS} RDMs of {CONDITIONS} conditions"
        many = "" if samples == SAMPLES else f" ({samples} samples)"
        cases.append(_case(f"rsatoolbox-{name}-{method}{many}", "rsatoolbox.inference", about, bootstrap))
    for method in ("cosine", "spearman", "tau-a"):

        def ceiling(m: Any, method: str = method) -> Any:
            return m.boot_noise_ceiling(_rdms(200, SUBJECTS, 2), method=method)

        about = f"boot_noise_ceiling {method}, {SUBJECTS} RDMs of 200 conditions"
        cases.append(_case(f"rsatoolbox-boot_noise_ceiling-{method}", "rsatoolbox.inference", about, ceiling))
    return cases


@lru_cache(maxsize=1)
def _dataset() -> Any:
    return rsatoolbox.data.Dataset(np.asarray(features(IMAGES, CHANNELS, "float64")))


@lru_cache
def _rdms(n: int, count: int, seed: int) -> Any:
    """RDMs that have something in common, as those of subjects and good models have."""
    shared = np.random.default_rng(0).random(n * (n - 1) // 2)
    return rsatoolbox.rdm.RDMs(shared + np.random.default_rng(seed).random((count, len(shared))))


CASES = {case.name: case for case in _cases()}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="NAME", help="A case, or a pattern such as 'scipy-*'. Repeatable.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=OUTPUT, show_default=True)
@click.option("--quick", is_flag=True, help="Few repeats: to try it.")
def main(only: tuple[str, ...], output: Path, quick: bool) -> None:
    """Time the drop-ins and their originals side by side, and merge the figures into a JSON file."""
    run_some(CASES, only, output, quick)


if __name__ == "__main__":
    main()
