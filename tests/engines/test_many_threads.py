"""Many threads call both engines at a time, each with inputs of its own, in each other's way.

Every case (`calls`) is held against the same call alone: from eight threads at a time, with a whole
other call between any two lines of it, and after the caller has written into earlier results.
"""

from __future__ import annotations

import ast
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from engines.calls import CALLS, FUNCTIONS, NET, of_network
from nn.trees import TREE

import refmiracle
from refmiracle import engines
from refmiracle.engines import arguments, get_engine
from refmiracle.engines.contract import Engine
from refmiracle.engines.numba_engine import (
    compiling,
    general,
    mrc,
    orc_pfr,
    plan,
    programs,
    threads,
)
from refmiracle.engines.numpy_engine import nodes, sigma, sp_pfr, unimodal
from refmiracle.nn import evaluation
from refmiracle.numerics import spares

ROOT = Path(refmiracle.__file__).parent
# What a pass of a network consists of, and what nobody can change.
KEPT = plan.NetworkPass, plan.Conv, plan.Dense, general.GeneralPass, programs.Program
PLAIN = str, int, float, Path, slice
AT_ONCE, TIMES = 8, 3
DEADLINE = 300  # seconds: what waits for ever has failed


def arrays_of(result):
    """All that a call returned, flat."""
    if isinstance(result, tuple | list):
        return [a for part in result for a in arrays_of(part)]
    return [] if result is None else [np.asarray(result)]


def bits(result):
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays_of(result)]


def calls_of(name, engine, count):
    """So many calls of a case, whose inputs differ, and what each one gives alone."""
    calls = [CALLS[name](engine, np.random.default_rng(seed)) for seed in range(count)]
    return calls, [bits(call()) for call in calls]


@pytest.fixture
def impatient():
    """Threads take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_every_function_of_the_contract_is_called(engine):
    contract = {n for n in vars(Engine) if not n.startswith("_")} - {"name", "dtype"}
    assert contract == FUNCTIONS.keys() == vars(engine).keys() - {"name", "dtype"}


@pytest.mark.parametrize("name", CALLS)
def test_eight_threads_get_what_one_gets(engine, name, impatient):
    calls, expected = calls_of(name, engine, AT_ONCE)
    assert len({str(e) for e in expected}) > 1, "the inputs must matter"
    together = threading.Barrier(AT_ONCE)

    def work(call):
        found = []
        for _ in range(TIMES):
            together.wait(DEADLINE)
            found.append(bits(call()))
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found, want in zip(pool.map(work, calls), expected, strict=True):
            assert found == [want] * TIMES


def interrupted(call, between):
    """Return what a call gives that is parked at each line of refmiracle while `between` runs.

    At the first visit of each; but not where a lock is held, where no other call could pass.
    """
    visited = set()

    def at_line(frame, event, _):
        place = frame.f_code, frame.f_lineno
        if event == "line" and place not in visited:
            visited.add(place)
            between()
        return at_line

    def at_call(frame, event, _):
        code = frame.f_code
        ours = code.co_filename.startswith(str(ROOT)) and code is not threads.Pool.submit.__code__
        return at_line if ours else None

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        result = call()
    finally:
        sys.settrace(before)
    return result, len(visited)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_another_call_between_any_two_lines_changes_nothing(engine, name, monkeypatch):
    """All work is the caller's own, so that all of it can be parked."""
    monkeypatch.setattr(threads, "THREADS", 1)
    (one, other), expected = calls_of(name, engine, 2)
    found = []
    with ThreadPoolExecutor(1) as pool:
        result, lines = interrupted(
            one, lambda: found.append(bits(pool.submit(other).result(DEADLINE)))
        )
    assert bits(result) == expected[0]
    assert found == [expected[1]] * lines
    assert lines


@pytest.mark.parametrize("name", CALLS)
def test_results_are_the_callers_own(engine, name):
    """No later call changes them, and writing into them changes no later call."""
    (one, other), expected = calls_of(name, engine, 2)
    first = one()
    second = other()
    assert bits(first) == expected[0]
    for a in arrays_of(first):
        if a.flags.writeable and a.dtype.kind in "iuf":
            a[...] = 77
    assert bits(second) == expected[1]
    assert [bits(one()), bits(other())] == expected


def test_no_two_passes_at_a_time_have_a_buffer_in_common(monkeypatch):
    """Each waits within a shard's compiled code until the other is there."""
    monkeypatch.setattr(threads, "THREADS", 1)
    engine, together, met = get_engine("numba"), threading.Barrier(2), {}
    run = plan.shard_gradients

    def meet(convs, denses, *rest):
        met.setdefault(threading.get_ident(), []).append((convs, denses))
        together.wait(DEADLINE)
        return run(convs, denses, *rest)

    monkeypatch.setattr(plan, "shard_gradients", meet)
    calls = [CALLS["loss_and_grads"](engine, np.random.default_rng(seed)) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda call: call(), calls))
    mine, theirs = (
        [b for shard in shards for part in shard for stage in part for b in stage]
        for shards in met.values()
    )
    mine, theirs = ([b for b in x if isinstance(b, np.ndarray)] for x in (mine, theirs))
    assert len(mine) > 40
    assert not any(np.may_share_memory(a, b) for a in mine for b in theirs)


