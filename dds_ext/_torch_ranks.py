"""Ranks and rank correlation by torch's operators, on any device: on a GPU its sort is CUB's radix sort."""

from __future__ import annotations

import torch

_TEMPORARY_BYTES = 1 << 26
_BYTES_OF_VALUE = 48  # what ranking one value takes at most


def average_ranks(rows: torch.Tensor) -> torch.Tensor:
    """Ranks, from 1, of the values of each row (s, length); ties share the mean of the ranks they take up.

    Returns (s, length) float64 on the rows' device. Equivalent to ``scipy.stats.rankdata(rows, axis=1)``.
    """
    ranks = torch.empty(rows.shape, dtype=torch.float64, device=rows.device)
    at_once = max(1, _TEMPORARY_BYTES // (_BYTES_OF_VALUE * rows.shape[1]))
    for i in range(0, len(rows), at_once):
        ordered, order = rows[i : i + at_once].sort(dim=1)
        first, last = _runs(ordered[:, 1:] != ordered[:, :-1])
        ranks[i : i + at_once].scatter_(1, order, (first + last + 2).double() / 2)
    return ranks


def kendall(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Kendall's tau-b of every row of `a` (s, length) with every row of `b` (t, length); (s, t) float64. No row may be
    constant.

    Knight's way (1966): discordant pairs are the inversions that are left in b once the values are in a's order.
    Equivalent to ``scipy.stats.kendalltau`` of each pair of rows.
    """
    length = a.shape[1]
    pairs = length * (length - 1) // 2
    by_b, of_b = b.sort(dim=1)
    dense = torch.zeros_like(of_b)  # ranks without gaps
    dense[:, 1:] = (by_b[:, 1:] != by_b[:, :-1]).cumsum(1)
    tied_a, tied_b = _tied_pairs(a.sort(dim=1).values), _tied_pairs(by_b)
    tau = torch.empty((len(a), len(b)), dtype=torch.float64, device=a.device)
    for s, row in enumerate(a):
        # by a, and among ties of a by b: those make no inversion
        in_order, order = row[of_b].sort(dim=1, stable=True)
        y = dense.gather(1, order)
        tied_both = _pairs_in_runs((in_order[:, 1:] != in_order[:, :-1]) | (y[:, 1:] != y[:, :-1]))
        discordant = _inversions(y)
        concordant_less_discordant = pairs - tied_a[s] - tied_b + tied_both - 2 * discordant
        untied = (pairs - tied_a[s]).double().sqrt() * (pairs - tied_b).double().sqrt()
        tau[s] = concordant_less_discordant / untied
    return tau.clamp_(-1, 1)


def _runs(breaks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each position the first and the last of its run; breaks (s, length - 1): whether a run ends between two."""
    s, length = breaks.shape[0], breaks.shape[1] + 1
    position = torch.arange(length, device=breaks.device)
    first = torch.zeros((s, length), dtype=torch.int64, device=breaks.device)
    first[:, 1:] = position[1:] * breaks
    last = torch.full((s, length), length - 1, dtype=torch.int64, device=breaks.device)
    last[:, :-1] = torch.where(breaks, position[:-1], length - 1)
    return first.cummax(1).values, last.flip(1).cummin(1).values.flip(1)


def _pairs_in_runs(breaks: torch.Tensor) -> torch.Tensor:
    """How many pairs lie in one run, (s,)."""
    first, _ = _runs(breaks)
    position = torch.arange(first.shape[1], device=breaks.device)
    return (position - first).sum(1)


def _tied_pairs(ordered: torch.Tensor) -> torch.Tensor:
    return _pairs_in_runs(ordered[:, 1:] != ordered[:, :-1])


def _inversions(y: torch.Tensor) -> torch.Tensor:
    """How many pairs i < j of each row of integers from 0 have y_i > y_j, (s,).

    By bits, from the highest: of an inversion whose numbers agree above a bit, the earlier has a one there and the
    later a zero. Numbers that agree above the bit stand together, in their first order.
    """
    count = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    for bit in reversed(range(max(1, int(y.max()).bit_length()))):
        above = y >> (bit + 1)
        one = (y >> bit) & 1
        ones_before = one.cumsum(1) - one
        starts = torch.zeros_like(ones_before)
        starts[:, 1:] = ones_before[:, 1:] * (above[:, 1:] != above[:, :-1])
        in_group = ones_before - starts.cummax(1).values
        count += (in_group * (1 - one)).sum(1)
        y = y.gather(1, (y >> bit).sort(dim=1, stable=True).indices)
    return count
