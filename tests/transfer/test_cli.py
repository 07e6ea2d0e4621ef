"""The commands as a user types them: results, files, errors of one line."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import Result
from dds_transfer import Table, evaluate, load_truth, rank_models, stability
from dds_transfer.cli import COMMANDS, main
from dds_transfer.environment import environment, environment_rows, versions
from dds_transfer.tables import read_table
from made_features import Features

import dds_ext

Run = Callable[..., Result]


def fails(result: Result, message: str) -> None:
    """The command ended with this one line on standard error, and no traceback."""
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert message in lines[0]


@pytest.mark.parametrize("measure", list(dds_ext.MEASURES))
def test_rank(dds: Run, tmp_path: Path, folder: Path, features: Features, measure: str) -> None:
    outputs = ["--csv", tmp_path / "r.csv", "--json", tmp_path / "r.json"]
    result = dds("rank", "--target", folder / "target.npy", "--sources", folder, "--measure", measure, *outputs)
    assert result.exit_code == 0, result.output
    options = dds_ext.MEASURES[measure]
    scores = {name: dds_ext.similarity(features[name], features["target"], **options) for name in "abcd"}
    best_first = sorted(scores, key=lambda name: -scores[name])
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == best_first
    assert [float(row["score"]) for row in rows] == pytest.approx([scores[name] for name in best_first], abs=1e-9)
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["options"] == options
    assert content["images"] == 24
    assert [entry["rank"] for entry in content["ranking"]] == [1, 2, 3, 4]
    printed = [line.split()[1] for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert printed == best_first
    assert (
        result.stderr.startswith("note: the score of all images")
        if options["center"] == "double"
        else not result.stderr
    )


def test_a_measure_of_any_four_parts(dds: Run, tmp_path: Path, folder: Path, features: Features) -> None:
    parts = {"normalize": "zscore", "f": "rbf", "center": "double", "g": "cosine"}
    expected = dds_ext.affinity(features, **parts)
    how = ["--measure", "zscore,rbf,double,cosine"]
    result = dds("affinity", folder, "-o", tmp_path / "a.csv", *how, "--json", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "a.json").read_text())["options"] == parts
    # one computation, written with 17 digits
    np.testing.assert_allclose(read_table(tmp_path / "a.csv").values, expected, atol=1e-12)
    result = dds("rank", "--target", folder / "target.npy", "--sources", folder, *how, "--json", tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["options"] == parts and content["measure"] == "zscore, rbf, double, cosine"
    scores = dict(zip(features, expected[:, -1], strict=True))
    assert {entry["source"]: entry["score"] for entry in content["ranking"]} == {
        name: pytest.approx(scores[name], abs=1e-9) for name in "abcd"
    }


def test_rank_takes_sources_as_a_shell_expands_them(dds: Run, folder: Path) -> None:
    expected = dds("rank", "--target", folder / "target.npy", "--sources", folder).stdout
    files = [folder / f"{name}.npy" for name in "abcd"]
    assert dds("rank", "--target", folder / "target.npy", "--sources", *files).stdout == expected


def test_rank_leaves_the_target_out_of_its_own_file(dds: Run, tmp_path: Path, features: Features) -> None:
    np.savez(tmp_path / "all.npz", **features)
    result = dds("rank", "--target", f"{tmp_path}/all.npz:target", "--sources", tmp_path / "all.npz")
    assert result.exit_code == 0, result.output
    assert "all:target" not in result.stdout.partition("\n")[2]
    assert len([line for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]) == 4


@pytest.mark.parametrize("replacement", [False, True])
def test_rank_with_intervals(dds: Run, tmp_path: Path, folder: Path, features: Features, replacement: bool) -> None:
    how = ["--bootstrap", 7, "--images", 12, "--confidence", 0.8, "--seed", 5, *(["--replacement"] * replacement)]
    outputs = ["--csv", tmp_path / "r.csv", "--json", tmp_path / "r.json", "--plot", tmp_path / "r.png"]
    result = dds("rank", "--target", folder / "target.npy", "--sources", folder, *how, *outputs)
    assert result.exit_code == 0, result.output
    sources = {name: features[name] for name in "abcd"}
    options = {"bootstrap": 7, "images": 12, "confidence": 0.8, "seed": 5, "replacement": replacement}
    expected = rank_models(features["target"], sources, **options)
    content = json.loads((tmp_path / "r.json").read_text())
    assert {**content, **expected.to_dict()} == content
    with open(tmp_path / "r.csv", newline="") as file:
        assert [float(row["high"]) for row in csv.DictReader(file)] == [r["high"] for r in expected.records]
    assert result.stdout.startswith(expected.title + "\n")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_rank_says_where_a_measure_depends_on_the_number_of_images(dds: Run, folder: Path) -> None:
    arguments = ["--target", folder / "target.npy", "--sources", folder, "--bootstrap", 20, "--images", 6]
    note = "note: the score of all images lies outside some intervals: cka-linear changes with their number\n"
    assert dds("rank", *arguments, "--measure", "cka-linear").stderr == note
    assert dds("rank", *arguments).stderr == ""


def test_rank_refuses_what_makes_no_sense_without_draws(dds: Run, folder: Path) -> None:
    place = ["--target", folder / "target.npy", "--sources", folder]
    for option in (["--images", 10], ["--replacement"]):
        fails(dds("rank", *place, "--bootstrap", 0, *option), "--images and --replacement say how to draw")
    fails(dds("rank", *place, "--bootstrap", 3, "--images", 24), "every draw of 24 out of 24 images is the same")
    fails(dds("rank", *place, "--bootstrap", 3, "--confidence", 95), "95.0 is not in the range 0<x<1")


def test_rank_of_few_images(dds: Run, tmp_path: Path, features: Features) -> None:
    np.savez(tmp_path / "few.npz", **{name: X[:7] for name, X in features.items()})
    place = ["--target", f"{tmp_path}/few.npz:target", "--sources", tmp_path / "few.npz"]
    fails(dds("rank", *place), "7 images are too few for draws of half of them; give --bootstrap 0")
    assert dds("rank", *place, "--bootstrap", 0).exit_code == 0
    assert dds("rank", *place, "--images", 6).exit_code == 0


def test_stability(dds: Run, tmp_path: Path, folder: Path, features: Features) -> None:
    place = ["--target", folder / "target.npy", "--sources", *(folder / f"{name}.npy" for name in "abcd")]
    outputs = ["--csv", tmp_path / "s.csv", "--json", tmp_path / "s.json", "--plot", tmp_path / "s.pdf"]
    result = dds("stability", *place, "--images", 5, 10, 20, "--draws", 6, *outputs)
    assert result.exit_code == 0, result.output
    expected = stability(features["target"], {name: features[name] for name in "abcd"}, [5, 10, 20], 6)
    content = json.loads((tmp_path / "s.json").read_text())
    assert {**content, **expected.to_dict()} == content
    assert (tmp_path / "s.csv").read_text().splitlines()[0] == "images,spearman,spearman_sd,same_first_share"
    assert (tmp_path / "s.pdf").read_bytes().startswith(b"%PDF")
    assert [line.split()[0] for line in result.stdout.splitlines() if line.strip()[:1].isdigit()] == ["5", "10", "20"]
    fails(dds("stability", *place), "there are 24 images, too few for the default numbers of images")
    fails(dds("stability", *place, "--images"), "Option '--images' requires an argument")
    fails(dds("stability", *place[:4], "--images", 5), "too few sources: 1; rankings correlate from 3 on")


def test_affinity_and_evaluate(dds: Run, tmp_path: Path, folder: Path, features: Features) -> None:
    output = tmp_path / "affinity.csv"
    result = dds("affinity", folder, "-o", output, "--measure", "rsa")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output}: rsa between 5 models, 24 images\n"
    table = read_table(output)
    assert table.sources == table.targets == list(features)
    np.testing.assert_allclose(table.values, dds_ext.affinity(features, **dds_ext.MEASURES["rsa"]), atol=1e-12)

    truth = Table(table.sources, table.targets, np.random.default_rng(0).standard_normal((5, 5)))
    truth.write(tmp_path / "truth.csv")
    outputs = ["--csv", tmp_path / "e.csv", "--json", tmp_path / "e.json"]
    result = dds("evaluate", output, "--truth", tmp_path / "truth.csv", *outputs)
    assert result.exit_code == 0, result.output
    mean = evaluate(table, truth).mean
    content = json.loads((tmp_path / "e.json").read_text())
    assert content["mean"]["spearman"] == mean.spearman
    assert content["mean"]["pearson_off_diagonal"] == mean.pearson_off_diagonal
    assert content["mean"]["at_k"] == [asdict(entry) for entry in mean.at_k]
    assert [target["target"] for target in content["targets"]] == list(features)
    correlations, regrets = [line.split() for line in result.stdout.splitlines() if line.startswith("mean ")]
    names = [f"{name}{suffix}" for name in ("spearman", "pearson", "kendall") for suffix in ("", "_off_diagonal")]
    assert correlations == ["mean", "5", *(f"{content['mean'][name]:.3f}" for name in names)]
    assert regrets == ["mean", f"{mean.regret:.3f}", f"{mean.relative_regret:.3f}"]
    assert result.stdout.splitlines()[-2].split() == ["4", "1.000", "1.000", "-", "-", "-", "-"]
    with open(tmp_path / "e.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["target"] for row in rows] == [*features, "mean"]
    assert float(rows[-1]["kendall"]) == mean.kendall
    assert float(rows[-1]["relative_regret"]) == mean.relative_regret


def test_evaluate_against_the_bundled_truth(dds: Run, tmp_path: Path) -> None:
    truth = load_truth("taskonomy-winrate")
    truth.write(tmp_path / "a.csv")
    result = dds("evaluate", tmp_path / "a.csv", "--truth", "taskonomy-winrate")
    assert result.exit_code == 0, result.output
    means = [line.split() for line in result.stdout.splitlines() if line.startswith("mean ")]
    assert means == [["mean", "17", *["1.000"] * 6], ["mean", "0.000", "0.000"]]


def test_affinity_draws_a_heat_map(dds: Run, tmp_path: Path, folder: Path) -> None:
    result = dds("affinity", folder, "-o", tmp_path / "a.csv", "--plot", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_matplotlib_is_named_before_any_work(
    dds: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith(("matplotlib", "dds_transfer.plots"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delattr("dds_transfer.plots", raising=False)
    result = dds("affinity", "missing.npy", "-o", tmp_path / "a.csv", "--plot", tmp_path / "a.png")
    fails(result, "pip install 'dds_ext[plot]'")


def test_a_dollar_sign_in_a_name_is_no_formula(dds: Run, tmp_path: Path, folder: Path) -> None:
    (folder / "a.npy").rename(folder / "$_$.npy")  # no formula that can be parsed
    place = ["--target", folder / "target.npy", "--sources", folder]
    assert dds("rank", *place, "--plot", tmp_path / "r.png").exit_code == 0
    result = dds("affinity", folder, "-o", tmp_path / "a.csv", "--plot", tmp_path / "a.svg")
    assert result.exit_code == 0, result.output


def test_errors_are_one_line(dds: Run, tmp_path: Path, folder: Path) -> None:
    target = ["--target", folder / "target.npy"]
    fails(dds("rank", *target, "--sources", tmp_path / "none.npy"), f"{tmp_path}/none.npy: No such file or directory")
    fails(dds("rank", *target, "--sources", tmp_path / "nope"), f"{tmp_path}/nope: No such file or directory")
    fails(dds("rank", *target), "Missing option '--sources'")
    fails(dds("rank", *target, "--sources", folder / "target.npy"), "no sources are left besides the target")
    fails(
        dds("rank", *target, "--sources", folder, "--measure", "svcca"), "unknown measure 'svcca'; choose from dds, rsa"
    )
    unknown = dds("rank", *target, "--sources", folder, "--measure", "svcca").stderr
    assert "or give normalize, f, center, g with commas between them, such as zscore," in unknown
    parts = ["--measure", "zscore,rfb,double,cosine"]
    fails(dds("affinity", folder, "-o", tmp_path / "a.csv", *parts), "no f 'rfb'; choose from ")
    fails(dds("rank", "--target", folder, "--sources", folder), "holds 5 arrays (a.npy, b.npy")
    fails(dds("rank", *target, "--sources", folder, "--csv", tmp_path / "no" / "r.csv"), "there is no folder")
    too_long = tmp_path / ("r" * 252 + ".csv")
    fails(dds("rank", *target, "--sources", folder, "--csv", too_long), f"{too_long}: File name too long")
    fails(dds("affinity", folder), "Missing option '-o'")
    fails(dds("evaluate", tmp_path / "a.csv", "--truth", "taskonomy-affinity"), "does not exist")
    fails(dds("grid", folder), "give either --truth or --target")
    fails(dds("grid", folder, "--truth", "taskonomy-affinity"), "0 sources are also in the truth")
    fails(dds("nothing"), "No such command 'nothing'")


def test_what_the_engine_refuses_is_one_line_with_the_models_name(dds: Run, folder: Path, features: Features) -> None:
    X = features["b"].copy()
    X[[3, 7], 1] = np.nan
    np.save(folder / "b.npy", X)
    result = dds("affinity", folder, "-o", folder / "a.csv")
    fails(result, "rows 3, 7")
    assert "'b'" in result.stderr
    assert not (folder / "a.csv").exists()


def test_help_of_every_command_has_examples(dds: Run) -> None:
    overview = dds("--help").stdout
    listed = [line.split()[0] for line in overview.partition("Commands:")[2].splitlines() if line]
    assert listed == list(COMMANDS)
    for command in listed:
        result = dds(command, "--help")
        assert result.exit_code == 0
        examples = result.stdout.partition("Examples:")[2].partition("Options:")[0]
        assert re.search(rf"^ +dds {command}( |$)", examples, re.MULTILINE)


def test_without_arguments_it_helps(dds: Run) -> None:
    result = dds()
    assert isinstance(result.exception, SystemExit) and result.exit_code == 2  # click's for help that was not asked for
    assert result.stderr == dds("--help").stdout


def test_options_mean_the_same_everywhere() -> None:
    """Those of one name have one text, and every command gives its result as JSON."""
    helps: dict[str, set[str | None]] = {}
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        assert any("--json" in option.opts for option in options), command.name
        for option in options:
            assert option.help, (command.name, option.opts)
            helps.setdefault(option.opts[0], set()).add(option.help)
    for name in ("--json", "--csv", "--plot", "--measure", "--seed", "--types"):
        assert len(helps[name]) == 1, name


def test_files_to_write_must_differ(dds: Run, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.json").symlink_to("x.csv")
    arguments = ["--target", folder / "target.npy", "--sources", folder]
    for csv_path in ("x.csv", "./x.csv", tmp_path / "x.csv"):
        result = dds("rank", *arguments, "--csv", csv_path, "--json", "link.json")
        fails(result, "'--json': link.json is the file of --csv too; name another")
    # an ending of its own keeps a result from taking the place of features or a table
    fails(dds("rank", *arguments, "--csv", folder / "target.npy"), "target.npy must end in .csv")
    fails(dds("rank", *arguments, "--json", "a.csv"), "a.csv must end in .json")
    fails(dds("affinity", folder, "-o", folder / "a.npy"), "a.npy must end in .csv")
    fails(dds("rank", *arguments, "--csv", "-"), "- is standard output, which is for --json")
    assert [file.name for file in tmp_path.iterdir() if file != folder] == ["link.json"]


def test_no_command_writes_over_what_it_reads(dds: Run, tmp_path: Path) -> None:
    table, types = tmp_path / "a.csv", tmp_path / "types.csv"
    load_truth("taskonomy-winrate").write(table)
    before = table.read_bytes()
    message = f"{table} is read, and would be written over by --csv; name another file"
    fails(dds("evaluate", table, "--truth", "taskonomy-affinity", "--csv", table), message)
    types.symlink_to(table)
    fails(dds("evaluate", types, "--truth", "taskonomy-affinity", "--csv", table), "would be written over by --csv")
    fails(dds("layers", "--model", "m", "--tasks", "t", "--types", types, "--csv", types), "is read, and would be")
    assert table.read_bytes() == before


def test_json_alone_on_standard_output(folder: Path, features: Features) -> None:
    done = run("rank", "--target", folder / "target.npy", "--sources", folder, "--json", "-")
    assert done.returncode == 0
    expected = rank_models(features["target"], {name: features[name] for name in "abcd"}).to_dict()
    content = json.loads(done.stdout)
    assert {**content, **expected} == content
    assert "Sources for target by dds, 24 images" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("rank --target f/target.npy --sources f --bootstrap 2", "target a b c d"),
        ("stability --target f/target.npy --sources f --images 5 --draws 2", "target a b c d"),
        ("layers --model f/a.npy f/b.npy --tasks f/c.npy --types types.csv", "a b c types.csv"),
        ("affinity f -o out.csv", "a b c d target"),
        ("grid f --target f/target.npy", "a b c d target"),
        ("grid f --truth truth.csv", "a b c d target truth.csv"),
        ("evaluate truth.csv --truth truth.csv", "truth.csv truth.csv"),
        ("taxonomy truth.csv", "truth.csv"),
        ("taxonomy taskonomy-affinity --compare taskonomy-winrate", ""),
    ],
)
def test_every_result_says_how_it_was_obtained(
    dds: Run, tmp_path: Path, features: Features, monkeypatch: pytest.MonkeyPatch, arguments: str, read: str
) -> None:
    """In one way, which a reader can follow without the command line: settings, files and versions."""
    monkeypatch.chdir(tmp_path)
    Path("f").mkdir()
    for name, X in features.items():
        np.save(f"f/{name}.npy", X)
    names = list(features)
    Table(names, names, np.random.default_rng(0).standard_normal((5, 5))).write("truth.csv")
    Path("types.csv").write_text("task,type\nc,easy\n")
    result = dds(*arguments.split(), "--json", "r.json")
    assert result.exit_code == 0, result.output
    content = json.loads(Path("r.json").read_text())
    assert content["files"] == [name if "." in name else f"f/{name}.npy" for name in read.split()]
    assert content["versions"] == versions()
    assert {"dds_ext", "python", "numpy", "torch"} <= set(content["versions"])
    command = main.get_command(click.Context(main), arguments.split()[0])
    assert command is not None
    written = {"-o", "--json", "--csv", "--plot"}
    options = {opt for p in command.params if isinstance(p, click.Option) for opt in p.opts} - written - {"--output"}
    given = {"command"} | {option.removeprefix("--").replace("-", "_") for option in options}
    assert given <= set(content["settings"]) and not {"json", "output", "csv"} & set(content["settings"])
    for option, value in zip(arguments.split(), arguments.split()[1:], strict=False):
        if option.startswith("--"):
            found = content["settings"][option.removeprefix("--")]
            assert value in [str(each) for each in (found if isinstance(found, list) else [found])]


def test_interrupted(dds: Run, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    old = tmp_path / "r.csv"
    old.write_text("before")
    for place in ("dds_transfer.commands.common.rank_models", "dds_transfer.output.csv.DictWriter.writerows"):
        with monkeypatch.context() as patch:
            patch.setattr(place, interrupt)
            result = dds("rank", "--target", folder / "target.npy", "--sources", folder, "--csv", old)
        assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")
        assert old.read_text() == "before"
        assert sorted(tmp_path.iterdir()) == [folder, old]


def test_help_does_not_wait_for_torch() -> None:
    script = "import sys; from dds_transfer.cli import main; main(['-h'], standalone_mode=False); "
    script += "print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_while_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {PROGRAM}"
    folder = Path(__file__).parent  # not the sources', whose dds_ext may not be built
    process = subprocess.Popen([sys.executable, "-c", script, "info"], stdout=-1, stderr=-1, text=True, cwd=folder)
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


def test_a_second_ctrl_c_ends_what_the_first_one_began() -> None:
    script = """
