from __future__ import annotations

import csv
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from refmiracle.codes import lengths
from refmiracle.codes.code import BLOCK
from refmiracle.codes.table import CODES
from refmiracle.commands import study as command
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.studies import codes as study
from refmiracle.studies import codes_measures
from refmiracle.studies.codes import CODES_PLANS, CodesPlan, codes
from refmiracle.studies.codes_claims import (
    FALSE_ALARM,
    UNSTATED,
    add_critical,
    claim_at_most,
    make_claims,
)
from refmiracle.studies.codes_measures import (
    MEASURED,
    SKIPPED,
    code_lengths,
    distances,
    mean_interval,
    total_variation_bound,
)
from refmiracle.studies.codes_points import (
    BY_D_INF,
    BY_KL,
    Point,
    Variant,
    draw,
    encode,
    point_of_d_inf,
)
from refmiracle.studies.results import FAILS, HOLDS, UNDECIDED, Interval

NUMBA = get_engine("numba")
LN2 = math.log(2)
PLAN = CodesPlan(
    engine="numba",
    kl_bits=(1.0, 5.0),
    d_inf_bits=(9.0,),
    samples=300,
    fewest=50,
    candidates=2**20,
    search_bits=8.0,
    rounds=2,
    call_seconds=1e-4,
    codes=("mrc", "pfr", "ad-star", "gprs"),
    places=(1, 2),
    oversampling=(4,),
)


@pytest.mark.parametrize("places", [1, 8])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_point_is_what_it_says(places, share):
    point = Point(BY_KL, 5.0, share, places)
    kl = NUMBA.gaussian_kl(np.array([point.delta]), np.array([point.log_s]))
    assert places * kl.sum() / LN2 == pytest.approx(5.0, abs=1e-5)
    assert point.delta**2 / 2 * places / LN2 == pytest.approx(5.0 * share)
    z = np.linspace(-8.25, 8.25, 400_001)
    s = math.exp(point.log_s)
    log_r = (z**2 - (z - point.delta) ** 2 / s - point.log_s) / 2
    assert point.d_inf_bits == pytest.approx(places * log_r.max() / LN2, abs=1e-4)


def test_points_of_a_d_inf():
    found = [point_of_d_inf(5.0, d) for d in (6.0, 12.0, 22.0)]
    assert [p.d_inf_bits for p in found] == pytest.approx([6.0, 12.0, 22.0])
    assert {p.kl_bits for p in found} == {5.0}
    shares = [p.share for p in found]
    assert shares == sorted(shares)
    for d in (5.0, 60.0):
        with pytest.raises(InputError, match="no target of 5 bits has a D_inf of"):
            point_of_d_inf(5.0, d)


def test_the_grid_has_every_code_where_it_belongs():
    plan = CODES_PLANS["default"]
    grid = plan.grid()
    assert {variant.code for variant, _ in grid} == set(CODES)
    of_blocks = {code.name for code in CODES.values() if code.of == BLOCK}
    assert {v.code for v, p in grid if p.places == 8} == of_blocks
    assert {v.oversampling for v, _ in grid if v.code == "dad-star"} == {0, 4}
    assert {v.oversampling for v, _ in grid if v.code == "ad-star"} == {0}
    assert min(p.share for _, p in grid if p.sweep == BY_D_INF) == 0.0
    names = {(variant.name, point.name) for variant, point in grid}
    assert len(names) == len(grid)


def test_the_bound_of_the_bias_by_quadrature():
    point = Point(BY_KL, 3.0)
    z = np.linspace(-12, 12, 200_001)
    sigma = math.exp(0.5 * point.log_s)
    log_ratio = 2 * stats.norm.logpdf(z, point.delta, sigma) - stats.norm.logpdf(z)
    chi2 = np.exp(log_ratio).sum() * (z[1] - z[0]) - 1.0
    assert total_variation_bound(point, 8) == pytest.approx(0.5 * math.sqrt(chi2 / 2**8))
    two = Point(BY_KL, 6.0, 0.5, 2)
    both = 0.5 * math.sqrt(((chi2 + 1.0) ** 2 - 1.0) / 2**8)
    assert total_variation_bound(two, 8) == pytest.approx(both)
    assert total_variation_bound(Point(BY_KL, 20.0, 0.5, 8), 1) == 1.0


