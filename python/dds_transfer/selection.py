"""Which source model to start from: a ranking with its uncertainty, and how many images it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

import dds_ext
from dds_transfer.resampling import Array, Matrix, draw_rows, scores_on_draws, whole_number
from dds_transfer.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# That the matrices of the sources may take at once; sources beyond it wait, and the target's matrix is made again.
MATRIX_BYTES = 2**30
Measure = str | Mapping[str, Any]
_PARTS = {
    "normalize": dds_ext.NORMALIZATIONS,
    "f": dds_ext.METRICS,
    "center": dds_ext.CENTERINGS,
    "g": dds_ext.COMPARISONS,
}


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Scores of the sources on random draws of images.

    Attributes:
        scores: (draws, S) float64, a column per source in the ranking's order.
        images: number of images in a draw.
        replacement: whether a draw may hold an image several times.
        confidence: of the intervals.
        seed: of the draws.
    """

    scores: Matrix
    images: int
    replacement: bool
    confidence: float
    seed: int

    @property
    def mean(self) -> Matrix:
        """(S,) mean score over the draws; of draws without replacement, the figure that the DDS paper reports."""
        return np.asarray(self.scores.mean(axis=0))

    @property
    def low(self) -> Matrix:
        """(S,) lower ends of the percentile intervals."""
        return self._quantile((1 - self.confidence) / 2)

    @property
    def high(self) -> Matrix:
        """(S,) upper ends of the percentile intervals."""
        return self._quantile((1 + self.confidence) / 2)

    @property
    def first_share(self) -> Matrix:
        """(S,) share of draws in which each source scores highest; sources that tie share the draw, so it sums to 1."""
        first = self.scores == self.scores.max(axis=1, keepdims=True)
        return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))

    def _quantile(self, probability: float) -> Matrix:
        return np.asarray(np.quantile(self.scores, probability, axis=0))


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Result):
    """Source models in the order of their similarity to a target, the most promising one first.

    Attributes:
        target: the target's name.
        measure: the measure's name, or its normalisation, f, centring and g.
        options: the measure as options of ``dds_ext.affinity``.
        images: number of images n.
        sources: S names, best first.
        scores: (S,) similarities to the target over all n images.
        bootstrap: scores on draws of the images, or None.
    """

    target: str
    measure: str
    options: dict[str, Any]
    images: int
    sources: list[str]
    scores: Matrix
    bootstrap: Bootstrap | None

    @property
    def ranks(self) -> list[int]:
        """S ranks from 1; sources of equal score have the same, the smallest of theirs."""
        ranks: list[int] = rankdata(-self.scores, method="min").astype(int).tolist()
        return ranks

    @property
    def title(self) -> str:
        """Target, measure and numbers of images."""
        title = f"Sources for {self.target} by {self.measure}, {self.images} images"
        if self.bootstrap is None:
            return title
        how = "with" if self.bootstrap.replacement else "without"
        return (
            f"{title}; {100 * self.bootstrap.confidence:g}% intervals of {len(self.bootstrap.scores)} draws "
            f"of {self.bootstrap.images} {how} replacement"
        )

    @property
    def records(self) -> list[dict[str, Any]]:
        """``rank``, ``source``, ``score``; of draws also their ``mean``, ``low``, ``high`` and ``first_share``."""
        columns = {"rank": self.ranks, "source": self.sources, "score": self.scores.tolist()}
        if self.bootstrap is not None:
            for name in ("mean", "low", "high", "first_share"):
                columns[name] = getattr(self.bootstrap, name).tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def beside(self, measured: Mapping[str, float]) -> list[dict[str, Any]]:
        """The records with the ``true_rank`` of each source, 1 for the largest ``measured`` transfer.

        Both are None for a source that was not measured; sources of equal transfer have the smallest of their ranks.
        """
        known = sorted((measured[name] for name in self.sources if name in measured), reverse=True)
        return [
            {
                "rank": record["rank"],
                "source": record["source"],
                "true_rank": known.index(measured[record["source"]]) + 1 if record["source"] in measured else None,
                "measured": measured.get(record["source"]),
                **record,
            }
            for record in self.records
        ]

    @property
    def notes(self) -> list[str]:
        """What to know when reading it, in sentences: whether scores depend on the number of images."""
        draws = self.bootstrap
        if draws is None or not ((self.scores < draws.low) | (self.scores > draws.high)).any():
            return []
        return [f"the score of all images lies outside some intervals: {self.measure} changes with their number"]

    def to_dict(self) -> dict[str, Any]:
        """The ranking and how it was obtained."""
        draws = self.bootstrap
        return {
            "target": self.target,
            "measure": self.measure,
            "options": self.options,
            "images": self.images,
            "bootstrap": None
            if draws is None
            else {
                "draws": len(draws.scores),
                "images": draws.images,
                "replacement": draws.replacement,
                "confidence": draws.confidence,
                "seed": draws.seed,
            },
            "ranking": self.records,
        }

    def _draw(self) -> Figure:
        from dds_transfer.plots import draw_ranking

        return draw_ranking(self)


