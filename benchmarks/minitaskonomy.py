"""Puts the tables of docs/mini-taskonomy.md, and a sentence of the README, from the results into their places.

python benchmarks/minitaskonomy.py
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "minitaskonomy" / "summary.json"
PAGES = [Path(__file__).parent.parent / name for name in ("docs/mini-taskonomy.md", "README.md")]
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Record = Mapping[str, Any]
Results = Mapping[str, Any]

TRUTHS = {"winrate": "win rate", "affinity": "AHP affinity"}
FIGURE = "spearman_off_diagonal"
KS = (1, 3, 5, 10)
FEW = 64  # images


def filled(page: str, results: Results) -> str:
    """The page with every ``<!-- name -->`` ... ``<!-- end -->`` filled by the function of that name."""
    return BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]](results) + "\n" + found[3], page)


def short(results: Results) -> str:
    """How DDS fares, in one item of a list."""
    branching = _one(results["branching_agreement"], measure="dds")
    text = (
        "- DDS is a heuristic. In [Mini-Taskonomy](docs/mini-taskonomy.md), "
        f"{len(results['settings']['seeds'])} seeds, {_place(results, 'winrate')}. "
        f"The blocks that it recommends to branch from have {branching['relative_regret_recommended']:.2f} times "
        f"the regret of random ones, those that are most similar {branching['relative_regret']:.2f} times. "
        "Take it as a first ranking, then train the two or three best."
    )
    return textwrap.fill(text, 120, subsequent_indent="  ", break_on_hyphens=False)


def _place(results: Results, truth: str) -> str:
    """Where DDS comes among the methods, and how sure that is."""
    found = [r for r in results["agreement"] if r["truth"] == truth and r[FIGURE] is not None]
    found.sort(key=lambda record: -record[FIGURE])
    at = [record["method"] for record in found].index("dds")
    rival = found[1 if at == 0 else 0]
    ahead = _one(results["lead"], method=rival["method"], truth=truth)
    low, high = ahead["low"], ahead["high"]
    return (
        f"DDS comes {_th(at + 1)} of {len(found)} methods: its mean rank correlation with the measured transfers is "
        f"{found[at][FIGURE]:.3f}, that of {rival['method']}, which comes {_th(2 if at == 0 else 1)}, "
        f"{rival[FIGURE]:.3f}; the 95% interval of DDS's lead over the "
        f"{len(_names(results['learned'], 'target'))} targets, {low:.3f} to {high:.3f}, "
        f"{'holds' if low <= 0 <= high else 'does not hold'} 0"
    )


def sizes(results: Results) -> str:
    """How large the experiment was."""
    of = results["settings"]
    seeds = ", ".join(map(str, of["seeds"]))
    rows = [
        ["images that networks are trained on", f"{of['train']:,}"],
        ["training of a network", f"{of['steps']:,} batches of 32"],
        ["images that readouts are trained on", f"{of['transfer']:,}"],
        ["training of a readout", f"{of['readout_steps']:,} batches of 32"],
        ["images that losses are measured on", f"{of['test']:,}"],
        ["images that rankings are computed from, of each style", f"{of['ranking']:,}"],
        ["draws of these, where nothing else is said", f"{of['draws']:,} of {of['drawn']:,}"],
        ["seeds", seeds],
        *(
            [
                f"what the steps of seed {cost['seed']} took, with {cost['workers']} workers",
                f"{cost['wall_seconds'] / 60:.0f} minutes, {cost['cpu_seconds'] / 60:.0f} of processor time",
            ]
            for cost in results["costs"]
        ),
    ]
    return _table(["what", "how much"], rows)


def verdict(results: Results) -> str:
    """Who won, and where DDS came, in sentences."""
    sentences = []
    for truth, title in TRUTHS.items():
        cells = [r for r in results["grid"] if r["truth"] == truth]
        cells.sort(key=lambda record: -record[FIGURE])
        at = next(i for i, r in enumerate(cells) if (r["normalize"], r["f"]) == ("zscore", "laplacian")) + 1
        top = cells[0]
        text = (
            f"{_place(results, truth)}. In the grid of {len(cells)} normalisations and f, on draws of images, the best "
            f"is {top['normalize']} with {top['f']}, {top[FIGURE]:.3f}; DDS's own, z-score with the Laplacian kernel, "
            f"comes {_th(at)}, {cells[at - 1][FIGURE]:.3f}."
        )
        sentences.append(f"- By the **{title}**: {text}")
    records = [record for record in results["images"] if record["truth"] == "winrate"]
    few = sorted((r for r in records if r["images"] == FEW), key=lambda record: -record[FIGURE])
    fewer = [f"{r['measure']} {r[FIGURE]:.3f}" for r in few]
    sentences.append(f"- From {FEW} images, not {results['settings']['ranking']}, by the win rate: {', '.join(fewer)}.")
    return "\n".join(sentences)


def methods(results: Results) -> str:
    """Each method: its correlations, its regret and its cost."""
    rows = []
    for name in _names(results["agreement"], "method"):
        by_win, by_ahp = (_one(results["agreement"], method=name, truth=truth) for truth in TRUTHS)
        low, high = by_win[f"{FIGURE}_low"], by_win[f"{FIGURE}_high"]
        rows.append(
            [
                name,
                _spread(by_win, FIGURE),
                "" if low is None else f"{low:.3f} to {high:.3f}",
                _spread(by_ahp, FIGURE),
                _spread(by_win, "spearman"),
                _spread(by_win, "spearman_with_control"),
                _spread(by_win, "relative_regret"),
                *(f"{by_win[name]:.1f}" if by_win[name] else "" for name in ("seconds", "cpu_seconds")),
            ]
        )
    heads = ["method", "win rate", "draws of images", "AHP affinity", "diagonal kept", "with control", "regret"]
    return _table([*heads, "seconds", "of the processor"], rows)


def at_k(results: Results) -> str:
    """Precision of the first K, and how often the best source is among them, by the win rate."""
    rows = []
    for name in _names(results["at_k"], "method"):
        found = [_one(results["at_k"], method=name, truth="winrate", k=k) for k in KS]
        rows.append([name, *(f"{r['precision']:.2f}" for r in found), *(f"{r['best_found']:.2f}" for r in found)])
    return _table(["method", *(f"precision, K = {k}" for k in KS), *(f"best found, K = {k}" for k in KS)], rows)


def control(results: Results) -> str:
    """The control's mean place."""
    rows = [[TRUTHS.get(record["table"], record["table"]), f"{record['place']:.1f}"] for record in results["control"]]
    return _table(["by", "place of the untrained control among 21"], rows)


