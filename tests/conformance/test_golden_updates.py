"""Chains of `decode_chain`: the document's own, and what is wrong with those to be refused."""

from __future__ import annotations

import itertools

import pytest
import spec_decoder
import spec_updates
from conformance.test_golden_sources import MESSAGES_OF_CODES, cases_of

from refmiracle.codes.table import CODES_BY_NUMBER
from refmiracle.conformance.arguments import as_files
from refmiracle.conformance.vectors import default_golden, load_file
from refmiracle.errors import InputError

CASES = load_file(default_golden() / "files" / "decode_chain.json").cases
RIGHT = [case for case in CASES if case.fault is None]
LENGTHS = {"no file", "the lengths are not those of the files"}
MESSAGES = {
    **MESSAGES_OF_CODES,
    "unknown version": "unknown version|not the version of an update",
    "an update of another file": "an update of another file",
    "the header is cut off": "the header is cut off",
    "no tensor is coded": "no tensor is coded",
}


def files_of(case):
    """The files of a case."""
    return as_files(case.inputs["data"], case.inputs["sizes"])


@cases_of("decode_chain", faulty=True)
def test_chains_have_the_fault_that_they_name(case):
    if case.fault in LENGTHS:
        with pytest.raises(InputError, match="do not cut"):
            files_of(case)
        return
    with pytest.raises(spec_decoder.InvalidFileError, match=MESSAGES[case.fault]):
        spec_updates.decode_chain(files_of(case))


def test_every_rule_of_updates_has_a_chain():
    faults = {case.fault for case in CASES if case.fault}
    only_of_models = {
        *("unknown network", "unknown layout flags", "hash factor out of range"),
        *("unknown random code", "scale not positive and normal", "too many integers"),
    }
    assert faults == set(MESSAGES) - only_of_models | LENGTHS


def test_each_file_of_a_chain_names_the_one_before():
    for case in RIGHT:
        for base, update in itertools.pairwise(files_of(case)):
            assert update[:3] == b"RMC"
            assert update[4:8] == base[-4:]


def test_every_code_and_network_and_level_quarter_has_an_update():
    chains = [files_of(case) for case in RIGHT]
    assert {data[3] - 0x20 for files in chains for data in files[1:]} == set(CODES_BY_NUMBER)
    assert {files[0][4] for files in chains} == {0, 1, 2}
    assert {len(files) for files in chains} >= {1, 2, 3, 6}