def rank_models(
    target: Array,
    sources: Mapping[str, Array],
    measure: Measure = "dds",
    *,
    name: str = "target",
    bootstrap: int | None = 100,
    images: int | None = None,
    replacement: bool = False,
    confidence: float = 0.95,
    seed: int = 1993,
    step: Callable[[], None] = lambda: None,
) -> Ranking:
    """Rank source models by their similarity to a target, with intervals from random draws of the images.

    The interval of a source runs between the (1 - confidence) / 2 and (1 + confidence) / 2 quantiles of its scores on
    the draws, linearly interpolated (the percentile interval). What it says depends on the draws:

    - Without replacement, as in the DDS paper (200 of 5,000 images, 100 times): how far a score of m images depends on
      which m of these n they are. As m grows, the variance over such draws tends to n / m - 1 times the sampling
      variance of the score of all n images (with few images it is larger): the interval is wider than one for that
      score where m < n / 2, narrower where m > n / 2, and right for it where m = n / 2. Its middle is the expected
      score of m images; a measure with ``center="double"`` scores fewer images higher, so that the score of all n may
      lie outside.
    - With replacement, m = n: the bootstrap proper, an interval for the score of n images, of other images like these.
      Pairs of copies of one image are left out, see ``dds_transfer.resampling.scores_on_draws``; that leaves fewer
      pairs, and makes it a little wide where images are few.

    The intervals of two sources may overlap although one scores higher in nearly every draw, since a draw of
    images that are easy for one is mostly easy for the other too; ``first_share`` compares the sources draw by draw.

    Args:
        target: (n, d) or (n, C, *spatial) features of the target model: a NumPy array or a torch tensor.
        sources: features of S models on the same n images in the same order, by name; d may differ.
        measure: a name in ``dds_ext.MEASURES`` (dds, rsa, cka-linear, cka-rbf); or ``normalize``, ``f``, ``center`` and
            ``g`` as one text, ``"zscore,rbf,double,cosine"``; or any of these four as a mapping, with ``dds``'s for the
            rest; it may hold other options of ``dds_ext.affinity`` too, such as ``gamma`` or ``channels``.
        name: what to call the target.
        bootstrap: number of draws; None for a ranking without intervals.
        images: images in a draw, m; by default n with replacement; without it 200, or n // 2 if that is less.
        replacement: draw with replacement.
        confidence: of the intervals, between 0 and 1.
        seed: of NumPy's RandomState, which makes the draws; the default is the DDS authors'.
        step: called after every draw.

    Raises:
        ValueError: m = n without replacement, since all draws would be the same; m > n; what ``dds_ext`` refuses, with
            the draw if it was in one; a number out of range.
        TypeError: an option that ``dds_ext.affinity`` does not have.

    Equivalent to, for a draw of the default kind::

        rows = np.random.RandomState(1993).choice(n, 200, replace=False)
        [dds_ext.dds(X[rows], target[rows]) for X in sources.values()]
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if bootstrap is not None:
        whole_number("bootstrap, the number of draws,", bootstrap, 1)
    label, options = measure_options(measure)
    scores = _scores(target, sources, options)
    n = len(target)
    order = np.argsort(-scores, kind="stable")
    names = [list(sources)[i] for i in order]
    draws = None
    if bootstrap is not None:
        count = (n if replacement else min(200, n // 2)) if images is None else images
        rows = draw_rows(n, count, bootstrap, seed, replacement)
        drawn = scores_on_draws(target, {source: sources[source] for source in names}, rows, options, step)
        draws = Bootstrap(drawn, count, replacement, confidence, seed)
    return Ranking(name, label, options, n, names, scores[order], draws)


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Result):
    """How far rankings from fewer images agree with the ranking from all of them.

    Attributes:
        target: the target's name.
        measure, options: as in :class:`Ranking`.
        images: number of images n.
        sources: S names.
        n_images: K numbers of images drawn.
        correlations: (K, draws) Spearman correlations of the scores of a draw with those of all images, over the
            sources.
        same_first: (K, draws) whether the first of a draw is the first of all images.
        seed: of the draws.
    """

    target: str
    measure: str
    options: dict[str, Any]
    images: int
    sources: list[str]
    n_images: list[int]
    correlations: Matrix
    same_first: NDArray[np.bool_]
    seed: int

    @property
    def title(self) -> str:
        """What is compared."""
        return (
            f"Sources for {self.target} by {self.measure}: rankings from fewer images and from all {self.images}, "
            f"{self.correlations.shape[1]} draws each"
        )

    @property
    def records(self) -> list[dict[str, Any]]:
        """``images``, ``spearman`` and ``spearman_sd`` (mean and deviation over the draws), ``same_first_share``."""
        columns = {
            "images": self.n_images,
            "spearman": self.correlations.mean(axis=1).tolist(),
            "spearman_sd": self.correlations.std(axis=1, ddof=1).tolist(),
            "same_first_share": self.same_first.mean(axis=1).tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """The records and how they were obtained."""
        return {
            "target": self.target,
            "measure": self.measure,
            "options": self.options,
            "images": self.images,
            "sources": self.sources,
            "draws": self.correlations.shape[1],
            "seed": self.seed,
            "stability": self.records,
        }

    def _draw(self) -> Figure:
        from dds_transfer.plots import draw_stability

        return draw_stability(self)


def stability(
    target: Array,
    sources: Mapping[str, Array],
    n_images: Sequence[int] | None = None,
    draws: int = 100,
    measure: Measure = "dds",
    *,
    name: str = "target",
    seed: int = 1993,
    step: Callable[[], None] = lambda: None,
) -> Stability:
    """How many images are enough: rankings from random subsets of the images against the ranking from all.

    The analysis behind the 200 images of the DDS paper. A subset is part of all the images, so the agreement tends to 1
    as it grows to n, whatever n is: read the curve where the number of images is small beside n.

    Args:
        target, sources, measure, name: as for :func:`rank_models`; at least 3 sources.
        n_images: numbers of images to draw, without replacement, each less than n; by default 25, 50, 100, 200 and so
            on, doubled.
        draws: how often for each number, at least 2.
        seed: as for :func:`rank_models`. Every number of images starts from it, so that a small subset is part of the
            larger ones, and the numbers are compared on the same images.
        step: called after every draw, ``len(n_images) * draws`` times in all.

    Raises:
        ValueError: a number of images that is not less than n, fewer than 3 sources, fewer than 2 draws, sources that
            all score the same, and as for :func:`rank_models`.

    Equivalent to, for one draw of m images::

        rows = np.random.RandomState(1993).choice(n, m, replace=False)
        scipy.stats.spearmanr([dds_ext.dds(X[rows], target[rows]) for X in sources.values()],
                              [dds_ext.dds(X, target) for X in sources.values()]).statistic
    """
    if len(sources) < 3:
        raise ValueError(f"too few sources: {len(sources)}; rankings correlate from 3 on")
    whole_number("the number of draws", draws, 2)  # that have a standard deviation
    label, options = measure_options(measure)
    n = len(target)
    counts = stability_sizes(n) if n_images is None else _distinct(n_images)
    rows = [draw_rows(n, count, draws, seed) for count in counts]
    scores = _scores(target, sources, options)
    everything = np.stack([scores_on_draws(target, sources, drawn, options, step) for drawn in rows])  # (K, draws, S)
    if np.ptp(scores) == 0 or (np.ptp(everything, axis=2) == 0).any():
        raise ValueError("all sources score the same, so that their rankings have no correlation")
    correlations = np.array([[spearmanr(drawn, scores).statistic for drawn in block] for block in everything])
    same_first = everything.argmax(axis=2) == scores.argmax()
    return Stability(name, label, options, n, list(sources), counts, correlations, same_first, seed)


def _distinct(n_images: Sequence[int]) -> list[int]:
    """The numbers of images, if they are a list of different ones."""
    if isinstance(n_images, int | str) or not (counts := list(n_images)):
        raise ValueError(f"n_images must be one or more numbers of images, such as [50, 100], got {n_images!r}")
    if twice := [count for i, count in enumerate(counts) if count in counts[:i]]:
        raise ValueError(f"n_images has {twice[0]} twice")
    return counts


def stability_sizes(n: int) -> list[int]:
    """The numbers of images that :func:`stability` draws by default: 25, 50, 100 and so on below n."""
    sizes = [25 * 2**k for k in range(n.bit_length()) if 25 * 2**k < n]
    if not sizes:
        raise ValueError(f"there are {n} images, too few for the default numbers of images; give some below {n}")
    return sizes


def measure_options(measure: Measure) -> tuple[str, dict[str, Any]]:
    """A measure's name and its options of ``dds_ext.affinity``; see :func:`rank_models`."""
    if isinstance(measure, str):
        if measure in dds_ext.MEASURES:
            return measure, dict(dds_ext.MEASURES[measure])
        given = [part.strip() for part in measure.split(",")]
        if len(given) != len(_PARTS):
            raise ValueError(
                f"unknown measure {measure!r}; choose from {', '.join(dds_ext.MEASURES)}, "
                f"or give {', '.join(_PARTS)} with commas between them, such as zscore,rbf,double,cosine"
            )
        for (part, known), value in zip(_PARTS.items(), given, strict=True):
            if value not in known:
                raise ValueError(f"measure {measure!r}: no {part} {value!r}; choose from {', '.join(known)}")
        measure = dict(zip(_PARTS, given, strict=True))
    if not isinstance(measure, Mapping):
        raise TypeError(f"measure must be a name or a mapping of options, got {type(measure).__name__}")
    options = {**dds_ext.MEASURES["dds"], **measure}
    return ", ".join(str(options[part]) for part in _PARTS), options


def _scores(target: Array, sources: Mapping[str, Array], options: Mapping[str, Any]) -> Matrix:
    """(S,) similarities over all images."""
    if not isinstance(sources, Mapping):
        raise TypeError(f"sources must be a mapping from names to features, got {type(sources).__name__}")
    names = list(sources)
    together = max(1, MATRIX_BYTES // (8 * max(1, len(target)) ** 2))
    scores = [
        dds_ext.affinity({name: sources[name] for name in names[i : i + together]}, {"target": target}, **options)[:, 0]
        for i in range(0, max(1, len(names)), together)
    ]
    return np.concatenate([np.asarray(part) for part in scores])
