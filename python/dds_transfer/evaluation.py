"""How well an affinity table agrees with measured transfer results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dds_transfer.tables import Table

Matrix: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Correlations between affinity and truth over the sources of a target, or their means over targets.

    A correlation is None where it is not defined.

    Attributes:
        sources: number of sources compared, the target itself included.
        spearman: rank correlation; ties take average ranks. This is the figure of the DDS paper.
        spearman_off_diagonal: the same without the target itself as a source. Nearly every measure ranks a model first
            for its own task, and that alone raises the figure above.
        pearson, pearson_off_diagonal: correlation of the values.
    """

    sources: int
    spearman: float | None
    spearman_off_diagonal: float | None
    pearson: float | None
    pearson_off_diagonal: float | None


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` finds.

    Attributes:
        targets: agreement for each target, by name, in the truth's order.
        mean: means over the targets where the correlation is defined.
        notes: what was left out, and why, in sentences.
    """

    targets: dict[str, Agreement]
    mean: Agreement
    notes: list[str]


def evaluate(affinity: Table, truth: Table) -> Evaluation:
    """Agreement between an affinity table and measured transfer, per target and on average.

    Sources and targets are matched by name; the correlation for a target runs over the sources that both tables have.
    As the DDS authors do it: a correlation per column, then the mean over columns, diagonal kept. The figures without
    the diagonal stand beside it.

    Args:
        affinity: similarity of each source to each target, higher is more similar.
        truth: measured transfer results, higher is better.

    Returns:
        The agreements. A correlation is None for a target where it is not defined, because either column is constant
        over the sources, or fewer than 3 sources are left; that mean leaves the target out, and a note names it.

    Raises:
        ValueError: the tables share no target or fewer than 3 sources.

    Equivalent to, for two tables with the same names in the same order::

        np.mean([scipy.stats.spearmanr(affinity[:, j], truth[:, j]).statistic for j in range(T)])
    """
    sources, targets = shared_names(affinity.sources, affinity.targets, truth)
    a, b = affinity.part(sources, targets).values, truth.part(sources, targets).values
    notes = left_out(affinity.sources, affinity.targets, truth)
    everything = _correlate(a, b)
    off_diagonal = list(everything)
    own = np.equal.outer(np.array(sources), np.array(targets))  # (S, T), True where a target is the source itself
    columns = np.flatnonzero(own.any(axis=0)).tolist()
    for j, without in zip(columns, _correlate(_drop(a, own), _drop(b, own)), strict=True):
        off_diagonal[j] = without

    agreements = {}
    for j, target in enumerate(targets):
        kept, dropped = everything[j], off_diagonal[j]
        agreements[target] = Agreement(len(sources), kept.spearman, dropped.spearman, kept.pearson, dropped.pearson)
        for found, where in ((kept, ""), (dropped, " without the diagonal")):
            if found.undefined:
                notes.append(f"no correlation{where} for target {target!r}: {found.undefined}")
    return Evaluation(agreements, _mean(list(agreements.values())), notes)


def shared_names(sources: Sequence[str], targets: Sequence[str], truth: Table) -> tuple[list[str], list[str]]:
    """The sources and the targets that the truth has too, in its order; ValueError if they are too few to correlate."""
    rows = [name for name in truth.sources if name in sources]
    columns = [name for name in truth.targets if name in targets]
    for kind, found, least, ours, theirs in (
        ("sources", rows, 3, sources, truth.sources),
        ("targets", columns, 1, targets, truth.targets),
    ):
        if len(found) < least:
            raise ValueError(
                f"{len(found)} {kind} are also in the truth, at least {least} must be: "
                f"here they are {_listed(ours)}; in the truth {_listed(theirs)}"
            )
    return rows, columns


def left_out(sources: Sequence[str], targets: Sequence[str], truth: Table) -> list[str]:
    """Notes on the names that only one side has, and so play no part."""
    notes = []
    for kind, ours, theirs in (("sources", sources, truth.sources), ("targets", targets, truth.targets)):
        for names, others, where in ((ours, theirs, "here"), (theirs, ours, "in the truth")):
            alone = [name for name in names if name not in others]
            if alone:
                notes.append(f"{kind} only {where}, left out: {', '.join(alone)}")
    return notes


@dataclass(frozen=True)
class _Column:
    spearman: float | None
    pearson: float | None
    undefined: str  # why there is no correlation, if there is none


def _correlate(a: Matrix, b: Matrix) -> list[_Column]:
    """Correlations between the columns of a and b, both (S, T).

    All columns in one go, and without SciPy's p-values: a grid over many draws of images asks for 100,000 of them.
    """
    if len(a) < 3:
        return [_Column(None, None, f"it has {len(a)} sources, and at least 3 are needed")] * a.shape[1]
    spearman, pearson = _pearson(rankdata(a, axis=0), rankdata(b, axis=0)), _pearson(a, b)
    columns = []
    for x, y, rho, r in zip(a.T, b.T, spearman, pearson, strict=True):
        constant = next((name for name, values in (("affinity", x), ("truth", y)) if np.ptp(values) == 0), None)
        if constant is None:
            columns.append(_Column(float(rho), float(r), ""))
        else:
            value = x[0] if constant == "affinity" else y[0]
            columns.append(_Column(None, None, f"the {constant} is {value:g} for each of the {len(a)} sources"))
    return columns


def _pearson(a: Matrix, b: Matrix) -> Matrix:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    # 0 / 0 for constant columns, which the caller leaves out.
    result: Matrix = np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)
    return result


def _drop(values: Matrix, own: NDArray[np.bool_]) -> Matrix:
    """(S, T) to (S - 1, T'): the columns that have a True in ``own``, each without that entry."""
    columns = own.any(axis=0)
    result: Matrix = values.T[columns][~own.T[columns]].reshape(int(columns.sum()), len(values) - 1).T
    return result


def _mean(agreements: Sequence[Agreement]) -> Agreement:
    def mean(figures: Iterable[float | None]) -> float | None:
        defined = [figure for figure in figures if figure is not None]
        return fmean(defined) if defined else None

    columns = zip(*(astuple(agreement)[1:] for agreement in agreements), strict=True)
    return Agreement(agreements[0].sources, *map(mean, columns))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
