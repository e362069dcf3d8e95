"""A code is asked what it is and does, never what it is called: that only `codes` knows.

The two modules of engines that know it too are given the names of codes of variables by the
contract; tests/engines/test_variable_codes.py holds their maps to the table of codes.

`asked_names` says what is a question.
"""

from __future__ import annotations

import asked_names
import pytest
from asked_names import ROOT, TEMPLATES, quoted_in

from refmiracle.codes import block_codes, code, table, variable_codes
from refmiracle.codes.table import CODES
from refmiracle.engines import ENGINES

KNOW = {ROOT / "engines" / f"{engine}_engine" / "variables.py" for engine in ENGINES}
KNOW |= set((ROOT / "codes").rglob("*.py"))
MODULES = sorted(set(ROOT.rglob("*.py")) - KNOW)


def is_a_code(value):
    """Whether it is a code's name, or a kind of code: to ask for that is the same question."""
    return value in CODES if isinstance(value, str) else isinstance(value, type(code.Code))


WORDS = {
    word
    for module in (block_codes, variable_codes, table)
    for word, value in vars(module).items()
    if is_a_code(value) and value is not code.Code
}


def questions(source):
    """The questions for the names of codes in a source, as they stand there."""
    return asked_names.questions(source, CODES, WORDS)


@pytest.mark.parametrize(
    "source",
    [
        'settings.code == "mrc"',
        "MRC != code",
        "code in (Other, 'sp-pfr')",
        "codes.MRC is code",
        "FEW = 'grc', 'grc-s'",
        "{MRC: 1}.get(code)",
        "sizes[MRC]",
        "sizes.get('orc')",
        "MINE = 'orc'",
        "match code:\n    case 'orc':\n        pass",
        "isinstance(code, SpacePartitioning)",
        "isinstance(code, block_codes.CodeOfRows)",
    ],
)
def test_every_way_to_ask_is_found(source):
    assert questions(source)


@pytest.mark.parametrize(
    "source",
    [
        "class Config:\n    code: str = MRC",
        "def encode(code: str = 'gprs-d'): pass",
        "given.get('code', MRC)",
        "LATER = {'code': MRC}",
        "replace(settings, code=MRC)",
        "isinstance(code, Code)",
        "code.of == VARIABLE",
        "'codes' == study",
    ],
)
def test_defaults_are_no_question(source):
    assert not questions(source)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_asks_for_the_name_of_a_code(path):
    assert not questions(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_asks_for_the_name_of_a_code(path):
    assert not CODES.keys() & quoted_in(path)


def test_all_modules_are_looked_at():
    """A list of modules that is empty would pass every test above."""
    tops = {path.relative_to(ROOT).parts[0] for path in MODULES}
    assert tops >= {
        "fileformat",
        "training",
        "engines",
        "studies",
        "reports",
        "conformance",
        "figures.py",
    }
    assert {"MRC", "MinimalRandomCoding", "CodeOfVariables"} <= WORDS
    assert TEMPLATES
