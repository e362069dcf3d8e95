"""Feeds damaged, hostile and odd files to every decoder.

    python tools/fuzz/fuzz.py --count 100000

Each file must be accepted by all decoders or refused by all, with one line and within
`LONGEST_SECONDS`; the messages and the bits of the samples of valid files must agree, written
again they must be the same bytes, and the weights of every `--weights-every`-th valid one must
have the same SHA-256 everywhere.  Files depend on the seed and their number alone (fuzz_files.py):

    python tools/fuzz/fuzz.py --first 1234 --count 1 --keep DIR    # file 1234, and its bytes

A decoder that does not know a network or a code yet is not asked to accept files of it.  The
memory of this process is bounded: see `LARGEST_GROWTH`.  Exit code 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_decoders import Decoder, Fault, framework, package, plain_python, program
from fuzz_files import Files, seed_files

from refmiracle.engines import get_engine
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.model import decode_rows
from refmiracle.nn.limits import DESCRIBED

LONGEST_SECONDS = 10.0
HANG_SECONDS = 900.0
# Bytes that this process may grow by once every decoder has decoded a file of each kind.
LARGEST_GROWTH = 512 << 20
AT_ONCE = 1000
TRACED_EVERY = 50
MOST_FAULTS = 20
# Every refusal of `parse_model` (docs/SPEC.md, section 2.5), by what no other message says.
REFUSALS = {
    "no magic": "does not begin with the magic",
    "too short": "cannot hold a header",
    "version": "format version",
    "update": "it is an update",
    "checksum": "the checksum is",
    "description": "network number 0: ",
    "network": "network number",
    "code": "random code",
    "layout": "layout flags",
    "bits": "bits per block are out of range",
    "header cut off": "ends within its header",
    "varint": "canonical varint",
    "hash factor": "hash factor",
    "block size": "block size",
    "length": "its header calls for",
    "scale": "a scale rho",
    "padding": "the padding bits",
    "theta": "theta",
    "integers cut off": "bytes end within",
    "integer too large": "is 2^62 or more",
    "bytes behind the integers": "stand behind the last",
    "other code word": "are not the code word",
    "message out of range": "is no message of the code",
}


@dataclass
class Tally:
    """What a run has found.

    Attributes
    ----------
    kinds : Counter
        Files by the refusal of `parse_model`, and valid ones.
    work : Counter
        Files by decoder and by what it did with them.
    slowest : dict of str to (float, int)
        Seconds and number of the file that took a decoder longest.
    traced : dict of str to int
        Largest peak of memory in bytes, of refused and of valid files.
    faults : list of str
    seconds : float
        Processor time of this process, without that of programs.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    work: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, tuple[float, int]] = field(default_factory=dict)
    traced: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def kind_of(refusal: str | None) -> str:
    """Return the name of a refusal of `parse_model`."""
    if refusal is None:
        return "valid"
    return next((name for name, part in REFUSALS.items() if part in refusal), refusal)


