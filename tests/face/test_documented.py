"""Each public name says what it is: numpydoc sections, and examples that are run here."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import refmiracle
from refmiracle import layers
from refmiracle.budgets import Budget
from refmiracle.conformance.check import BackendCheck
from refmiracle.meankl import MeanKLGaussian

LIBRARIES = {"to_safetensors": "safetensors", "to_onnx": "onnx", "to_torch": "torch"}


def methods(kind):
    """Its public functions, those of its base classes of ours included."""
    found = inspect.getmembers(kind, inspect.isfunction)
    ours = {name for base in kind.__mro__[:-1] for name in vars(base)}
    return {name: f for name, f in found if not name.startswith("_") and name in ours}


def documented():
    """All that has to say what it is, by its name."""
    for name in refmiracle.__all__:
        found = getattr(refmiracle, name)
        yield name, found
        if isinstance(found, ModuleType):
            for inner in found.__all__:
                yield f"{name}.{inner}", getattr(found, inner)
    for kind in (refmiracle.Model, refmiracle.Run, MeanKLGaussian, Budget, BackendCheck):
        yield kind.__name__, kind
        yield from ((f"{kind.__name__}.{inner}", f) for inner, f in methods(kind).items())


DOCUMENTED = dict(documented())
CALLED = {name: f for name, f in DOCUMENTED.items() if inspect.isfunction(f)}
# What is handed to the parts of the package, which its users need not call.
INNER = {"Model.exported"}


@pytest.mark.parametrize("name", sorted(DOCUMENTED.keys() - INNER))
def test_examples_run(name, tmp_path, monkeypatch):
    found = DOCUMENTED[name]
    library = LIBRARIES.get(name.rpartition(".")[2])
    if library:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    if not (isinstance(found, ModuleType) or callable(found)):
        return
    home = found if isinstance(found, ModuleType) else importlib.import_module(found.__module__)
    tests = doctest.DocTestFinder(recurse=False).find(found, name, home, {})
    assert sum(len(test.examples) for test in tests), f"{name} has no example"
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("name", sorted(CALLED.keys() - INNER))
def test_arguments_results_and_errors_are_said(name):
    text, signature = inspect.getdoc(CALLED[name]), inspect.signature(CALLED[name])
    for argument in signature.parameters:
        entry = rf"^(\**\w+, )*\**{argument}(, \**\w+)*( : |$)"
        said = argument == "self" or re.search(entry, text, re.M)
        assert said, f"{name} does not say what {argument} is"
    if signature.parameters.keys() - {"self"}:
        assert "Parameters\n----------" in text
        assert "Raises\n------" in text
    assert signature.return_annotation in ("None", "float") or "Return" in text


@pytest.mark.parametrize("kind", [refmiracle.Model, refmiracle.Run, BackendCheck])
def test_properties_are_said(kind):
    for name, found in inspect.getmembers(kind, lambda f: isinstance(f, property)):
        assert name.startswith("_") or inspect.getdoc(found)


def test_layers_are_all_that_files_can_describe():
    from refmiracle.nn.description import KINDS  # noqa: PLC0415

    opcodes = {getattr(layers, name).opcode for name in layers.__all__}
    assert opcodes == set(KINDS)


USER = """
import numpy as np
import refmiracle
from refmiracle.layers import Dense, Flatten, Relu

model: refmiracle.Model = refmiracle.load("lenet5-891", engine="numpy")
images = np.zeros((3, 28, 28), np.uint8)
wrong = images[model.predict(images) != np.arange(3)]
share: float = model.error(images, [1, 2, 3])
total = sum(array.nbytes for array in model.weights.values())
run = refmiracle.fit(
    images, [0, 1, 2], network=[Flatten(), Dense(8), Relu(), Dense(3)], steps=10, rate=0.01
)
error: float = run.curves["validation_error"][-1]
try:
    run.resume(progress=False).model.to_npz("weights.npz")
    shares = refmiracle.budget([0.0, 1.0], bits=3)
    q = refmiracle.mean_kl([0.1, 0.2], reach=shares.reach)
    steps = shares.vjp(dreach=q.vjp(dw=q.sample([0.0, 1.0]), eps=[0.0, 1.0]).reach) * 0.1
    message = refmiracle.codes.encode(q, (0.0, 1.0), seed=1, code="pfr", engine="numpy")
    sample = refmiracle.codes.decode(message, (0.0, 1.0), seed=1) + steps
    failed: int = len(refmiracle.check_backend("mine:BACKEND").failures)
    print(sample.sum() + failed)
except (refmiracle.InputError, refmiracle.CheckError) as e:
    print(wrong.shape, share, total, error, e)
"""


@pytest.mark.slow
def test_users_are_typed(tmp_path):
    """By mypy --strict, which sees a setting that there is not."""
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(USER.replace("steps=10", "stepz=10"))
    options = ["--strict", "--no-incremental", "--follow-imports=silent"]  # of the user's own files
    command = [sys.executable, "-m", "mypy", *options, "user.py", "wrong.py"]
    # An editable installation is found by a hook, which mypy does not run.
    found = {**os.environ, "MYPYPATH": str(Path(refmiracle.__file__).parents[1])}
    done = subprocess.run(
        command, cwd=tmp_path, env=found, capture_output=True, text=True, check=False
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert errors[0].startswith("wrong.py:")
    assert "stepz" in errors[0]