def lead(results: Results) -> str:
    """How far DDS is ahead of the others by the win rate, and how sure that is."""
    rows = []
    for record in results["lead"]:
        if record["truth"] == "winrate":
            interval = f"{record['low']:.3f} to {record['high']:.3f}"
            rows.append([record["method"], _spread(record, "ahead"), interval])
    return _table(["against", "ahead", "95% over targets"], rows)


def learned(results: Results) -> str:
    """What the readouts learned, beside a constant."""
    names = ("own", "best", "control", "constant")
    rows = [
        [record["target"], *(f"{record[name]:.4f}" for name in names), f"{record['worse_share']:.0%}"]
        for record in results["learned"]
    ]
    return _table(["target", "own network", "best source", "control", "constant", "sources worse than it"], rows)


def grid(results: Results) -> str:
    """Each normalisation and f, by the win rate."""
    records = [record for record in results["grid"] if record["truth"] == "winrate"]
    fs = _names(records, "f")
    rows = [
        [normalize, *(f"{_one(records, normalize=normalize, f=f)[FIGURE]:.3f}" for f in fs)]
        for normalize in _names(records, "normalize")
    ]
    return _table(["normalisation", *fs], rows)


def images(results: Results) -> str:
    """Each measure by the number of images, by the win rate."""
    records = [record for record in results["images"] if record["truth"] == "winrate"]
    counts = _names(records, "images")
    rows = []
    for measure in _names(records, "measure"):
        found = [_one(records, measure=measure, images=count) for count in counts]
        spread = ["" if r[f"{FIGURE}_sd"] is None else f" ± {r[f'{FIGURE}_sd']:.3f}" for r in found]
        rows.append([measure, *(f"{r[FIGURE]:.3f}{sd}" for r, sd in zip(found, spread, strict=True))])
    return _table(["measure", *map(str, counts)], rows)


