from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from oracles import scaled_error

from refmiracle.bench import figures, fresh, peers, plot, timing
from refmiracle.bench.figures import OURS, Bench, Figure, Sizes
from refmiracle.bench.plan import FULL
from refmiracle.bench.problem import make_problem, step_flops, whitened_posterior
from refmiracle.bench.report import number, to_json, to_text
from refmiracle.bench.timing import OthersWatch, Pace, alternate, ratio
from refmiracle.commands import bench
from refmiracle.commands.networks import given_network
from refmiracle.engines import get_engine
from refmiracle.errors import CheckError
from refmiracle.fileformat.container import read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.layers import Flatten, GroupNorm
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.posterior.blocks import find_places, to_variable_gradients, to_weights
from refmiracle.start import main as refmiracle_main
from refmiracle.training.data import Split, default_folder, load_split
from refmiracle.training.settings import Settings

TINY = Sizes(Pace(rounds=2, turn=0.0), batches=(8,), bits=(3,), images=20, matrix=16, fresh=0)
SETTINGS = Settings()
MACHINE = {"cpu": "abacus", "cores": 1, "threads": 1, "versions": {"numpy": "1"}}
LIBRARIES = ["torch", "jax"]


@pytest.fixture(scope="module")
def images():
    test = load_split(default_folder(), "t10k")
    return Split(test.images[:100], test.labels[:100])


@pytest.fixture
def tiny(monkeypatch):
    """The command's runs, made tiny."""
    monkeypatch.setattr(bench, "FULL", TINY)
    monkeypatch.setattr(bench, "QUICK", TINY)


@pytest.fixture(autouse=True)
def jax_in_single_precision():
    """The conformance backend, where it ran before in this process, has set JAX to double."""
    jax = sys.modules.get("jax")
    double = jax is not None and jax.config.jax_enable_x64
    if double:
        jax.config.update("jax_enable_x64", False)
    yield
    if double:
        jax.config.update("jax_enable_x64", True)


def peer_or_skip(library, module="step"):
    pytest.importorskip(library, reason=f"{library} is not installed")
    return peers.load_peer(f"{library}_{module}")


# --- the peers do the same work


def reference(problem, eps, rows):
    """Loss and gradients of the reference engine, in float64."""
    engine, layout = get_engine("numpy"), SETTINGS.layout()
    places = find_places(layout)
    tau, phi = (problem[n].astype(np.float64) for n in ("tau", "phi"))
    rho = np.exp(problem["log_rho"]).astype(np.float16).astype(np.float64)[places.tensor_of_place]
    budget = float(problem["budget"])
    w = engine.mean_kl_forward(tau, phi, rho, budget, eps)
    weights = to_weights(layout.network, engine, places, w)
    loss, grads = loss_and_grads(
        layout.network, engine, weights, problem["pixels"][rows], problem["labels"][rows]
    )
    g = to_variable_gradients(layout.network, engine, places, grads).reshape(rho.shape)
    dtau, dphi, dlog_rho = engine.mean_kl_backward(tau, phi, rho, budget, eps, g)
    by_tensor = np.bincount(places.tensor_of_place.ravel(), weights=dlog_rho.ravel())
    return loss, {"tau": dtau, "phi": dphi, "log_rho": by_tensor}


@pytest.fixture(scope="module")
def question(images):
    """A problem with parameters as in the midst of training, noise, rows, and the answer."""
    rng = np.random.default_rng(3)
    problem = make_problem(SETTINGS, images)
    problem["tau"] = rng.standard_normal(problem["tau"].shape).astype(np.float32)
    problem["phi"] = rng.standard_normal(problem["phi"].shape).astype(np.float32)
    eps = rng.standard_normal(problem["tau"].shape).astype(np.float32)
    rows = rng.permutation(len(images.images))[:64]
    return problem, eps, rows, reference(problem, eps, rows)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
def test_peers_have_the_loss_and_gradients_of_the_reference(question, library, shared):
    module = peer_or_skip(library)
    problem, eps, rows, (loss, grads) = question
    got_loss, got = module.Step(problem, len(rows), shared=shared).loss_and_grads(eps, rows)
    assert got_loss == pytest.approx(loss, rel=1e-5)
    assert got.keys() == grads.keys()
    for name, want in grads.items():
        assert scaled_error(got[name], want) < 1e-5, name


