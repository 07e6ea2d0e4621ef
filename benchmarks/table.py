"""The README's table of speeds and errors, from the results: python benchmarks/table.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "cpu.json"
OURS = "dds_ext"
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
    lines = [
        "| task | dds_ext | of the roof | largest error | others |",
        "|---|---|---|---|---|",
    ]
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


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text())))
