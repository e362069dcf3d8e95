"""A parameterization is asked what it is and does, never what it is called.

Its name stands in its own module and in the table alone, and so do its settings; `asked_names` says
what is a question.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import asked_names
import pytest
from asked_names import ROOT, TEMPLATES

from refmiracle.posterior import parameterizations
from refmiracle.posterior.parameterization import Parameterization
from refmiracle.posterior.parameterizations import PARAMETERIZATIONS, own_settings

OWN = {sys.modules[kind.__module__] for kind in PARAMETERIZATIONS.values()} | {parameterizations}
KNOW = {Path(module.__file__) for module in OWN}
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path not in KNOW]
NAMES = {said for kind in PARAMETERIZATIONS.values() for said in (kind.name, kind.title)}


def is_one(value):
    """Whether it is the name of a parameterization, or one."""
    if isinstance(value, str):
        return value in NAMES
    return isinstance(value, type) and issubclass(value, Parameterization)


WORDS = {
    word
    for module in OWN
    for word, value in vars(module).items()
    if is_one(value) and value is not Parameterization
}


def questions(source):
    """The questions for names of parameterizations in a source, as they stand there."""
    return asked_names.questions(source, NAMES, WORDS)


@pytest.mark.parametrize(
    "source",
    [
        'settings.parameterization == "mean-kl"',
        "MEAN_KL != name",
        "NAMES = {'mean-kl': 'Mean-KL'}",
        "some['mean-var']",
        "TUNED.get(MeanVar)",
        "for shift, name in ((-0.2, 'mean-kl'), (0.2, 'mean-var')): pass",
        "isinstance(posterior, MeanVar)",
        "posterior is mean_var.MeanVar",
        "title == 'Mean-Var'",
    ],
)
def test_every_way_to_ask_is_found(source):
    assert questions(source)


@pytest.mark.parametrize(
    "source",
    [
        "class Config:\n    parameterization: str = MEAN_KL",
        "given.get('parameterization', MEAN_KL)",
        "KL, VAR = COMPARED",
        "kind.late_scales",
        "isinstance(kind, Parameterization)",
    ],
)
def test_defaults_are_no_question(source):
    assert not questions(source)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_asks_for_the_name_of_a_parameterization(path):
    assert not questions(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_knows_the_settings_of_one(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(tree)}
    said |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword | ast.arg)}
    said |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not own_settings().keys() & said


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_names_a_parameterization(path):
    """Nor in its sentences: a page may say of any run what its own is called, and no other."""
    text = path.read_text(encoding="utf-8")
    assert not [name for name in NAMES if name in text]


def test_all_modules_are_looked_at():
    """A list of modules that is empty would pass every test above."""
    tops = {path.relative_to(ROOT).parts[0] for path in MODULES}
    assert tops >= {"posterior", "training", "studies", "reports", "commands", "bench", "run.py"}
    assert {"MEAN_KL", "MeanKL", "MeanVar"} <= WORDS
    assert {path.name for path in KNOW} >= {"mean_kl.py", "mean_var.py", "parameterizations.py"}
    assert TEMPLATES
