from __future__ import annotations

import json

import numpy as np
import pytest

from refmiracle.drawing import new_figure
from refmiracle.errors import InputError
from refmiracle.studies.results import (
    FAILS,
    HOLDS,
    UNDECIDED,
    claim_above,
    claims_table,
    interval,
    prepare_study,
    table_bytes,
    write_study,
)


def test_an_interval_is_around_the_median_and_within_the_range():
    found = interval([3.0, 1.0, 2.0, 10.0, 2.5])
    assert found.estimate == 2.5
    assert 1.0 <= found.low < 2.5 < found.high <= 10.0
    assert found.count == 5
    assert interval([3.0, 1.0, 2.0, 10.0, 2.5]) == found


def test_an_interval_covers_the_median_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    samples = rng.exponential(size=(200, 15))
    found = [interval(values) for values in samples]
    assert 0.88 < np.mean([i.low <= np.log(2) <= i.high for i in found]) < 0.99


@pytest.mark.parametrize("values", [[4.0], [2.0, 2.0, 2.0]])
def test_an_interval_without_spread_is_a_point(values):
    found = interval(values)
    assert found.low == found.estimate == found.high == values[0]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.0, 1.1, 1.2, 1.3, 1.4], HOLDS),
        ([-1.0, -1.1, -1.2, -1.3, -1.4], FAILS),
        ([0.0, 0.0, 0.0], FAILS),
        ([-1.0, 1.0, -1.1, 1.1, 0.1], UNDECIDED),
        ([1.0, 1.1], UNDECIDED),
    ],
)
def test_verdicts(values, verdict):
    assert claim_above("a", "b", "c", values, 0.0).verdict == verdict


def test_tables_and_claims_as_text(tmp_path):
    assert table_bytes(["a", "b"], [{"a": 1 / 3, "b": "x, y"}]) == b'a,b\n0.333333,"x, y"\n'
    claim = claim_above("a", "smallest |w| first", "points", [1.0, 2.0, 3.0], 0.0)
    assert r"smallest \|w\| first | points; true above 0 |" in claims_table([claim])
    found = write_study(
        tmp_path, "s", {"n": (1, 2)}, [claim], {"run": "lost"}, {"t": [{"a": 1}], "u": []}, {}
    )
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert found["files"] == ["claims.md", "t.csv"]
    assert found["failures"] == {"run": "lost"}
    assert not (tmp_path / "u.csv").exists()


def test_a_figure_that_fails_costs_no_table_and_no_other_figure(tmp_path):
    def fails():
        assert json.loads((tmp_path / "results.json").read_text())["files"] == ["t.csv"]
        raise RuntimeError("no\nink")

    def draws():
        figure, axes = new_figure((1, 1))
        axes.plot([1, 2])
        return figure

    figures = {"a": fails, "b": draws}
    found = write_study(tmp_path, "s", {}, [], {"run": "lost"}, {"t": [{"a": 1}]}, figures)
    assert found["failures"] == {"run": "lost", "figure a": "RuntimeError: no ink"}
    assert found["files"] == ["b.png", "b.svg", "t.csv"]
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert (tmp_path / "b.svg").stat().st_size > 0
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(("file", "part"), [("t.csv", "table t"), ("claims.md", "table claims")])
def test_a_table_that_cannot_be_written_costs_nothing_else(tmp_path, capsys, file, part):
    (tmp_path / file).mkdir()
    claims = [claim_above("a", "b", "c", [1.0, 2.0, 3.0], 0.0)]
    tables = {"t": [{"a": 1}], "u": [{"b": 2}]}
    found = write_study(tmp_path, "s", {}, claims, {}, tables, {})
    reason = f"{tmp_path / file}: cannot be written: it is a folder"
    assert found["failures"] == {part: reason}
    assert capsys.readouterr().err == f"refmiracle: {part} failed: {reason}\n"
    assert found["files"] == sorted({"t.csv", "u.csv", "claims.md"} - {file})
    assert all((tmp_path / name).is_file() for name in found["files"])
    assert json.loads((tmp_path / "results.json").read_text()) == found


def test_where_results_cannot_be_written_is_refused(tmp_path):
    prepare_study(tmp_path / "deep" / "study")
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep", tmp_path / "deep" / "study"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file: cannot be made: "):
        prepare_study(tmp_path / "file")
    with pytest.raises(InputError, match="study: cannot be made: "):
        prepare_study(tmp_path / "file" / "study")
    (tmp_path / "results.json").mkdir()
    with pytest.raises(InputError, match=r"results.json: cannot be written: it is a folder"):
        prepare_study(tmp_path)
