"""Many runs at once: each trains one model, on whichever executor is given.

A run is a pure function of its settings, so it may go to a thread, a process or another machine.
Its result is kept as soon as it is there; one that fails is reported and does not stop the rest.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from refmiracle.errors import InputError, speaking_of_flags
from refmiracle.files import write_atomically
from refmiracle.given import known_network
from refmiracle.run import finish
from refmiracle.streams import Output
from refmiracle.training.data import Data, load_split, split_validation
from refmiracle.training.lock import LockedError, locked
from refmiracle.training.progress import MOST_SECONDS, Lines, Silence, progress_bar
from refmiracle.training.run import (
    Folder,
    checkpoint_path,
    metrics_path,
    model_path,
    posterior_path,
    run_training,
    summary_path,
)
from refmiracle.training.settings import (
    Settings,
    fingerprint,
    same_images,
    same_settings,
    settings_from_dict,
)
from refmiracle.training.state import load_checkpoint
from refmiracle.training.trainer import Trainer

# A run's files by name; the summary is written last, so that it tells a whole run.
Files = dict[str, bytes]
PATHS = (model_path, posterior_path, metrics_path, summary_path)
LINES = 40  # of metrics, while a run trains
# What the studies take from a summary, all numbers.
FIGURES = (
    *("bits_per_block", "block_size", "seed"),
    *("bytes", "validation_error", "steps", "train_seconds"),
)


def runs_folder(out: Path) -> Path:
    """Return where the runs of the studies in a folder stand, for all studies to share."""
    return out / "runs"


@speaking_of_flags()
def train_one(settings: Settings, data: Data, folder: Path) -> Files:
    """Train and encode one model in a folder, going on where an earlier run stopped.

    Parameters
    ----------
    settings : Settings
    data : Path or DataSet
    folder : Path
        Of this run alone; where a run goes on another machine, a folder there.

    Returns
    -------
    dict of str to bytes
        model.rmc, posterior.npz, metrics.jsonl and summary.json, by name.  The summary is as
        `run.finish` writes it; the test set is not looked at.

    Raises
    ------
    InputError
        If the folder holds a run of other settings or a damaged one, another process works in it,
        or it cannot be written; or the images are not those of the settings.
    """
    everything = load_split(data, "train")
    if settings.data and not same_images(settings.data, fingerprint(everything)):
        raise InputError(f"{data}: these are other training images than the run is planned with")
    train, validation = split_validation(everything, settings.validation)
    if checkpoint_path(folder).exists():
        known_network(settings.network)  # one with a number of its own is there by its name alone
        with removal_told(folder):
            load_checkpoint(checkpoint_path(folder))
    place = Folder(folder)
    with place.opened(resume=True) as found:
        if found and not same_settings(found[0], settings):
            raise InputError(f"{folder}: it holds a run of other settings; name another --out")
        with removal_told(folder) if found else nullcontext():
            trainer = Trainer(settings, train, found[1] if found else None)
        run_training(trainer, validation, place, Silence(), max(1, settings.steps // LINES))
        finish(trainer, validation, None, place)
        with removal_told(folder):
            return {path(folder).name: path(folder).read_bytes() for path in PATHS}


def finished_run(settings: Settings, folder: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run, or None if there is none in the folder.

    Raises
    ------
    InputError
        If the folder holds a finished run of other settings.
    """
    try:
        summary = json.loads(summary_path(folder).read_text(encoding="utf-8"))
        model = model_path(folder).read_bytes()
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(summary, dict):
        return None
    if not _has_settings(summary, settings):
        raise InputError(f"{folder}: it holds a run of other settings; name another --out")
    if summary.get("sha256") != hashlib.sha256(model).hexdigest():
        return None
    # One that lacks a figure is made again from the checkpoint.
    return summary if all(isinstance(summary.get(n), int | float) for n in FIGURES) else None


@contextmanager
def removal_told(folder: Path) -> Iterator[None]:
    """Where what a run has left is refused, say what mends it: a rerun finds the same again."""
    try:
        yield
    except LockedError:  # nothing is wrong with it
        raise
    except (InputError, OSError) as e:
        raise InputError(f"{e}; remove {folder} to have the run made again") from e


def _has_settings(summary: dict[str, Any], settings: Settings) -> bool:
    try:
        return same_settings(settings_from_dict(summary["config"]), settings)
    except (InputError, KeyError, TypeError):  # there are none, or they are damaged
        return False


