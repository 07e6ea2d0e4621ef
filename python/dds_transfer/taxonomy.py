"""Task taxonomies: hierarchical clustering of the tasks of an affinity table, and how two tables compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cophenet, leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata, spearmanr

from dds_transfer.tables import Table
from dds_transfer.terminal import listed

Array: TypeAlias = NDArray[np.float64]
Distance: TypeAlias = Literal["rank", "pattern"]
Linkage: TypeAlias = Literal["average", "single", "complete"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)
LINKAGES: tuple[Linkage, ...] = get_args(Linkage)


@dataclass(frozen=True)
class Taxonomy:
    """A tree of tasks.

    Attributes:
        names: the n tasks.
        distances: (n, n) between them, symmetric, 0 on the diagonal.
        tree: (n - 1, 4), SciPy's linkage matrix: each row joins two clusters at a distance.
    """

    names: list[str]
    distances: Array
    tree: Array

    @property
    def order(self) -> list[str]:
        """The tasks as the tree's leaves, neighbours as similar as the tree allows (SciPy's optimal leaf ordering)."""
        return [self.names[i] for i in leaves_list(self.tree)]

    @property
    def cophenetic_distances(self) -> Array:
        """(n, n): the distance at which two tasks come to be in one cluster."""
        result: Array = squareform(cophenet(self.tree))
        return result

    @property
    def cophenetic_correlation(self) -> float | None:
        """Pearson's correlation of these with the distances: how true the tree is to them (Sokal and Rohlf, 1962)."""
        return _correlate(_upper(self.cophenetic_distances), _upper(self.distances)).pearson

    def merges(self) -> list[tuple[float, list[str], list[str]]]:
        """What the tree joins, in the order of joining: the distance, and the tasks on both sides."""
        clusters = [[name] for name in self.names]
        joined = []
        for left, right, distance, _ in self.tree.tolist():
            sides = clusters[int(left)], clusters[int(right)]
            joined.append((distance, *sides))
            clusters.append(sides[0] + sides[1])
        return joined

    def to_dict(self) -> dict[str, Any]:
        """Order, cophenetic correlation and joins, as JSON files have them."""
        joined = [{"distance": height, "left": left, "right": right} for height, left, right in self.merges()]
        return {"order": self.order, "cophenetic_correlation": self.cophenetic_correlation, "merges": joined}


@dataclass(frozen=True)
class Correlation:
    """Correlation of two sets of numbers for the same pairs of tasks; None where either is constant or they are few.

    Attributes:
        pairs: how many have both numbers.
        pearson: of the values.
        spearman: of their ranks; ties take average ranks.
    """

    pairs: int
    pearson: float | None
    spearman: float | None


def task_taxonomy(affinity: Table, distance: Distance = "rank", method: Linkage = "average") -> Taxonomy:
    """Cluster the tasks of an affinity table.

    Args:
        affinity: (S, T), similarity or measured transfer from each source to each target, higher is better; it need
            not be symmetric.
        distance: how it becomes a distance between tasks.

            - ``"rank"``: for each target the other sources are ranked from 0, the worst, to 1, the best, ties at their
              average; the distance is 1 less the mean of the ranks that two tasks have for each other. 0 is between
              tasks that are each other's best source. Scales that differ between targets, as they do in measured
              transfer, have no influence. For the tasks that are sources and targets.
            - ``"pattern"``: Euclidean distance between rows: two tasks are near if they transfer alike to all targets.
              This is how Taskonomy's task similarity tree and the RSA paper's trees are built. For all sources.
        method: SciPy's linkage. The RSA paper's trees are ``distance="pattern", method="single"``.

    Raises:
        ValueError: fewer than 3 tasks, a number that is not finite, or an unknown distance or linkage.

    Equivalent to, for ``"pattern"``, ``scipy.cluster.hierarchy.linkage(affinity, method, optimal_ordering=True)``.
    """
    if distance not in DISTANCES or method not in LINKAGES:
        raise ValueError(
            f"distance {distance!r} and linkage {method!r}; known are {', '.join(DISTANCES)} and {', '.join(LINKAGES)}"
        )
    names, which = affinity.sources, ""
    if distance == "rank":
        names = [name for name in affinity.sources if name in affinity.targets]
        affinity = affinity.part(names, names)
        which = " that are sources and targets, for distance 'rank'"
    if len(names) < 3:
        raise ValueError(f"{len(names)} tasks to cluster{which}, at least 3 are needed: {listed(names) or 'none'}")
    values = affinity.finite("table")
    distances = _rank_distances(values) if distance == "rank" else squareform(pdist(values))
    condensed = squareform(distances)
    return Taxonomy(names, distances, optimal_leaf_ordering(linkage(condensed, method), condensed))


def shared_part(first: Table, second: Table) -> tuple[Table, Table]:
    """Both tables cut to the sources and the targets that they share, in the first one's order.

    Raises ValueError where fewer than 3 sources or no targets are shared.
    """
    sources = _shared(first.sources, second.sources)
    targets = [name for name in first.targets if name in second.targets]
    if not targets:
        raise ValueError("the tables share no target")
    return first.part(sources, targets), second.part(sources, targets)


def compare_taxonomies(first: Taxonomy, second: Taxonomy) -> Correlation:
    """Correlation of the cophenetic distances of two trees, over the pairs of tasks that both have.

    1 for trees of the same shape and proportions. Raises ValueError where fewer than 3 tasks are shared.
    """
    names = _shared(first.names, second.names)
    distances = []
    for taxonomy in (first, second):
        rows = [taxonomy.names.index(name) for name in names]
        distances.append(_upper(taxonomy.cophenetic_distances[np.ix_(rows, rows)]))
    return _correlate(*distances)


def compare_similarities(first: Table, second: Table) -> Correlation:
    """Correlation of two affinity tables over the pairs of a source and a target that both have.

    A task with itself is left out. For two symmetric matrices the figures are those of their upper triangles, which the
    RSA paper gives for its similarities and Taskonomy's (Pearson 0.62, Spearman 0.65). Pairs that are NaN in either
    table are left out. Raises ValueError where fewer than 3 sources or no targets are shared.
    """
    first, second = shared_part(first, second)
    others = np.not_equal.outer(np.array(first.sources), np.array(first.targets))
    return _correlate(first.values[others], second.values[others])


def _rank_distances(values: Array) -> Array:
    """(n, n) affinities to distances by the ranks of the other sources for each target."""
    n = len(values)
    others = ~np.eye(n, dtype=bool)
    columns = values.T[others].reshape(n, n - 1)  # for each target, its other sources
    ranks = np.zeros((n, n))
    ranks.T[others] = ((rankdata(columns, axis=1) - 1) / (n - 2)).ravel()
    distances: Array = 1 - (ranks + ranks.T) / 2
    np.fill_diagonal(distances, 0)
    return distances


def _shared(first: Sequence[str], second: Sequence[str]) -> list[str]:
    names = [name for name in first if name in second]
    if len(names) < 3:
        raise ValueError(
            f"{len(names)} tasks are in both, at least 3 must be: {listed(names) or 'none'}; "
            f"{len(first)} are in the first ({first[0]}, ...) and {len(second)} in the second ({second[0]}, ...)"
        )
    return names


def _upper(matrix: Array) -> Array:
    result: Array = matrix[np.triu_indices(len(matrix), 1)]
    return result


def _correlate(x: Array, y: Array) -> Correlation:
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = x[both], y[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), None, None)
    return Correlation(len(x), float(np.corrcoef(x, y)[0, 1]), float(spearmanr(x, y).statistic))
