"""Ranks and rank correlation by torch's operators, on any device: on a GPU its sort is CUB's radix sort."""

from __future__ import annotations

import torch

_TEMPORARY_BYTES = 1 << 26
_BYTES_OF_VALUE = 64  # what ranking or counting takes for one value at most


def average_ranks(rows: torch.Tensor) -> torch.Tensor:
    """Ranks, from 1, of the values of each row (s, length); ties share the mean of the ranks they take up.

    Returns (s, length) float64 on the rows' device. Equivalent to ``scipy.stats.rankdata(rows, axis=1)``.
    """
    ranks = torch.empty(rows.shape, dtype=torch.float64, device=rows.device)
    at_once = _rows_at_once(rows.shape[1])
    for i in range(0, len(rows), at_once):
        ordered, order = rows[i : i + at_once].sort(dim=1)
        breaks = _breaks(ordered)
        # the ranks of a run are those from the first of its positions to the last, which is the first from behind
        last = breaks.shape[1] - _run_starts(breaks.flip(1)).flip(1)
        ranks[i : i + at_once].scatter_(1, order, (_run_starts(breaks) + last + 2).double() / 2)
    return ranks


def kendall(a: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
    """Kendall's tau-b of every row of `a` (s, length) with every row of `b` (t, length), or of `a`; (s, t) float64 on
    their device. No row may be constant.

    Knight's way (1966): discordant pairs are the inversions that are left in b once the values are in a's order.
    Temporary memory is 64 MiB, or where that is more, 64 bytes a value of one row.

    Equivalent to ``scipy.stats.kendalltau`` of each pair of rows.
    """
    others = a if b is None else b
    length = a.shape[1]
    pairs = length * (length - 1) // 2
    at_once = _rows_at_once(length)
    tied_a = torch.cat([_pairs_in_runs(_breaks(rows.sort(dim=1).values)) for rows in torch.split(a, at_once)])
    tau = torch.ones((len(a), len(others)), dtype=torch.float64, device=a.device)
    for t in range(0, len(others), at_once):
        rows = others[t : t + at_once]
        ordered, order = rows.sort(dim=1)
        breaks = _breaks(ordered)
        del ordered
        tied = _pairs_in_runs(breaks)
        ranks = torch.zeros(rows.shape, dtype=torch.int32, device=a.device)  # without gaps, in the rows' order
        torch.cumsum(breaks, 1, dtype=torch.int32, out=ranks[:, 1:])
        for s, row in enumerate(a):
            first = 0 if b is not None else max(0, s + 1 - t)  # the later ones only: tau is symmetric
            if first >= len(rows):
                break
            discordant, tied_both = _discordance(row, order[first:], ranks[first:])
            untied = (pairs - tied_a[s]).double().sqrt() * (pairs - tied[first:]).double().sqrt()
            of_pairs = (pairs - tied_a[s] - tied[first:] + tied_both - 2 * discordant) / untied
            tau[s, t + first : t + len(rows)] = of_pairs
            if b is None:
                tau[t + first : t + len(rows), s] = of_pairs
    return tau.clamp_(-1, 1)


def _rows_at_once(length: int) -> int:
    return max(1, _TEMPORARY_BYTES // (_BYTES_OF_VALUE * length))


def _discordance(row: torch.Tensor, order: torch.Tensor, ranks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The discordant pairs of a row and each of those whose order and ranks these are, and the pairs that are tied in
    both, (s,) each."""
    # by the row, and among its ties by the other: those make no inversion
    in_order, by_row = row[order].sort(dim=1, stable=True)
    y = ranks.gather(1, by_row)
    del by_row
    tied_both = _pairs_in_runs(_breaks(in_order) | _breaks(y))
    del in_order
    return _inversions(y), tied_both


def _breaks(ordered: torch.Tensor) -> torch.Tensor:
    """Whether a run of equal values ends between two, (s, length - 1)."""
    return ordered[:, 1:] != ordered[:, :-1]


def _run_starts(breaks: torch.Tensor) -> torch.Tensor:
    """The first position of each position's run, (s, length) int32."""
    s, length = breaks.shape[0], breaks.shape[1] + 1
    starts = torch.zeros((s, length), dtype=torch.int32, device=breaks.device)
    torch.mul(torch.arange(1, length, dtype=torch.int32, device=breaks.device), breaks, out=starts[:, 1:])
    return starts.cummax(1).values


def _pairs_in_runs(breaks: torch.Tensor) -> torch.Tensor:
    """How many pairs lie in one run, (s,)."""
    length = breaks.shape[1] + 1
    return length * (length - 1) // 2 - _run_starts(breaks).sum(1, dtype=torch.int64)


def _inversions(y: torch.Tensor) -> torch.Tensor:
    """How many pairs i < j of each row of int32, from 0 and below its length, have y_i > y_j, (s,).

    By bits, from the highest: of an inversion whose numbers agree above a bit, the earlier has a one there and the
    later a zero. Numbers that agree above the bit stand together, in their first order.
    """
    count = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    for bit in reversed(range((y.shape[1] - 1).bit_length())):
        one = (y >> bit) & 1
        ones_before = one.cumsum(1, dtype=torch.int32) - one
        starts = torch.zeros_like(y)
        torch.mul(ones_before[:, 1:], _breaks(y >> (bit + 1)), out=starts[:, 1:])
        ones_before -= starts.cummax(1).values  # of the group
        del starts
        count += ones_before.mul_(1 - one).sum(1, dtype=torch.int64)
        del one, ones_before
        y = y.gather(1, (y >> bit).sort(dim=1, stable=True).indices)
    return count
