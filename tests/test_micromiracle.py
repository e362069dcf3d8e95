"""MIRACLE in one file: small, right by itself, and read by every decoder of the project."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import spec_decoder
from conformance import c_program

from refmiracle.engines import get_engine
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.model import decode_model

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "micromiracle"
SOURCE = FOLDER / "micromiracle.py"
TEXT = SOURCE.read_text(encoding="utf-8")
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SHIPPED = FOLDER / "model.rmc"
DATA = ROOT / "data" / "mnist"
STEPS, SEED = 150, 5

spec = importlib.util.spec_from_file_location("micromiracle", SOURCE)
micromiracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(micromiracle)


@pytest.fixture(scope="module")
def test_set():
    return micromiracle.load(DATA, "t10k")


@pytest.fixture(scope="module")
def short(test_set):
    """The file of a short training, on test images: they are at hand, and nothing is claimed."""
    return micromiracle.train(*test_set, STEPS, SEED)


@pytest.fixture(scope="module", params=["short", "shipped"])
def data(request):
    return SHIPPED.read_bytes() if request.param == "shipped" else request.getfixturevalue("short")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return c_program.build(tmp_path_factory.mktemp("c"))


def error(w, images, labels):
    return np.mean(micromiracle.forward(w, images)[0].argmax(axis=0) != labels)


def flat(w):
    return np.concatenate([tensor.ravel() for tensor in w])


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- the text


def test_it_is_short():
    lines = TEXT.splitlines()
    assert len(lines) <= 250
    assert max(map(len, lines)) <= 100


def test_it_needs_numpy_alone():
    names = set()
    for node in ast.walk(ast.parse(TEXT)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"numpy"}


def test_the_equations_that_it_names_are_there():
    derivations = (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8")
    tags = set(re.findall(r"\\tag\{(\w+)\}", derivations))
    words = [ast.get_docstring(n) or "" for n in ast.walk(ast.parse(TEXT))
             if isinstance(n, (ast.FunctionDef, ast.Module))]  # fmt: skip
    words += re.findall(r"#(.*)$", TEXT, re.MULTILINE)
    cited = set(re.findall(r"\((\d+[a-z]?)\)", " ".join(words)))
    assert len(cited) > 10
    assert cited <= tags


# --- each part against something else


def test_the_table_is_that_of_the_format():
    rows = [0, 9, 65535]
    found = micromiracle.normals(100, rows, 12)
    wanted = [spec_decoder.words(100, spec_decoder.CODEBOOK, row, 12) for row in rows]
    assert found.dtype == np.float32
    assert found.tolist() == [list(map(spec_decoder.normal, row)) for row in wanted]


def test_the_normals_are_right_in_the_tails(monkeypatch):
    """The check values of docs/SPEC.md, section 6.4."""
    spec_text = (ROOT / "docs" / "SPEC.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w{8})` \| `\w{16}` \| `(\w{8})` \|", spec_text, re.MULTILINE)
    assert len(rows) == 22
    words = np.array([[int(word, 16) for word, _ in rows]], np.uint64)
    monkeypatch.setattr(micromiracle, "words", lambda *_: words)
    found = micromiracle.normals(0, [0], len(rows))
    assert found.view(np.uint32)[0].tolist() == [int(bits, 16) for _, bits in rows]


def test_the_gradient_of_the_network_by_differences():
    rng = np.random.default_rng(0)
    w = [0.2 * rng.standard_normal(shape) for shape in micromiracle.SHAPES]
    images, labels = rng.uniform(-0.5, 0.5, (7, 784)), rng.integers(10, size=7)
    _, gradient = micromiracle.loss_and_gradient(w, images, labels)
    for number, tensor in enumerate(w):
        step = 1e-6 * rng.standard_normal(tensor.shape)
        moved = [[*w[:number], tensor + sign * step, *w[number + 1 :]] for sign in (1, -1)]
        up, down = (micromiracle.loss_and_gradient(m, images, labels)[0] for m in moved)
        assert gradient[number].shape == tensor.shape
        assert np.isclose(up - down, 2 * np.sum(gradient[number] * step), rtol=1e-6)


def test_the_gradient_of_mean_kl_by_differences():
    rng = np.random.default_rng(1)
    tau, phi, eps, g = rng.standard_normal((4, 3, 5))

    def loss(tau, phi):
        mu, sigma, _ = micromiracle.mean_kl(tau, phi)
        return np.sum(g * (mu + sigma * eps))

    _, sigma, saved = micromiracle.mean_kl(tau, phi)
    dtau, dphi = micromiracle.mean_kl_gradient(g, eps, sigma, saved)
    for place in np.ndindex(3, 5):
        step = np.zeros((3, 5))
        step[place] = 1e-6
        by_tau = loss(tau + step, phi) - loss(tau - step, phi)
        by_phi = loss(tau, phi + step) - loss(tau, phi - step)
        found = 2e-6 * dtau[place], 2e-6 * dphi[place]
        np.testing.assert_allclose(found, (by_tau, by_phi), rtol=1e-6, atol=1e-14)


def test_every_block_has_its_divergence():
    rng = np.random.default_rng(2)
    mu, sigma, _ = micromiracle.mean_kl(*rng.normal(scale=3, size=(2, 20, 12)))
    kl = 0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)
    np.testing.assert_allclose(kl.sum(axis=1), micromiracle.BITS * np.log(2), rtol=1e-12)


def test_the_row_with_the_largest_ratio_is_sent():
    rng = np.random.default_rng(3)
    table, (mu, sigma) = rng.standard_normal((500, 6)), rng.uniform(0.3, 0.9, (2, 4, 6))
    log_q = -0.5 * ((table[:, None] - mu) / sigma) ** 2 - np.log(sigma)
    log_w = (log_q + 0.5 * table[:, None] ** 2).sum(axis=2)
    found = micromiracle.best_rows(table, mu, sigma)
    assert found.tolist() == log_w.argmax(axis=0).tolist()


def test_adam_by_its_formula():
    theta, moments = np.array([1.0, -2.0]), np.zeros((2, 2))
    wanted, m, v = theta.copy(), 0, 0
    for step, g in enumerate(np.array([[0.3, -5.0], [0.1, 2.0]]), start=1):
        micromiracle.adam(theta, moments, g, step, 0.01)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        wanted -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(theta, wanted, rtol=1e-12)


# --- the file


def test_a_short_training_learns(short, test_set):
    assert error(micromiracle.decode(short), *test_set) < 0.6


def test_the_same_seed_gives_the_same_bytes(test_set):
    one, again = (micromiracle.train(*test_set, 12, SEED) for _ in range(2))
    assert one == again


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_the_engines_decode_the_same_bits(data, engine):
    weights = decode_model(parse_model(data), get_engine(engine))
    own = micromiracle.decode(data)
    assert [w.shape for w in weights.values()] == [w.shape for w in own]
    assert flat(weights.values()).tobytes() == flat(own).tobytes()


def test_the_decoder_from_the_format_alone_does_too(data):
    own = flat(micromiracle.decode(data)).tobytes()
    assert spec_decoder.sha256(spec_decoder.decode(data)) == hashlib.sha256(own).hexdigest()


def test_the_c_program_does_too(data, program, tmp_path):
    (tmp_path / "model.rmc").write_bytes(data)
    command = [program, "decode", tmp_path / "model.rmc", tmp_path / "weights.f32"]
    subprocess.run(command, check=True)
    assert (tmp_path / "weights.f32").read_bytes() == flat(micromiracle.decode(data)).tobytes()


def sealed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


HEAD = len(micromiracle.HEADER)
SCALES = HEAD + 1 + len(micromiracle.SHAPES)
WRONG = {
    **{f"bit-at-{at}": lambda f, at=at: f[:at] + bytes([f[at] ^ 1]) + f[at:][1:] for at in (0, 60)},
    "checksum": lambda f: f[:-1] + bytes([f[-1] ^ 1]),
    **{f"cut-at-{n}": lambda f, n=n: f[:n] for n in (0, 3, HEAD, SCALES + 1, SCALES + 40, -1)},
    "a-byte-behind": lambda f: f + b"\0",
    "a-byte-behind-the-rows": lambda f: sealed(f[:-4] + b"\0"),
    "rows-cut-off": lambda f: sealed(f[:-5]),
    "factor-0": lambda f: sealed(f[: HEAD + 1] + b"\0" + f[HEAD + 2 : -4]),
    "factor-2": lambda f: sealed(f[: HEAD + 1] + b"\2" + f[HEAD + 2 : -4]),
    "seed-300": lambda f: sealed(f[:HEAD] + b"\xac\2" + f[HEAD + 1 : -4]),
    "seed-of-two-bytes": lambda f: sealed(f[:HEAD] + b"\xac" + f[HEAD + 1 : -4]),
    **{f"scale-{n:04x}": lambda f, n=n: sealed(
           f[:SCALES] + n.to_bytes(2, "little") + f[SCALES + 2 : -4])
       for n in (0, 0x03FF, 0x8400, 0x7C00, 0x7E00)},
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_is_no_file_of_this_program_is_refused(data, change):
    assert change(data) != data
    with pytest.raises(ValueError, match="not a whole file"):
        micromiracle.decode(change(data))


@pytest.mark.slow
def test_the_command_evaluates_the_file_to_the_same_error(data, test_set, tmp_path):
    path = tmp_path / "model.rmc"
    path.write_bytes(data)
    done = run("-m", "refmiracle.evaluate", path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bytes"] == len(data)
    assert found["test_error"] == pytest.approx(error(micromiracle.decode(data), *test_set))


def test_the_readme_has_the_figures_of_the_shipped_file(test_set):
    size, percent = re.search(r"([\d,]+) bytes, test error ([\d.]+) %", README).groups()
    assert int(size.replace(",", "")) == SHIPPED.stat().st_size
    found = error(micromiracle.decode(SHIPPED.read_bytes()), *test_set)
    assert percent == f"{100 * found:.2f}"


# --- the command


@pytest.mark.slow
def test_the_command_writes_the_file_and_says_what_it_is(tmp_path):
    out = tmp_path / "model.rmc"
    done = run(SOURCE, "--data", DATA, "--steps", 10, "--seed", 127, "--out", out)
    assert done.returncode == 0, done.stderr
    *_, validation, test, size = done.stdout.splitlines()
    assert re.fullmatch(r"validation error \d+\.\d\d%", validation)
    assert re.fullmatch(r"test error \d+\.\d\d%", test)
    assert size == f"{out}: {out.stat().st_size} bytes, for {micromiracle.V} weights"
    spec_decoder.parse(out.read_bytes())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--steps", "9"], "--steps of 10 or more"),
        (["--seed", "128"], "--seed from 0 to 127"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_clear_line(flags, words):
    done = run(SOURCE, *flags)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