def keep_run(folder: Path, files: Files) -> None:
    """Write the files of a run that was made on another machine to a folder here.

    One that was made here has its files in their place already.

    Raises
    ------
    InputError
        If another process works in the folder, or it cannot be written.
    """
    if all(_holds(path(folder), files[path(folder).name]) for path in PATHS):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        for path in PATHS:
            write_atomically(path(folder), files[path(folder).name])


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def train_all(
    all_settings: Mapping[str, Settings],
    data: Data,
    out: Path,
    executor: Executor,
    at_once: int | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Train all runs that are not finished; each has the folder `out` / its name.

    Parameters
    ----------
    all_settings : mapping of name to Settings
    data : Path or DataSet
    out : Path
    executor : concurrent.futures.Executor
    at_once : int, optional
        See `run_tasks`.

    Returns
    -------
    summaries : dict
        By name, those finished before included.
    failures : dict
        By name, why, in one line.

    Raises
    ------
    InputError
        If a folder holds a run of other settings.
    """
    found = {name: finished_run(settings, out / name) for name, settings in all_settings.items()}
    summaries = {name: summary for name, summary in found.items() if summary is not None}

    def keep(name: str, files: Files) -> None:
        keep_run(out / name, files)
        summaries[name] = json.loads(files[summary_path(out).name])

    tasks = {n: (c, data, out / n) for n, c in all_settings.items() if n not in summaries}
    failures = run_tasks(executor, train_one, tasks, keep, at_once, len(summaries))
    return {name: summaries[name] for name in all_settings if name in summaries}, failures


def run_tasks(
    executor: Executor,
    function: Callable[..., Any],
    tasks: Mapping[str, tuple[Any, ...]],
    keep: Callable[[str, Any], None],
    at_once: int | None = None,
    done: int = 0,
) -> dict[str, str]:
    """Call ``function(*arguments)`` for each task, and keep(name, result) as each comes in.

    Parameters
    ----------
    executor : concurrent.futures.Executor
    function, tasks, keep
    at_once : int, optional
        How many to hand over before one has come back; all by default.  An interrupt has to
        wait for what was handed over and has begun.
    done : int
        How many more, done before, to count in the progress bar.

    Returns
    -------
    dict
        Why, in one line, for each task that failed.
    """
    bar = progress_bar(done + len(tasks), done, "runs", "run")
    waiting = iter(tasks.items())
    futures: dict[Future[Any], str] = {}
    failures = {}
    try:
        while True:
            for name, arguments in islice(waiting, (at_once or len(tasks)) - len(futures)):
                futures[_submitted(executor, function, arguments)] = name
            if not futures:
                break
            bar.update(0)
            for future in wait(futures, MOST_SECONDS, FIRST_COMPLETED).done:
                name = futures.pop(future)
                try:
                    keep(name, future.result())
                except Exception as e:  # whatever a run dies of, the others go on
                    failures[name] = tell_failure(name, e, bar)
                bar.update()
                bar.set_postfix_str(f"{name} {'failed' if name in failures else 'done'}")
    finally:
        for future in futures:
            future.cancel()
        bar.close()
    return failures


def _submitted(
    executor: Executor, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Future[Any]:
    """Hand over a task; what it cannot be handed over for is what it fails of."""
    try:
        return executor.submit(function, *arguments)
    except Exception as e:  # a process that cannot be started, a cluster that is gone
        failed: Future[Any] = Future()
        failed.set_exception(e)
        return failed


def attempt(
    function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Call ``function(*arguments)`` for each task here, one after the other.

    Returns
    -------
    results : dict
        By name.
    failures : dict
        By name, why, in one line: one that fails does not stop the rest.
    """
    results, failures = {}, {}
    for name, arguments in tasks.items():
        try:
            results[name] = function(*arguments)
        except Exception as e:  # whatever is wrong with one
            failures[name] = tell_failure(name, e)
    return results, failures


def tell_failure(name: str, error: Exception, bar: Any = None) -> str:
    """Say at once, in a line on standard error, why a part of a study failed; return why.

    What comes after it may take days, or be interrupted.

    Parameters
    ----------
    name : str
        Of a run, a table or a figure.
    error : Exception
    bar : tqdm or Lines, optional
        The progress bar, where there is one; it stays below the line.
    """
    text = " ".join(str(error).split())
    reason = text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
    line = f"refmiracle: {name} failed: {reason}"
    if bar is None or isinstance(bar, Lines):
        output = Output(sys.stderr)
        output.write(f"{line}\n")
        output.flush()
    else:
        bar.write(line, file=sys.stderr)
    return reason
