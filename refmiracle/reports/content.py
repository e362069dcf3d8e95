"""What the page says of a run and its network, measured."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from refmiracle.codes.table import find_code
from refmiracle.errors import InputError
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.fileformat.payload import payload_of
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.files import flag
from refmiracle.nn.contract import WEIGHT
from refmiracle.nn.evaluation import classes
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5, network_text
from refmiracle.numerics.philox import Stream
from refmiracle.studies.comparison import FinishedRun, scales_of
from refmiracle.training.choosing import choose_settings
from refmiracle.training.data import Split
from refmiracle.training.settings import PRESETS, Settings, preset_settings

Array = NDArray[np.float64]

SAMPLES = 20
# Rows of noise that neither training nor validation reaches.
FIRST_SAMPLE_ROW = 2**32 - SAMPLES
MOST_MISTAKES = 100
MOST_UNITS = 60
MOST_CLASSES = 10  # whose probabilities are shown
FRACTIONS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
# The settings that `refmiracle train` has flags for.
FLAGS = (
    *("network", "parameterization", "code", "bits_per_block", "block_size", "seed", "steps"),
    *("groups", "group_steps", "validation", "shift", "flip", "hash_factors", "selection"),
    *("engine", "tensors", "batch_size", "antithetic", "rate", "variance_rate"),
    *("late_scale_rate", "encoding_rate", "final_rate"),
)


def train_command(settings: Settings, name: str, data: str = "") -> tuple[str, list[str]]:
    """Return the command that trains a run again, and the settings that no flag gives.

    Parameters
    ----------
    settings : Settings
    name : str
        Of the folder to write to.
    data : str, optional
        The options that name the images, each behind a space.
    """
    preset = settings.preset if settings.preset in PRESETS else "default"
    # As the command takes it: no more groups than blocks, no larger blocks than there are.
    names = ("parameterization", "code", "network", *(("base",) if settings.base else ()))
    chosen = {n: getattr(settings, n) for n in names}
    try:
        base = choose_settings({"preset": preset, **chosen}, settings.data, None)
    except InputError:  # the preset's own bits do not go with these; the size of blocks is said
        base = replace(preset_settings(preset, **chosen), block_size=0)
    given = {n: getattr(settings, n) for n in FLAGS if getattr(settings, n) != getattr(base, n)}
    usual = {n: getattr(Settings, n) for n in ("parameterization", "code")}
    given |= {n: getattr(settings, n) for n in usual if getattr(settings, n) != usual[n]}
    if settings.network != LENET5 and not settings.base:
        given["network"] = settings.network
    with suppress(InputError):  # other blocks may ask for other groups
        again = choose_settings({"preset": preset, **chosen, **given}, settings.data, None)
        unlike = [n for n in FLAGS if getattr(settings, n) != getattr(again, n)]
        given |= {n: getattr(settings, n) for n in unlike}
    words = ["python", "-m", "refmiracle.train", "--preset", preset]
    for name_of_base in base_names(settings):
        words += ["--base", name_of_base]
    for option, value in given.items():
        words += [f"--{option.replace('_', '-')}", _as_argument(value)]
    found, own = replace(base, **given).by_name(), settings.by_name()
    other = [f"{n} = {v}" for n, v in own.items() if n not in ("preset", "data") and v != found[n]]
    return f"{shlex.join(words)}{data}{flag('out', name)}", other


def base_names(settings: Settings) -> list[str]:
    """Return what the page calls the files that an update is relative to: by their checksums."""
    return [f"{checksum_of(data):08x}.rmc" for data in settings.base]


def _as_argument(value: Any) -> str:
    if isinstance(value, Network):
        return network_text(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def block_bits(run: FinishedRun) -> Array:
    """Return KL[Q || P] of each block at the end of training in bits, shape (blocks,)."""
    bits = np.zeros(run.places.tensor_of_place.size)
    bits[run.places.place_of_variable[run.coded]] = run.posterior.kl_bits()
    return bits.reshape(run.places.tensor_of_place.shape).sum(axis=1)


@dataclass(frozen=True)
class TensorBits:
    """How much of the information one tensor holds.

    Attributes
    ----------
    name : str
    weights, variables : int
    bits : float
        Sum of KL[Q || P] at the end of training.
    """

    name: str
    weights: int
    variables: int
    bits: float


def tensor_bits(run: FinishedRun) -> list[TensorBits]:
    """Return the information in each tensor that is coded."""
    bits = run.posterior.kl_bits()
    weights = {t.name: math.prod(t.shape) for t in run.settings.layout().network.tensors()}
    return [
        TensorBits(name, weights[name], part.stop - part.start, float(bits[part].sum()))
        for name, part in run.tensors().items()
    ]


@dataclass(frozen=True)
class Move:
    """How far an update moves one tensor of its base.

    Attributes
    ----------
    name : str
    variables : int
    level : int
        What the file says of its scale; 0: not coded.
    rho : float
        The scale of the change.
    of_root : float
        The same over the scale that the model at the root has.
    before, change : float
        Root mean square of the base's variables, and of what is added to them.
    without : float
        Test error, in [0, 1], if this tensor alone is left as the base has it.
    """

    name: str
    variables: int
    level: int
    rho: float
    of_root: float
    before: float
    change: float
    without: float

    @property
    def part(self) -> float:
        """Return the change over what was there."""
        return self.change / self.before if self.before else 0.0


def find_moves(run: FinishedRun, update: CompressedUpdate, test: Split, error: float) -> list[Move]:
    """Return how far each tensor moves, those that are not coded with no change.

    Parameters
    ----------
    run : FinishedRun
    update : CompressedUpdate
    test : Split
    error : float
        Of the update, in [0, 1].
    """
    assert run.base is not None
    found, first, rho = [], 0, scales_of(update, run.base)
    sizes, tensors = update.layout.sizes(), update.layout.network.tensors()
    for number, (tensor, size) in enumerate(zip(tensors, sizes, strict=True)):
        own = slice(first, first + size)
        without = error
        if update.levels[number]:
            left = run.decoded.copy()
            left[own] = run.known[own]
            without = _error(_probabilities(run, left, test), test)
        found.append(
            Move(
                name=tensor.name,
                variables=size,
                level=int(update.levels[number]),
                rho=float(rho[number]),
                of_root=float(rho[number] / run.base.rho[number]),
                before=_rms(run.known[own]),
                change=_rms(run.decoded[own] - run.known[own]),
                without=without,
            )
        )
        first += size
    return found


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def base_error(run: FinishedRun, test: Split) -> float:
    """Return the test error of an update's base, in [0, 1]."""
    return _error(_probabilities(run, run.known, test), test)


