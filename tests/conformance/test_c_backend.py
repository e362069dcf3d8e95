"""The C99 backend, built by whatever `cc` there is, as the JSON-lines example of the suite."""

import json
import subprocess

import numpy as np
import pytest
import spec_decoder
from conformance.c_program import SOURCES, variable
from conformance.chains import shipped_models
from conformance.descriptions import descriptions_changed, seal

from refmiracle.codes.table import CODES
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.programs import CommandBackend, encode_value
from refmiracle.conformance.runner import SKIPPED, run_suite
from refmiracle.conformance.vectors import default_golden, load_golden
from refmiracle.engines import get_engine
from refmiracle.fileformat.container import CompressedModel, read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.networks import LENET5
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

COUNTS = tuple(int(np.prod(t.shape)) for t in LENET5.tensors())
CASES = default_golden()


@pytest.fixture
def backend(program):
    backend = CommandBackend(f"'{program.as_posix()}'")
    yield backend
    backend.close()
    assert backend.program.process.returncode == 0


def ask(program, lines):
    """Return the answers to some lines, and the exit code."""
    done = subprocess.run([program], input=b"".join(lines), capture_output=True, check=False)
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.decode("ascii").splitlines()], done.returncode


def question(operation, **inputs):
    """Return the line that asks for an operation."""
    written = {name: encode_value(np.asarray(value)) for name, value in inputs.items()}
    return json.dumps({"operation": operation, "dtype": "float64", "inputs": written}) + "\n"


def test_makefile_names_all_sources():
    assert set(variable("SOURCES")) == {path.name for path in SOURCES.glob("*.c")}
    assert {"-std=c99", "-ffp-contract=off"} <= set(variable("CFLAGS"))


def test_hello(backend):
    assert backend.operations <= set(OPERATIONS)
    bits = {name for name, o in OPERATIONS.items() if o.stage == "bits"}
    assert bits - backend.operations == {"compose_file"}  # it writes files of code 0 alone
    assert {"decode_model", "predict", "mean_kl_backward", "encode_model"} <= backend.operations
    assert {"partition_rows", "variable_samples"} <= backend.operations
    assert tuple(backend.dtypes) == ("float64",)


@pytest.mark.slow
def test_passes_the_suite(backend):
    if not CASES.is_dir():
        pytest.skip(f"there are no golden vectors in {CASES}")
    report = run_suite(backend, load_golden(CASES))
    red = [f"{r.id} {r.dtype}: {r.message}" for r in report.results if r.status != SKIPPED]
    assert report.ok(), "\n".join(line for line in red if not line.endswith(": "))
    for r in report.results:
        assert r.status != SKIPPED or r.dtype == "float32" or r.operation not in backend.operations


@pytest.mark.parametrize("grouping", Grouping)
@pytest.mark.parametrize("signs", Signs)
def test_decodes_random_models_bit_for_bit(program, tmp_path, rng, grouping, signs):
    factors = (1, 3, 7, 1, 50, 500, 9, 10)
    layout = BlockLayout(LENET5, factors, grouping, signs, 23, int(rng.integers(2**32)))
    indices = rng.integers(0, 2**14, (layout.blocks(), 1))
    rho = rng.uniform(0.01, 2.0, len(factors)).astype(np.float16)
    file = tmp_path / "model.rmc"
    file.write_bytes(CompressedModel(layout, 14, rho, indices).to_bytes())
    assert_decodes_alike(program, file, tmp_path)


@pytest.mark.parametrize("file", shipped_models(), ids=lambda f: f.stem)
def test_decodes_shipped_models_bit_for_bit(program, tmp_path, file):
    assert_decodes_alike(program, file, tmp_path)


def assert_decodes_alike(program, file, folder):
    out = folder / "weights.f32"
    subprocess.run([program, "decode", file, out], check=True)
    model, _ = read_model(file)
    weights = decode_model(model, get_engine("numpy")).values()
    assert out.read_bytes() == b"".join(w.astype("<f4").tobytes() for w in weights)


@pytest.mark.parametrize("damage", [b"", b"RMC", b"no model"])
def test_refuses_to_decode_what_is_no_model(program, tmp_path, damage):
    file, out = tmp_path / "model.rmc", tmp_path / "weights.f32"
    file.write_bytes(damage)
    done = subprocess.run([program, "decode", file, out], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"refmiracle_c: ")
    assert not out.exists()