import os, signal, time
from dds_transfer import cli

signal.signal(signal.SIGINT, cli._interrupt)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("cleaning up", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    folder = Path(__file__).parent
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaning up\n", "")


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    for arguments in ("info", "--help"):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, arguments],
            stdout=-1,
            stderr=-1,
            text=True,
            cwd=Path(__file__).parent,
        )
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == ("", 0), arguments


def test_info(dds: Run, tmp_path: Path) -> None:
    result = dds("info", "--json", tmp_path / "i.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "i.json").read_text())
    assert content == environment()
    assert {name: content[name] for name in dds_ext.info()} == dds_ext.info()
    assert content["packages"]["numpy"] == np.__version__
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["numpy", np.__version__] in lines
    assert ["threads", str(torch.get_num_threads())] in lines
    assert dds("--version").stdout == f"dds, version {dds_ext.__version__}\n"


@pytest.mark.parametrize(
    ("cuda", "rows"),
    [
        (None, [["CUDA part", "not built"]]),
        (
            {"architectures": ["80", "90"], "error": "no driver"},
            [["CUDA part", "built for 80, 90"], ["CUDA devices", "no driver"]],
        ),
        ({"architectures": ["90"], "devices": []}, [["CUDA part", "built for 90"], ["CUDA devices", "none"]]),
        (
            {"architectures": ["90"], "devices": [{"name": "NVIDIA H200", "capability": (9, 0)}]},
            [["CUDA part", "built for 90"], ["CUDA devices", "NVIDIA H200 (sm_90)"]],
        ),
    ],
)
def test_info_of_the_cuda_part(cuda: object, rows: list[list[str]]) -> None:
    assert [row for row in environment_rows({**environment(), "cuda": cuda}) if "CUDA" in row[0]] == rows


PROGRAM = "from dds_transfer.cli import program; program()"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    # not in the source folder, whose dds_ext has no compiled part
    folder = Path(__file__).parent
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=folder)


