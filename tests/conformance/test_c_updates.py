"""Updates in the C99 backend: decoded in place as by the package, refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
from contextlib import suppress

import numpy as np
import pytest
from conformance import c_program
from conformance.c_program import SOURCES
from conformance.chains import changed_updates, packet, random_chain, random_update, weights_of
from conformance.descriptions import described_files

from refmiracle.codes.table import CODES
from refmiracle.conformance.programs import encode_value
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import decode_chain
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.envelope import base_checksum, checksum_of, seal
from refmiracle.fileformat.update import parse_update
from refmiracle.nn.evaluation import forward
from refmiracle.nn.layers import Dense, Flatten
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network
from refmiracle.nn.networks import NETWORKS
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

BASE = (SOURCES.parents[2] / "data" / "models" / "lenet5-1551.rmc").read_bytes()
SANITIZERS = c_program.variable("SANITIZERS")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The program with sanitizers, or without where the compiler has none."""
    return c_program.build(tmp_path_factory.mktemp("c"), extra=SANITIZERS)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """The program that uses static arrays alone."""
    folder = tmp_path_factory.mktemp("device")
    return c_program.build(folder, "DEVICE_SOURCES", "refmiracle_device", SANITIZERS)


def ask(program, chains):
    """Return the answers of decode_chain."""
    lines = []
    for files in chains:
        data = np.frombuffer(b"".join(files), np.uint8)
        inputs = {"data": data, "sizes": np.array([len(f) for f in files], np.int64)}
        written = {name: encode_value(value) for name, value in inputs.items()}
        lines.append(json.dumps({"operation": "decode_chain", "inputs": written}))
    done = subprocess.run(
        [program], input="\n".join(lines).encode(), capture_output=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


def run(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def write(folder, files):
    """Write the files of a chain; return their paths."""
    paths = [folder / f"{number}.rmc" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return paths


@pytest.fixture
def images(tmp_path, few_images):
    """A file of a hundred images, and the images."""
    path = tmp_path / "images.u8"
    path.write_bytes(few_images.images[:100].tobytes())
    return path, few_images.images[:100]


def classes_of(files, images):
    """Return the classes that the package gives."""
    engine = get_engine("numpy")
    base = decode_chain(files, engine)
    return forward(base.layout.network, engine, base.weights(), engine.images(images)).argmax(0)


@pytest.mark.slow
def test_chains_of_all_codes_bit_for_bit(sanitized, rng):
    own = list(described_files()[:4])
    chains = [random_chain(rng, NETWORKS["lenet5"], code) for code in CODES]
    chains += [random_chain(rng, NETWORKS["lenet-300-100"], code) for code in ("mrc", "gprs-s")]
    chains += [[root, random_update(rng, root, root, "sp-pfr")] for root in own]
    for files, answer in zip(chains, ask(sanitized, chains), strict=True):
        digest = np.frombuffer(hashlib.sha256(weights_of(files)).digest(), np.uint8)
        assert answer["outputs"]["sha256"] == encode_value(digest)


def test_a_packet_of_51_bytes(program, device, tmp_path, rng, images):
    """The new network is the package's: all bits of its weights, and how it classifies."""
    path, pixels = images
    files = [BASE, packet(rng, BASE)]
    paths = write(tmp_path, files)
    out = tmp_path / "weights.f32"
    done = run(program, "decode", *paths, out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert out.read_bytes() == weights_of(files)
    want = classes_of(files, pixels)
    assert (want != classes_of(files[:1], pixels)).any()
    for done in (run(program, "classify", *paths, path), run(device, *paths, path)):
        assert done.stderr == ""
        assert [int(line) for line in done.stdout.splitlines()] == want.tolist()


@pytest.mark.skipif(shutil.which("sh") is None or os.name == "nt", reason="no ulimit")
def test_a_long_chain_takes_the_memory_of_its_files(program, tmp_path, rng):
    """Two hundred files in 64 MiB: not the most that each might have."""
    files = [described_files()[0]]
    for _ in range(200):
        files.append(random_update(rng, files[0], files[-1]))
    out = tmp_path / "weights.f32"
    limited = 'ulimit -v 65536 && exec "$0" "$@"'
    done = run("sh", "-c", limited, program, "decode", *write(tmp_path, files), out)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_bytes() == weights_of(files)


def test_scales_of_another_shape_are_told(sanitized):
    """By name: `printf` may take no null for one."""
    given = {
        "seed": np.array(1),
        "indices": np.array([3]),
        "dimension": np.array(2),
        "rho": np.full((1, 3), 0x3C00),
    }
    written = {name: encode_value(value) for name, value in given.items()}
    line = json.dumps({"operation": "decode_blocks", "inputs": written})
    done = subprocess.run([sanitized], input=line, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["error"] == "rho and the codebook's rows differ in shape"


@pytest.mark.slow
def test_a_device_of_less_memory_decodes_the_same(device, tmp_path, rng, images):
    """With 137 keys at a time instead of 512 the order of the variables is the same."""
    names = [*write(tmp_path, [BASE, packet(rng, BASE)]), images[0]]
    small = c_program.build(tmp_path, "DEVICE_SOURCES", "small", ["-DKEYS=137"])
    assert run(small, *names).stdout == run(device, *names).stdout != ""


def test_the_device_allocates_nothing(device):
    if shutil.which("nm") is None:
        pytest.skip("there is no nm")
    plain = c_program.build(device.parent, "DEVICE_SOURCES", "plain")
    symbols = subprocess.run(["nm", plain], capture_output=True, text=True, check=True).stdout
    assert "device_update" in symbols
    assert not any(name in symbols for name in ("malloc", "calloc", "realloc"))


def test_a_refused_packet_changes_nothing(device, tmp_path, rng, images):
    path, _ = images
    good = packet(rng, BASE)
    paths = write(tmp_path, [BASE, good[:-1] + bytes([good[-1] ^ 1])])
    done = run(device, *paths, path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "1.rmc: the checksum does not fit" in done.stderr


def named(checksum):
    return f"the file with the checksum {checksum:08x}"


def test_wrong_chains_are_one_line_that_says_which_file_is_wanted(program, tmp_path, rng, images):
    one, two = (random_update(rng, BASE, BASE) for _ in range(2))
    three = random_update(rng, BASE, one)
    changed = bytearray(BASE)
    changed[100] ^= 4
    cases = [
        ([one], f"0.rmc: it is an update of {named(checksum_of(BASE))}, which must come before"),
        ([one, BASE], f"0.rmc: it is an update of {named(checksum_of(BASE))}"),
        ([BASE, three], f"1.rmc: it is an update of {named(checksum_of(one))}; "),
        ([BASE, one, two], f"2.rmc: it is an update of {named(checksum_of(BASE))}; "),
        ([BASE, three, one], f"1.rmc: it is an update of {named(checksum_of(one))}; "),
        ([seal(bytes(changed[:-4])), one], f"1.rmc: it is an update of {named(checksum_of(BASE))}"),
        ([bytes(changed), one], "0.rmc: the checksum does not fit"),
        ([BASE, BASE], "1.rmc: it is a model, no update"),
        ([BASE, one[:30]], "1.rmc: the checksum does not fit"),
    ]
    assert base_checksum(three) == checksum_of(one)
    out = tmp_path / "weights.f32"
    for files, message in cases:
        paths = write(tmp_path, files)
        for done in (
            run(program, "decode", *paths, out),
            run(program, "classify", *paths, images[0]),
        ):
            assert done.returncode == 2
            assert done.stdout == ""
            assert done.stderr.count("\n") == 1
            assert message in done.stderr
        assert not out.exists()


def test_images_that_do_not_fit_are_refused(program, device, tmp_path):
    (path,) = write(tmp_path, [BASE])
    images = tmp_path / "images.u8"
    for size in (0, 783, 785):
        images.write_bytes(bytes(size))
        for done in (run(program, "classify", path, images), run(device, path, images)):
            assert done.returncode == 2
            assert "784" in done.stderr


def test_a_logit_that_is_not_finite_is_no_class(program, tmp_path):
    network = Network("deep", DESCRIBED, (1, 8, 8), 4, (Flatten(), *(Dense(4) for _ in range(70))))
    layout = BlockLayout(network, network.factors(), Grouping.OUTPUTS, Signs.UNIT, 4, 0)
    rho = np.full(len(layout.factors), 65504, np.float16)
    messages = np.arange(layout.blocks())[:, None]
    (path,) = write(tmp_path, [CompressedModel(layout, 12, rho, messages).to_bytes()])
    images = tmp_path / "images.u8"
    images.write_bytes(bytes(range(64)))
    done = run(program, "classify", path, images)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a logit is not finite, so an image has no class" in done.stderr


def test_what_cannot_be_written_is_removed_only_where_it_is_new(program, tmp_path):
    (path,) = write(tmp_path, [BASE])
    full = tmp_path / "full"
    try:
        os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))  # as /dev/full is
        full.write_bytes(b"")
    except (AttributeError, OSError):
        pytest.skip("no device can be made or opened here")
    done = run(program, "decode", path, full)
    assert done.returncode == 2
    assert "it cannot be written" in done.stderr
    assert full.is_char_device()


@pytest.mark.parametrize("most", [0, 4096])
def test_where_nothing_or_not_all_can_be_written_no_file_is_left(program, tmp_path, most):
    resource = pytest.importorskip("resource")
    (path,) = write(tmp_path, [BASE])

    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    out = tmp_path / "weights.f32"
    command = [program, "decode", path, out]
    done = subprocess.run(command, preexec_fn=full, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "it cannot be written" in done.stderr
    assert not out.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_written_to_once_somebody_reads(program, tmp_path):
    """The program waits for the reader, whenever that comes."""
    (path,) = write(tmp_path, [BASE])
    pipe, file = tmp_path / "pipe", tmp_path / "weights.f32"
    os.mkfifo(pipe)
    assert run(program, "decode", path, file).returncode == 0
    with subprocess.Popen([program, "decode", path, pipe]) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert process.returncode is None
        assert pipe.read_bytes() == file.read_bytes()
    assert process.returncode == 0


def test_refuses_the_same_updates(sanitized, rng):
    root = random_chain(rng, NETWORKS["lenet5"], "mrc", 1)[0]
    layout = parse_model(root).layout
    chains = [[root, update] for update in changed_updates(rng, root, 300)]
    accepted = 0
    for files, answer in zip(chains, ask(sanitized, chains), strict=True):
        try:
            parse_update(files[1], layout, checksum_of(root))
        except InputError:
            assert set(answer) == {"error"}, files[1].hex()
        else:
            assert set(answer) == {"outputs"}, files[1].hex()
            accepted += 1
    assert 30 < accepted < 270


def test_sizes_that_do_not_fit_are_refused(program, rng):
    root = random_chain(rng, NETWORKS["lenet5"], "mrc", 1)[0]
    data = np.frombuffer(root, np.uint8)
    for sizes in ([], [len(root) - 1], [len(root), 1], [-1, len(root) + 1], [2**62], [0]):
        inputs = {"data": encode_value(data), "sizes": encode_value(np.array(sizes, np.int64))}
        line = json.dumps({"operation": "decode_chain", "inputs": inputs}).encode()
        done = subprocess.run([program], input=line, capture_output=True, check=True)
        assert set(json.loads(done.stdout)) == {"error"}
