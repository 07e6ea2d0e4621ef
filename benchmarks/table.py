"""Writes the measured figures into the pages' tables: python benchmarks/table.py."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OURS = "dds_ext"
HEADER = "| task | dds_ext | of the roof | largest error | others |"
GRADIENTS = "| forward and backward | dds_ext | peak memory | others: time, peak memory |"
CALLS = "| call | median |"
# what a row is called, its case, and the peers shown beside it
ROWS = {
    "laplacian, 200 x 2,048": ("laplacian-200x2048", ("scikit-learn", "SciPy pdist", "torch pdist")),
    "laplacian, 1,000 x 2,048": ("laplacian-1000x2048", ("scikit-learn", "SciPy pdist", "torch pdist")),
    "laplacian, 5,000 x 2,048": ("laplacian-5000x2048", ("scikit-learn", "SciPy pdist", "torch pdist")),
    "laplacian, 200 x 100,352": ("laplacian-200x100352", ("scikit-learn", "SciPy pdist", "torch pdist")),
    "linear, 1,000 x 2,048": ("linear-1000x2048", ("torch X @ X.T", "NumKong")),
    "euclidean, 1,000 x 2,048": ("euclidean-1000x2048", ("scikit-learn", "SciPy pdist", "NumKong")),
    "cosine, 1,000 x 2,048": ("cosine-1000x2048", ("scikit-learn", "SciPy pdist", "NumKong")),
    "pearson, 1,000 x 2,048": ("pearson-1000x2048", ("NumPy corrcoef", "SciPy pdist")),
    "DDS of 20 models, 200 x 2,048": ("affinity-20x200x2048", ("the authors",)),
}


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def table(results: Mapping[str, Any]) -> str:
    """Median times, the fraction of the roof, the largest error, and how many times longer others take, in Markdown."""
    lines = [HEADER, "|---|---|---|---|---|"]
    for label, (case, peers) in ROWS.items():
        contenders = results["cases"][case]["contenders"]
        ours = contenders[OURS]
        roof = f"{ours['roof']['fraction']:.0%}" if ours.get("roof") else ""
        kind = "" if ours["error_kind"] == "absolute" else f" {ours['error_kind'].replace('|', chr(92) + '|')}"
        others = [
            f"{name} {contender['median_s'] / ours['median_s']:.3g} x"
            for peer in peers
            for name, contender in contenders.items()
            if name.startswith(peer)
        ]
        lines.append(
            f"| {label} | {_time(ours['median_s'])} | {roof} | {ours['error']:.0e}{kind} | {', '.join(others)} |"
        )
    return "\n".join(lines)


def readme(page: str, results: Mapping[str, Any]) -> str:
    """The README with its table as measured."""
    return _put(page, HEADER, table(results))


def _put(page: str, header: str, table: str) -> str:
    """The page with that table in place of the one that has this header."""
    start = page.index(header)
    end = page.find("\n\n", start)
    return page[:start] + table + (page[end:] if end > 0 else "\n")


def drop_ins(page: str, results: Mapping[str, Any]) -> str:
    """The page of the drop-ins; the last column of its rows says how many times longer the originals take."""
    return "\n".join(_drop_in(row, results["cases"]) for row in page.split("\n"))


def _drop_in(row: str, cases: Mapping[str, Any]) -> str:
    """A row ends as it did where none of the functions that it imports has a case, named package-function-variant."""
    cells = row.split(" | ")
    imported = re.fullmatch(r"`.* import (.*)`", cells[2]) if len(cells) == 5 else None
    if imported is None:
        return row
    functions = imported[1].split(", ")
    measured = []
    for function in functions:
        ratios = [
            f"{case.split('-', 2)[2]} {_ratio(result['contenders'])}"
            for case, result in cases.items()
            if case.split("-")[1] == function
        ]
        if ratios:
            measured.append((f"{function}: " if len(functions) > 1 else "") + ", ".join(ratios))
    return " | ".join([*cells[:4], f"{'; '.join(measured)} |"]) if measured else row


def _ratio(contenders: Mapping[str, Any]) -> str:
    (original,) = contenders.keys() - {OURS}
    return f"{contenders[original]['median_s'] / contenders[OURS]['median_s']:.2g} x"


def gradients(page: str, results: Mapping[str, Any]) -> str:
    """The page of the gradients: every case, and what an operator costs."""
    lines = [GRADIENTS, "|---|---|---|---|"]
    calls = [CALLS, "|---|---|"]
    for name, case in results["cases"].items():
        contenders = case["contenders"]
        if name == "overhead":
            calls += [f"| {call} | {1e6 * figures['median_s']:.0f} us |" for call, figures in contenders.items()]
            continue
        ours = contenders[OURS]
        others = ", ".join(
            f"{other} {peer['median_s'] / ours['median_s']:.3g} x, {peer['peak_bytes'] / ours['peak_bytes']:.2g} x"
            for other, peer in contenders.items()
            if other != OURS
        )
        lines.append(
            f"| {case['f']}, {case['n']:,} x {case['d']:,} | {_time(ours['median_s'])} "
            f"| {ours['peak_bytes'] / 2**20:.0f} MiB | {others} |"
        )
    return _put(_put(page, GRADIENTS, "\n".join(lines)), CALLS, "\n".join(calls))


# each page, what writes its figures, and where they are
PAGES = (
    ("README.md", readme, "cpu.json"),
    ("docs/use-it-from-your-tool.md", drop_ins, "compat.json"),
    ("docs/pytorch.md", gradients, "gradients.json"),
)


if __name__ == "__main__":
    for name, write, results in PAGES:
        page = ROOT / name
        page.write_text(write(page.read_text(), json.loads((RESULTS / results).read_text())))