def robustness(results: Results) -> str:
    """Each variant: correlation with the win rate, and with the measure's usual similarities."""
    records = results["robustness"]
    measures = _names(records, "measure")
    rows = []
    for variant in _names(records, "variant"):
        found = [_one(records, variant=variant, measure=measure) for measure in measures]
        rows.append([variant, *(f"{r['spearman_winrate']:.3f} ({r['same_similarities']:.2f})" for r in found)])
    return _table(["features", *measures], rows)


def depth(results: Results) -> str:
    """Each depth, by DDS and RSA."""
    rows = [
        [
            record["depth"],
            record["measure"],
            *(f"{record[name]:.3f}" for name in ("within", "between")),
            *(_spread(record, name) for name in ("spearman_winrate", "spearman_affinity", "as_labels")),
        ]
        for measure in _names(results["depth"], "measure")
        for record in results["depth"]
        if record["measure"] == measure
    ]
    return _table(["depth", "measure", "one type", "two types", "win rate", "AHP affinity", "labels"], rows)


def branching(results: Results) -> str:
    """Each type of task: the block that served it best, and what the measures recommend."""
    records = results["branching"]
    measures, blocks = _names(records, "measure"), _names(records, "block")
    rows = []
    for kind in _names(records, "type"):
        of = [record for record in records if record["type"] == kind]
        first = [_one(of, measure=measures[0], block=block) for block in blocks]
        chosen = [_shares([_one(of, measure=m, block=block) for block in blocks], "recommended") for m in measures]
        rows.append([kind, *(f"{record['winrate']:.3f}" for record in first), _shares(first, "best"), *chosen])
    agreed = [_one(results["branching_agreement"], measure=measure) for measure in measures]
    empty = [""] * len(blocks)
    rows.append(["Spearman, mean over tasks", *empty, "", *(_spread(record, "spearman") for record in agreed)])
    for title, name in (
        ("regret of the most similar block", "relative_regret"),
        ("regret of the recommended block", "relative_regret_recommended"),
    ):
        rows.append([f"{title}, mean over tasks", *empty, "", *(_spread(record, name) for record in agreed)])
    return _table(["tasks", *(f"win rate of {block}" for block in blocks), "best", *measures], rows)


BLOCKS: dict[str, Callable[[Results], str]] = {
    function.__name__: function
    for function in (
        short,
        sizes,
        verdict,
        methods,
        lead,
        at_k,
        control,
        learned,
        grid,
        images,
        robustness,
        depth,
        branching,
    )
}


def _one(records: Sequence[Record], **keys: Any) -> Record:
    (found,) = (record for record in records if all(record[name] == value for name, value in keys.items()))
    return found


def _names(records: Sequence[Record], key: str) -> list[Any]:
    return list(dict.fromkeys(record[key] for record in records))


def _spread(record: Record, name: str) -> str:
    """A figure, and its range over the seeds where there are several."""
    if record[name] is None:
        return ""
    low, high = record[f"{name}_min"], record[f"{name}_max"]
    return f"{record[name]:.3f}" + (f" ({low:.2f} to {high:.2f})" if high > low else "")


def _shares(records: Sequence[Record], name: str) -> str:
    """The blocks of which something is so, of several with the share of the seeds."""
    found = [record for record in records if record[name] > 0]
    return ", ".join(r["block"] + (f" ({r[name]:.0%})" if len(found) > 1 else "") for r in found)


def _th(place: int) -> str:
    ending = "th" if place // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), measured), encoding="utf-8")
