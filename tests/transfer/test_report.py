"""The report: a page that stands by itself, with the numbers of the results and nothing that a name could run."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from dds_transfer import Table, evaluate, load_truth, rank_layers, rank_models, task_taxonomy
from dds_transfer.report import Report, digests
from dds_transfer.tables import TASKONOMY_TASKS
from made_features import Features, related_features

import dds_ext

HOSTILE = '<script>alert("1")</script> & $x$'


class Page(HTMLParser):
    """What a page is made of: elements, what their attributes and styles refer to, and the rows of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        styles = re.findall(r"url\(([^)]*)\)|@import\s*(\S+)", text)
        self.references: list[str] = ["".join(found).strip("'\" ") for found in styles]
        self.handlers: list[str] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":  # where a name may break
            return
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background", "cite"):
                self.references.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "meta" and dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())
            if self.tags[-1] in ("td", "th"):
                self.rows[-1][-1] += data.strip()


@pytest.fixture
def models() -> Features:
    return related_features((*TASKONOMY_TASKS[:5], HOSTILE, "target"), 24, 12)


@pytest.fixture
def report(models: Features) -> Report:
    """A report with every part."""
    names = list(models)
    affinity = Table(names, names, dds_ext.affinity(models))
    sources = {name: X for name, X in models.items() if name != "target"}
    return Report(
        ranking=rank_models(models["target"], sources, bootstrap=8),
        layers=rank_layers(related_features(("block1", HOSTILE), 24, 6), sources, name=HOSTILE),
        agreement=evaluate(affinity, load_truth("taskonomy-affinity")),
        truth=HOSTILE,
        measured=dict(zip(TASKONOMY_TASKS[:5], (0.5, 0.1, 0.5, 0.9, 0.3), strict=True)),
        affinity=affinity,
        taxonomy=task_taxonomy(affinity),
        settings={HOSTILE: HOSTILE},
        command=f"dds report {HOSTILE}",
        inputs={HOSTILE: "0123"},
    )