class Fuzzer:
    """Decoders, and what became of the files that they have seen.

    Parameters
    ----------
    seed : int
    decoders : list of Decoder
        The first says which files are valid.
    weights_every : int
        Of the valid files, one in so many is decoded to weights.
    keep : Path, optional
        Folder for the bytes of files with a fault.
    """

    def __init__(
        self, seed: int, decoders: list[Decoder], weights_every: int, keep: Path | None = None
    ) -> None:
        self.files, self.decoders, self.keep = Files(seed), decoders, keep
        self.weights_every, self.tally = weights_every, Tally()
        self.engines = [get_engine(name) for name in ("numba", "numpy")]
        self.known = {d.name: self._known(d) for d in decoders}

    def _known(self, decoder: Decoder) -> set[bytes]:
        """Return the networks and codes that a decoder accepts, bytes 4 and 5 of a header."""
        seeds = [*seed_files().values()]
        known = {d[4:6] for d, no in zip(seeds, decoder.read(seeds), strict=True) if no is None}
        # The first decoding compiles; memory is bounded from here on.
        decoder.weights([data for data in seeds if data[4:6] in known][:1])
        return known

    def fault(self, number: int, data: bytes, what: str) -> None:
        """Note a fault, and keep the file."""
        self.tally.faults.append(f"file {number}: {what}")
        if len(self.tally.faults) > MOST_FAULTS:
            sys.exit("there are too many faults")
        print(f"FAULT file {number}: {what}\n  {data[:200].hex()}", flush=True)
        if self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{number}.rmc").write_bytes(data)

    def run(self, numbers: range) -> None:
        """Feed some files to all decoders."""
        files = {number: self.files.file(number) for number in numbers}
        verdicts: dict[int, str | None] = {}
        for decoder in self.decoders:
            chosen = [n for n in numbers if n % decoder.reads == 0 or verdicts.get(n, "") is None]
            answers = self.ask(decoder, "read", chosen, files)
            if not verdicts:
                verdicts = answers
                self.tally.kinds.update(map(kind_of, verdicts.values()))
                continue
            for n, answer in answers.items():
                if (answer is None) != (verdicts[n] is None) and (
                    answer is None or files[n][4:6] in self.known[decoder.name]
                ):
                    self.fault(n, files[n], f"{decoder.name} says {answer}, not {verdicts[n]}")
        for n in numbers:
            if n % TRACED_EVERY == 0 or len(numbers) == 1:
                self.trace(files[n], "refused" if verdicts[n] else "valid")
        self.compare_valid({n: files[n] for n in numbers if verdicts[n] is None})

    def ask(
        self, decoder: Decoder, what: str, numbers: list[int], files: dict[int, bytes]
    ) -> dict[int, str | None]:
        """Return a decoder's answers; time them, and note faults."""
        function = decoder.read if what == "read" else decoder.weights
        answers: dict[int, str | None] = {}
        # Others may use this machine, so wall time is for programs only.
        clock = time.thread_time if decoder.batch == 1 else time.monotonic
        for start in range(0, len(numbers), decoder.batch):
            part = numbers[start : start + decoder.batch]
            began = clock()
            got = function([files[n] for n in part])
            each = (clock() - began) / len(part)
            answers |= dict(zip(part, got, strict=True))
            name = f"{decoder.name} {what}"
            self.tally.slowest[name] = max(self.tally.slowest.get(name, (0.0, 0)), (each, part[0]))
            if each > LONGEST_SECONDS:
                self.fault(part[0], files[part[0]], f"{name}: {each:.1f} s")
        for n, answer in answers.items():
            if isinstance(answer, Fault):
                self.fault(n, files[n], f"{decoder.name}: {answer}")
        self.tally.work[f"{decoder.name} {what}"] += len(numbers)
        return answers

    def trace(self, data: bytes, verdict: str) -> None:
        """Note the peak of memory that reading a file takes, and its rows if it is valid."""
        tracemalloc.start()
        self.decoders[0].read([data])
        if verdict == "valid":
            decode_rows(parse_model(data), self.engines[0])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.tally.traced[verdict] = max(self.tally.traced.get(verdict, 0), peak)

    def compare_valid(self, files: dict[int, bytes]) -> None:
        """Compare what the decoders make of valid files."""
        for n, data in files.items():
            model = parse_model(data)
            if model.to_bytes() != data:
                self.fault(n, data, "written again it is another file")
            rows = [decode_rows(model, engine).tobytes() for engine in self.engines]
            if rows[0] != rows[1]:
                self.fault(n, data, "the engines differ in the samples of its blocks")
        self.tally.work["samples of both engines compared"] += len(files)
        chosen = [n for n in files if n % self.weights_every == 0]
        want: dict[int, str | None] = {}
        for decoder in self.decoders:
            known = self.known[decoder.name]
            often = self.weights_every * decoder.decodes
            # Described networks are small, so that a slow decoder has the time too.
            own = [
                n
                for n in chosen
                if files[n][4:6] in known and (n % often == 0 or files[n][4] == DESCRIBED)
            ]
            got = self.ask(decoder, "weights", own, files)
            want = want or got
            for n, sha256 in got.items():
                if sha256 != want[n]:
                    self.fault(n, files[n], f"{decoder.name} has other weights: {sha256}")


