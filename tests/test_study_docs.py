"""docs/STUDY.md says what the files in docs/study say, which the commands wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refmiracle.commands.study import STUDIES
from refmiracle.studies.comparison import COMPARISONS
from refmiracle.studies.results import Claim, Interval, claims_table
from refmiracle.training.settings import settings_from_dict

DOCS = Path(__file__).resolve().parent.parent / "docs"
TEXT = (DOCS / "STUDY.md").read_text(encoding="utf-8")


@pytest.fixture(params=STUDIES)
def results(request):
    return json.loads((DOCS / "study" / request.param / "results.json").read_text("utf-8"))


def test_every_file_is_there(results):
    for name in results["files"]:
        assert (DOCS / "study" / results["study"] / name).stat().st_size > 0


def test_the_tables_of_claims_are_those_of_the_results(results):
    claims = [Claim(**{**c, "interval": Interval(**c["interval"])}) for c in results["claims"]]
    assert claims_table(claims) in TEXT
    assert len(claims) >= 4


def test_they_come_from_the_long_comparison(results):
    settings = json.loads(json.dumps(COMPARISONS["paper"].to_dict()))
    found = {name: results["settings"][name] for name in settings}
    # They were written before settings named a network.
    found["base"] = settings_from_dict(found["base"]).to_dict()
    assert found == settings
    assert len(settings["seeds"]) >= 5
    assert results["failures"] == {}
