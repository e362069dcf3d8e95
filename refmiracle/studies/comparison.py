"""Mean-KL beside Mean-Var: the runs that the comparing studies share, and what they left.

Both train the same network on the same batches, at the same block size, bits, batch and steps;
each with settings of its own, which a search found (docs/STUDY.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines import get_engine
from refmiracle.engines.contract import Array
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import Base, apply_update, decode_chain, read_root
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.envelope import read_bytes
from refmiracle.fileformat.update import CompressedUpdate, parse_update
from refmiracle.nn.contract import WEIGHT
from refmiracle.posterior.blocks import Places, find_places
from refmiracle.posterior.parameterizations import COMPARED, PARAMETERIZATIONS
from refmiracle.posterior.scales import scales_of_levels
from refmiracle.posterior.sharing import VariablePass
from refmiracle.studies.results import prepare_study
from refmiracle.studies.runs import attempt, removal_told, runs_folder, train_all
from refmiracle.studies.subject import check_images, prefix_of
from refmiracle.training.choosing import check_settings
from refmiracle.training.data import Data, load_split
from refmiracle.training.run import file_path, posterior_path, summary_path
from refmiracle.training.settings import PRESETS, Settings, fingerprint, settings_from_dict
from refmiracle.training.trained_posterior import Posterior, load_posterior


@dataclass(frozen=True)
class Comparison:
    """Both parameterizations, each length of training, each seed.

    Attributes
    ----------
    name : str
        Of the preset.
    base : Settings
        All settings that do not differ.
    tuned : mapping of str to dict
        By parameterization, the settings of its own.
    lengths : tuple of int
        Training steps before the first block is encoded, ascending.
    seeds : tuple of int
    """

    name: str
    base: Settings
    tuned: Mapping[str, Mapping[str, Any]]
    lengths: tuple[int, ...]
    seeds: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {**asdict(self), "base": self.base.to_dict()}

    def run_name(self, parameterization: str, steps: int, seed: int) -> str:
        """Return the name of a run, and of its folder."""
        prefix = prefix_of(self.base.network)
        return f"{prefix}{self.name}-{parameterization}-{steps}steps-seed{seed}"

    def all_settings(
        self, data: str, lengths: tuple[int, ...] | None = None
    ) -> dict[str, Settings]:
        """Return the settings of each run by name; `data` is the fingerprint of the images.

        Parameters
        ----------
        data : str
        lengths : tuple of int, optional
            Those to run; all by default.

        Raises
        ------
        InputError
            If a setting is out of range.
        """
        return {
            self.run_name(parameterization, steps, seed): check_settings(
                replace(
                    self.base.having(tuned),
                    parameterization=parameterization,
                    steps=steps,
                    seed=seed,
                    data=data,
                )
            )
            for seed in self.seeds
            for steps in lengths or self.lengths
            for parameterization, tuned in self.tuned.items()
        }


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its posterior, and the sample of it that its file holds.

    Attributes
    ----------
    settings : Settings
    summary : dict
    posterior : Posterior
        At the end of training; arrays of shape (coded variables,), tensors one after the other.
    decoded : ndarray of float64, shape (variables,)
        All variables as the file gives them, in the same order.
    rho : ndarray of float64, shape (coded variables,)
        The scales as the file has them; the posterior's, unless they learn until they are sent.
    base : Base, optional
        What an update is relative to.
    """

    settings: Settings
    summary: dict[str, Any]
    posterior: Posterior
    decoded: NDArray[np.float64]
    rho: NDArray[np.float64]
    base: Base | None = None

    @cached_property
    def posterior_as_sent(self) -> Posterior:
        """The posterior with the scales of the file: the same in units of rho, of the same KL."""
        return self.posterior.at_scales(self.rho)

    @cached_property
    def places(self) -> Places:
        """Where each variable stands."""
        return find_places(self.settings.layout())

    @cached_property
    def variable_pass(self) -> VariablePass:
        """The network as a function of the variables."""
        return VariablePass(get_engine(self.settings.engine), self.settings.layout(), self.places)

    @cached_property
    def coded(self) -> NDArray[np.int64]:
        """Which variables the file codes, ascending."""
        return np.flatnonzero(self.settings.layout().is_coded())

    @cached_property
    def known(self) -> NDArray[np.float64]:
        """What is known of the variables without the file: those of the base, or 0."""
        if self.base is None:
            return np.zeros(len(self.decoded))
        return self.base.variables.astype(np.float64)

    @cached_property
    def change(self) -> NDArray[np.float64]:
        """What the file adds to what is known, shape (coded variables,)."""
        return (self.decoded - self.known)[self.coded]

    def variables(self, change: Array) -> Array:
        """Return all variables where the coded ones change by so much."""
        variables = self.known.copy()
        variables[self.coded] += change
        return variables

    def tensors(self) -> dict[str, slice]:
        """Return by name of a tensor that is coded which coded variables are its."""
        return tensors_of(self.settings)

    def layers(self) -> dict[str, slice]:
        """Return by name of a layer ("conv1") which coded variables are its weights."""
        return layers_of(self.settings)

    def logits(self, variables: Array, pixels: NDArray[np.uint8]) -> Array:
        """Return the logits of images, shape (classes, images).

        Parameters
        ----------
        variables : ndarray, shape (variables,)
            Tensors one after the other.
        pixels : ndarray of uint8, shape (images, channels, height, width)
            One channel has no axis.
        """
        flat = np.zeros(self.places.size(), dtype=self.variable_pass.engine.dtype)
        flat[self.places.place_of_variable] = variables
        return self.variable_pass.logits(flat, pixels)


