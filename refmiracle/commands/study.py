"""``python -m refmiracle.study NAME``: the experiments, each with its tables and figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from refmiracle.commands.networks import add_network, given_network
from refmiracle.commands.options import a_path, add_data, add_engine, chosen_data
from refmiracle.commands.running import run_command
from refmiracle.drawing import check_drawing
from refmiracle.errors import CHECK_FAILED, InputError
from refmiracle.extras import import_extra
from refmiracle.nn.description import to_description
from refmiracle.nn.network import Network
from refmiracle.processors import usable_processors
from refmiracle.studies.codes import CODES_PLANS, codes
from refmiracle.studies.comparison import COMPARISONS
from refmiracle.studies.convergence import convergence
from refmiracle.studies.pruning import pruning
from refmiracle.studies.rate_distortion import SWEEPS, describe, rate_distortion
from refmiracle.studies.results import describe_claims
from refmiracle.studies.subject import about
from refmiracle.studies.tails import tails
from refmiracle.studies.uncertainty import uncertainty
from refmiracle.studies.update_plan import UPDATES_PLANS
from refmiracle.studies.update_tables import describe_updates
from refmiracle.studies.updates import updates
from refmiracle.studies.workers import Processes

CONNECT_SECONDS = 10
# Those that compare Mean-KL with Mean-Var: what each is about, and its function.
STUDIES: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "convergence": ("how fast each trains, in steps and seconds", convergence),
    "tails": ("distributions of the posterior and of the compressed weights", tails),
    "pruning": ("error of the compressed weights with some of them set to zero", pruning),
    "uncertainty": ("calibration, likelihood and detection of foreign images", uncertainty),
}
# Trains nothing.
CODES = "codes"
# Trains around a base, or from nothing, as its own plans say.
UPDATES = "updates"


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle study", description=__doc__)
    studies = parser.add_subparsers(dest="study", required=True, metavar="NAME")
    sweep = studies.add_parser(
        "rate-distortion", help="error against size, over bits and block sizes"
    )
    sweep.set_defaults(presets=SWEEPS)
    for flag, text in (
        ("--bits", "bits per block to try"),
        ("--block-sizes", "variables in a block to try"),
    ):
        sweep.add_argument(flag, type=int, nargs="+", metavar="N", help=text)
    _add_common(sweep)
    for name, (text, _) in STUDIES.items():
        study = studies.add_parser(name, help=text)
        study.set_defaults(presets=COMPARISONS)
        study.add_argument(
            "--steps",
            type=int,
            nargs="+",
            metavar="N",
            help="lengths of training; all but the study of convergence use the longest",
        )
        _add_common(study)
    study = studies.add_parser(CODES, help="all relative entropy codes: length, truth and speed")
    study.set_defaults(presets=CODES_PLANS)
    study.add_argument("--codes", nargs="+", metavar="NAME", help="codes to compare")
    _add_plan(study)
    study = studies.add_parser(UPDATES, help="updates of a shipped model, beside what else is sent")
    study.set_defaults(presets=UPDATES_PLANS)
    study.add_argument("--bytes", type=int, nargs="+", metavar="N", help="lengths of updates")
    study.add_argument("--seeds", type=int, nargs="+", metavar="N", help="seeds to try")
    text = "kinds of drift to look at, such as blur (default: all that the preset has)"
    study.add_argument("--drifts", nargs="+", metavar="NAME", help=text)
    add_data(study)
    _add_plan(study)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="seeds to try")
    add_network(parser)
    add_data(parser)
    parser.add_argument(
        "--validation",
        type=int,
        metavar="N",
        help="training images kept for validation (default: 5000)",
    )
    _add_plan(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    presets = parser.get_default("presets")
    parser.add_argument("--preset", choices=list(presets), default="default", help="how much")
    add_engine(parser, default=None)
    parser.add_argument(
        "--out", type=a_path, default=Path("study"), metavar="DIR", help="default: study"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes, one thread each (default: one for each processor that may be used)",
    )
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="run on this Dask cluster, e.g. tcp://10.0.0.1:8786"
    )


def load_dask() -> Any:
    """Return Dask's distributed.

    Raises
    ------
    InputError
        If it is not installed or cannot be loaded.
    """
    return import_extra("distributed", "dask", ("Client",), "--dask")


@contextmanager
def open_executor(dask: str | None, workers: int | None) -> Iterator[tuple[Executor, int | None]]:
    """Open a Dask cluster's executor, or one of processes with a thread each.

    With it comes how many tasks to hand to it at a time; None: all.

    Raises
    ------
    InputError
        If Dask cannot be loaded or its scheduler does not answer.
    """
    if dask is None:
        count = workers or usable_processors()
        with Processes(count) as processes:
            yield processes, count
        return
    try:
        client = load_dask().Client(dask, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as e:
        raise InputError(f"--dask {dask}: no scheduler answers there ({e})") from e
    with client:
        if not client.scheduler_info()["workers"]:  # they may come as the work does
            print(f"refmiracle: --dask {dask}: waiting, there are no workers yet", file=sys.stderr)
        yield client.get_executor(), None


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags change in a preset, by the name of its field."""
    flags = {
        "bits": "bits",
        "block_sizes": "block_sizes",
        "seeds": "seeds",
        "steps": "lengths",
        "codes": "codes",
        "bytes": "sizes",
        "drifts": "kinds",
    }
    return {
        field: tuple(dict.fromkeys(getattr(arguments, flag)))
        for flag, field in flags.items()
        if getattr(arguments, flag, None)
    }


