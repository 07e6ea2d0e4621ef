"""How well an affinity table agrees with measured transfer results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dds_transfer.results import Result
from dds_transfer.tables import Table
from dds_transfer.terminal import listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Matrix: TypeAlias = NDArray[np.float64]
Found = TypeVar("Found")
Record = TypeVar("Record", "AtK", "Agreement")

# How many of the best sources count as relevant, as in Song et al., NeurIPS 2019.
RELEVANT = 5


@dataclass(frozen=True)
class AtK:
    """What the first ``k`` sources of a ranking are worth, the target itself left out.

    Attributes:
        k: how many sources are taken.
        overlap: share of them that are also among the first k by the truth (top-k agreement).
        best_found: share of targets whose best source, by the truth, is among them.
        precision: share of them that are relevant: among the ``RELEVANT`` best by the truth.
        recall: share of the relevant sources that are among them.
        random_precision, random_recall: what a random ranking is expected to score.

    Precision and recall are None where there are no more than ``RELEVANT`` sources to choose from.
    """

    k: int
    overlap: float
    best_found: float
    precision: float | None
    recall: float | None
    random_precision: float | None
    random_recall: float | None


@dataclass(frozen=True)
class Agreement:
    """Agreement between affinity and truth over the sources of a target, or its mean over targets.

    A figure is None where it is not defined.

    Attributes:
        sources: number of sources compared, the target itself included; a mean may be a fraction.
        spearman: rank correlation; ties take average ranks. This is the figure of the DDS paper.
        spearman_off_diagonal: the same without the target itself as a source. Nearly every measure ranks a model first
            for its own task, and that alone raises the figure above.
        pearson, pearson_off_diagonal: correlation of the values.
        kendall, kendall_off_diagonal: Kendall's tau-b, which corrects for ties.
        regret: measured performance of the best source, less that of the source that the affinity ranks first, in the
            truth's units; the target itself is left out. 0 is the best that a ranking can do.
        relative_regret: the regret as a share of what choosing at random loses on average, the best source's
            performance less the mean of all. 1 is no better than chance.
        at_k: what the first k sources are worth, for every k.
    """

    sources: float
    spearman: float | None
    spearman_off_diagonal: float | None
    pearson: float | None
    pearson_off_diagonal: float | None
    kendall: float | None
    kendall_off_diagonal: float | None
    regret: float
    relative_regret: float | None
    at_k: list[AtK]


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """What :func:`evaluate` finds.

    Attributes:
        targets: agreement for each target, by name, in the truth's order.
        mean: means over the targets where the figure is defined; ``at_k`` as far as all targets have sources.
        notes: what was left out, and why, in sentences.
    """

    targets: dict[str, Agreement]
    mean: Agreement
    notes: list[str]

    @property
    def title(self) -> str:
        """What is compared."""
        return f"Agreement with measured transfer, {len(self.targets)} target{'s' * (len(self.targets) > 1)}"

    @property
    def records(self) -> list[dict[str, Any]]:
        """A record per ``target`` and one of their ``mean``, with all figures but those at k."""
        agreements = {**self.targets, "mean": self.mean} if len(self.targets) > 1 else self.targets
        records = [{"target": target, **asdict(agreement)} for target, agreement in agreements.items()]
        return [{name: value for name, value in record.items() if name != "at_k"} for record in records]

    def _draw(self) -> Figure:
        from dds_transfer.plots import draw_evaluation

        return draw_evaluation(self)

    def to_dict(self) -> dict[str, Any]:
        """All figures, a record per target, as JSON files have them."""
        targets = [{"target": target, **asdict(agreement)} for target, agreement in self.targets.items()]
        return {"targets": targets, "mean": asdict(self.mean), "notes": self.notes}


def evaluate(affinity: Table, truth: Table) -> Evaluation:
    """Agreement between an affinity table and measured transfer, per target and on average.

    Sources and targets are matched by name; the figures for a target run over the sources that both tables have. As
    the DDS authors do it, there is a correlation per column, diagonal kept, and then the mean over columns. The
    correlations without the diagonal stand beside it. Regret, and what the first k sources are worth, leave the target
    itself out. Precision and recall are those of Song et al. (NeurIPS 2019): relevant are the truth's 5 best sources.

    Ties are thought of as broken at random, in the affinity and in the truth, and ``regret`` and what is
    in ``at_k`` are the values expected then. So they do not depend on the order of the sources.

    Args:
        affinity: similarity of each source to each target, higher is more similar.
        truth: measured transfer results, higher is better; NaN for what was not measured, which is left out for that
            target, with a note.

    Returns:
        The agreements. A figure is None for a target where it is not defined, and the mean leaves that target out:
        a correlation where either column is constant over the sources, or fewer than 3 sources are left, with a note
        that names the target; the relative regret where the truth is constant; precision and recall where there are no
        more than 5 sources.

    Raises:
        ValueError: the tables share no target or fewer than 3 sources, one of their numbers is not finite, or no
            target has 3 sources measured.

    Equivalent to, for two tables with the same names in the same order::

        spearman = np.mean([scipy.stats.spearmanr(affinity[:, j], truth[:, j]).statistic for j in range(T)])
        kendall = np.mean([scipy.stats.kendalltau(affinity[:, j], truth[:, j]).statistic for j in range(T)])

    and, where no two numbers of a column are equal and ``a`` and ``b`` are columns without the target's own row::

        regret = b.max() - b[a.argmax()]
        overlap = np.isin(np.argsort(-a)[:k], np.argsort(-b)[:k]).mean()
        best_found = b.argmax() in np.argsort(-a)[:k]
        precision = np.isin(np.argsort(-a)[:k], np.argsort(-b)[:5]).mean()
    """
    sources, targets = shared_names(affinity.sources, affinity.targets, truth)
    a, b = affinity.part(sources, targets).finite("affinity"), _measured(truth.part(sources, targets))
    own = np.equal.outer(np.array(sources), np.array(targets))  # (S, T), True where a target is the source itself
    notes = left_out(affinity.sources, affinity.targets, truth)
    agreements: dict[str, Agreement] = {}
    # Targets with the same sources measured are compared at once: most often all.
    _, group = np.unique(~np.isnan(b), axis=1, return_inverse=True)
    for number in np.unique(group):
        columns = group == number
        rows = ~np.isnan(b[:, columns][:, 0])
        part = np.ix_(rows, columns)
        names = [target for target, chosen in zip(targets, columns, strict=True) if chosen]
        if rows.sum() < 3:
            notes.append(f"targets with fewer than 3 sources measured, left out: {', '.join(names)}")
            continue
        if not rows.all():
            missing = [source for source, there in zip(sources, rows, strict=True) if not there]
            notes.append(f"sources not measured for target {listed(names)}, left out there: {', '.join(missing)}")
        found, more = _agreements(a[part], b[part], own[part], names)
        agreements |= found
        notes += more
    if not agreements:
        raise ValueError("the truth has no target with 3 sources measured")
    agreements = {target: agreements[target] for target in targets if target in agreements}
    return Evaluation(agreements, _mean(list(agreements.values())), notes)


def _agreements(
    a: Matrix, b: Matrix, own: NDArray[np.bool_], targets: list[str]
) -> tuple[dict[str, Agreement], list[str]]:
    """The agreements of the columns of a and b, both (S, T), by target, and notes on what is not defined."""
    kept, off_diagonal, choices = _correlate(a, b), _each(_correlate, a, b, own), _each(_choose, a, b, own)
    agreements = {
        target: Agreement(
            len(a),
            kept[j].spearman,
            off_diagonal[j].spearman,
            kept[j].pearson,
            off_diagonal[j].pearson,
            kept[j].kendall,
            off_diagonal[j].kendall,
            choices[j].regret,
            choices[j].relative_regret,
            choices[j].at_k,
        )
        for j, target in enumerate(targets)
    }
    has_own, notes = np.asarray(own.any(axis=0)), []
    for j, target in enumerate(targets):
        if kept[j].undefined:
            notes.append(f"no correlation for target {target!r}: {kept[j].undefined}")
        if has_own[j] and off_diagonal[j].undefined:
            notes.append(f"no correlation without the diagonal for target {target!r}: {off_diagonal[j].undefined}")
    return agreements, notes


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
                f"here they are {listed(ours)}; in the truth {listed(theirs)}"
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
    """The correlations of a column."""

    spearman: float | None
    pearson: float | None
    kendall: float | None
    undefined: str  # why there is no correlation, if there is none


def _correlate(a: Matrix, b: Matrix) -> list[_Column]:
    """Correlations between the columns of a and b, both (S, T).

    Without SciPy's p-values: a grid over many draws of images asks for 100,000 of them.
    """
    if len(a) < 3:
        return [_Column(None, None, None, f"it has {len(a)} sources, and at least 3 are needed")] * a.shape[1]
    spearman, pearson = _pearson(rankdata(a, axis=0), rankdata(b, axis=0)), _pearson(a, b)
    columns = []
    for x, y, rho, r in zip(a.T, b.T, spearman, pearson, strict=True):
        constant = next((name for name, values in (("affinity", x), ("truth", y)) if np.ptp(values) == 0), None)
        if constant is None:
            columns.append(_Column(float(rho), float(r), _kendall(x, y), ""))
        else:
            value = x[0] if constant == "affinity" else y[0]
            reason = f"the {constant} is {value:g} for each of the {len(a)} sources"
            columns.append(_Column(None, None, None, reason))
    return columns


def _pearson(a: Matrix, b: Matrix) -> Matrix:
    a, b = _centred(a), _centred(b)
    scale = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    # 0 / 0 for constant columns, which the caller leaves out.
    result: Matrix = np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)
    return result


def _centred(values: Matrix) -> Matrix:
    """Columns less their means, scaled first and last so that sums and squares stay in range."""
    for centre in (True, False):
        largest = np.abs(values).max(axis=0)
        values = values / np.where(largest > 0, largest, 1)
        values = values - values.mean(axis=0) if centre else values
    return values


def _kendall(x: Matrix, y: Matrix) -> float:
    """Tau-b of two columns (S,) that are not constant: what pairs agree on, over what pairs are not tied in each."""
    dx, dy = (np.sign(values[:, None] - values).ravel() for values in (x, y))
    return float(dx @ dy / np.sqrt((dx @ dx) * (dy @ dy)))


@dataclass(frozen=True)
class _Choice:
    """What following the ranking of a column leads to."""

    regret: float
    relative_regret: float | None
    at_k: list[AtK]


def _choose(a: Matrix, b: Matrix) -> list[_Choice]:
    """What the rankings in the columns of a are worth by those of b, both (S, T)."""
    count = len(a)
    chosen, wanted = _Places(a), _Places(b)
    best, relevant, precise = wanted.first(1), wanted.first(RELEVANT), count > RELEVANT
    at_k: list[list[AtK]] = [[] for _ in a.T]
    for k in range(1, count + 1):
        taken = chosen.first(k)
        sums = [(taken * other).sum(axis=0).tolist() for other in (wanted.first(k), best, relevant)]
        for column, common, found, hits in zip(at_k, *sums, strict=True):
            figures = (hits / k, hits / RELEVANT, RELEVANT / count, k / count) if precise else (None,) * 4
            column.append(AtK(k, common / k, found, *figures))
    # Never below 0, where rounding lifts the mean of tied choices above each of them.
    regret = np.maximum(b.max(axis=0) - (chosen.first(1) * b).sum(axis=0), 0)
    chance = np.where(np.ptp(b, axis=0) > 0, b.max(axis=0) - b.mean(axis=0), 0)
    return [
        _Choice(loss, loss / expected if expected > 0 else None, column)
        for loss, expected, column in zip(regret.tolist(), chance.tolist(), at_k, strict=True)
    ]


class _Places:
    """Where the entries of a matrix's columns may come in a ranking, highest first, if ties are broken at random."""

    def __init__(self, values: Matrix) -> None:
        self.before = rankdata(-values, "min", axis=0) - 1  # how many are certainly ahead
        self.tied = rankdata(-values, "max", axis=0) - self.before  # how many share the value, itself included

    def first(self, k: int) -> Matrix:
        """Each entry's probability of being among the first k of its column."""
        shares: Matrix = np.clip((k - self.before) / self.tied, 0, 1)
        return shares