def parameters(step):
    """Copies of a peer's parameters, whichever way it keeps them."""
    names = ("tau", "phi", "log_rho")
    if hasattr(step, "state"):
        return {n: np.array(step.state[0][n]) for n in names}
    return {n: getattr(step, n).detach().numpy().copy() for n in names}


@pytest.mark.parametrize("library", LIBRARIES)
def test_peers_take_steps_of_adam(images, library):
    """The first step of Adam moves every parameter by its rate, whatever the gradient."""
    module = peer_or_skip(library)
    step = module.Step(make_problem(SETTINGS, images), 50)
    before, loss = parameters(step), step.step()
    assert loss == pytest.approx(np.log(10), rel=0.3)
    rates = dict.fromkeys(("tau", "phi"), SETTINGS.rate)
    for name, rate in {**rates, "log_rho": SETTINGS.rate * SETTINGS.scale_rate}.items():
        moved = np.abs(parameters(step)[name] - before[name])
        assert np.median(moved) == pytest.approx(rate, rel=1e-3), name
        assert moved.max() < 1.001 * rate, name
    first = parameters(step)
    step.step()
    assert all(np.any(first[n] != value) for n, value in parameters(step).items())


@pytest.mark.parametrize("library", LIBRARIES)
def test_peers_predict_the_same_classes(images, library):
    module = peer_or_skip(library)
    engine = get_engine("numpy")
    weights = decode_model(read_model(figures.MODEL)[0], engine)
    predicted = module.make_predictor(weights, images.images)()
    assert predicted.shape == images.labels.shape
    assert np.mean(predicted != images.labels) < 0.05


def test_torch_draws_candidates_as_the_posterior_wants():
    """Both ways to encode, over many equal blocks, follow the weights of few candidates."""
    coding = peer_or_skip("torch", "coding")
    torch = peer_or_skip("torch").torch
    torch.manual_seed(0)
    blocks, size, bits = 4000, 3, 3
    candidates = coding.codebook(bits, size)
    delta, log_s = whitened_posterior(1, size, bits)
    scores = get_engine("numpy").log_weights(candidates.numpy(), delta, log_s)[0]
    want = np.exp(scores - scores.max())
    want /= want.sum()
    posterior = (torch.tensor(np.repeat(a, blocks, axis=0)) for a in (delta, log_s))
    arguments = candidates, *posterior
    for encode in (coding.encode_each, coding.encode_products):
        counts = np.bincount(encode(*arguments).numpy(), minlength=1 << bits)
        # Five standard deviations of a share.
        assert np.abs(counts / blocks - want).max() < 5 * 0.5 / np.sqrt(blocks)


# --- the measuring


def test_every_contender_has_a_turn_in_every_round():
    turns = []
    calls = {name: lambda n=name: turns.append(n) for name in "abc"}
    samples = alternate(calls, Pace(rounds=4, turn=0.0))
    assert {name: len(s) for name, s in samples.items()} == {"a": 4, "b": 4, "c": 4}
    # Each turn is one call that counts after one that does not.
    assert turns[-24::2] == turns[-23::2]
    rounds = [turns[-24::2][i : i + 3] for i in range(0, 12, 3)]
    assert [sorted(r) for r in rounds] == [["a", "b", "c"]] * 4
    assert {r[0] for r in rounds} == {"a", "b", "c"}


def test_a_slow_figure_stops_after_three_rounds():
    samples = alternate({"a": lambda: None}, Pace(rounds=9, turn=0.0, limit=0.0))
    assert len(samples["a"]) == 3


def test_ratio_is_taken_round_by_round():
    drift = np.array([1.0, 2.0, 3.0, 10.0])
    assert ratio(drift, 4.0 * drift) == (0.25, (0.25, 0.25))
    middle, (low, high) = ratio(np.array([1.0, 2.0, 3.0]), np.ones(3))
    assert low <= middle == 2.0 <= high
    assert low < high
    assert ratio(np.ones(1), np.full(1, 2.0)) == (0.5, None)


