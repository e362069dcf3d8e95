"""``python -m refmiracle.bench``: what each part costs, beside its peers, in one run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from refmiracle.bench.figures import Bench, Figure, Sizes
from refmiracle.bench.networks import random_file, random_images, settings_of
from refmiracle.bench.peers import LIBRARIES, check_libraries
from refmiracle.bench.plan import FULL, PEAK_BATCH, QUICK, plan
from refmiracle.bench.plot import check_plot, draw_growth
from refmiracle.bench.report import describe_machine, to_json, to_text
from refmiracle.bench.timing import OthersWatch
from refmiracle.commands.networks import add_network, given_network
from refmiracle.commands.options import a_path, check_outs
from refmiracle.commands.running import run_command
from refmiracle.engines import get_engine
from refmiracle.errors import InputError, one_line
from refmiracle.files import write_atomically
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.training.data import default_folder, load_split, split_validation
from refmiracle.training.progress import progress_bar
from refmiracle.training.settings import Settings


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle bench", description=__doc__)
    parser.add_argument(
        "--against",
        action="append",
        choices=[*LIBRARIES, "all"],
        default=[],
        help="measure the peers in this library too; may be repeated",
    )
    parser.add_argument("--json", type=a_path, metavar="FILE", help="write the results as JSON")
    parser.add_argument(
        "--plot",
        type=a_path,
        metavar="FILE",
        help="draw how cost grows with batch, bits and block size (measures more; needs"
        " matplotlib)",
    )
    add_network(parser)
    parser.add_argument("--quick", action="store_true", help="few sizes, short turns")
    return parser


def measure(bench: Bench) -> list[Figure]:
    """Measure all, with a progress bar, and with an eye on what else the machine does."""
    tasks = plan(bench)
    figures = []
    with closing(progress_bar(len(tasks), 0, "bench", "figure")) as bar:
        for name, task in tasks:
            bar.set_postfix_str(name)
            watch = OthersWatch()
            measured = task()
            figures += [replace(figure, others=watch.share()) for figure in measured]
            bar.update()
    return figures


def of_network(network: Network, sizes: Sizes, threads: int, folder: Path) -> Bench:
    """Return the bench of a network, with images of noise and a file in a folder.

    A fresh process would take its first step with LeNet-5; it is left out.
    """
    settings = settings_of(network)
    path = folder / "random.rmc"
    path.write_bytes(random_file(settings))
    images = random_images(network, sizes.images, max(PEAK_BATCH, *sizes.batches))
    return Bench(settings, images, images, replace(sizes, fresh=0), (), threads, path)


def run(arguments: argparse.Namespace) -> int:
    """Check, measure, print and write."""
    wanted = LIBRARIES if "all" in arguments.against else arguments.against
    libraries = tuple(dict.fromkeys(wanted))
    network = given_network(arguments.network) if arguments.network else LENET5
    if libraries and network != LENET5:
        raise InputError(
            f"--against {libraries[0]}: the peers are written for {LENET5.name}; measure"
            f" {network.name} without them"
        )
    check_libraries(libraries)
    if arguments.plot:
        check_plot(arguments.plot)
    check_outs((arguments.json, arguments.plot))
    get_engine("numba")  # or one line
    from refmiracle.engines.numba_engine.threads import THREADS  # noqa: PLC0415

    machine = describe_machine(THREADS)
    sizes = QUICK if arguments.quick else FULL
    sizes = sizes.growing() if arguments.plot else sizes
    with TemporaryDirectory(prefix="refmiracle-bench-") as folder:
        if network == LENET5:
            train, _ = split_validation(load_split(default_folder(), "train"))
            test = load_split(default_folder(), "t10k")
            bench = Bench(Settings(), train, test, sizes, libraries, THREADS)
        else:
            bench = of_network(network, sizes, THREADS, Path(folder))
        figures = measure(bench)
    name = None if network == LENET5 else one_line(network.name)
    print(to_text(figures, machine, name))
    if arguments.json:
        text = json.dumps(to_json(figures, machine, name), indent=2) + "\n"
        write_atomically(arguments.json, text.encode())
    if arguments.plot:
        write_atomically(arguments.plot, draw_growth(figures, arguments.plot.suffix))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv, prints_result=True)
