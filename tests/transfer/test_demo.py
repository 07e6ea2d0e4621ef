"""``dds demo``, and what the package holds for it."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from dds_transfer import load_truth
from dds_transfer.commands import demo
from dds_transfer.minitaskonomy import shipped
from dds_transfer.minitaskonomy.dataset import load_split
from dds_transfer.minitaskonomy.labels import TASKS
from dds_transfer.minitaskonomy.run import SOURCES
from dds_transfer.minitaskonomy.shipped import FOLDER, load_shipped, one_thread, ranking_images, ship
from dds_transfer.minitaskonomy.training import load_encoder
from made_experiment import TINY

import dds_ext

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "minitaskonomy"


def test_shipped_encoders_and_images_are_those_of_the_experiment(done: Path, tmp_path: Path) -> None:
    ship(done, tmp_path)
    seed, encoders = load_shipped(tmp_path)
    assert (seed, list(encoders)) == (0, list(SOURCES))
    steps: list[int] = []
    with one_thread():
        images = ranking_images(seed, TINY.ranking, lambda: steps.append(1))
        assert len(steps) == TINY.ranking
        # Rendered together with others, a number may round to its neighbour of 8 bits.
        kept = load_split(done, "ranking", TINY.ranking).input("image")
        torch.testing.assert_close(images, kept, atol=1 / 255 + 1e-6, rtol=0)
        for source, encoder in encoders.items():
            with torch.no_grad():
                assert torch.equal(encoder(images), load_encoder(done, "encoder", source)(images))
    assert (tmp_path / "winrate.csv").read_bytes() == (done / "winrate.csv").read_bytes()


def test_encoders_of_another_edition_are_refused(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were trained on rooms of another kind than those that would be rendered for them."""
    with monkeypatch.context() as before:
        before.setattr(shipped, "EDITION", shipped.EDITION - 1)
        ship(done, tmp_path)
    with pytest.raises(ValueError, match=f"is not of edition {shipped.EDITION}"):
        load_shipped(tmp_path)


def test_what_is_shipped_is_what_was_published() -> None:
    assert json.loads((RESULTS / "summary.json").read_text())["settings"]["edition"] == shipped.EDITION
    for name in ("winrate", "affinity"):
        assert (FOLDER / f"{name}.csv").read_bytes() == (RESULTS / "seed0" / f"{name}.csv").read_bytes()
        truth = load_truth(f"minitaskonomy-{name}")
        assert (truth.sources, truth.targets) == (list(SOURCES), list(TASKS))
    assert load_shipped()[0] == 0


def test_demo(dds: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(demo, "IMAGES", 24)
    page, record = tmp_path / "demo.html", tmp_path / "demo.json"
    result = dds("demo", "--target", "rgb2depth", "-o", page, "--json", record)
    assert result.exit_code == 0, result.output
    assert opened == [page.resolve().as_uri()]
    found = json.loads(record.read_text())
    seed, encoders = load_shipped()
    with one_thread(), torch.no_grad():
        images = ranking_images(seed, 24, lambda: None)
        target = encoders["rgb2depth"](images).numpy()
        scores = {name: dds_ext.dds(encoder(images).numpy(), target) for name, encoder in encoders.items()}
    ranking = {entry["source"]: entry["score"] for entry in found["ranking"]["ranking"]}
    assert len(ranking) == len(SOURCES) - 1 and "rgb2depth" not in ranking
    # A batch of another size rounds otherwise.
    np.testing.assert_allclose([scores[name] for name in ranking], list(ranking.values()), atol=1e-4)
    truth = load_truth("minitaskonomy-winrate")
    wins = dict(zip(truth.sources, truth.values[:, truth.targets.index("rgb2depth")].tolist(), strict=True))
    best = max(ranking, key=lambda name: wins[name])
    line = next(line for line in result.output.splitlines() if f" {best} " in line)
    assert line.split()[2:4] == ["1", f"{wins[best]:.3f}"]
    assert found["measured"] == wins
    assert "<svg" in page.read_text()


def test_the_page_is_not_opened_where_it_is_not_wanted(
    dds: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda place: pytest.fail(f"opened {place}"))
    monkeypatch.setattr(demo, "IMAGES", 8)
    assert dds("demo", "--no-open", "-o", tmp_path / "demo.html").exit_code == 0