def tensors_of(settings: Settings) -> dict[str, slice]:
    """Return by name of a tensor that is coded which coded variables are its."""
    layout, parts, first = settings.layout(), {}, 0
    for tensor, size in zip(layout.network.tensors(), layout.coded_sizes(), strict=True):
        if size:
            parts[tensor.name] = slice(first, first + size)
        first += size
    return parts


def layers_of(settings: Settings) -> dict[str, slice]:
    """Return by name of a layer ("conv1") which coded variables are its weights alone."""
    parts = tensors_of(settings)
    return {
        tensor.name.removesuffix(".weight"): parts[tensor.name]
        for tensor in settings.network.tensors()
        if tensor.role == WEIGHT and tensor.name in parts
    }


def open_runs(
    study: str,
    comparison: Comparison,
    data: Data,
    out: Path,
    executor: Executor,
    at_once: int | None = None,
    lengths: tuple[int, ...] | None = None,
) -> tuple[dict[str, FinishedRun], dict[str, str]]:
    """Make a study's folder, train what is not finished, and open the runs.

    Parameters
    ----------
    study : str
        Its name, and its folder's.
    comparison : Comparison
    data : Path or DataSet
        The images, or their folder.
    out : Path
        Folder of the studies.
    executor, at_once
        See `runs.run_tasks`.
    lengths : tuple of int, optional
        Of the comparison; the longest by default.

    Returns
    -------
    runs : dict of str to FinishedRun
        By name, in the order of the plan.
    failures : dict of str to str
        By name, why a run could not be trained or opened.

    Raises
    ------
    InputError
        If a setting is out of range, the network does not take the images or they are too few, the
        study's folder cannot be made, or one holds a run of other settings.
    """
    lengths = lengths or comparison.lengths[-1:]
    train = check_images(load_split(data, "train"), None, comparison.base)
    all_settings = comparison.all_settings(fingerprint(train), lengths)
    prepare_study(out / study)
    summaries, failures = train_all(all_settings, data, runs_folder(out), executor, at_once)
    tasks = {name: (runs_folder(out) / name, summary) for name, summary in summaries.items()}
    runs, unopened = attempt(open_run, tasks)
    return runs, failures | unopened


def by_pairs(runs: Mapping[str, FinishedRun]) -> dict[str, dict[int, FinishedRun]]:
    """Return runs by parameterization, then by seed, for the seeds that have both."""
    found: dict[str, dict[int, FinishedRun]] = {name: {} for name in COMPARED}
    for run in runs.values():
        found[run.settings.parameterization][run.settings.seed] = run
    both = set.intersection(*(set(of) for of in found.values()))
    return {name: {s: run for s, run in of.items() if s in both} for name, of in found.items()}