def add(tallies: list[Tally]) -> Tally:
    """Return the figures of several runs as those of one."""
    total = Tally()
    for t in tallies:
        total.kinds.update(t.kinds)
        total.work.update(t.work)
        total.faults += t.faults
        total.seconds += t.seconds
        for name, slow in t.slowest.items():
            total.slowest[name] = max(total.slowest.get(name, (0.0, 0)), (*slow,))
        for name, peak in t.traced.items():
            total.traced[name] = max(total.traced.get(name, 0), peak)
    return total


def report(tally: Tally) -> str:
    """Return the figures of a run as text."""
    count = sum(tally.kinds.values())
    lines = [f"{count} files, {tally.seconds:.0f} s of this process, {len(tally.faults)} faults"]
    lines += [f"{count:8d}  {kind}" for kind, count in tally.kinds.most_common()]
    missing = [kind for kind in REFUSALS if not tally.kinds[kind]]
    lines += [f"refusals met: {len(REFUSALS) - len(missing)} of {len(REFUSALS)} {missing or ''}"]
    lines += [f"{count:8d}  {work}" for work, count in tally.work.items()]
    lines += [f"slowest {n}: {s:.3f} s (file {i})" for n, (s, i) in tally.slowest.items()]
    lines += [f"peak of {v} files: {peak} bytes" for v, peak in tally.traced.items()]
    return "\n".join([*lines, *tally.faults])


def bound_memory() -> None:
    """Let this process have `LARGEST_GROWTH` bytes of addresses more than it has."""
    import resource  # noqa: PLC0415 (POSIX alone has it)

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + LARGEST_GROWTH
    # The hard limit stays: a program with sanitizers must have more.
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def choose_decoders(arguments: argparse.Namespace) -> list[Decoder]:
    """Return the decoders that the flags name."""
    decoders = [package("numba"), package("numpy", 1000), plain_python()]
    if arguments.c:
        decoders.append(program("C program", arguments.c))
    if arguments.sanitized:
        decoders.append(program("C program, sanitized", arguments.sanitized, False, 10))
    if arguments.node:
        command = str(Path(__file__).with_name("fuzz_decoder.js"))
        decoders.append(program("JavaScript of docs/interactive", command, False, 10))
    if arguments.frameworks:
        decoders += [framework("torch_backend", 4, 20), framework("jax_backend", 100, 400)]
    return decoders


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of a file")
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="how many files")
    parser.add_argument("--weights-every", type=int, default=6, metavar="N")
    parser.add_argument("--c", metavar="PROGRAM", help="tools/backends/c/refmiracle_c")
    parser.add_argument("--sanitized", metavar="PROGRAM", help="the same with sanitizers")
    parser.add_argument("--node", action="store_true", help="docs/interactive by node too")
    parser.add_argument("--frameworks", action="store_true", help="PyTorch and JAX too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to it")
    parser.add_argument("--sum", type=Path, nargs="+", metavar="FILE", help="add such figures up")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="for files with a fault")
    arguments = parser.parse_args()
    if arguments.sum:
        total = add([Tally(**json.loads(p.read_text())) for p in arguments.sum])
        print(report(total))
        return 1 if total.faults else 0

    began = time.monotonic()
    fuzzer = Fuzzer(
        arguments.seed, choose_decoders(arguments), arguments.weights_every, arguments.keep
    )
    for name, known in fuzzer.known.items():
        networks = {n: [c for m, c in sorted(map(tuple, known)) if m == n] for n, _ in known}
        print(f"{name} knows networks and their codes {networks}", flush=True)
    bound_memory()
    last = arguments.first + arguments.count
    for first in range(arguments.first, last, AT_ONCE):
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        fuzzer.run(range(first, min(first + AT_ONCE, last)))
        if (first + AT_ONCE) % 20_000 == 0:
            done, seconds = first + AT_ONCE, time.monotonic() - began
            print(f"{done} files, {seconds:.0f} s, {len(fuzzer.tally.faults)} faults", flush=True)
    faulthandler.cancel_dump_traceback_later()
    if arguments.keep and arguments.count == 1:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        path = arguments.keep / f"{arguments.first}.rmc"
        path.write_bytes(fuzzer.files.file(arguments.first))
    fuzzer.tally.seconds = time.process_time()
    print(report(fuzzer.tally))
    if arguments.json:
        arguments.json.write_text(json.dumps(vars(fuzzer.tally)))
    return 1 if fuzzer.tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