def test_buffers_are_used_again_and_are_bounded(monkeypatch):
    """A training step allocates none; and threads that are gone leave no more than a few."""
    kept = spares.Spares(3)
    monkeypatch.setattr(plan, "SPARES", kept)
    call = CALLS["loss_and_grads"](get_engine("numba"), np.random.default_rng(1))
    call()
    (first,) = kept.kept
    call()
    assert list(kept.kept) == [first]
    assert kept.kept[0][1] is first[1]
    for count in range(1, 9):
        of_network(network_of_some)(get_engine("numba"), np.random.default_rng(count))()
    assert len(kept.kept) == 2  # another one for logits
    with ThreadPoolExecutor(AT_ONCE) as pool:
        together = threading.Barrier(AT_ONCE)

        def at_once(_):
            with kept.one("key", list):
                together.wait(DEADLINE)

        list(pool.map(at_once, range(AT_ONCE)))
    assert len(kept.kept) == 3


def network_of_some(engine, weights, pixels, labels):
    return evaluation.logits(NET, engine, weights, pixels)


def test_spares_are_given_to_those_who_ask_for_their_kind():
    kept = spares.Spares(4)
    with (
        kept.one("a", lambda: ["a"]) as a,
        kept.one("b", lambda: ["b"]) as b,
        kept.one("a", lambda: ["another a"]) as another,
    ):
        assert (a, b, another) == (["a"], ["b"], ["another a"])
    for key, known in (("b", (b,)), ("a", (a, another)), ("b", (b,))):
        with kept.one(key, list) as found:
            assert any(found is one for one in known)


def test_buffers_of_a_call_that_failed_are_not_used_again():
    """Ctrl-C may have come while others were at work in them."""
    kept = spares.Spares(4)
    with pytest.raises(KeyboardInterrupt), kept.one("a", list):
        raise KeyboardInterrupt
    assert not kept.kept


def kept_by_cache(seed=3):
    """What each function of refmiracle with a cache keeps: its name to an example."""
    slabs = orc_pfr._kept_slabs(seed, 4)
    list(orc_pfr._slabs(seed, 4, 2))
    target = unimodal.gaussian_target(0.3, -0.5)
    assert slabs
    return {
        "engines.numba_engine.mrc._kept_codebook": mrc._kept_codebook(seed, 3, 2),
        # Searches add to it; each slab by itself is never changed.
        "engines.numba_engine.orc_pfr._kept_slabs": tuple(slabs.values()),
        "engines.numba_engine.plan.network_pass": (
            plan.network_pass(NET.specs(), (1, 2, 5, 1), (1, 28, 28)),
            plan.network_pass(TREE.specs(), (1,) * 6, TREE.input),
        ),
        "engines.numba_engine.compiling.of_source": compiling.of_source(),
        "engines.numba_engine.compiling.of_surroundings": compiling.of_surroundings(),
        "engines.numba_engine.compiling.folders": compiling.folders(),
        "engines.numba_engine.compiling.clear_old": None,
        "engines.numba_engine.compiling.say_that_nothing_is_kept": None,
        "engines.numpy_engine.sp_pfr.intervals": sp_pfr.intervals(4, 3),
        "engines.numpy_engine.nodes._batch": nodes._batch(seed, 2, 1),
        "engines.numpy_engine.sigma.tabulate_sigma": sigma.tabulate_sigma(target),
        "engines.numpy_engine.unimodal.gaussian_target": target,
        "engines._load": None,  # the engine
        "engines.arguments._dims": arguments._dims("blocks dimension"),
        "conformance.pytest_suite._load": None,  # a backend, which pytest asks in one thread
        "nn.network.Network.placed": NET.placed,
        "nn.network.Network._tensors": NET.tensors(),
        "decoded.Decoded._engine": None,
        "model.Model._root_rho": refmiracle.load("lenet5-891")._root_rho,
        "model.Model._variables": refmiracle.load("lenet5-891")._variables,
        "model.Model._weights": tuple(refmiracle.load("lenet5-891")._weights.values()),
        "studies.comparison.FinishedRun.places": None,  # values of the run, as its other fields are
        "studies.comparison.FinishedRun.variable_pass": None,
        "studies.comparison.FinishedRun.coded": None,
        "studies.comparison.FinishedRun.known": None,
        "studies.comparison.FinishedRun.change": None,
        "studies.comparison.FinishedRun.posterior_as_sent": None,
        "studies.scenes.loaded": None,  # images that nobody can change
        "studies.scenes.views": None,
    }


def test_all_that_is_kept_is_known_and_cannot_be_changed():
    known = kept_by_cache()
    assert known.keys() == set(functions_with_a_cache())
    for name, value in known.items():
        assert changeable(value) == [], name
    for array in (sigma.NODES, sigma.WEIGHTS, unimodal.NODES, unimodal.WEIGHTS):
        assert changeable(array) == []


def functions_with_a_cache():
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield from cached_within(ast.parse(path.read_text(encoding="utf-8")), module)


def cached_within(tree, name):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own = f"{name}.{node.name}"
            if any("cache" in ast.unparse(d) for d in node.decorator_list):
                yield own
            yield from cached_within(node, own)


def changeable(value):
    """The parts of a value that somebody could change, short of looking for ways."""
    if isinstance(value, np.ndarray):
        return [value] if value.flags.writeable else []
    if isinstance(value, tuple):
        return [found for part in value for found in changeable(part)]
    if is_dataclass(value):
        frozen = value.__dataclass_params__.frozen
        parts = tuple(getattr(value, f.name) for f in fields(value))
        return changeable(parts) if frozen else [value]
    if isinstance(value, KEPT):
        return changeable(tuple(vars(value).values()))
    harmless = value is None or callable(value) or isinstance(value, PLAIN)
    return [] if harmless else [value]


def test_the_filters_of_warnings_are_left_alone_once_an_engine_is_loaded(engine, monkeypatch):
    """They are one for all threads."""
    monkeypatch.setattr(engines, "warnings", None)
    assert get_engine(engine.name) is engine
