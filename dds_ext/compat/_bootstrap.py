"""rsatoolbox's bootstraps over RDMs and conditions, without building a sample's RDMs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dds_ext.compat._drop_in import NotServed
from dds_ext.compat._weighted import TAUS, Vectors, Weights, expanded, norms, prepared, similarities

Scores = tuple[Vectors, tuple[float, float] | None]
"""A sample's mean score of each model (M,), and its noise ceiling, lower and upper."""


@dataclass
class Evaluator:
    """Model RDMs, data RDMs and what is asked of each sample of the data."""

    models: Vectors
    """(M, P) dissimilarities that the models predict."""
    data: Vectors
    """(R, P) dissimilarities measured."""
    groups: npt.NDArray[np.intp]
    """(R,) which RDMs are left out together for the noise ceiling."""
    method: str

    def __post_init__(self) -> None:
        self._all = np.concatenate([self.models, self.data])
        self._order = None if self.method in TAUS else self._all.argsort(axis=1)

    def evaluate(self, pairs: Weights | None, counts: Weights, ceiling: bool) -> Scores:
        """One sample's mean score of each model (M,), and its noise ceiling, lower and upper.

        Parameters
        ----------
        pairs : (P,) how often the sample holds each dissimilarity; None for once each.
        counts : (R,) how often it holds each RDM.
        """
        V, order = self._all, self._order
        if pairs is not None:
            V, order, pairs = self._distinct(pairs)
        V = prepared(V, self.method, pairs, order)
        models, data = V[: len(self.models)], V[len(self.models) :]
        scores = similarities(models, data, self.method, pairs) @ counts / counts.sum()
        return scores, self._ceiling(data, pairs, counts) if ceiling else None

    def _distinct(self, pairs: Weights) -> tuple[Vectors, npt.NDArray[np.intp] | None, Weights | None]:
        """The dissimilarities that a sample holds at all, their order, and how often each counts."""
        if self._order is None:  # a tau has no weighted form here
            return expanded(self._all, pairs), None, None
        held = pairs > 0
        place = held.cumsum() - 1
        order = place[self._order[held[self._order]]].reshape(len(self._order), -1)
        return self._all[:, held], order, pairs[held]

    def _ceiling(self, data: Vectors, pairs: Weights | None, counts: Weights) -> tuple[float, float]:
        """How well the mean of the other groups' RDMs, and of all, scores on each group's, averaged over the groups.

        The mean is that of the normalised vectors for "cosine" and "corr", and of the ranks for the others (Nili et
        al., PLoS Computational Biology 2014, as rsatoolbox does it).
        """
        if self.method in ("cosine", "corr"):
            lengths = norms(data, pairs)
            if not lengths.all():
                raise NotServed("an RDM of norm 0")
            data = data / lengths[:, None]
        drawn = np.unique(self.groups[counts > 0])
        own = (self.groups == drawn[:, None]) * counts  # (groups, R)
        others = counts - own if len(drawn) > 1 else own
        # ranks and their halves add up exactly, so that ties stay ties
        means = np.concatenate([counts[None], others]) @ data
        # rsatoolbox compares what rounding leaves of RDMs of norm 1 whose sum is 0
        if self.method in ("cosine", "corr") and (norms(means, pairs) < 1e-6).any():
            raise NotServed("RDMs that cancel")
        pooled = prepared(means, self.method, pairs)
        upper = own @ similarities(pooled[:1], data, self.method, pairs)[0] / own.sum(axis=1)
        if self.method in TAUS:  # one by one: a tau of every mean with every RDM would take long
            tau = [similarities(p[None], data[o > 0], self.method)[0] for p, o in zip(pooled[1:], own, strict=True)]
            lower = np.array([t @ o[o > 0] / o.sum() for t, o in zip(tau, own, strict=True)])
        else:
            lower = (own * similarities(pooled[1:], data, self.method, pairs)).sum(axis=1) / own.sum(axis=1)
        return float(lower.mean()), float(upper.mean())


@dataclass
class Drawn:
    """A bootstrap sample of one dimension."""

    selection: tuple[str, npt.NDArray[Any]]
    """The descriptor and the values drawn, as rsatoolbox's `subsample` takes them."""
    different: int
    """How many different values."""
    counts: Weights
    """How often the sample holds each item."""


@dataclass
class Draws:
    """A bootstrap over one dimension: the values of a descriptor are drawn with replacement."""

    descriptor: str
    values: npt.NDArray[Any]
    """The different values that it has."""
    labels: npt.NDArray[np.intp]
    """For each item which of them."""

    @staticmethod
    def of(descriptors: dict[str, Any], descriptor: str) -> Draws:
        if descriptor not in descriptors:
            raise NotServed(f"no descriptor {descriptor!r}")
        values, labels = np.unique(np.asarray(descriptors[descriptor]), return_inverse=True)
        return Draws(descriptor, values, labels)

    def draw(self) -> Drawn:
        """A sample. One call of NumPy's generator, which is rsatoolbox's: so the same seed gives the same samples."""
        drawn = np.random.randint(0, len(self.values), size=len(self.values))
        times = np.bincount(drawn, minlength=len(self.values))
        return Drawn((self.descriptor, self.values[drawn]), int(np.count_nonzero(times)), times[self.labels])


@dataclass
class Bootstrap:
    """Samples of RDMs, of conditions, or of both: what is None is not drawn, and is whole in every sample."""

    evaluator: Evaluator
    rdms: Draws | None
    patterns: Draws | None
    by_rsatoolbox: Callable[[Drawn | None, Drawn | None], Scores]
    """Evaluates a sample of RDMs and of conditions as slowly as rsatoolbox does."""

    def run(self, N: int, ceiling: bool) -> tuple[Vectors, Vectors]:
        """Scores (N, M) and noise ceilings (2, N) of N samples; NaN for a sample of fewer than 3 different conditions.

        Where both are drawn the RDMs come first, as in rsatoolbox. A sample that the evaluator does not serve, for
        example one whose few conditions leave an RDM constant, is left to rsatoolbox; data that it does not serve as a
        whole are refused before anything is drawn.
        """
        once = np.ones(len(self.evaluator.data), np.int64)
        pairs = None if self.patterns is None else np.ones(self.evaluator.data.shape[1], np.int64)
        self.evaluator.evaluate(pairs, once, ceiling)
        scores = np.full((N, len(self.evaluator.models)), np.nan)
        ceilings = np.full((2, N), np.nan)
        if self.patterns is not None:
            i, j = np.triu_indices(len(self.patterns.labels), 1)
        for sample in range(N):
            rdms = None if self.rdms is None else self.rdms.draw()
            patterns = None if self.patterns is None else self.patterns.draw()
            if patterns is not None:
                if patterns.different < 3:
                    continue
                pairs = patterns.counts[i] * patterns.counts[j]
            counts = once if rdms is None else rdms.counts
            try:
                scores[sample], bounds = self.evaluator.evaluate(pairs, counts, ceiling)
            except NotServed:
                scores[sample], bounds = self.by_rsatoolbox(rdms, patterns)
            if bounds is not None:
                ceilings[:, sample] = bounds
        return scores, ceilings