@dataclass(frozen=True)
class Predictions:
    """Of the test images, by the file and by samples of the posterior.

    Attributes
    ----------
    decoded : ndarray of float64, shape (classes, images)
        Probabilities that the decoded network gives.
    posterior : ndarray of float64, shape (classes, images)
        Mean of those of `SAMPLES` samples of the posterior at the end of training.
    error : float
        Of the decoded network, in [0, 1].
    posterior_error : float
        Of the mean, in [0, 1].
    """

    decoded: Array
    posterior: Array
    error: float
    posterior_error: float


def _probabilities(run: FinishedRun, variables: Array, test: Split) -> Array:
    logits = run.logits(variables, test.images).astype(np.float64)
    return np.asarray(softmax(logits, axis=0), dtype=np.float64)


def _error(probabilities: Array, test: Split) -> float:
    return float(np.mean(classes(probabilities) != test.labels))


def predict(run: FinishedRun, test: Split) -> Predictions:
    """Return what the file and the posterior predict."""
    decoded = _probabilities(run, run.decoded, test)
    mean = np.zeros_like(decoded)
    for variables in _samples(run):
        mean += _probabilities(run, variables, test) / SAMPLES
    return Predictions(decoded, mean, _error(decoded, test), _error(mean, test))


def _samples(run: FinishedRun) -> Iterator[Array]:
    """Yield all variables as samples of the posterior, shape (variables,) each."""
    engine, q = run.variable_pass.engine, run.posterior
    for row in range(FIRST_SAMPLE_ROW, FIRST_SAMPLE_ROW + SAMPLES):
        (eps,) = engine.normals(run.settings.seed, Stream.NOISE, [row], len(q.mu))
        yield run.variables(q.mu + q.sigma * eps)


def pruning_curve(run: FinishedRun, test: Split) -> list[tuple[float, float]]:
    """Return the test error, in [0, 1], for fractions of the decoded variables set to zero.

    The smallest abs(w) of the whole network go first.  Of an update it is what it adds that is
    set to zero.
    """
    order = np.argsort(np.abs(run.change), kind="stable")
    curve = []
    for fraction in FRACTIONS:
        kept = run.change.copy()
        kept[order[: round(fraction * len(order))]] = 0.0
        curve.append((fraction, _error(_probabilities(run, run.variables(kept), test), test)))
    return curve


@dataclass(frozen=True)
class Mistake:
    """A test image that the decoded network gets wrong.

    Attributes
    ----------
    number : int
        Of the image.
    pixels : ndarray of uint8, shape (height, width) or (channels, height, width)
    label, predicted : int
    decoded, posterior : ndarray of float64, shape (classes,)
        Probabilities by the file, and mean of those of the samples.
    """

    number: int
    pixels: NDArray[np.uint8]
    label: int
    predicted: int
    decoded: Array
    posterior: Array