def test_as_a_program(tmp_path: Path, folder: Path) -> None:
    done = run("rank", "--target", folder / "target.npy", "--sources", folder)
    assert done.returncode == 0
    assert "Sources for target by dds, 24 images" in done.stdout
    assert done.stderr == ""  # no progress bar where there is no terminal
    (folder / "b.npy").write_bytes(b"not an array")
    done = run("rank", "--target", folder / "target.npy", "--sources", folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: cannot read {folder}/b.npy: ")
    assert len(done.stderr.splitlines()) == 1


def test_affinity_refuses_before_the_work(dds: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    result = dds("affinity", folder, "-o", table, "--plot", tmp_path / "heat.foo")
    assert result.exit_code != 0
    assert "must end in .png or .pdf or .svg" in result.stderr
    result = dds("affinity", folder / "target.npy", "-o", table)
    assert result.exit_code != 0
    assert "holds one model" in result.stderr
    assert not table.exists()


def test_what_stands_at_an_outputs_path_stays_what_it_is(dds: Run, tmp_path: Path, folder: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("before")
    real.chmod(0o600)
    link.symlink_to(real)
    assert dds("affinity", folder, "-o", link).exit_code == 0
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o600 and real.read_text() != "before"
    assert dds("affinity", folder, "-o", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    longest = tmp_path / ("a" * 251 + ".csv")
    assert dds("affinity", folder, "-o", longest).exit_code == 0
    assert longest.read_text() == real.read_text()


def test_damaged_files_are_called_so(dds: Run, tmp_path: Path, folder: Path) -> None:
    whole = (folder / "b.npy").read_bytes()
    for content in (b"", whole[:20], whole[:-8]):
        (folder / "b.npy").write_bytes(content)
        fails(dds("affinity", folder, "-o", tmp_path / "a.csv"), "b.npy: it is damaged")
