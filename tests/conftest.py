"""What pytest gives to every test: the engines, random numbers, a tiny run, a few images."""

from __future__ import annotations

import contextlib
import functools
import importlib
import signal
from dataclasses import replace

import numpy as np
import pytest
from compile_engine import compile_at_two_ends
from hypothesis import HealthCheck, settings
from passed import leave_out_passed, path_of_passed, write_passed
from tiny import TINY

from refmiracle.commands import train
from refmiracle.engines import get_engine
from refmiracle.training.data import Split, default_folder, load_split
from refmiracle.training.formats import idx_folders
from refmiracle.training.settings import PRESETS

# A shell starts what runs behind it with Ctrl-C ignored; the tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run, and no deadline: the first example may compile.
settings.register_profile(
    "refmiracle",
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("refmiracle")
# Hypothesis also draws the constants of all modules of ours that happen to be loaded: examples
# would depend on which tests a worker has run before.
with contextlib.suppress(ImportError):  # older versions draw none
    providers = importlib.import_module("hypothesis.internal.conjecture.providers")
    if hasattr(providers, "is_local_module_file"):
        providers.is_local_module_file = lambda path: False


# The modules that take longest, in this order: begun last, one of them would keep one worker busy
# while the others have nothing left to do.
LONGEST = (
    *("jax_backend", "torch_backend", "golden_sources", "faults", "many_threads", "study"),
    *("hostile_files", "container", "fuzz", "spec_decoder", "every_death", "classifier"),
    *("c_backend", "train", "minimal_random_coding", "array_kinds", "documented", "all_layers"),
    "pruning",
)


def pytest_configure(config):
    """Compile before pytest-xdist starts its workers, and keep the order of the modules.

    Where tests have passed before, all has been compiled.
    """
    config.option.loadscopereorder = False
    write_passed(config)
    before = path_of_passed()
    compiled = before is not None and before.exists()
    if config.getoption("tx", None) and not hasattr(config, "workerinput") and not compiled:
        compile_at_two_ends()


def pytest_collection_modifyitems(config, items):
    """Put the longest modules first."""
    leave_out_passed(config, items)
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session", autouse=True)
def unpacked_once():
    """MNIST, which cannot be written to, is unpacked once, not for each of some hundred runs."""
    read, own = idx_folders.read_idx, default_folder()
    kept = functools.cache(read)

    def read_once(path, kind):
        return (kept if path.parent == own else read)(path, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx_folders, "read_idx", read_once)
        yield


@pytest.fixture(scope="module")
def small_mnist():
    """MNIST is its first images alone, for modules that look at how runs go, not how good they are.

    The test of ten thousand images would take most of the time of a tiny run.
    """
    read, own = idx_folders.read_idx, default_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            idx_folders,
            "read_idx",
            lambda path, kind: read(path, kind)[: 2000 if path.parent == own else None],
        )
        yield


@pytest.fixture(params=["numpy", "numba"])
def engine(request):
    return get_engine(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of a finished tiny run; not to be written to."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))
        assert train.main(["--preset", "smoke", "--out", str(out)]) == 0
    return out


@pytest.fixture
def few(monkeypatch, few_images):
    """The smoke preset, made tiny, with a thousand variables and few images to measure on."""
    settings = replace(
        TINY, preset="smoke", hash_factors=(5, 5, 100, 5, 800, 5, 50, 1), validation=100
    )
    monkeypatch.setitem(PRESETS, "smoke", settings)
    load = train.load_split
    monkeypatch.setattr(
        train,
        "load_split",
        lambda folder, name: few_images if name == "t10k" else load(folder, name),
    )


@pytest.fixture(scope="session")
def dense_run(tmp_path_factory):
    """The folder of a finished tiny run of LeNet-300-100; not to be written to."""
    out = tmp_path_factory.mktemp("dense") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))
        flags = ["--preset", "smoke", "--network", "lenet-300-100"]
        assert train.main([*flags, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def few_images():
    """Some test images: all of them would take a tiny run's page half a minute."""
    test = load_split(default_folder(), "t10k")
    return Split(test.images[:300], test.labels[:300])


def write_idx(folder, name, split):
    """Write the training or the test images as IDX files."""
    for kind, array in (("images-idx3", split.images), ("labels-idx1", split.labels)):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())


@pytest.fixture(scope="session")
def few_images_folder(tmp_path_factory, few_images):
    """The same as IDX files."""
    folder = tmp_path_factory.mktemp("few")
    write_idx(folder, "t10k", few_images)
    return folder


@pytest.fixture(scope="session")
def small_mnist_folder(tmp_path_factory, few_images):
    """Some images to train with, and some to test with, for processes that read a folder each."""
    folder = tmp_path_factory.mktemp("small")
    train = load_split(default_folder(), "train")
    write_idx(folder, "train", Split(train.images[:2000], train.labels[:2000]))
    write_idx(folder, "t10k", few_images)
    return folder
