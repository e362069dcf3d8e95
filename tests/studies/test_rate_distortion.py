from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import TINY

from refmiracle.errors import InputError
from refmiracle.studies import rate_distortion as study
from refmiracle.studies.rate_distortion import SWEEPS, Sweep, frontier, rate_distortion
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.run import evaluate_file

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
    configs = Sweep(TINY, (3, 4), (40, 90), (0, 5)).configs("data")
    assert len(configs) == 8
    settings = {(c.bits_per_block, c.block_size, c.seed) for c in configs.values()}
    assert settings == {(b, s, seed) for b in (3, 4) for s in (40, 90) for seed in (0, 5)}
    with pytest.raises(InputError, match="--bits-per-block 40 is out of range"):
        Sweep(TINY, (40,), (30,)).configs("data")
    for sweep in SWEEPS.values():
        assert sweep.configs("")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    with ThreadPoolExecutor(1) as executor:
        return out, rate_distortion(SWEEP, default_folder(), out, executor)


def test_tables_hold_every_point(results):
    out, found = results
    assert json.loads((out / "results.json").read_text()) == found
    assert len(found["points"]) == 4
    with open(out / "points.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["name"] for row in rows] == [p["name"] for p in found["points"]]
    for row, p in zip(rows, found["points"], strict=True):
        data = (out / "points" / p["name"] / "model.rmc").read_bytes()
        assert int(row["bytes"]) == p["bytes"] == len(data)
        assert float(row["validation_error"]) == p["validation_error"]


def test_only_the_frontier_meets_the_test_set(results):
    out, found = results
    test = load_split(default_folder(), "t10k")
    assert found["frontier"]
    for p in found["points"]:
        if p["name"] in found["frontier"]:
            path = out / "points" / p["name"] / "model.rmc"
            assert p["test_error"] == evaluate_file(path, "numba", test)["test_error"]
        else:
            assert p["test_error"] is None


def test_figures_are_drawn_the_same_each_time(results):
    out, found = results
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    svg = (out / "frontier.svg").read_bytes()
    assert b"bits a block" in svg or b"<svg" in svg
    study.write_results(out, found)
    assert (out / "frontier.svg").read_bytes() == svg


def test_without_points_the_tables_are_there_and_empty(tmp_path):
    study.write_results(
        tmp_path, {"points": [], "frontier": [], "failures": {"a": "lost"}, "settings": {}}
    )
    assert json.loads((tmp_path / "results.json").read_text())["failures"] == {"a": "lost"}
    assert (tmp_path / "points.csv").read_text().splitlines() == [",".join(study.COLUMNS)]
    assert not (tmp_path / "frontier.png").exists()