def test_other_processes_are_seen(monkeypatch):
    """In four seconds of two processors the others take two seconds."""
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(timing.time, "perf_counter", iter([10.0, 14.0]).__next__)
    monkeypatch.setattr(OthersWatch, "_seconds", staticmethod(iter([100.0, 102.0]).__next__))
    seen = OthersWatch().share()
    assert seen == 0.25
    figure = Figure("f", "ms", np.ones(3), others=seen)
    assert "f: NOT ALONE" in to_text([figure], MACHINE)
    assert to_json([figure], MACHINE)["figures"][0]["others_cpu_share"] == seen


def test_others_are_those_of_the_system_but_this_process(monkeypatch):
    """All but idle and waiting, in clock ticks, less what this process and its children took."""
    stat = "cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    monkeypatch.setattr(timing.Path, "read_text", lambda path, encoding: stat)
    monkeypatch.setattr(timing.os, "sysconf", lambda name: 100, raising=False)
    monkeypatch.setattr(timing.os, "times", lambda: (0.5, 0.1, 0.1, 0.0, 99.0))
    assert OthersWatch._seconds() == pytest.approx(1.71 - 0.7)
    monkeypatch.setattr(timing.Path, "read_text", absent)
    assert OthersWatch().share() is None


def absent(path, encoding):
    raise FileNotFoundError


def test_operations_of_a_step():
    """By hand: conv1 24^2 outputs, conv2 8^2, two layers of products; conv1 has no dx."""
    multiply_adds = [24**2 * 500, 8**2 * 25_000, 800 * 500, 500 * 10]
    assert step_flops(LENET5) == 6 * sum(multiply_adds) - 2 * multiply_adds[0]
    multiply_adds[1] //= 2
    multiply_adds[2] //= 50
    shared = step_flops(LENET5, LENET5.hash_factors)
    assert shared == 6 * sum(multiply_adds) - 2 * multiply_adds[0]


def test_a_network_without_products_has_no_operations():
    assert step_flops(Network("norm", 0, (2, 1, 1), 2, (GroupNorm(1), Flatten()))) == 0


def test_posterior_of_the_encoding_spends_its_budget():
    delta, log_s = whitened_posterior(5, 30, 14)
    kl = get_engine("numpy").gaussian_kl(delta.astype(float), log_s.astype(float)).sum(axis=1)
    assert kl == pytest.approx(14 * np.log(2.0), rel=1e-4)


def test_a_compiler_that_fails_is_left_out_in_one_line(images, monkeypatch, capsys):
    module = peer_or_skip("torch")

    def broken(*arguments, **options):
        raise RuntimeError("no compiler\nsecond line")

    monkeypatch.setattr(module.torch, "compile", lambda *a, **k: broken)
    made = Bench(SETTINGS, images, images, TINY, ("torch",), threads=1)
    for _ in range(2):
        assert list(figures.peer_steps(made, 8, shared=True)) == ["PyTorch eager"]
    said = capsys.readouterr().err
    assert said == "refmiracle: torch.compile is left out: no compiler\n"


@pytest.mark.slow
def test_fresh_processes(images, monkeypatch):
    # With the caches of the machine, so that not everything is compiled anew.
    monkeypatch.setattr(fresh, "CACHES", ())
    made = Bench(SETTINGS, images, images, replace(TINY, fresh=1), (), threads=1)
    names = {f.name: f for f in fresh.measure_starts(made)}
    assert len(names["first step, nothing cached"].ours) == 1
    assert names["first step, code cached"].ours > names["import"].ours > 0
    assert names[f"peak memory, batch {fresh.BATCH}"].ours > 50


