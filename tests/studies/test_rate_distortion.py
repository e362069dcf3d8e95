from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import TINY

from refmiracle.errors import InputError
from refmiracle.figures import figures_of
from refmiracle.loading import load
from refmiracle.studies.rate_distortion import (
    STUDY,
    SWEEPS,
    Sweep,
    frontier,
    rate_distortion,
)
from refmiracle.training.data import default_folder, load_split

SWEEP = Sweep(TINY, bits=(3, 4), block_sizes=(40, 90))


def point(name, size, error):
    return {"name": name, "bytes": size, "validation_error": error}


def test_frontier_is_what_nothing_beats_in_both():
    points = [
        point("big", 300, 0.1),
        point("worse", 200, 0.3),
        point("small", 100, 0.3),
        point("same size, worse", 200, 0.25),
        point("middle", 200, 0.2),
        point("twin", 200, 0.2),
    ]
    assert frontier(points) == ["small", "middle", "big"]
    assert frontier([]) == []


def test_every_combination_is_a_point():
    all_settings = Sweep(TINY, (3, 4), (40, 90), (0, 5)).all_settings("data")
    assert len(all_settings) == 8
    settings = {(c.bits_per_block, c.block_size, c.seed) for c in all_settings.values()}
    assert settings == {(b, s, seed) for b in (3, 4) for s in (40, 90) for seed in (0, 5)}
    with pytest.raises(InputError, match="bits_per_block 40 is out of range"):
        Sweep(TINY, (40,), (30,)).all_settings("data")
    for sweep in SWEEPS.values():
        assert sweep.all_settings("")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    with ThreadPoolExecutor(1) as executor:
        return out, rate_distortion(SWEEP, default_folder(), out, executor)


def test_tables_hold_every_point(results):
    out, found = results
    assert json.loads((out / STUDY / "results.json").read_text()) == found
    assert len(found["points"]) == 4
    with open(out / STUDY / "points.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["name"] for row in rows] == [p["name"] for p in found["points"]]
    for row, p in zip(rows, found["points"], strict=True):
        data = (out / "runs" / p["name"] / "model.rmc").read_bytes()
        assert int(row["bytes"]) == p["bytes"] == len(data)
        assert float(row["validation_error"]) == p["validation_error"]


def test_only_the_frontier_meets_the_test_set(results):
    out, found = results
    test = load_split(default_folder(), "t10k")
    assert found["frontier"]
    for p in found["points"]:
        if p["name"] in found["frontier"]:
            path = out / "runs" / p["name"] / "model.rmc"
            assert p["test_error"] == figures_of(load(path), test)["test_error"]
        else:
            assert p["test_error"] is None


def test_figures_are_drawn_the_same_each_time(results):
    out, found = results
    drawn = {p: p.read_bytes() for p in (out / STUDY).iterdir()}
    assert drawn.keys() == {out / STUDY / n for n in (*found["files"], "results.json")}
    assert drawn[out / STUDY / "frontier.png"].startswith(b"\x89PNG")
    assert b"<svg" in drawn[out / STUDY / "frontier.svg"]
    with ThreadPoolExecutor(1) as executor:
        assert rate_distortion(SWEEP, default_folder(), out, executor) == found
    assert {p: p.read_bytes() for p in drawn} == drawn