def test_lengths_are_of_what_is_sent():
    point = Point(BY_KL, 5.0)
    messages = np.array([0, 1, 2, 6])
    n, of = code_lengths(Variant("mrc", 4), point, messages)
    assert n.tolist() == [1, 2, 3, 7]
    assert of["zipf"].tolist() == of["log_geometric"].tolist() == [9.0] * 4
    n, of = code_lengths(Variant("pfr"), point, messages)
    assert n.tolist() == [1, 2, 3, 7]
    assert of["log_geometric"].mean() == pytest.approx(lengths.log_geometric_mean_bits(1.0))
    assert of["zipf"] == pytest.approx(lengths.zipf_bits(n, lengths.zipf_lambda(5.0)))
    n, _ = code_lengths(Variant("gprs"), point, messages + 1)
    assert n.tolist() == [1, 2, 3, 7]
    n, of = code_lengths(Variant("sp-pfr"), point, np.array([32, 63, 64]))
    assert n.tolist() == [1, 1, 2]
    assert of["log_geometric"].mean() == pytest.approx(5 + lengths.log_geometric_mean_bits(1 / 3))
    n, of = code_lengths(Variant("gprs"), point, np.ones(3, np.int64))
    assert of["log_geometric"].tolist() == [0.0] * 3


def test_the_interval_of_a_mean():
    rng = np.random.default_rng(5)
    found = [mean_interval(rng.exponential(size=200)) for _ in range(300)]
    assert all(i.low < i.estimate < i.high and i.count == 200 for i in found)
    assert 0.9 < np.mean([i.low <= 1.0 <= i.high for i in found]) < 0.99
    assert mean_interval([2.0, 2.0]) == Interval(2.0, 2.0, 2.0, 2)


@pytest.mark.parametrize("places", [1, 8])
def test_distances_see_a_shift_and_a_width(places):
    point = Point(BY_KL, 5.0, 0.5, places)
    y = np.random.default_rng(6).normal(size=(3000, places))
    critical = stats.kstwo.isf(1e-4, 3000)

    def of(samples):
        return max(distances(point, point.delta + math.exp(0.5 * point.log_s) * samples))

    assert of(y) < critical
    assert of(0.8 * y) > critical
    assert of(y + 0.1) > critical


def test_blocks_of_a_shared_codebook_have_a_seed_each():
    point, variant = Point(BY_KL, 5.0, 0.5, 2), Variant("pfr")
    messages, samples = draw(NUMBA, variant, point, 3, 5)
    alone = [int(encode(NUMBA, variant, point, 3 + i, 0, 1)[0]) for i in range(5)]
    assert messages.tolist() == alone
    rows = [NUMBA.codebook_rows(3 + i, [k], 2)[0] for i, k in enumerate(alone)]
    assert np.array_equal(samples, rows)


def test_no_timed_call_meets_the_candidates_of_another(monkeypatch):
    """An engine may keep those of a seed for the next call."""
    seeds, timed = [], []

    def noted(engine, variant, point, seed, first, count):
        seeds.append(seed)
        return encode(engine, variant, point, seed, first, count)

    def spent(*arguments):
        timed.append(arguments[3])
        return seconds(*arguments)

    seconds = codes_measures._seconds
    monkeypatch.setattr(codes_measures, "encode", noted)
    monkeypatch.setattr(codes_measures, "_seconds", spent)
    variants = [Variant("mrc"), Variant("orc"), Variant("pfr")]
    codes_measures.time_codes("numba", variants, Point(BY_KL, 5.0), 3, 1e-9)
    measured = timed[-9:]
    assert seeds[-9:] == measured
    assert len(set(measured)) == 9
    assert set(measured).isdisjoint(timed[:-9])


def row(variant, kl_bits, **of):
    values = dict.fromkeys(codes_measures.MEASURES)
    values |= {"samples": 1000, "tests": 1, "distance": 0.01, "mean_e": kl_bits}
    values |= {"mean_n": 2.0**kl_bits, "mean_n_error": 0.02 * 2.0**kl_bits}
    bits = of.pop("bits", kl_bits + 2.0)
    for law in codes_measures.LAWS:
        values |= {f"{law}_bits": bits, f"{law}_low": bits - 0.1, f"{law}_high": bits + 0.1}
    point = Point(BY_KL, kl_bits)
    return {
        **codes_measures.key(variant, point),
        "d_inf_bits": kl_bits,
        "status": MEASURED,
        **values,
        **of,
    }