def open_run(folder: Path, summary: dict[str, Any]) -> FinishedRun:
    """Read what a finished run left.

    Raises
    ------
    InputError
        If one of its files is missing, damaged or of another run.
    """
    with removal_told(folder):
        return _read_run(folder, summary)


def _read_run(folder: Path, summary: dict[str, Any]) -> FinishedRun:
    try:
        settings = settings_from_dict(summary["config"])
    except InputError as e:
        raise InputError(f"{summary_path(folder)}: {e}") from e
    path, engine = file_path(folder, settings), get_engine(settings.engine)
    data, base = read_bytes(path), None
    try:
        if settings.base:
            base = decode_chain(settings.base, engine, settings.network)
        file = read_file(data, settings, base)
        found = (
            apply_update(base, data, engine) if base else read_root(data, engine, settings.network)
        )
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
    if (file.layout, file.bits_per_block, file.code) != _sent_settings(settings):
        raise InputError(f"{path}: it has other settings than {summary_path(folder)}")
    posterior = load_posterior(posterior_path(folder))
    rho = np.repeat(scales_of(file, base), file.layout.coded_sizes())
    check_posterior(posterior, None if settings.late_scale_rate else rho, file, folder)
    return FinishedRun(settings, summary, posterior, found.variables.astype(np.float64), rho, base)


def read_file(
    data: bytes, settings: Settings, base: Base | None
) -> CompressedModel | CompressedUpdate:
    """Return what the file of a run says."""
    return (
        parse_update(data, base.layout, base.checksum)
        if base
        else parse_model(data, settings.network)
    )


def _sent_settings(settings: Settings) -> tuple[Any, ...]:
    return settings.layout(), settings.bits_per_block, settings.code


def check_posterior(
    q: Posterior,
    rho: NDArray[np.float64] | None,
    file: CompressedModel | CompressedUpdate,
    folder: Path,
) -> None:
    """Refuse a posterior that is not of the run that made a file, whose scales `rho` it has.

    Where scales learn until they are sent it is None, and each tensor has one of its own.

    Raises
    ------
    InputError
        If its arrays have another shape, hold what no posterior has, or it has other scales.
    """
    path, sizes = posterior_path(folder), np.array(file.layout.coded_sizes())
    name = "model.rmc" if isinstance(file, CompressedModel) else "update.rmc"
    if any(a.shape != (sizes.sum(),) for a in vars(q).values()):
        raise InputError(f"{path}: it is not of the run that made {name}")
    if not (np.isfinite([q.mu, q.sigma, q.rho]).all() and min(q.sigma.min(), q.rho.min()) > 0):
        raise InputError(f"{path}: it holds numbers that no posterior has")
    if rho is None:
        sizes = sizes[sizes > 0]
        rho = np.repeat(q.rho[np.cumsum(sizes) - sizes], sizes)
    if not np.array_equal(q.rho, rho):
        raise InputError(f"{path}: it is not of the run that made {name}")


def scales_of(file: CompressedModel | CompressedUpdate, base: Base | None) -> NDArray[np.float64]:
    """Return the scale rho of each tensor, 0 where it is not coded; shape (tensors,)."""
    if isinstance(file, CompressedModel):
        return file.rho.astype(np.float64)
    assert base is not None
    return scales_of_levels(file.levels, base.rho).astype(np.float64)


# What each is trained with: docs/STUDY.md has the search.
TUNED = {name: PARAMETERIZATIONS[name].tuned for name in COMPARED}
BASE = Settings(preset="study", groups=100, group_steps=20)
COMPARISONS = {
    "smoke": Comparison(
        "smoke", replace(PRESETS["smoke"], preset="study"), TUNED, (600,), (0, 1, 2)
    ),
    "default": Comparison("default", BASE, TUNED, (1250, 2500, 5000), (0, 1, 2, 3, 4)),
    "paper": Comparison("paper", BASE, TUNED, (2500, 5000, 10_000), (0, 1, 2, 3, 4)),
}