@pytest.mark.parametrize(
    ("code", "longest", "message"),
    [
        ("import time; time.sleep(1000)", 0.2, "has not ended within 0.2 s"),
        ("1 / 0", 900, "ended with exit code 1: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", 900, "ended with exit code 3: nothing"),
    ],
)
def test_a_fresh_process_that_fails_is_one_line(tmp_path, monkeypatch, code, longest, message):
    run = subprocess.run
    monkeypatch.setattr(fresh, "LONGEST_START", longest)
    monkeypatch.setattr(
        fresh.subprocess, "run", lambda _, **named: run([sys.executable, "-c", code], **named)
    )
    with pytest.raises(CheckError, match=f"^a fresh process of refmiracle {message}$"):
        fresh.start(tmp_path / "problem.npz", tmp_path, 1, OURS)


@pytest.mark.parametrize("shared", [True, False])
def test_ours_is_told_whether_to_share_units(images, shared):
    made = Bench(SETTINGS, images, images, TINY, (), threads=1)
    step = figures.our_step(made, 8, shared)
    assert step.__self__.variable_pass.shared == shared
    assert step.__self__.settings.batch_size == 8
    assert np.isfinite(step())


def test_each_encoding_of_a_model_draws_its_candidates(images, monkeypatch):
    seeds = []
    monkeypatch.setattr(
        figures.minimal_random_coding, "encode", lambda engine, seed, *rest: seeds.append(seed)
    )
    figures.measure_encode(Bench(SETTINGS, images, images, TINY, (), threads=1), 3, 30, "", 3)
    assert len(seeds) == len(set(seeds)) >= TINY.pace.rounds


# --- the command