def verdicts(code, rows):
    add_critical(rows)
    claims = make_claims([Variant(code)], rows)
    return {claim.name.split()[0]: claim.verdict for claim in claims}


def test_claims_that_hold():
    for code in ("pfr", "gprs", "grc-s", "ad-star", "sp-pfr"):
        found = verdicts(code, [row(Variant(code), kl) for kl in (1.0, 5.0, 20.0)])
        assert set(found.values()) == {HOLDS}
        assert found.keys() >= {"length", "samples"}
    assert verdicts("gprs", [row(Variant("gprs"), 5.0)])["candidates"] == HOLDS
    assert verdicts("grc-s", [row(Variant("grc-s"), 5.0)])["steps"] == HOLDS


@pytest.mark.parametrize(
    ("code", "name", "of"),
    [
        ("pfr", "length", {"bits": 5.0 + math.log2(6.0) + 4.2}),
        ("ad-star", "length", {"bits": 5.0 + math.log2(6.0) + UNSTATED + 0.2}),
        ("grc-d", "length", {"bits": 5.0 + 2 * math.log2(6.0) + UNSTATED + 0.2}),
        ("gprs-d", "samples", {"distance": 0.2}),
        ("mrc", "samples", {"distance": 0.2, "bias_bound": 0.05}),
        ("gprs", "candidates", {"mean_n": 50.0}),
        ("grc-s", "steps", {"mean_e": 32.0}),
    ],
)
def test_a_single_bad_point_refutes_a_claim(code, name, of):
    good = row(Variant(code), 3.0, bias_bound=0.05 if code == "mrc" else None)
    rows = [good, row(Variant(code), 5.0, **of)]
    found = verdicts(code, rows)
    assert found.pop(name) == FAILS
    assert set(found.values()) <= {HOLDS}


def test_within_its_interval_of_the_bound_a_claim_is_undecided():
    values = [Interval(0.0, -0.1, 0.1, 5), Interval(-3.0, -4.0, -2.0, 5)]
    assert claim_at_most("a", "b", "c", values, 0.05).verdict == UNDECIDED
    assert claim_at_most("a", "b", "c", values, 0.1).verdict == HOLDS
    assert claim_at_most("a", "b", "c", values, -0.2).verdict == FAILS
    assert claim_at_most("a", "b", "c", values, 0.1).interval == Interval(0.0, -0.1, 0.1, 10)


def test_what_theory_does_not_bound_is_no_claim():
    assert verdicts("dad-star", [row(Variant("dad-star"), 5.0, distance=0.9)]) == {"length": HOLDS}
    assert verdicts("mrc", [row(Variant("mrc"), 5.0, bias_bound=0.1)]) == {"samples": HOLDS}


