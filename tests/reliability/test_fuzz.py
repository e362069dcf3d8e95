"""Some thousand files of tools/fuzz, and what hypothesis makes of valid ones: RELIABILITY.md, 3.

tests/fileformat/test_container.py has each fault by itself; here the decoders meet them by chance.
"""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path

import fuzz
import fuzz_updates
import pytest
from fuzz_decoders import package, plain_python, program
from fuzz_files import Files, seal, seed_files
from hypothesis import given, settings
from hypothesis import strategies as st

from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.update import parse_update

SOURCES = Path(__file__).parents[2] / "tools" / "backends" / "c"
SEEDS = list(seed_files().values())


@pytest.mark.parametrize("count", [800, pytest.param(8000, marks=pytest.mark.slow)])
def test_thousands_of_files(count):
    fuzzer = fuzz.Fuzzer(3, [package("numba"), package("numpy", 1000), plain_python()], 40)
    fuzzer.run(range(count))
    print(fuzz.report(fuzzer.tally))
    assert fuzzer.tally.faults == []
    assert [kind for kind in fuzzer.tally.kinds if kind not in fuzz.REFUSALS] == ["valid"]
    missing = fuzz.REFUSALS.keys() - fuzzer.tally.kinds.keys()
    assert len(missing) <= (0 if count == 8000 else 3), missing
    assert count / 20 < fuzzer.tally.kinds["valid"] < count / 4
    # Arrays for all 431,080 weights, once or twice, but not hundreds of megabytes.
    assert max(fuzzer.tally.traced.values()) < 64 << 20


def test_a_file_is_known_by_its_number():
    assert Files(5).file(77) == Files(5).file(77)
    assert len({Files(seed).file(77) for seed in range(5)}) == 5


def test_a_fault_is_found(capsys):
    """A decoder that forgets the last check, and one that crashes, do not pass."""

    def forgets(files):
        answers = package("numba").read(files)
        return [None if answer and "not the code word" in answer else answer for answer in answers]

    def crashes(files):
        answers = zip(files, package("numba").read(files), strict=True)
        return [fuzz.Fault("IndexError: 7") if len(f) == 60 else a for f, a in answers]

    for read in (forgets, crashes):
        wrong = fuzz.Decoder("wrong", read, package("numba").weights, batch=100)
        fuzzer = fuzz.Fuzzer(1, [package("numba"), wrong], 10_000)
        fuzzer.run(range(300))
        assert 1 <= len(fuzzer.tally.faults) <= 20
    assert "FAULT" in capsys.readouterr().out


@pytest.fixture(scope="module")
def updates():
    """Updates by their number."""
    return fuzz_updates.Updates(4)


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_thousands_of_updates(updates, count):
    kinds, faults = fuzz_updates.run(updates, range(count))
    assert faults == []
    known = {"valid", *fuzz_updates.REFUSALS}
    missing = known - kinds.keys()
    assert kinds.keys() <= known
    assert len(missing) <= (0 if count == 5000 else 3), missing
    assert 0.15 * count < kinds["valid"] < 0.35 * count


def test_an_update_is_known_by_its_number(updates):
    assert updates.update(77).inputs() == updates.update(77).inputs()
    assert updates.update(77).data != updates.update(78).data


def test_a_fault_in_a_reader_of_updates_is_found(updates):
    """A reader that takes the update of any base, one that crashes, and one that decodes all."""

    def forgets(data, layout, base):
        return parse_update(data, layout, int.from_bytes(data[4:8], "little"))

    def crashes(data, layout, base):
        return parse_update(data, layout, base) if len(data) < 60 else data[1000]

    for parse in (forgets, crashes):
        _, faults = fuzz_updates.run(updates, range(200), parse=parse)
        assert 1 <= len(faults) <= 200
    _, faults = fuzz_updates.run(updates, range(20), [lambda posed: ["0" * 64] * len(posed)])
    assert len(faults) == 20


@settings(max_examples=3000)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 3), st.binary(max_size=6))),
)
def test_any_change_is_refused_or_is_another_valid_file(data, changes):
    body = data[:-4]
    for place, length, new in changes:
        at = place % (len(body) + 1)
        body = body[:at] + new + body[at + length :]
    new = seal(body)
    assert zlib.crc32(new) == 0x2144DF1C  # of anything with its CRC-32 behind it
    try:
        model = parse_model(new)
    except InputError as e:
        assert "\n" not in str(e)
    else:
        assert model.to_bytes() == new


@pytest.mark.slow
@pytest.mark.minutes
def test_twenty_thousand_files_of_the_c_program(tmp_path):
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    folder = shutil.copytree(SOURCES, tmp_path / "c")
    programs = []
    for target in ("refmiracle_c", "sanitized"):
        subprocess.run(["make", "-B", "-C", folder, target], check=True, capture_output=True)
        programs.append(shutil.copy(folder / "refmiracle_c", tmp_path / target))
    decoders = [
        package("numba"),
        program("C", programs[0]),
        program("sanitized", programs[1], False),
    ]
    fuzzer = fuzz.Fuzzer(2, decoders, 100)
    for first in range(0, 20_000, 1000):
        fuzzer.run(range(first, first + 1000))
    print(fuzz.report(fuzzer.tally))
    assert fuzzer.tally.faults == []