def test_ours_alone(tiny, tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert refmiracle_main(["bench", "--json", str(path)]) == 0
    table = capsys.readouterr().out
    results = json.loads(path.read_text())
    assert results["schema"] == "refmiracle-bench/1"
    assert results["machine"]["versions"]["numpy"] == np.__version__
    names = {f["name"] for f in results["figures"]}
    assert {"step, batch 8", "step, weights expanded, batch 8", "predict 20 images"} <= names
    for f in results["figures"]:
        assert f["name"] in table
        low, high = f["refmiracle"]["quartiles"]
        assert 0 < low <= f["refmiracle"]["median"] <= high
        assert f["refmiracle"]["rounds"] >= 2


OWN = """
from refmiracle import Network
from refmiracle.layers import Conv2d, Dense, Flatten, MaxPool2d, Relu, Residual

BODY = (Relu(), Conv2d(3, kernel=3, padding=1, groups=3), MaxPool2d(), Conv2d(4, kernel=1))
LAYERS = (
    *(Conv2d(3, kernel=3, stride=2, padding=1), Residual(BODY, (Conv2d(4, kernel=2, stride=2),))),
    *(Flatten(), Dense(6)),
)
NETWORK = Network("own", 0, (2, 8, 12), 6, LAYERS, (1, 1, 1, 1, 2, 1, 1, 1, 1, 1))
"""


def test_another_network(tiny, tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    path = tmp_path / "bench.json"
    assert bench.main(["--network", f"{tmp_path / 'own.py'}:NETWORK", "--json", str(path)]) == 0
    assert "\nown, on images of noise\n" in capsys.readouterr().out
    results = json.loads(path.read_text())
    assert results["network"] == "own"
    assert "read and decode random.rmc" in {f["name"] for f in results["figures"]}


def test_flops_of_a_residual_are_those_of_its_layers(tmp_path):
    """Maps of 4x6 behind the first convolution and within the body, then of 2x3."""
    (tmp_path / "own.py").write_text(OWN)
    network = given_network(f"{tmp_path / 'own.py'}:NETWORK")
    first, depthwise = 9 * 2 * 3 * 24, 9 * 3 * 24
    pointwise, shortcut, dense = 3 * 4 * 6, 4 * 3 * 4 * 6, 24 * 6
    for factors, shared in ((None, pointwise), (network.factors(), pointwise // 2)):
        rest = depthwise + shared + shortcut + dense
        assert step_flops(network, factors) == 2 * (3 * (first + rest) - first)


def test_peers_are_written_for_one_network(tmp_path, capsys):
    assert bench.main(["--network", "lenet-300-100", "--against", "torch"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--against torch: the peers are written for lenet5; measure lenet-300-100" in line


def test_against_torch(tiny, tmp_path, monkeypatch, capsys):
    peer_or_skip("torch")
    # Compiling takes longer than all else together.
    monkeypatch.setattr(figures, "STEP_PEERS", peers.STEP_PEERS[:1])
    path = tmp_path / "bench.json"
    assert bench.main(["--against", "torch", "--json", str(path)]) == 0
    assert "PyTorch eager" in capsys.readouterr().out
    by_name = {f["name"]: f for f in json.loads(path.read_text())["figures"]}
    step = by_name["step, batch 8"]["peers"][0]
    assert step["name"] == "PyTorch eager"
    assert step["ratio_interval_95"][0] <= step["ratio"] <= step["ratio_interval_95"][1]
    encode = by_name["encode 886 blocks of 30, 3 bits"]["peers"]
    assert [p["name"] for p in encode] == [figures.EACH, figures.PRODUCTS]
    assert all(p["estimated_from"] is None for p in encode)


def test_a_part_that_stands_for_all_is_marked():
    figure = Figure("f", "ms", np.ones(3), {"p": np.full(3, 7.0)}, estimated="2 of 9 blocks")
    text = to_text([figure], MACHINE)
    assert "~7 (7-7)" in text
    assert "f: peers reckoned from 2 of 9 blocks" in text
    peer = to_json([figure], MACHINE)["figures"][0]["peers"][0]
    assert peer["estimated_from"] == "2 of 9 blocks"


def test_numbers_have_three_digits():
    values = {12345.6: "12346", 123.4: "123", 12.34: "12.3", 0.01234: "0.0123"}
    assert {v: number(v) for v in values} == values


def test_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rng = np.random.default_rng(0)
    members = [
        Figure(f"{g} {at}", "ms", rng.uniform(1, 2, 3), {"peer": rng.uniform(2, 3, 3)}, g, at)
        for g in plot.PANELS
        for at in (8, 16)
    ]
    data = plot.draw_growth(members, ".png")
    assert data.startswith(b"\x89PNG")
    assert b"<svg" in plot.draw_growth(members, ".svg")


def test_the_plot_has_more_points_than_the_table():
    more = FULL.growing()
    for name in ("batches", "bits", "block_sizes"):
        assert set(getattr(more, name)) > set(getattr(FULL, name))


@pytest.fixture
def no_measuring(monkeypatch):
    def begin(*arguments):
        raise AssertionError("it began to measure")

    monkeypatch.setattr(bench, "load_split", begin)


def refused(capsys, arguments):
    assert bench.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("refmiracle: error: ")
    assert said.count("\n") == 1
    return said


def test_unwritable_files_are_refused_first(no_measuring, tmp_path, capsys):
    (tmp_path / "folder.json").mkdir()
    for path in (tmp_path / "missing" / "a.json", tmp_path / "folder.json"):
        assert f"error: {path}: cannot be written" in refused(capsys, ["--json", str(path)])
    assert not list(tmp_path.glob(".*"))


def test_missing_libraries_are_refused_first(no_measuring, monkeypatch, capsys):
    for library in ("torch", "jax", "matplotlib"):
        monkeypatch.setitem(sys.modules, library, None)
    assert "--plot: matplotlib is not installed" in refused(capsys, ["--plot", "a.png"])
    if peers.FOLDER.is_dir():
        for library in LIBRARIES:
            error = refused(capsys, ["--against", library])
            assert f"--against {library}: {library} is not installed; pip install" in error


def test_missing_peers_are_refused_first(no_measuring, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(peers, "FOLDER", tmp_path / "none")
    assert "clone of the repository" in refused(capsys, ["--against", "all"])


def test_unknown_formats_of_plots_are_refused_first(no_measuring, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert "expected a name that ends in" in refused(capsys, ["--plot", "a.txt"])


def test_unknown_peers_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--against", "abacus"])
    assert stopped.value.code == 2
    assert "abacus" in capsys.readouterr().err


def test_interrupted(tiny, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "plan", lambda made: [("x", interrupt)])
    assert bench.main([]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_peers_load_nothing_before_they_are_asked():
    code = "import refmiracle.bench.peers, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "jax", "numpy"} & set(loaded)
    assert OURS in loaded