def test_the_false_alarm_is_shared_by_all_tests():
    rows = [row(Variant("gprs"), 1.0, tests=2), row(Variant("pfr"), 1.0, samples=500)]
    rows.append({**row(Variant("pfr"), 9.0), "status": f"{SKIPPED}: long", "tests": None})
    add_critical(rows)
    assert rows[0]["critical"] == pytest.approx(stats.kstwo.isf(FALSE_ALARM / 3, 1000))
    assert rows[1]["critical"] == pytest.approx(stats.kstwo.isf(FALSE_ALARM / 3, 500))
    assert rows[2]["critical"] is None


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take seconds to draw."""
    monkeypatch.setattr(study, "draw", lambda variants, points, times: {})


def run(plan, out):
    with ThreadPoolExecutor(1) as executor:
        results = codes(plan, out, executor)
    with open(out / "codes" / "points.csv", newline="") as f:
        points = list(csv.DictReader(f))
    with open(out / "codes" / "times.csv", newline="") as f:
        times = list(csv.DictReader(f))
    return results, points, times


def test_the_whole_study(tmp_path):
    results, points, times = run(PLAN, tmp_path)
    assert results["failures"] == {}
    assert len(points) == len(PLAN.grid()) == 4 * 4 + 2 * 2
    skipped = {r["code"]: r for r in points if r["status"] != MEASURED}
    # Of mrc's 2^9 candidates and of D_inf = 9 bits; said, not dropped.
    assert skipped.keys() == {"mrc", "pfr", "gprs"}
    assert skipped["gprs"]["status"] == f"{SKIPPED}: log2 of the search is 9.0; the limit 8"
    assert skipped["gprs"]["distance"] == ""
    measured = [r for r in points if r["status"] == MEASURED]
    assert len(times) == len(measured)
    assert all(float(r["microseconds"]) > 0 for r in times)
    verdicts = {c["name"]: c["verdict"] for c in results["claims"]}
    for code in ("pfr", "ad-star", "gprs"):
        assert verdicts[f"samples of {code}"] == HOLDS
        assert verdicts[f"length of {code}"] == HOLDS
    assert verdicts["samples of mrc +4"] == HOLDS
    for name in ("overhead", "distances", "times"):
        for suffix in ("png", "svg"):
            assert (tmp_path / "codes" / f"{name}.{suffix}").stat().st_size > 0
    assert json.loads((tmp_path / "codes" / "results.json").read_text()) == results


@pytest.mark.slow
def test_the_same_points_each_time(tmp_path, no_figures):
    plan = replace(PLAN, codes=("pfr", "gprs"), kl_bits=(1.0,), d_inf_bits=())
    first, second = (run(plan, tmp_path / name) for name in "ab")
    assert first[1] == second[1]
    assert first[0]["claims"] == second[0]["claims"]


def broken_engine(monkeypatch, **functions):
    engine = SimpleNamespace(**{**vars(NUMBA), **functions})
    monkeypatch.setattr(codes_measures, "get_engine", lambda name: engine)


def test_a_code_that_takes_the_first_candidate_is_found_out(tmp_path, monkeypatch, no_figures):
    def first(code, seed, rows, *target, **more):
        if code == "gprs":
            return np.ones(len(rows), np.int64)
        return NUMBA.variable_messages(code, seed, rows, *target, **more)

    broken_engine(monkeypatch, variable_messages=first)
    results, _, _ = run(replace(PLAN, codes=("ad-star", "gprs")), tmp_path)
    verdicts = {c["name"]: c["verdict"] for c in results["claims"]}
    assert verdicts["samples of gprs"] == FAILS
    assert verdicts["candidates of gprs"] == FAILS
    assert verdicts["samples of ad-star"] == HOLDS


def test_a_point_that_fails_is_reported_and_loses_no_other(tmp_path, monkeypatch, no_figures):
    bad = Point(BY_KL, 5.0)

    def poisson_indices(seed, blocks, delta, log_s):
        if delta.shape[1] == 1 and delta[0, 0] == bad.delta:
            raise InputError("too far")
        return NUMBA.poisson_indices(seed, blocks, delta, log_s)

    broken_engine(monkeypatch, poisson_indices=poisson_indices)
    results, points, times = run(replace(PLAN, codes=("pfr", "gprs")), tmp_path)
    assert results["failures"] == {f"pfr at {bad.name}": "too far"}
    of_pfr = [r for r in points if r["code"] == "pfr"]
    assert len(of_pfr) == 5
    at_bad = [r["code"] for r in times if r["kl_bits"] == "5" and r["sweep"] == "KL"]
    assert sorted(at_bad) == ["gprs", "pfr"]  # pfr in a block of two places


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch, capsys, no_figures):
    plan = replace(PLAN, kl_bits=(1.0,), d_inf_bits=(), places=(1,))
    monkeypatch.setitem(CODES_PLANS, "smoke", plan)
    arguments = ["codes", "--preset", "smoke", "--out", str(tmp_path), "--workers", "2"]
    assert command.main([*arguments, "--codes", "gprs-d", "--engine", "numpy"]) == 0
    printed = capsys.readouterr().out
    assert "holds: gprs-d: its samples follow the target" in printed
    results = json.loads((tmp_path / "codes" / "results.json").read_text())
    assert results["settings"]["engine"] == "numpy"
    assert {c["verdict"] for c in results["claims"]} == {HOLDS}
    assert command.main([*arguments, "--codes", "nope"]) == 2
    error = capsys.readouterr().err
    assert "code 'nope' is unknown" in error
    assert error.count("\n") == 1
