"""Times dds_ext and its peers: `python benchmarks/run.py --only 'laplacian-*' --output benchmarks/results/cpu.json`."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import goals
import torch
from cases import CASES, OURS, Case
from machine import busy_seconds, describe
from measure import Effort, measure
from store import save
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

FULL, QUICK = Effort(rounds=5, seconds=0.4), Effort(rounds=2, seconds=0.05)
DEFAULT_OUTPUT = Path(__file__).parent / "results" / "cpu.json"


def load(path: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """The results so far, which new ones are merged into."""
    if not path.exists():
        return {"machine": machine, "cases": {}}
    results: dict[str, Any] = json.loads(path.read_text())
    differing = [key for key in machine if machine[key] != results["machine"].get(key)]
    if differing:
        raise click.ClickException(
            f"{path} holds results of another machine or other versions ({', '.join(differing)} differ); "
            "choose another --output, or remove it"
        )
    return results


def run(case: Case, effort: Effort, quick: bool) -> dict[str, Any]:
    contenders = [c for c in case.prepare() if not (quick and c.slow)]
    busy, own, start = busy_seconds(), time.process_time(), time.perf_counter()
    figures = measure(contenders, effort)
    wall, own, busy_after = time.perf_counter() - start, time.process_time() - own, busy_seconds()
    return {
        "about": case.about,
        **case.facts,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": quick,
        "cores_taken_by_others": None
        if busy is None or busy_after is None
        else max(0.0, busy_after - busy - own) / wall,
        "contenders": figures,
    }


def run_some(
    cases: Mapping[str, Case],
    only: Sequence[str],
    output: Path,
    quick: bool,
    also: Callable[[Case, dict[str, Any]], None] = lambda case, result: None,
) -> None:
    """Runs the cases that a pattern of `only` names, or all, and merges the results into `output`; `also` may add to
    each."""
    unknown = [pattern for pattern in only if not fnmatch.filter(cases, pattern)]
    if unknown:
        raise click.ClickException(f"no case is named {', '.join(unknown)}; choose from {', '.join(cases)}")
    with threadpool_limits(torch.get_num_threads()):
        results = load(output, describe())
        for case in cases.values():
            if not only or any(fnmatch.fnmatch(case.name, pattern) for pattern in only):
                result = run(case, QUICK if quick else FULL, quick)
                also(case, result)
                click.echo(report(case.name, result) + "\n")
                results["cases"][case.name] = result
                save(output, results)


def _duration(seconds: float) -> str:
    factor, unit = next(((f, u) for f, u in ((1.0, "s"), (1e3, "ms")) if seconds * f >= 1), (1e6, "us"))
    value = seconds * factor
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def report(name: str, result: dict[str, Any]) -> str:
    """A case as a table: time and spread, how many times dds_ext's, error, share of the roof."""
    contenders = result["contenders"]
    ours = next((c["median_s"] for key, c in contenders.items() if key.startswith(OURS)), None)
    lines = [f"{name}: {result['about']}"]
    for key, c in contenders.items():
        spread = (c["upper_quartile_s"] - c["lower_quartile_s"]) / c["median_s"]
        line = f"  {key:34} {_duration(c['median_s']):>9}  spread {spread:4.0%}  cores {c['cores_busy']:4.1f}"
        line += f"  {c['median_s'] / ours:8.2f} x" if ours else ""
        line += "" if c["error"] is None else f"  error {c['error']:.1e}"
        line += f"  peak {c['peak_bytes'] / 2**20:.0f} MiB" if "peak_bytes" in c else ""
        line += f"  roof {c['roof']['fraction']:4.0%} (best {c['roof']['fraction_best']:4.0%})" if "roof" in c else ""
        lines.append(line)
    if (result["cores_taken_by_others"] or 0) > goals.DISTURBED:
        lines.append(f"  disturbed: others took {result['cores_taken_by_others']:.1f} cores; these figures mean little")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="NAME", help="A case, or a pattern such as 'laplacian-*'. Repeatable.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT_OUTPUT, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="For everybody. Default: torch's.")
@click.option("--quick", is_flag=True, help="Small cases, fast contenders, few repeats: to try it.")
@click.option("--list", "list_cases", is_flag=True, help="Print the names of the cases.")
@click.option(
    "--goals", "show_goals", is_flag=True, help="Measure nothing; compare the results in --output with the goals."
)
def main(
    only: tuple[str, ...], output: Path, threads: int | None, quick: bool, list_cases: bool, show_goals: bool
) -> None:
    """Time dds_ext and its peers side by side, and merge the figures into a JSON file."""
    if show_goals:
        if not output.exists():
            raise click.ClickException(f"{output} does not exist; run the benchmarks first")
        click.echo(goals.table(json.loads(output.read_text())["cases"]))
        return
    unknown = [pattern for pattern in only if not fnmatch.filter(CASES, pattern)]
    if unknown:
        raise click.ClickException(f"no case is named {', '.join(unknown)}; --list prints all names")
    chosen = [c for c in CASES.values() if not only or any(fnmatch.fnmatch(c.name, pattern) for pattern in only)]
    if quick:
        chosen = [case for case in chosen if case.small]
    if list_cases:
        click.echo("\n".join(case.name for case in chosen))
        return

    torch.set_num_threads(threads or torch.get_num_threads())
    start = time.perf_counter()
    with threadpool_limits(torch.get_num_threads()):
        machine = describe()
        results = load(output, machine)
        for case in chosen:
            result = run(case, QUICK if quick else FULL, quick)
            click.echo(report(case.name, result) + "\n")
            results["cases"][case.name] = result
            save(output, results)
    click.echo(f"{len(chosen)} cases in {time.perf_counter() - start:.0f} s -> {output}")


if __name__ == "__main__":
    main()
