"""rsatoolbox's bootstraps over RDMs and conditions, without building a sample's RDMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dds_ext.compat._drop_in import NotServed
from dds_ext.compat._weighted import TAUS, Vectors, Weights, expanded, norms, prepared, similarities


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

    def evaluate(
        self, pairs: Weights | None, counts: Weights, ceiling: bool
    ) -> tuple[Vectors, tuple[float, float] | None]:
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
        pooled = prepared(np.concatenate([counts[None], others]) @ data, self.method, pairs)
        upper = own @ similarities(pooled[:1], data, self.method, pairs)[0] / own.sum(axis=1)
        if self.method in TAUS:  # one by one: a tau of every mean with every RDM would take long
            tau = [similarities(p[None], data[o > 0], self.method)[0] for p, o in zip(pooled[1:], own, strict=True)]
            lower = np.array([t @ o[o > 0] / o.sum() for t, o in zip(tau, own, strict=True)])
        else:
            lower = (own * similarities(pooled[1:], data, self.method, pairs)).sum(axis=1) / own.sum(axis=1)
        return float(lower.mean()), float(upper.mean())


@dataclass
class Draws:
    """A bootstrap over one dimension: the values of a descriptor are drawn with replacement."""

    labels: npt.NDArray[np.intp]
    """For each item the value it has, by number."""
    values: int
    """How many values there are."""

    @staticmethod
    def of(descriptor: Any) -> Draws:
        values, labels = np.unique(np.asarray(descriptor), return_inverse=True)
        return Draws(labels, len(values))

    def draw(self) -> tuple[Weights, int]:
        """How often a sample holds each item, and how many different values. One call of NumPy's generator, which is
        rsatoolbox's: so the same seed gives the same samples.
        """
        times = np.bincount(np.random.randint(0, self.values, size=self.values), minlength=self.values)
        return times[self.labels], int(np.count_nonzero(times))


def sampled(
    evaluator: Evaluator, rdms: Draws | None, patterns: Draws | None, N: int, ceiling: bool
) -> tuple[Vectors, Vectors]:
    """Scores (N, M) and noise ceilings (2, N) of N samples; NaN for a sample of fewer than 3 different conditions.

    Where both are drawn the RDMs come first, as in rsatoolbox.
    """
    once = np.ones(len(evaluator.data), np.int64)
    scores = np.full((N, len(evaluator.models)), np.nan)
    ceilings = np.full((2, N), np.nan)
    if patterns is not None:
        i, j = np.triu_indices(len(patterns.labels), 1)
    for sample in range(N):
        counts = once if rdms is None else rdms.draw()[0]
        pairs = None
        if patterns is not None:
            times, different = patterns.draw()
            if different < 3:
                continue
            pairs = times[i] * times[j]
        scores[sample], bounds = evaluator.evaluate(pairs, counts, ceiling)
        if bounds is not None:
            ceilings[:, sample] = bounds
    return scores, ceilings