def test_nothing_is_loaded_from_elsewhere(report: Report) -> None:
    page = Page(report.html())
    assert page.tags.count("svg") == 3
    assert len(page.references) > 10  # the pictures' own: glyphs of their marks, and the heat map as data
    assert [place for place in page.references if not place.startswith(("#", "data:image/png;base64,"))] == []
    assert {"script", "link", "iframe", "object", "embed", "img"}.isdisjoint(page.tags)
    assert page.policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_what_a_picture_refers_to_is_there_once(report: Report) -> None:
    text = report.html()
    identifiers = re.findall(r'\bid="([^"]*)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert {place[1:] for place in Page(text).references if place.startswith("#")} <= set(identifiers)


def test_names_are_text(report: Report) -> None:
    page = Page(report.html())
    assert page.handlers == []
    assert "script" not in page.tags
    # In the ranking's table, the layers' heading, three pictures, the tree's and the settings' tables, ...
    assert sum(HOSTILE in text for text in page.text) > 10
    assert HOSTILE not in report.html()


def test_the_numbers_are_those_of_the_results(report: Report) -> None:
    page = Page(report.html())
    assert report.ranking is not None and report.layers is not None and report.agreement is not None
    assert report.affinity is not None and report.taxonomy is not None
    for record in report.ranking.records:
        row = [str(record["rank"]), record["source"]]
        value = report.measured.get(record["source"])
        better = 0 if value is None else sum(other > value for other in report.measured.values())
        row += ["-", "-"] if value is None else [str(better + 1), f"{value:.3f}"]
        row += [f"{record[name]:.3f}" for name in ("score", "mean", "low", "high", "first_share")]
        assert row in page.rows
    for name, similarity in report.layers.similarity.items():
        row = next(row for row in page.rows if row[:2] == [name, str(len(report.layers.tasks[name]))])
        assert row[2:4] == [f"{value:.3f}" for value in similarity]
        assert row[5] == report.layers.recommended[name]
    agreements = {**report.agreement.targets, "mean": report.agreement.mean}
    for target, found in agreements.items():
        row = next(row for row in page.rows if row[:2] == [target, "5"])
        figures = (found.spearman, found.spearman_off_diagonal, found.kendall, found.kendall_off_diagonal, found.regret)
        assert row[2:7] == [f"{value:.3f}" for value in figures]
    for name, values in zip(report.affinity.sources, report.affinity.values, strict=True):
        assert [name, *(f"{value:.3f}" for value in values)] in page.rows
    # In the picture: every cell of the heat map, and the tree's order down its side.
    cells = [text for text in page.text if re.fullmatch(r"-?\d\.\d\d", text)]
    assert set(cells) >= {f"{value:.2f}" for value in report.affinity.values.ravel()}
    order = [text for text in page.text if text in report.affinity.sources]
    assert any(order[i : i + 7] == report.taxonomy.order for i in range(len(order)))
    for height, left, right in report.taxonomy.merges():
        assert [f"{height:.3f}", ", ".join(left), ", ".join(right)] in page.rows
    assert report.ranking.sources[0] in next(text for text in page.text if text.startswith("Start from "))


def test_what_repeats_it_is_there(report: Report) -> None:
    page = Page(report.html())
    assert f"dds report {HOSTILE}" in page.text
    for row in (
        ["measure", "dds"],
        ["options", "normalize zscore, f laplacian, center unbiased, g cosine"],
        ["bootstrap", "draws 8, images 12, replacement no, confidence 0.95, seed 1993"],
        [HOSTILE, "0123"],
        ["Python", platform.python_version()],
        ["numpy", np.__version__],
        ["dds_ext", dds_ext.__version__],
    ):
        assert row in page.rows


def test_only_what_there_is(models: Features) -> None:
    names = list(models)[:2]
    page = Page(Report(affinity=Table(names, names, np.eye(2))).html())
    assert page.tags.count("svg") == 1
    assert "tree" not in " ".join(page.text)
    assert "Which source" not in page.text
    ranking = rank_models(models["target"], {"a": models["curvature"]}, bootstrap=None)
    assert Page(Report(ranking=ranking).html()).tags.count("svg") == 1
    with pytest.raises(ValueError, match="a report needs a ranking, layers, an agreement or an affinity table"):
        Report()
    with pytest.raises(ValueError, match="a report of a taxonomy needs the affinity table"):
        Report(ranking=ranking, taxonomy=task_taxonomy(load_truth("taskonomy-affinity")))


def test_other_sources_that_come_first_are_named(models: Features) -> None:
    """Two copies of a model share every draw in halves."""
    X = models["curvature"]
    page = Page(Report(ranking=rank_models(X, {"one": X, "two": X, "far": models["target"]}, bootstrap=4)).html())
    assert "It comes first in 50% of the draws of images; two in 50%." in page.text


def test_notes_are_on_the_page(models: Features) -> None:
    """That linear CKA depends on the number of images; and who plays no part in the agreement."""
    sources = {name: X for name, X in models.items() if name != "target"}
    page = Page(Report(ranking=rank_models(models["target"], sources, "cka-linear", bootstrap=20, images=6)).html())
    note = "The score of all images lies outside some intervals: cka-linear changes with their number."
    assert note in page.text
    names = list(models)
    agreement = evaluate(Table(names, names, dds_ext.affinity(models)), load_truth("taskonomy-affinity"))
    assert f"Sources only here, left out: {HOSTILE}, target." in Page(Report(agreement=agreement).html()).text


def test_digests(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB, more than is read at once
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(b"")
    found = digests([tmp_path / "a", tmp_path / "b", tmp_path / "a"])
    assert found == {
        str(tmp_path / name): hashlib.sha256(data).hexdigest() for name, data in (("a", content), ("b", b""))
    }


def test_command(dds: Callable[..., Result], tmp_path: Path, folder: Path, features: Features) -> None:
    np.savez(tmp_path / "net.npz", block10=features["a"], block9=features["b"])
    names = list(features)
    Table(names, names, np.random.default_rng(0).standard_normal((5, 5))).write(tmp_path / "truth.csv")
    arguments = ["--target", folder / "target.npy", "--sources", folder, "--model", tmp_path / "net.npz"]
    arguments += ["--truth", tmp_path / "truth.csv", "--measure", "rsa", "--bootstrap", 5, "--seed", 7]
    outputs = ["-o", tmp_path / "r.html", "--json", tmp_path / "r.json"]
    result = dds("report", *arguments, *outputs)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path}/r.html: ranking, layers, agreement, affinity, taxonomy; 24 images\n"
    content = json.loads((tmp_path / "r.json").read_text())
    sources = {name: features[name] for name in "abcd"}
    assert content["ranking"] == rank_models(features["target"], sources, "rsa", bootstrap=5, seed=7).to_dict()
    blocks = {"block9": features["b"], "block10": features["a"]}
    expected = rank_layers(blocks, {"target": features["target"]}, "rsa", name="net")
    assert content["layers"] == expected.to_dict()
    affinity = dds_ext.affinity(features, **dds_ext.MEASURES["rsa"])
    np.testing.assert_allclose(content["affinity"]["values"], affinity, atol=1e-12)
    files = [*folder.glob("*.npy"), tmp_path / "net.npz", tmp_path / "truth.csv"]
    assert content["inputs"] == digests(files)
    words = [str(word) for word in ("report", *arguments, *outputs)]
    assert content["command"] == f"dds {' '.join(words)}"
    page = Page((tmp_path / "r.html").read_text())
    assert content["command"] in page.text
    assert [f"{folder}/a.npy", content["inputs"][f"{folder}/a.npy"]] in page.rows
    assert f"{content['ranking']['ranking'][0]['score']:.3f}" in page.text


def test_command_gives_what_the_files_allow(dds: Callable[..., Result], tmp_path: Path, folder: Path) -> None:
    output = ["-o", tmp_path / "r.html"]
    few = [folder / "a.npy", folder / "b.npy"]
    assert dds("report", "--sources", *few, *output).stdout == f"{output[1]}: affinity; 24 images\n"
    assert dds("report", "--sources", folder, *output).stdout == f"{output[1]}: affinity, taxonomy; 24 images\n"
    arguments = ["--sources", few[0], "--target", few[1], "--bootstrap", 0]
    assert dds("report", *arguments, *output).stdout == f"{output[1]}: ranking, affinity; 24 images\n"
    arguments = ["--sources", *few, "--model", folder, "--tasks", *few]
    assert dds("report", *arguments, *output).stdout == f"{output[1]}: layers, affinity; 24 images\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sources", "a.npy", "-o", "r.html"], "a.npy is one model, with none to compare it with"),
        (["--sources", "a.npy", "-o", "r.pdf"], "r.pdf must end in .html or .htm"),
        (["--sources", "a.npy", "--tasks", "b.npy", "-o", "r.html"], "give --model FILE... too"),
        (["--sources", "a.npy", "--model", "b.npy", "-o", "r.html"], "give --target or --tasks"),
        (["--sources", "a.npy", "b.npy", "--truth", "pascal-voc", "-o", "r.html"], "0 sources are also in the truth"),
        (["--sources", "a.npy", "--target", "copy/a.npy", "-o", "r.html"], "are both named 'a'; rename one"),
        (["-o", "r.html"], "Missing option '--sources'"),
    ],
)
def test_command_refuses(
    dds: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "copy").mkdir()
    (folder / "copy" / "a.npy").write_bytes((folder / "a.npy").read_bytes())
    result = dds("report", *arguments)
    assert result.exit_code in (1, 2)
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not (folder / "r.html").exists()