def messages_changed(rng, code):
    """Yield files of 8 variables with any bytes behind the scales."""
    layout = BlockLayout(LENET5, COUNTS, Grouping.OUTPUTS, Signs.UNIT, 3, 300)
    ones = np.ones((3, 3 if code > 3 else 1), dtype=np.int64) << (5 if code == 3 else 0)
    name = next(c.name for c in CODES.values() if c.number == code)
    whole = CompressedModel(layout, 5, np.ones(8, np.float16), ones, name).to_bytes()
    for _ in range(400):
        yield seal(whole[:41] + rng.bytes(rng.integers(2, 8)))


def test_refuses_the_same_descriptions(program, rng):
    check_refusals(program, list(descriptions_changed(rng, 1200)))


@pytest.mark.parametrize("code", [1, 2, 3, 11])
def test_refuses_the_same_files_of_other_codes(program, rng, code):
    check_refusals(program, list(messages_changed(rng, code)))


def check_refusals(program, files):
    """The plain decoder accepts what the program does, and some of the files are valid."""
    lines = [question("decode_model", data=np.frombuffer(f, np.uint8)).encode() for f in files]
    answers, exit_code = ask(program, lines)
    assert exit_code == 0
    accepted = 0
    for data, answer in zip(files, answers, strict=True):
        try:
            spec_decoder.parse(data)
        except spec_decoder.InvalidFileError:
            assert set(answer) == {"error"}, data.hex()
        else:
            assert set(answer) == {"outputs"}, data.hex()
            accepted += 1
    assert 0 < accepted < len(files)


def test_usage(program, tmp_path):
    for arguments in (["decode"], ["encode", "a", "b"], ["decode", tmp_path / "none", "b"]):
        done = subprocess.run([program, *arguments], capture_output=True, check=False)
        assert done.returncode == 2
        assert done.stderr


MALFORMED = [
    b"",
    b"   ",
    b"null",
    b"[]",
    b"{",
    b"{}",
    b"\x00",
    b"\xff\xfe",
    b'{"operation"}',
    b'{"operation":}',
    b'{"operation":"hello"',
    b'{"operation":"hello",}',
    b'{"operation":"hello"} more',
    b'{"operation":"hello","x":01}',
    b'{"operation":"hello","x":1.}',
    b'{"operation":"hello","x":NaN}',
    b'{"operation":"hello","x":' + b"[" * 100_000,
    b'{"operation":7}',
    b'{"operation":"no such"}',
    b'{"operation":"\\u00e9\\ud83d\\ude00"}',
    b'{"operation":"\\ud83d"}',
    b'{"operation":"\\u0000"}',
    b'{"operation":"\\x"}',
    b'{"operation":"caf\xc3\xa9\xff"}',
    b'{"operation":"tab\t"}',
    b'{"operation":"log_s"}',
    b'{"operation":"log_s","inputs":[]}',
    b'{"operation":"log_s","inputs":{"x":1}}',
    b'{"operation":"log_s","inputs":{"x":{}}}',
    b'{"operation":"log_s","dtype":"float32","inputs":{}}',
]
BROKEN_ARRAYS = [
    {"dtype": "float16"},
    {"dtype": 8},
    {"shape": [2]},
    {"shape": [-1]},
    {"shape": [1.0]},
    {"shape": 1},
    {"shape": [1] * 9},
    {"shape": [0, 2**40]},
    {"shape": [2**32, 2**32]},
    {"shape": [10**30]},
    {"base64": "AAAAAAAA8D8"},
    {"base64": "AAAAAAAA8D8=AAAA"},
    {"base64": "AAAAAAAA8D9="},
    {"base64": "AAAA AAA8D8="},
    {"base64": "===="},
    {"base64": None},
]


def test_answers_every_malformed_line_once(program):
    one = encode_value(np.array([1.0]))
    arrays = [{"operation": "log_s", "inputs": {"x": {**one, **b}}} for b in BROKEN_ARRAYS]
    lines = MALFORMED + [json.dumps(a).encode() for a in arrays]
    good = question("log_s", x=[0.0]).encode()
    answers, code = ask(program, [part for line in lines for part in (line, b"\n", good)])
    assert code == 0
    assert len(answers) == 2 * len(lines)
    for line, answer in zip(lines, answers[::2], strict=True):
        assert set(answer) == {"error"}, line
    assert all("outputs" in answer for answer in answers[1::2])