def _each(
    compare: Callable[[Matrix, Matrix], list[Found]], a: Matrix, b: Matrix, own: NDArray[np.bool_]
) -> list[Found]:
    """What ``compare`` finds for each column of a and b, where ``own`` is True the entry left out."""
    dropped: list[bool] = np.any(own, axis=0).tolist()
    without = iter(compare(_drop(a, own), _drop(b, own)))
    whole = iter(compare(a[:, np.logical_not(dropped)], b[:, np.logical_not(dropped)]))
    return [next(without if left_out else whole) for left_out in dropped]


def _drop(values: Matrix, own: NDArray[np.bool_]) -> Matrix:
    """(S, T) to (S - 1, T'): the columns that have a True in ``own``, each without that entry."""
    columns = own.any(axis=0)
    result: Matrix = values.T[columns][~own.T[columns]].reshape(int(columns.sum()), len(values) - 1).T
    return result


def _measured(truth: Table) -> Matrix:
    """The truth's numbers, NaN where there was no measurement."""
    replace(truth, values=np.nan_to_num(truth.values, nan=0, posinf=np.inf, neginf=-np.inf)).finite("truth")
    return truth.values


def _mean(agreements: Sequence[Agreement]) -> Agreement:
    count = fmean(agreement.sources for agreement in agreements)
    at_k = zip(*(agreement.at_k for agreement in agreements), strict=False)  # as far as the shortest goes
    return replace(
        _means(agreements, "sources", "at_k"),
        sources=int(count) if count.is_integer() else count,
        at_k=[_means(entries, "k") for entries in at_k],
    )


def _means(records: Sequence[Record], *kept: str) -> Record:
    """The first record with means of the figures that are defined, except for the ``kept`` fields."""
    means: dict[str, Any] = {}
    for name in (field.name for field in fields(records[0]) if field.name not in kept):
        defined = [figure for record in records if (figure := getattr(record, name)) is not None]
        means[name] = fmean(defined) if defined else None
    return replace(records[0], **means)
