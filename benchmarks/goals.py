"""The limits that the engine is built against, as data: what is measured, from which results, against which bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import peers
from cases import AFFINITY, AUTHORS, FAST, FUSED, GRID, OURS, SIZES
from measure import ENTRY, ERROR_KINDS

import dds_ext

Results = Mapping[str, Mapping[str, Any]]
"""The "cases" of the JSON."""


def _of(results: Results, case: str, contender: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = results[case]["contenders"][contender]
    return found


def ratio(case: str, over: str, under: str = OURS) -> Callable[[Results], float]:
    """Median time of `over` / median time of `under`."""
    return lambda results: _of(results, case, over)["median_s"] / _of(results, case, under)["median_s"]


def overhead(case: str, over: str, under: str = OURS) -> Callable[[Results], float]:
    """How much longer `over` takes than `under`, as a fraction."""
    return lambda results: ratio(case, over, under)(results) - 1


def seconds(case: str, contender: str = OURS) -> Callable[[Results], float]:
    return lambda results: float(_of(results, case, contender)["median_s"])


def fraction(case: str, contender: str = OURS) -> Callable[[Results], float]:
    """Of the roof, at the median time."""
    return lambda results: float(_of(results, case, contender)["roof"]["fraction"])


def error(case: str, contender: str = OURS) -> Callable[[Results], float]:
    return lambda results: float(_of(results, case, contender)["error"])


@dataclass(frozen=True)
class Goal:
    group: str
    name: str
    measured: Callable[[Results], float]
    """Raises KeyError where the results lack what it needs."""
    bound: float
    at_least: bool
    form: str
    """How the numbers are printed."""

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def miss(self, value: float) -> float:
        """By which fraction of the bound it is missed."""
        return (self.bound - value if self.at_least else value - self.bound) / self.bound


PERCENT, TIMES, SECONDS, SMALL = "{:.1%}", "{:.2f} x", "{:.3f} s", "{:.1e}"

# f whose inner step is a product, as in X @ X.T
GRAM_BASED = tuple(f for f, others in peers.PEERS.items() if any(peer.name == peers.GRAM for peer in others))
RELATIVE, ABSOLUTE = 1e-5, 2e-6
# Rank-based comparisons equal SciPy's but for the order of the sums.
ROUNDING = 1e-10
ROOF = "of the roof"
DISTURBED = 0.1  # cores that others took meanwhile
POSSIBLE = 1.03  # of a roof; the rest is noise


def _goals() -> Iterator[Goal]:
    sized = [(f, n, f"{f}-{n}x{d}") for n, d in SIZES for f in dds_ext.METRICS]
    for f, n, case in sized:
        yield Goal(ROOF, case, fraction(case), 0.85 if n >= 1000 else 0.65, True, PERCENT)
        if f == "laplacian":
            yield Goal(ROOF, f"{case} fast", fraction(case, FAST), 0.85 if n >= 1000 else 0.65, True, PERCENT)
    double = "laplacian-1000x2048-float64"
    yield Goal(ROOF, double, fraction(double), 0.85, True, PERCENT)
    for f in ("laplacian", "linear", "euclidean"):
        for isa in dds_ext.info()["isas"]:
            case = f"isa-{f}-1000x2048"
            yield Goal(ROOF, f"{case} {isa}", fraction(case, isa), 0.85, True, PERCENT)

    headline = "laplacian-1000x2048"
    yield Goal(
        "faster than", "scikit-learn, " + headline, ratio(headline, "scikit-learn laplacian_kernel"), 60, True, TIMES
    )
    yield Goal("faster than", "torch pdist, " + headline, ratio(headline, "torch pdist"), 5, True, TIMES)
    yield Goal("faster than", f"{AUTHORS}, {AFFINITY}", ratio(AFFINITY, AUTHORS), 1000, True, TIMES)
    for f, _, case in sized:
        if f in GRAM_BASED:
            yield Goal("faster than", f"{peers.GRAM}, {case}", ratio(case, peers.GRAM), 1.3, True, TIMES)

    for _, n, case in sized:
        name = f"zscore and unbiased, {case}"
        yield Goal("on top of the bare matrix", name, overhead(case, FUSED), 0.15 if n >= 1000 else 0.4, False, PERCENT)

    yield Goal("time", GRID, seconds(GRID), 1, False, SECONDS)

    for f, _, case in sized:
        yield Goal("error", case, error(case), RELATIVE if ERROR_KINDS.get(f) == ENTRY else ABSOLUTE, False, SMALL)
        if f == "laplacian":
            yield Goal("error", f"{case} fast", error(case, FAST), 5e-5, False, SMALL)
    for case in (AFFINITY, GRID):
        yield Goal("error", case, error(case), 1e-5, False, SMALL)
    for g in ("spearman", "kendall"):
        for n in (200, 1000):
            yield Goal("error", f"compare-{g}-{n}", error(f"compare-{g}-{n}"), ROUNDING, False, SMALL)


GOALS = tuple(_goals())


def table(results: Results) -> str:
    """Every goal: its bound, what was measured, and whether that meets it."""
    width = max(len(goal.name) for goal in GOALS)
    lines, group, met, missed, impossible = [], "", 0, 0, 0
    for goal in GOALS:
        if goal.group != group:
            group = goal.group
            lines.append(f"\n{group}")
        bound = ("at least " if goal.at_least else "at most ") + goal.form.format(goal.bound)
        try:
            value = goal.measured(results)
        except KeyError:
            lines.append(f"  {goal.name:{width}}  {bound:>17}  {'-':>11}  not measured")
            continue
        if goal.group == ROOF and value > POSSIBLE:
            lines.append(f"  {goal.name:{width}}  {bound:>17}  {goal.form.format(value):>11}  IMPOSSIBLE: no roof")
            impossible += 1
            continue
        good = goal.met(value)
        met, missed = met + good, missed + (not good)
        verdict = "met" if good else f"MISSED by {goal.miss(value):.0%}"
        lines.append(f"  {goal.name:{width}}  {bound:>17}  {goal.form.format(value):>11}  {verdict}")
    unmeasured = len(GOALS) - met - missed - impossible
    doubtful = f", {impossible} in doubt (faster than their roof, which therefore is none)" if impossible else ""
    lines.append(f"\n{met} met, {missed} missed{doubtful}, {unmeasured} not measured")
    for what, weak in (
        ("measured quickly", [name for name, case in results.items() if case["quick"]]),
        ("disturbed", [name for name, case in results.items() if (case["cores_taken_by_others"] or 0) > DISTURBED]),
    ):
        if weak:
            lines.append(f"{what}, not to be trusted: {', '.join(weak)}")
    return "\n".join(lines).lstrip("\n")
