"""What is said of blocks and files before a run is trained."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from refmiracle.codes.table import CODES
from refmiracle.training.choosing import choose_settings
from refmiracle.training.sizes import foretold


@pytest.mark.parametrize("code", CODES)
def test_blocks_are_no_larger_than_a_code_can_search_unless_they_are_given(code):
    """Of those that may be too large one line says so before anything is trained."""
    given = {"code": code, "bits_per_block": 8}
    settings = choose_settings(given, "", None)
    most = 17 if math.isfinite(CODES[code].largest_kl_bits) else 44
    assert settings.block_size == most
    assert list(foretold(settings)) == []
    assert choose_settings({**given, "block_size": 30}, "", None).block_size == 30
    said = list(foretold(replace(settings, block_size=30)))
    assert len(said) == (most < 30)
    if said:
        assert said[0].startswith("warning: blocks of 30 variables may be too large for code ")
        assert said[0].endswith("; up to block_size 17 it sends them")
