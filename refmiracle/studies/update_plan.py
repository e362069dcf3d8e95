"""What the study of updates makes: which files, of which scenes, and of how many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from refmiracle.errors import InputError
from refmiracle.loading import load
from refmiracle.model import Model
from refmiracle.studies.drift import DRIFTS, find_drift
from refmiracle.studies.rivals import RivalsJob, Tuning
from refmiracle.studies.scenes import Scene
from refmiracle.studies.update_jobs import BaseJob, ChainJob, FileJob, Job, Rows
from refmiracle.training.choosing import choose_settings
from refmiracle.training.data import VALIDATION_IMAGES
from refmiracle.training.settings import Settings

# What a row of the tables is of.
UPDATE, NEW, WHOLE, UNCHANGED = "update", "new file", "new file, whole", "nothing sent"
DRIFTED, MIXED, OLD, CLASSES, CHAIN = "points", "shares", "nothing", "classes", "chain"
ROTATION, REFERENCE = "rotation", 25.0
STEP_BY_STEP, AT_ONCE = "a chain of updates", "one update"
NEW_DIGITS = (5, 6, 7, 8, 9)
PACKETS = (51, 115, 140, 222, 500)
MEASURED = "measured"


@dataclass(frozen=True)
class Task:
    """A job, in which table its rows stand, and what they have in common."""

    table: str
    job: Job
    key: Mapping[str, Any]


@dataclass(frozen=True)
class UpdatesPlan:
    """What to make.

    Attributes
    ----------
    engine : str
    update : mapping
        Settings of updates.
    drifts : tuple of (str, float)
        Kinds and strengths.
    new, whole : mapping
        Settings of new files of the same bytes, and of one of the base's size.
    tuning : Tuning
        How what is sent instead is trained.
    sizes : tuple of int
        Bytes.
    seeds : tuple of int
    new_everywhere : bool
        Whether there are new files of each drift, or of the first alone.
    rival_seeds : int
        With how many of the seeds all is made but the updates of the first drift, which have all.
    shares : tuple of float
        Of old images among those of the first drift and of new classes.
    angles : tuple of float
        Of the chain.
    link_bytes : int
    base : str
        A .rmc file, or the name of one that refmiracle carries.
    kinds : tuple of str
        Which of the drifts to look at; none: all of them.
    classes : bool
        Whether digits 5 to 9 are learned by a base of 0 to 4.
    kept : int
        Training images for validation.
    """

    engine: str
    update: Mapping[str, Any]
    drifts: tuple[tuple[str, float], ...]
    new: Mapping[str, Any]
    whole: Mapping[str, Any]
    tuning: Tuning = field(default_factory=Tuning)
    sizes: tuple[int, ...] = PACKETS
    seeds: tuple[int, ...] = (0, 1, 2)
    new_everywhere: bool = False
    rival_seeds: int = 1
    shares: tuple[float, ...] = (0.25, 0.5)
    angles: tuple[float, ...] = tuple(3.0 * n for n in range(1, 11))
    link_bytes: int = 140
    base: str = "lenet5-1551"
    kinds: tuple[str, ...] = ()
    classes: bool = True
    kept: int = VALIDATION_IMAGES

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return asdict(self)

    def model(self) -> Model:
        """Return the base."""
        return load(self.base, engine=self.engine)

    def scenes(self) -> list[Scene]:
        """Return the drifts as scenes.

        Raises
        ------
        InputError
            If there is none of a kind that is to be looked at, or of one of them.
        """
        kinds = self.kinds or tuple(kind for kind, _ in self.drifts)
        for kind in kinds:
            find_drift(kind)
        every = [Scene(kind, strength) for kind, strength in self.drifts]
        planned = dict.fromkeys(scene.drift for scene in every)
        others = [kind for kind in kinds if kind not in planned]
        if others:
            raise InputError(
                f"drifts {', '.join(others)}: not planned; expected some of {', '.join(planned)}"
            )
        return [scene for scene in every if scene.drift in kinds]

    def is_first(self, scene: Scene) -> bool:
        """Tell whether a scene is of the first drift that is looked at, and of it alone."""
        return scene == self.scenes()[0]

    def rivals(self) -> tuple[int, ...]:
        """Return the seeds of all but the updates of the first drift."""
        return self.seeds[: self.rival_seeds]


class PlannedSettings:
    """The settings of the files of a plan, each found once: they do not depend on the images.

    Parameters
    ----------
    plan : UpdatesPlan
    base : Model
        What updates are relative to; new files have its network and hashing.
    """

    def __init__(self, plan: UpdatesPlan, base: Model) -> None:
        self.plan, self.base = plan, base
        self.found: dict[tuple[str, int, int], Settings | InputError] = {}

    def update(self, nbytes: int, seed: int) -> Settings:
        """Return the settings of an update.

        Raises
        ------
        InputError
            If no update is so short, or a setting is out of range.
        """
        return self._find(UPDATE, nbytes, seed, {"base": self.base.chain, **self.plan.update})

    def new(self, nbytes: int, seed: int, whole: bool = False) -> Settings:
        """Return the settings of a new file; `whole`: of one that is trained as long as it takes.

        Raises
        ------
        InputError
            If no file is so short, or a setting is out of range.
        """
        layout = self.base.compressed.layout
        given = {"network": layout.network, "hash_factors": layout.factors}
        settings = self.plan.whole if whole else self.plan.new
        return self._find(WHOLE if whole else NEW, nbytes, seed, {**given, **settings})

    def _find(self, kind: str, nbytes: int, seed: int, given: Mapping[str, Any]) -> Settings:
        key = kind, nbytes, seed
        if key not in self.found:
            given = {"nbytes": nbytes, "seed": seed, "engine": self.plan.engine, **given}
            try:
                self.found[key] = choose_settings(given, "", None)
            except InputError as e:
                self.found[key] = e
        found = self.found[key]
        if isinstance(found, InputError):
            raise found
        return found


def plan_tasks(plan: UpdatesPlan, base: Model) -> tuple[dict[str, Task], Rows]:
    """Return all tasks by name but those of new classes, and rows of files that cannot be.

    Raises
    ------
    InputError
        If there is no such drift, or a setting is out of range.
    """
    planned = PlannedSettings(plan, base)
    tasks: dict[str, Task] = {}
    missing: Rows = []
    scenes = plan.scenes()
    tasks |= _named(_of_drifts(planned, scenes[:1], missing))
    for first in scenes[:1]:
        for share in plan.shares:
            mixed = replace(first, share=share)
            tasks |= _named(_updates(planned, mixed, MIXED, {"share": share}, missing))
    tasks |= _named(_updates(planned, Scene(), OLD, {}, missing))
    tasks |= _named(_unchanged(planned, Scene(), OLD))
    tasks |= _named(_chains(planned))
    tasks |= _named(_of_drifts(planned, scenes[1:], missing))
    return tasks, missing


def _named(tasks: Iterator[tuple[str, Task]]) -> dict[str, Task]:
    return {f"updates-{name}": task for name, task in tasks}


def _of_drifts(
    planned: PlannedSettings, scenes: Iterable[Scene], missing: Rows
) -> Iterator[tuple[str, Task]]:
    """Yield by name all that is sent of some drifts."""
    for scene in scenes:
        yield from _updates(planned, scene, DRIFTED, {}, missing)
        yield from _rivals(planned, scene, missing)


def _key(scene: Scene, method: str, limit: int | None, seed: int | None) -> dict[str, Any]:
    key = {"drift": scene.drift, "strength": scene.strength, "share": scene.share}
    return {**key, "method": method, "limit": limit, "seed": seed}


def _updates(
    planned: PlannedSettings,
    scene: Scene,
    table: str,
    more: Mapping[str, Any],
    missing: Rows,
) -> Iterator[tuple[str, Task]]:
    """Yield the updates of a scene by name."""
    plan = planned.plan
    for nbytes in plan.sizes:
        for seed in plan.seeds if plan.is_first(scene) else plan.rivals():
            key = {**_key(scene, UPDATE, nbytes, seed), **more}
            try:
                settings = planned.update(nbytes, seed)
            except InputError as e:
                missing.append({"table": table, **key, "status": f"none: {e}"})
                continue
            job = FileJob(scene, settings, plan.kept)
            yield f"{scene.name}-update-{nbytes}-seed{seed}", Task(table, job, key)


def _unchanged(planned: PlannedSettings, scene: Scene, table: str) -> Iterator[tuple[str, Task]]:
    plan = planned.plan
    job = BaseJob(scene, planned.base.chain, plan.engine, plan.kept)
    yield f"{scene.name}-unchanged", Task(table, job, _key(scene, UNCHANGED, None, None))


def _rivals(planned: PlannedSettings, scene: Scene, missing: Rows) -> Iterator[tuple[str, Task]]:
    """Yield what is sent instead of an update, by name."""
    plan, base = planned.plan, planned.base
    yield from _unchanged(planned, scene, DRIFTED)
    kinds: list[tuple[str, int]] = []
    if plan.new_everywhere or plan.is_first(scene):
        whole = len(base.chain[0])
        kinds = [*((NEW, nbytes) for nbytes in plan.sizes if nbytes != whole), (WHOLE, whole)]
    for seed in plan.rivals():
        for method, nbytes in kinds:
            key = _key(scene, NEW, nbytes, seed)
            try:
                settings = planned.new(nbytes, seed, whole=method == WHOLE)
            except InputError as e:
                missing.append({"table": DRIFTED, **key, "status": f"none: {e}"})
                continue
            name = f"{scene.name}-{method.replace(' ', '-').replace(',', '')}-{nbytes}-seed{seed}"
            yield name, Task(DRIFTED, FileJob(scene, settings, plan.kept), key)
        if plan.tuning.rates:
            sizes = plan.sizes
            job = RivalsJob(scene, base.chain, plan.engine, seed, plan.kept, sizes, plan.tuning)
            yield f"{scene.name}-rivals-seed{seed}", Task(DRIFTED, job, _key(scene, "", None, seed))


def _chains(planned: PlannedSettings) -> Iterator[tuple[str, Task]]:
    """Yield for each seed a chain as the angle grows, and an update at once for each angle."""
    plan = planned.plan
    scenes = tuple(Scene(ROTATION, angle) for angle in plan.angles)
    nbytes = plan.link_bytes
    for scene in scenes:
        yield from _unchanged(planned, scene, CHAIN)
    for seed in plan.rivals() if scenes else ():
        settings = planned.update(nbytes, seed)
        key = {"drift": ROTATION, "method": STEP_BY_STEP, "limit": nbytes, "seed": seed}
        yield (
            f"chain-{nbytes}-seed{seed}",
            Task(CHAIN, ChainJob(scenes, (settings,) * len(scenes), plan.kept), key),
        )
        for scene in scenes:
            own = _key(scene, AT_ONCE, nbytes, seed)
            job = FileJob(scene, settings, plan.kept)
            yield f"chain-{scene.name}-at-once-{nbytes}-seed{seed}", Task(CHAIN, job, own)


def class_base(plan: UpdatesPlan, base: Model) -> dict[str, Task]:
    """Return the task of making a base that has seen the other digits alone."""
    old = tuple(n for n in range(base.classes) if n not in NEW_DIGITS)
    scene, seed = Scene(digits=old), plan.seeds[0]
    settings = PlannedSettings(plan, base).new(len(base.chain[0]), seed, whole=True)
    key = _key(scene, WHOLE, len(base.chain[0]), seed)
    job = FileJob(scene, settings, plan.kept)
    return {f"updates-base-of-digits{''.join(map(str, old))}": Task(CLASSES, job, key)}


def class_tasks(plan: UpdatesPlan, base: Model) -> tuple[dict[str, Task], Rows]:
    """Return the tasks of learning new digits from a base that has not seen them."""
    planned = PlannedSettings(plan, base)
    tasks: dict[str, Task] = {}
    missing: Rows = []
    for share in (0.0, *plan.shares):
        scene = Scene(share=share, digits=NEW_DIGITS)
        tasks |= _named(_updates(planned, scene, CLASSES, {"drift": "new classes"}, missing))
    return tasks, missing


def every_strength() -> tuple[tuple[str, float], ...]:
    """Return all drifts at all strengths, the one that the others are seen beside first."""
    every = [(kind, float(s)) for kind, drift in DRIFTS.items() for s in drift.strengths]
    return tuple(sorted(every, key=lambda d: d != (ROTATION, REFERENCE)))


def middle_strengths() -> tuple[tuple[str, float], ...]:
    """Return all drifts at their middle strength, the reference first."""
    return tuple((kind, s) for kind, s in every_strength() if s == DRIFTS[kind].strengths[1])


# Of new files; the runs that docs/study keeps are of these, whatever becomes of the preset.
_OWN = {"preset": "default", "batch_size": 128, "variance_rate": 1.0, "antithetic": 0}
_WHOLE = {**_OWN, "steps": 30_000, "groups": 300, "group_steps": 40}
# The fewer the blocks, the more it costs to look at 2^20 candidates for each.
_NEW = {**_OWN, "steps": 3000, "groups": 40, "group_steps": 40, "bits_per_block": 16}
UPDATES_PLANS = {
    "smoke": UpdatesPlan(
        "numba",
        {"preset": "smoke", "bits_per_block": 14},
        ((ROTATION, REFERENCE),),
        {"preset": "smoke"},
        {"preset": "smoke"},
        Tuning(steps=60, sparse_steps=30, rates=(1e-3,)),
        sizes=(115,),
        seeds=(0,),
        shares=(),
        angles=(15.0, 30.0),
        classes=False,
    ),
    "default": UpdatesPlan(
        "numba",
        {"preset": "default"},
        middle_strengths(),
        _NEW,
        _WHOLE,
        Tuning(steps=800, sparse_steps=300),
        shares=(0.5,),
    ),
    "paper": UpdatesPlan(
        "numba",
        {"preset": "default"},
        every_strength(),
        {**_NEW, "steps": 6000, "groups": 100},
        _WHOLE,
        Tuning(),
        new_everywhere=True,
        rival_seeds=3,
    ),
}