def test_answers_lines_cut_off_anywhere(program):
    whole = question("mean_kl", tau=[[0.5, 1.0]], phi=[[0.0, -np.inf]], budget=1.0).encode()[:-1]
    answers, code = ask(program, [whole[:n] + b"\n" for n in range(len(whole))] + [whole])
    assert code == 0
    assert all(set(answer) == {"error"} for answer in answers[:-1])
    assert len(answers) == len(whole) + 1
    assert "outputs" in answers[-1]  # though no line feed ends it


def test_answers_lines_with_random_damage(program, rng):
    whole = question("expand_hash", variables=[1.0, 2.0], places=[1, 0], signs=[1, -1]).encode()
    lines = []
    for _ in range(2000):
        line = bytearray(whole[:-1])
        for _ in range(rng.integers(1, 4)):
            line[rng.integers(len(line))] = rng.integers(256)
        lines.append(bytes(line).replace(b"\n", b" ") + b"\n")
    answers, code = ask(program, lines)
    assert code == 0
    assert len(answers) == len(lines)
    assert all(set(answer) in ({"error"}, {"outputs"}) for answer in answers)


def test_reads_json_of_any_style(program):
    value = '{ "data": [1, {"a": [-2.5e+3, true, null]}], "shape":[ ] ,"dtype":"float64",'
    value += '"base64":"\\u0041AAAAAAA8D8="}'
    line = f'\t{{"inputs": {{"x": {value}, "y": {value}}}, "operation" : "log\\u005fs" }} \r\n'
    answers, _ = ask(program, [line.encode()])
    assert answers[0]["outputs"]["log_s"]["shape"] == []


def test_refuses_arguments_out_of_range(program):
    layout = {"block_size": 30, "factors": [1] * 8, "grouping": 0, "signs": 1, "weights": [0]}
    lines = [
        question("stream_words", seed=-1, stream=0, row=0, first=0, count=1),
        question("stream_words", seed=2**32, stream=0, row=0, first=0, count=1),
        question("stream_words", seed=0, stream=0, row=0, first=2**34, count=1),
        question("stream_words", seed=0, stream=0, row=0, first=0, count=2**62),
        question("stream_words", seed=0.5, stream=0, row=0, first=0, count=1),
        question("philox4x32", counter=[1, 2, 3], key=[0, 0]),
        question("pack_indices", indices=[1], bits=0),
        question("pack_indices", indices=[2], bits=1),
        question("unpack_indices", payload=[0], bits=1, count=9),
        question("read_integers", payload=[0], count=2**40, theta=1, raw=0),
        question("read_integers", payload=[0], count=1, theta=1, raw=25),
        question("read_integers", payload=[], count=0, theta=1, raw=0),
        question("write_integers", integers=[2**62], theta=1, raw=0),
        question("partition_rows", seed=1, bits=25, blocks=[0], messages=[2**25], dimension=2),
        question("partition_rows", seed=1, bits=2, blocks=[0], messages=[2**34], dimension=2),
        question("partition_rows", seed=1, bits=2, blocks=[0], messages=[4], dimension=0),
        question("variable_samples", code=3, seed=1, rows=[0], messages=[1]),
        question("variable_samples", code=13, seed=1, rows=[0], messages=[1]),
        question("variable_samples", code=4, seed=1, rows=[0, 1], messages=[1]),
        question("block_layout", seed=1, **{**layout, "weights": [431_080]}),
        question("block_layout", seed=1, **{**layout, "factors": [0] * 8}),
        question("block_layout", seed=1, **{**layout, "factors": [1] * 7}),
        question("block_layout", seed=1, **{**layout, "signs": 3}),
        question("codebook", seed=1, indices=[1, -1], dimension=2),
        question("expand_hash", variables=[1.0], places=[1], signs=[1]),
        question("mean_kl", tau=[[1.0]], phi=[[1.0, 2.0]], budget=1.0),
        question("conv2d", x=np.ones((1, 2, 2, 1)), w=np.ones((3, 3, 1, 1)), b=[0.0]),
        question("dense", x=np.ones((2, 1)), w=np.ones((3, 1)), b=[0.0]),
        question("predict", data=[], images=np.zeros((1, 28, 28), np.uint8)),
    ]
    answers, code = ask(program, [line.encode() for line in lines])
    assert code == 0
    for line, answer in zip(lines, answers, strict=True):
        assert set(answer) == {"error"}, line
