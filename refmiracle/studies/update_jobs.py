"""What a process makes of one scene: a file, or a chain of files, with what they err by.

What a job leaves in its folder is kept, and told by the job's identity: all that its result
depends on.  One that has ended is not done again; one that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from refmiracle.errors import InputError, speaking_of_flags
from refmiracle.files import write_atomically
from refmiracle.model import Model
from refmiracle.run import finish
from refmiracle.studies.runs import Files, removal_told, run_tasks
from refmiracle.studies.scenes import Scene, Views, loaded, views
from refmiracle.training.data import Data, Split, load_split, split_validation
from refmiracle.training.lock import locked
from refmiracle.training.progress import Silence
from refmiracle.training.run import (
    Folder,
    checkpoint_path,
    file_path,
    posterior_path,
    run_training,
)
from refmiracle.training.settings import Settings, fingerprint, same_settings
from refmiracle.training.trainer import Trainer

MEASURES = "measures.json"
LINES = 4  # of metrics, while a file trains
Rows = list[dict[str, Any]]


class Job(Protocol):
    """Something to make and to measure, in a process of its own."""

    def key(self) -> dict[str, Any]:
        """Return all that its result depends on, but images and machine, as JSON has it."""

    def work(self, data: Data, folder: Path) -> tuple[Rows, Files]:
        """Return what was measured, and the files that were made, by name."""


@dataclass(frozen=True)
class FileJob:
    """A file, an update or a new one, trained on a scene.

    Attributes
    ----------
    scene : Scene
    settings : Settings
        But for the images, and how many of them are for validation.
    kept : int
        See `scenes.views`.
    """

    scene: Scene
    settings: Settings
    kept: int

    def key(self) -> dict[str, Any]:
        """Return what tells it from others."""
        return {"scene": asdict(self.scene), "config": self.settings.key(), "kept": self.kept}

    def work(self, data: Data, folder: Path) -> tuple[Rows, Files]:
        """Train the file and measure it."""
        seen = views(self.scene, data, self.kept)
        model, row = trained(self.settings, seen, folder)
        return [row], {file_path(folder, self.settings).name: model.data}


@dataclass(frozen=True)
class BaseJob:
    """Measuring a base as it is.

    Attributes
    ----------
    scene : Scene
    base : tuple of bytes
        Its files.
    engine : str
    kept : int
        See `scenes.views`.
    """

    scene: Scene
    base: tuple[bytes, ...]
    engine: str
    kept: int

    def key(self) -> dict[str, Any]:
        """Return what tells it from others."""
        return {**asdict(self), "base": [data.hex() for data in self.base]}

    def work(self, data: Data, folder: Path) -> tuple[Rows, Files]:
        """Measure the base."""
        seen, model = views(self.scene, data, self.kept), model_of(self.base, self.engine)
        _, validation = split_validation(seen.everything, seen.validation)
        errors = errors_of(
            model, {"validation": validation, "test": seen.new, "old_test": seen.old}
        )
        return [{"bytes": 0, **errors}], {}


def model_of(files: Sequence[bytes], engine: str) -> Model:
    """Return the model of a chain of files."""
    model = None
    for data in files:
        model = Model(data, engine=engine, base=model)
    assert model is not None
    return model


def errors_of(model: Model, splits: Mapping[str, Split]) -> dict[str, float]:
    """Return the error of a model on some images, by their name."""
    return {
        f"{name}_error": model.error(split.images, split.labels, channels="first")
        for name, split in splits.items()
    }


@dataclass(frozen=True)
class ChainJob:
    """Updates one after the other, each of the one before, as a drift grows.

    Attributes
    ----------
    scenes : tuple of Scene
    links : tuple of Settings
        Those of each; the bases behind the first one's are those that were made before.
    kept : int
    """

    scenes: tuple[Scene, ...]
    links: tuple[Settings, ...]
    kept: int

    def key(self) -> dict[str, Any]:
        """Return what tells it from others."""
        scenes, links = map(asdict, self.scenes), (c.key() for c in self.links)
        return {"scenes": list(scenes), "configs": list(links), "kept": self.kept}

    def work(self, data: Data, folder: Path) -> tuple[Rows, Files]:
        """Train and measure link after link; each has a folder of its own."""
        rows, files = [], {}
        base = self.links[0].base
        for number, (scene, own) in enumerate(zip(self.scenes, self.links, strict=True), 1):
            settings, place = replace(own, base=base), folder / f"link{number:02d}"
            model, row = trained(settings, views(scene, data, self.kept), place)
            base = model.chain
            sent = sum(map(len, base[len(self.links[0].base) :]))
            rows.append({"strength": scene.strength, "link": number, "sent_bytes": sent, **row})
            files[f"update{number:02d}.rmc"] = model.data
        return rows, files


def trained(settings: Settings, seen: Views, folder: Path) -> tuple[Model, dict[str, Any]]:
    """Train a file in a folder, going on where an earlier run stopped; return it with its errors.

    Raises
    ------
    InputError
        If the folder holds a run of other settings or a damaged one, another process works in it,
        or it cannot be written.
    """
    settings = replace(settings, data=fingerprint(seen.everything), validation=seen.validation)
    train, validation = split_validation(seen.everything, seen.validation)
    place = Folder(folder)
    with ExitStack() as stack:
        with removal_told(folder):
            found = stack.enter_context(place.opened(resume=True))
        if found and not same_settings(found[0], settings):
            raise InputError(f"{folder}: it holds a run of other settings; name another --out")
        with removal_told(folder) if found else nullcontext():
            trainer = Trainer(settings, train, found[1] if found else None)
        run_training(trainer, validation, place, Silence(), max(1, settings.steps // LINES))
        model, summary = finish(trainer, validation, seen.new, place)
    figures = ("bytes", "validation_error", "test_error")
    return model, {
        **{name: summary[name] for name in figures},
        **errors_of(model, {"old_test": seen.old}),
        "steps": summary["steps"],
        "seconds": summary["train_seconds"],
    }


def identity(job: Job, data: str) -> str:
    """Return a digest of all that a job's result depends on, but the machine."""
    text = json.dumps({"kind": type(job).__name__, "data": data, **job.key()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@speaking_of_flags()
def do_job(job: Job, data: Data, folder: Path, known: str, tested: str) -> Files:
    """Do a job in a folder, and keep there what was measured.

    Parameters
    ----------
    job : Job
    data : Path or DataSet
    folder : Path
        Of this job alone; where it goes on another machine, a folder there.
    known : str
        Its identity.
    tested : str
        The fingerprint of the test images.

    Raises
    ------
    InputError
        If the images are others than those that it was planned with, or the job cannot be done.

    Returns
    -------
    dict of str to bytes
        The files that it made, and measures.json.
    """
    train, test = map(fingerprint, loaded(data))
    if identity(job, train) != known or test != tested:
        raise InputError(f"{data}: these are other images than the job is planned with")
    rows, files = job.work(data, folder)
    digests = {name: hashlib.sha256(file).hexdigest() for name, file in files.items()}
    own = {"job": known, "test_images": test, "sha256": digests, "rows": rows}
    text = json.dumps(own, indent=2) + "\n"
    files = {**files, MEASURES: text.encode()}
    keep_files(folder, files)
    for path in folder.rglob("*"):  # they take a thousand times the room of the files
        if path.name in (checkpoint_path(folder).name, posterior_path(folder).name):
            path.unlink(missing_ok=True)
    return files


def keep_files(folder: Path, files: Files) -> None:
    """Write files to a folder where they are not there yet; what was measured comes last.

    Raises
    ------
    InputError
        If another process works in the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"{folder}: cannot be made: {e.strerror or e}") from e
    with locked(folder):
        for name, data in files.items():
            path = folder / name
            if not path.is_file() or path.read_bytes() != data:
                write_atomically(path, data)


def finished_job(folder: Path, known: str, tested: str) -> Rows | None:
    """Return what a job that has ended has measured, or None; `tested` is of the test images.

    Raises
    ------
    InputError
        If the folder holds the results of another.
    """
    try:
        found = json.loads((folder / MEASURES).read_text(encoding="utf-8"))
        own, rows, digests = found["job"], found["rows"], found["sha256"]
        images = found.get("test_images", tested)  # older ones do not say
        files = {name: (folder / name).read_bytes() for name in digests}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if own != known:
        raise InputError(f"{folder}: it holds a run of other settings; name another --out")
    if images != tested:
        raise InputError(f"{folder}: it holds a run on other test images; name another --out")
    whole = all(hashlib.sha256(file).hexdigest() == digests[n] for n, file in files.items())
    return list(rows) if whole else None


def do_all(
    jobs: Mapping[str, Job],
    data: Data,
    known: str,
    out: Path,
    executor: Executor,
    at_once: int | None = None,
) -> tuple[dict[str, Rows], dict[str, str]]:
    """Do all jobs that have not ended; each has the folder `out` / its name.

    Parameters
    ----------
    jobs : mapping of name to Job
    data : Path or DataSet
    known : str
        The fingerprint of the training images.
    out : Path
    executor, at_once
        See `runs.run_tasks`.

    Returns
    -------
    rows : dict
        By name, those that had ended before included.
    failures : dict
        By name, why, in one line.

    Raises
    ------
    InputError
        If a folder holds a run of other settings.
    """
    names = {name: identity(job, known) for name, job in jobs.items()}
    tested = fingerprint(load_split(data, "t10k"))
    found = {name: finished_job(out / name, names[name], tested) for name in jobs}
    done: dict[str, Rows] = {name: rows for name, rows in found.items() if rows is not None}

    def keep(name: str, files: Files) -> None:
        keep_files(out / name, files)
        done[name] = json.loads(files[MEASURES])["rows"]

    tasks: dict[str, tuple[Any, ...]] = {
        name: (job, data, out / name, names[name], tested)
        for name, job in jobs.items()
        if name not in done
    }
    failures = run_tasks(executor, do_job, tasks, keep, at_once, len(done))
    return {name: done[name] for name in jobs if name in done}, failures
