"""Scores between representations: similarity, affinity matrices, and the named measures of the literature."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dds_ext._arrays import Array, Features, Matrices, features, through_operators, to_numpy
from dds_ext._compute import compute
from dds_ext._requests import CENTERINGS, METRICS, NORMALIZATIONS, Options, Request, choose
from dds_ext.comparison import COMPARISONS, centered, compare, compared, condenses, scores
from dds_ext.pairwise import rdm

Models = Mapping[str, Array] | Sequence[Array]
Score = Any
"""A float64 tensor of no dimensions where the features are tensors, else a float."""

MEASURES: dict[str, dict[str, str]] = {
    "dds": {"normalize": "zscore", "f": "laplacian", "center": "unbiased", "g": "cosine"},
    "rsa": {"normalize": "center", "f": "pearson", "center": "none", "g": "spearman"},
    "cka-linear": {"normalize": "none", "f": "linear", "center": "double", "g": "cosine"},
    "cka-rbf": {"normalize": "none", "f": "rbf", "center": "double", "g": "cosine"},
}
"""Options of `similarity` by the name of a measure."""


_MORE = ("gamma", "channels", "channels_last", "groups", "precision", "check_finite")


def _check_names(allowed: Sequence[str], options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in allowed:
            raise TypeError(f"unknown option {name!r}; choose from {', '.join(allowed)}")


def _options(allowed: Sequence[str], options: Mapping[str, Any], **fixed: Any) -> Options:
    _check_names(allowed, options)
    return Options(**fixed, **options)


def _models(models: Models, role: str, options: Options) -> list[Features]:
    items: list[tuple[str, Array]]
    if isinstance(models, Mapping):
        items = [(f"{role} '{name}'", x) for name, x in models.items()]
    elif isinstance(models, torch.Tensor | np.ndarray | str) or not isinstance(models, Iterable):
        raise TypeError(f"{role}s must be a mapping or a sequence of feature arrays, got {type(models).__name__}")
    else:
        items = [(f"{role} {i}", x) for i, x in enumerate(models)]
    if not items:
        raise ValueError(f"there are no {role}s")
    return [features(x, name, options.channels, options.channels_last) for name, x in items]


def _check_same_n(models: Sequence[Features]) -> None:
    for model in models[1:]:
        if model.n != models[0].n:
            raise ValueError(
                f"different numbers of images: {models[0].name} has {models[0].n}, {model.name} has {model.n}"
            )


def _stacks(models: Sequence[Features], options: Sequence[Options], condensed: bool) -> list[Matrices]:
    """The matrices of all models, (len(models), n, n) or condensed, one stack for each of the options."""
    if any(x.wide for x in models):
        models = [x.widened() for x in models]
    n, wide, device = models[0].n, models[0].wide, models[0].device
    shape = (len(models), n * (n - 1) // 2) if condensed else (len(models), n, n)
    stacks: list[Matrices]
    if device.type == "cuda":
        stacks = [torch.empty(shape, dtype=torch.float64 if wide else torch.float32, device=device) for _ in options]
    else:
        stacks = [np.empty(shape, np.float64 if wide else np.float32) for _ in options]
    compute(
        [
            Request(x, None, o, condensed, out=k[i])
            for i, x in enumerate(models)
            for o, k in zip(options, stacks, strict=True)
        ]
    )
    return stacks


def _scores(
    sources: Sequence[Features],
    targets: Sequence[Features] | None,
    a: Matrices,
    b: Matrices | None,
    g: str,
    check: bool,
) -> Matrices:
    """Compares the models' matrices, a stack of each; the scores are where the matrices are."""
    names, others = ([f"the matrix of {x.name}" for x in models] for models in (sources, targets or []))
    return scores(compared(a, g), None if b is None else compared(b, g), g, names, others, check)


def _affinity(sources: Sequence[Features], targets: Sequence[Features] | None, options: Options, g: str) -> Matrices:
    """The scores, where the features are."""
    a, b = (None if m is None else _stacks(m, [options], condenses(g))[0] for m in (sources, targets))
    assert a is not None
    return _scores(sources, targets, a, b, g, options.check_finite)


def similarity(
    X: Array,
    Y: Array,
    f: str = "laplacian",
    normalize: str = "zscore",
    center: str = "unbiased",
    g: str = "cosine",
    **options: Any,
) -> Score:
    """Similarity of two representations of the same n images, in general form (Dwivedi et al., ECCV 2020, section 3).

    Parameters
    ----------
    X, Y : features of the same images in the same order, (n, d) and (n, e), or (n, C, *spatial).
    f, normalize, center : as for `rdm`; g : as for `compare`.
    **options : gamma, channels, channels_last, groups, precision, check_finite, as for `rdm`.

    Returns
    -------
    A number in [-1, 1]: if either is a tensor a float64 tensor of no dimensions, on their device, and differentiable
    for g "cosine" and "pearson" (docs/pytorch.md); else a float.

    Equivalent to::

        compare(rdm(X, f, normalize=normalize, center=center), rdm(Y, f, normalize=normalize, center=center), g)
    """
    if through_operators(X, Y):
        _check_names(_MORE, options)
        K1, K2 = (rdm(Z, f, normalize=normalize, center=center, **options) for Z in (X, Y))
        return compare(K1, K2, g, options.get("check_finite", True))
    o = _options(_MORE, options, f=f, normalize=normalize, center=center)
    choose("g", g, COMPARISONS)
    x, y = (features(z, name, o.channels, o.channels_last) for z, name in ((X, "X"), (Y, "Y")))
    _check_same_n([x, y])
    score = _affinity([x], [y], o, g)[0, 0]
    return torch.as_tensor(score) if any(isinstance(z, torch.Tensor) for z in (X, Y)) else float(score)