def run(arguments: argparse.Namespace) -> int:
    """Run the study; its result is written even where some of its runs failed."""
    if arguments.dask is not None:
        load_dask()
        if arguments.workers is not None:
            raise InputError("--workers is for this machine; a --dask cluster has its own")
    check_drawing()
    if arguments.workers is not None and arguments.workers < 1:
        raise InputError(f"--workers {arguments.workers} is out of range; expected at least 1")
    given = _given(arguments)
    if "lengths" in given:
        given["lengths"] = tuple(sorted(given["lengths"]))
    plan = replace(arguments.presets[arguments.preset], **given)
    if arguments.engine and arguments.study in (CODES, UPDATES):
        plan = replace(plan, engine=arguments.engine)
    elif arguments.engine:
        plan = replace(plan, base=replace(plan.base, engine=arguments.engine))
    if arguments.study not in (CODES, UPDATES):
        network = arguments.network and _travelling(arguments.network)
        plan = replace(plan, base=about(plan.base, network, arguments.validation))
    out = arguments.out.resolve()
    with open_executor(arguments.dask, arguments.workers) as opened:
        results = _study(arguments, plan, out, *opened)
    return _report(arguments, results)


def _travelling(text: str) -> Network:
    """Return the network of an argument, if other processes know all of its layers.

    Raises
    ------
    InputError
        If they do not, or there is no such network.
    """
    network = given_network(text)
    try:
        to_description(network)
    except InputError as e:
        reason, *_ = str(e).split(";")
        raise InputError(
            f"--network {text}: a study trains in processes that know networks as files describe"
            f" them; {reason}"
        ) from e
    return network


def _study(
    arguments: argparse.Namespace, plan: Any, out: Path, executor: Executor, at_once: int | None
) -> dict[str, Any]:
    """Run the study that the arguments name; return what its results.json holds."""
    if arguments.study == CODES:
        return codes(plan, out, executor, at_once)
    data = chosen_data(arguments)
    data = replace(data, path=data.path.resolve())
    if arguments.study in STUDIES:
        _, study = STUDIES[arguments.study]
        return study(plan, data, out, executor, at_once)
    study = updates if arguments.study == UPDATES else rate_distortion
    return study(plan, data, out, executor, at_once)


def _report(arguments: argparse.Namespace, results: Mapping[str, Any]) -> int:
    """Print what was found; the failures were told as they came."""
    if results["files"]:
        claims = arguments.study in (*STUDIES, CODES, UPDATES)
        print(describe_claims(results) if claims else describe(results))
        for note in results.get("notes", ()):
            print(f"refmiracle: {note}", file=sys.stderr)
        if arguments.study == UPDATES:
            print(describe_updates(results))
        files = ", ".join(["results.json", *results["files"]])
        print(f"{arguments.out / arguments.study}: {files}")
    return CHECK_FAILED if results["failures"] else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv)
