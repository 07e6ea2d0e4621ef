"""Times gradients beside torch's, and takes their peak memory: `python benchmarks/gradients.py --only 'laplacian-*'`.

A call is forward and backward of a sum over the pairwise matrix. The error is that of a sample of the gradient's rows
against float64, relative to their length. Peak memory is what a fresh process takes on top of the features.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from cases import OURS, SAMPLED_ROWS, Case, features
from measure import Contender
from run import run_some
from torch import Tensor

import dds_ext
from dds_ext._arrays import features as engine_features
from dds_ext._compute import compute
from dds_ext._requests import Options, Request

OUTPUT = Path(__file__).parent / "results" / "gradients.json"
SIZES = ((200, 2048), (1000, 2048), (3000, 512))
L1 = ("laplacian", "manhattan")


def _cdist(x: Tensor, f: str, p: float = 1.0) -> Tensor:
    D = torch.cdist(x, x, p=p)
    return torch.exp(D / -x.shape[1]) if f == "laplacian" else D


def _gram(x: Tensor, f: str) -> Tensor:
    if f == "linear":
        return x @ x.T
    z = x - x.mean(1, keepdim=True) if f == "pearson" else x
    z = z / z.norm(dim=1, keepdim=True)
    return 1 - z @ z.T


def _gradient(matrix: Callable[[Tensor], Tensor], n: int, d: int) -> Callable[[], Tensor]:
    X = torch.from_numpy(features(n, d))

    def call() -> Tensor:
        x = X.detach().requires_grad_()
        (grad,) = torch.autograd.grad(matrix(x).sum(), x)
        return grad

    return call


def _error(f: str, n: int, d: int) -> Callable[[Tensor], float]:
    """Of L1-based gradients: each is 2 sum_j K'_ij sign(x_i - x_j)."""
    X = features(n, d).astype(np.float64)
    rows = np.unique(np.linspace(0, n - 1, SAMPLED_ROWS).astype(np.int64))
    exact = []
    for i in rows:
        slope = np.exp(-np.abs(X[i] - X).sum(1) / d) / -d if f == "laplacian" else np.ones(n)
        exact.append(2 * slope @ np.sign(X[i] - X))
    length = np.linalg.norm(exact)
    return lambda grad: float(np.linalg.norm(grad[rows].double().numpy() - exact) / length)


def _contenders(f: str, n: int, d: int) -> list[Contender]:
    error = _error(f, n, d) if f in L1 else None
    out = [Contender(OURS, _gradient(lambda x: dds_ext.rdm(x, f), n, d), error, "relative to the gradient's length")]
    if f in L1:
        out.append(
            Contender("torch.cdist", _gradient(lambda x: _cdist(x, f), n, d), error, out[0].error_kind, slow=True)
        )
    elif f == "euclidean":
        out.append(Contender("torch.cdist", _gradient(lambda x: _cdist(x, f, 2.0), n, d)))
    else:
        out.append(Contender("torch matmul", _gradient(lambda x: _gram(x, f), n, d)))
    return out


def _overhead() -> list[Contender]:
    X = torch.from_numpy(features(8, 16))
    x = X.clone().requires_grad_()
    return [
        Contender("bare kernel", lambda: compute([Request(engine_features(X, "X", None, False), None, Options())])),
        Contender(f"{OURS} operator", lambda: torch.ops.dds_ext.pairwise(X)),
        Contender(f"{OURS} operator, recorded", lambda: torch.ops.dds_ext.pairwise(x)),
        Contender(f"{OURS} operator, forward and backward", _gradient(torch.ops.dds_ext.pairwise, 8, 16)),
        Contender("torch.cdist, forward and backward", _gradient(lambda x: _cdist(x, "laplacian"), 8, 16)),
    ]


CASES = {
    case.name: case
    for case in [
        Case("overhead", "laplacian of 8 images with 16 features: what an operator costs", _overhead, small=True),
        *(
            Case(
                f"{f}-{n}x{d}",
                f"forward and backward of {f}, {n} images with {d} features, float32",
                lambda f=f, n=n, d=d: _contenders(f, n, d),  # type: ignore[misc]
                {"f": f, "n": n, "d": d},
            )
            for f in ("laplacian", "manhattan", "euclidean", "linear", "pearson")
            for n, d in SIZES
        ),
    ]
}


def _status(field: str) -> int:
    """Bytes, by /proc/self/status."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return 1024 * int(match[1])


def peak(case: str, contender: str) -> int:
    """Bytes that one call takes at most on top of what is there; to be called in a fresh process."""
    call = next(c.call for c in CASES[case].prepare() if c.name == contender)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _add_peaks(case: Case, result: dict[str, Any]) -> None:
    for name, figures in result["contenders"].items():
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            figures["peak_bytes"] = fresh.submit(peak, case.name, name).result()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="NAME", help="A case, or a pattern such as 'laplacian-*'. Repeatable.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=OUTPUT, show_default=True)
@click.option("--quick", is_flag=True, help="Few repeats and no slow contenders: to try it.")
def main(only: tuple[str, ...], output: Path, quick: bool) -> None:
    """Time gradients and torch's own side by side, take their peak memory, and merge the figures into a JSON file."""
    run_some(CASES, only, output, quick, _add_peaks)


if __name__ == "__main__":
    main()