def affinity(
    sources: Models,
    targets: Models | None = None,
    f: str = "laplacian",
    normalize: str = "zscore",
    center: str = "unbiased",
    g: str = "cosine",
    **options: Any,
) -> npt.NDArray[np.float64]:
    """Similarities of every source to every target model, on the same n images.

    Every model's matrix is built once; all pairs are compared with one matrix product.

    Parameters
    ----------
    sources, targets : mappings from names, or sequences, of S and T feature arrays (d may differ); `targets` None
        stands for the sources themselves.
    f, normalize, center, g, **options : as for `similarity`.

    Returns
    -------
    (S, T) float64 array; row s, column t is ``similarity(sources[s], targets[t], ...)``.
    """
    o = _options(_MORE, options, f=f, normalize=normalize, center=center)
    choose("g", g, COMPARISONS)
    a = _models(sources, "source", o)
    b = None if targets is None else _models(targets, "target", o)
    _check_same_n(a + (b or []))
    return to_numpy(_affinity(a, b, o, g))


def _names(argument: str, value: str | Sequence[str], among: Sequence[str]) -> list[str]:
    names = [value] if isinstance(value, str) else list(value)
    if not names:
        raise ValueError(f"no {argument} is given; choose from {', '.join(among)}")
    for name in names:
        choose(argument, name, among)
    return names


def grid(
    sources: Models,
    targets: Models | None = None,
    center: str | Sequence[str] = "unbiased",
    g: str | Sequence[str] = "cosine",
    normalizations: Sequence[str] = NORMALIZATIONS,
    fs: Sequence[str] = METRICS,
    **options: Any,
) -> dict[tuple[str, ...], npt.NDArray[np.float64]]:
    """`affinity` for every normalisation and every f, as in the paper's Table 2; the f that can share sums over the
    features do.

    Parameters
    ----------
    sources, targets : as for `affinity`.
    center, g : one name, or a list of names (the paper's supplement, S6 and S7).
    normalizations, fs : names; all by default. Those by channel need 2-D features' `channels`.
    **options : channels, channels_last, groups, precision, check_finite, as for `rdm`.

    Returns
    -------
    dict from (normalize, f), or where center or g is a list from (normalize, f, center, g), to the (S, T) scores.
    """
    centers, gs = _names("center", center, CENTERINGS), _names("g", g, COMPARISONS)
    names, fs = _names("normalize", normalizations, NORMALIZATIONS), _names("f", fs, METRICS)
    base = _options(("channels", "channels_last", "groups", "precision", "check_finite"), options)
    a = _models(sources, "source", base)
    b = None if targets is None else _models(targets, "target", base)
    _check_same_n(a + (b or []))
    for mode in centers:
        Request(a[0], None, replace(base, center=mode))  # says what is wrong before any work
    scored: dict[tuple[str, ...], Matrices] = {}
    for normalize in names:
        for family in _families([replace(base, f=f, normalize=normalize) for f in fs]):
            stacks = [None if m is None else _stacks(m, family, condensed=False) for m in (a, b)]
            for i, o in enumerate(family):
                for mode in centers:
                    k, m = (None if stack is None else centered(stack[i], mode) for stack in stacks)
                    assert k is not None
                    for how in gs:
                        scored[normalize, o.f, mode, how] = _scores(a, b, k, m, how, o.check_finite)
    if isinstance(center, str) and isinstance(g, str):
        return {(q, f): to_numpy(scored[q, f, center, g]) for q in names for f in fs}
    return {key: to_numpy(scored[key]) for key in itertools.product(names, fs, centers, gs)}


def _families(options: Sequence[Options]) -> list[list[Options]]:
    """Grouped by what can share sums."""
    families: dict[int, list[Options]] = {}
    for o in options:
        families.setdefault(o.family, []).append(o)
    return list(families.values())


def dds(X: Array, Y: Array, **options: Any) -> Score:
    """Duality diagram similarity as its authors recommend it (ECCV 2020): z-score, Laplacian kernel, U-centring.

    The comparison is the cosine of the centred matrices.

    Equivalent to ``similarity(X, Y, "laplacian", "zscore", "unbiased", "cosine")``.
    """
    return similarity(X, Y, **{**MEASURES["dds"], **options})


def rsa(X: Array, Y: Array, **options: Any) -> Score:
    """Representational similarity analysis as in Dwivedi & Roig (CVPR 2019).

    Features centred over the images, 1 - Pearson, then Spearman of the entries above the diagonal.

    rsatoolbox's RSA does not centre the features: ``rsa(X, Y, normalize="none")``. Ranks have no gradient: with tensors
    that require grad, ``rsa(X, Y, g="pearson")``.

    Equivalent to ``similarity(X, Y, "pearson", "center", "none", "spearman")``.
    """
    return similarity(X, Y, **{**MEASURES["rsa"], **options})


def cka(X: Array, Y: Array, kernel: str = "linear", unbiased: bool = False, **options: Any) -> Score:
    """Centred kernel alignment (Kornblith et al., ICML 2019), `kernel` "linear" or "rbf"; `unbiased` takes U-centred
    matrices in place of H K H.

    The rbf's gamma is `rdm`'s default unless given.

    Equivalent to, for the linear kernel and centred columns,
    ``np.linalg.norm(Y.T @ X) ** 2 / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y))``.
    """
    choose("kernel", kernel, ("linear", "rbf"))
    center = "unbiased" if unbiased else "double"
    return similarity(X, Y, **{**MEASURES[f"cka-{kernel}"], "center": center, **options})