def find_mistakes(predictions: Predictions, test: Split) -> tuple[int, list[Mistake]]:
    """Return how many images the file gets wrong, and those it is surest of, surest first."""
    predicted = classes(predictions.decoded)
    wrong = np.flatnonzero(predicted != test.labels)
    confidence = predictions.decoded[predicted[wrong], wrong]
    surest = wrong[np.argsort(-confidence, kind="stable")][:MOST_MISTAKES]
    return len(wrong), [
        Mistake(
            number=int(i),
            pixels=test.images[i],
            label=int(test.labels[i]),
            predicted=int(predicted[i]),
            decoded=predictions.decoded[:, i],
            posterior=predictions.posterior[:, i],
        )
        for i in surest
    ]


def likely_classes(mistake: Mistake) -> list[int]:
    """Return the classes of a mistake that are shown, by number.

    All of them, or those that the file finds likeliest, and the true one.
    """
    likeliest = np.argsort(-mistake.decoded, kind="stable")[:MOST_CLASSES].tolist()
    if mistake.label not in likeliest:
        likeliest[-1] = mistake.label
    return sorted(likeliest)


def first_layer(run: FinishedRun) -> tuple[Array, Array]:
    """Return what units of the first layer look for, before and after, as small pictures.

    Shape (units, channels, rows, columns): kernels of a convolution, or the weights of a dense
    layer laid out as the image, of units that do not share their variables.  A network that begins
    otherwise has none.

    Before: the means of the posterior, or as the base has them; after: as decoded.  Of variables
    that several weights share (hash factor above 1) each weight gets its own, with its sign.
    """
    network, factor = run.settings.layout().network, run.settings.hash_factors[0]
    tensor, image = network.tensors()[0], network.input
    count = math.prod(tensor.shape)
    place, sign = run.places.place_of_weight[:count], run.places.signs[:count]
    if len(tensor.shape) == 4:
        shape, channels, step = tensor.shape[:3], 2, 1
    elif tensor.role == WEIGHT and tensor.shape[:-1] == (math.prod(image),):
        shape, channels, step = image, 0, factor
    else:
        return np.zeros((0, 1, 1, 1)), np.zeros((0, 1, 1, 1))

    def units(variables: Array) -> Array:
        flat = np.zeros(run.places.size())
        flat[run.places.place_of_variable] = variables
        weights = (sign * flat[place]).reshape(*shape, tensor.shape[-1])
        return np.moveaxis(weights[..., ::step], (-1, channels), (0, 1))

    before = run.known if run.base else run.variables(run.posterior.mu)
    return units(before), units(run.decoded)


def settings_table(settings: Settings, trained: int) -> list[tuple[str, Any, str]]:
    """Return name, value and meaning of the settings that matter most, and the steps there were."""
    kept = "the images that choices are made on" if settings.validation else "none: trained on all"
    around: list[tuple[str, Any, str]] = []
    code = find_code(settings.code)
    if settings.base:
        files = " + ".join(map(str, map(len, settings.base)))
        around = [
            ("base", f"{checksum_of(settings.base[-1]):08x}", "the file that it is relative to"),
            ("bytes of the base", files, "a model, and the updates behind it"),
            ("may change", ", ".join(settings.tensors) or "all", "which tensors"),
        ]
    return [
        *around,
        ("preset", settings.preset, "which settings the run began from"),
        ("network", settings.network.name, "which layers"),
        ("parameterization", settings.parameterization, "how the posterior spends its bits"),
        ("code", code.name, code.source),
        ("bits per block", settings.bits_per_block, payload_of(code).bits_are),
        ("block size", settings.block_size, "coded variables in a block"),
        ("selection", settings.selection, "which candidate is sent"),
        ("hash factors", ", ".join(map(str, settings.hash_factors)), "weights to a variable"),
        ("training steps", f"{trained:,}", "before the first block is sent"),
        (
            "encoding steps",
            f"{settings.encoding_steps():,}",
            f"{settings.group_steps} after each of {settings.groups} groups of blocks but the last",
        ),
        ("batch size", settings.batch_size, "images in a step"),
        ("seed", settings.seed, "of all random numbers"),
        ("engine", settings.engine, "what computed it"),
        ("validation images", f"{settings.validation:,}", kept),
        ("augmentation", f"{settings.shift} pixels", "how far images are moved in training"),
        ("mirrored", "half" if settings.flip else "none", "of the training images, at random"),
        ("antithetic", settings.antithetic, "1: half of a batch sees the noise mirrored"),
        ("late scale rate", settings.late_scale_rate, "of the scales, once blocks are sent"),
    ]
