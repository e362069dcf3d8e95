"""All decoders behind one interface, for tools/fuzz/fuzz.py.

A decoder reads files, and gives None for each that it accepts and what it says otherwise; and it
gives the SHA-256 of the weights of valid files, tensors one after the other as little-endian
float32.  Whatever else happens, a traceback, a dead program or one that hangs, is a `Fault`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refmiracle.conformance.programs import decode_value, encode_value
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.model import decode_model

ROOT = Path(__file__).parents[2]
LONGEST_BATCH = 300.0
PROGRAM_MEMORY = 256 << 20


class Fault(str):
    """An answer that no decoder may give."""

    __slots__ = ()


Answers = list[str | None]
# The arguments of an operation by name: bytes, or whole numbers.
Inputs = dict[str, bytes | list[int]]


@dataclass(frozen=True)
class Decoder:
    """A decoder, and how much of the work it is fast enough for.

    Attributes
    ----------
    name : str
    read, weights : callable
        From a list of files to one answer for each.
    reads : int
        It reads one of so many refused files, and all valid ones.
    decodes : int
        It decodes one of so many of the valid files whose weights are compared.
    batch : int
        Files that it takes at a time; the time of single ones is known where this is 1.
    """

    name: str
    read: Callable[[list[bytes]], Answers]
    weights: Callable[[list[bytes]], Answers]
    reads: int = 1
    decodes: int = 1
    batch: int = 1


def one_by_one(
    function: Callable[[bytes], str | None], refusal: type[Exception]
) -> Callable[[list[bytes]], Answers]:
    """Return a function of many files; exceptions other than a `refusal` of one line are faults."""

    def answer(data: bytes) -> str | None:
        try:
            return function(data)
        except refusal as e:
            one_line = str(e) and "\n" not in str(e)
            return str(e) if one_line else Fault(f"the refusal is not one line: {e!r}")
        except Exception as e:  # what a fuzzer looks for
            return Fault(f"{type(e).__name__}: {e}")

    return lambda files: [answer(data) for data in files]


def digest(weights: list[Any]) -> str:
    """Return the SHA-256 of tensors as little-endian float32."""
    state = hashlib.sha256()
    for tensor in weights:
        state.update(np.asarray(tensor).astype("<f4").tobytes())
    return state.hexdigest()


def package(engine: str, reads: int = 1) -> Decoder:
    """Return refmiracle with an engine; reading does not depend on it."""
    loaded = get_engine(engine)

    def read(data: bytes) -> None:
        parse_model(data)

    def weights(data: bytes) -> str:
        return digest([*decode_model(parse_model(data), loaded).values()])

    ways = (one_by_one(f, InputError) for f in (read, weights))
    return Decoder(f"refmiracle {engine}", *ways, reads)


def plain_python() -> Decoder:
    """Return the decoder of tools/decoder, whose weights take most of a second."""
    sys.path.append(str(ROOT / "tools" / "decoder"))
    spec = importlib.import_module("spec_decoder")
    refusal = spec.InvalidFileError

    def read(data: bytes) -> None:
        spec.parse(data)

    def weights(data: bytes) -> str:
        return digest([*spec.decode(data).values()])

    return Decoder(
        "plain Python", one_by_one(read, refusal), one_by_one(weights, refusal), decodes=60
    )


def framework(module: str, reads: int, decodes: int) -> Decoder:
    """Return the backend for PyTorch or JAX; both read by tools/backends/spec_layout.py."""
    sys.path.append(str(ROOT / "tools" / "backends"))
    backend = importlib.import_module(module).BACKEND
    spec_layout = importlib.import_module("spec_layout")

    def read(data: bytes) -> None:
        spec_layout.read_file(np.frombuffer(data, np.uint8))

    def weights(data: bytes) -> str:
        sha256, _ = backend.decode_model(np.frombuffer(data, np.uint8))
        return np.asarray(sha256).tobytes().hex()

    ways = (one_by_one(f, ValueError) for f in (read, weights))
    return Decoder(f"{backend.name} backend", *ways, reads, decodes)


def program(name: str, command: str, bounded: bool = True, decodes: int = 1) -> Decoder:
    """Return a program that answers JSON lines, such as the one in tools/backends/c.

    What `read_container` gives has no place for the number of a code, so files of other codes are
    decoded to be read.  `bounded` holds a program to `PROGRAM_MEMORY`; one with sanitizers, or
    node, reserves more addresses than that.
    """

    def read(files: list[bytes]) -> Answers:
        operations = ["decode_model" if f[5:6] > b"\0" else "read_container" for f in files]
        answers = ask(command, bounded, operations, [{"data": f} for f in files])
        return [a if isinstance(a, Fault) else a.get("error") for a in answers]

    def weights(files: list[bytes]) -> Answers:
        posed = [{"data": f} for f in files]
        return [digest_of(a) for a in ask(command, bounded, ["decode_model"] * len(files), posed)]

    return Decoder(name, read, weights, decodes=decodes, batch=1000)


def digest_of(answer: Any) -> str:
    """Return the SHA-256 that a program gives, or what it says in the place of one."""
    if isinstance(answer, Fault):
        return answer
    return answer.get("error") or decode_value(answer["outputs"]["sha256"]).tobytes().hex()


def ask(command: str, bounded: bool, operations: list[str], posed: list[Inputs]) -> list[Any]:
    """Return a program's answer to each of `posed`; it is started anew behind one that ends it."""
    answers: list[Any] = []
    while len(answers) < len(posed):
        left = operations[len(answers) :], posed[len(answers) :]
        lines, end = _answers(command, bounded, *left)
        answers += [json.loads(line) for line in lines]
        if end or len(answers) < len(posed):
            answers = [*answers[: len(posed) - 1], Fault(end or "it ended too early")]
    return answers


def as_array(value: bytes | list[int]) -> Any:
    """Return an argument as the suite has it."""
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    return np.array(value, np.int64)


def _answers(
    command: str, bounded: bool, operations: list[str], posed: list[Inputs]
) -> tuple[list[bytes], str]:
    """Return the lines of one run of a program, and what went wrong, if anything did."""
    most = str(PROGRAM_MEMORY >> 10) if bounded else "unlimited"
    with tempfile.TemporaryFile() as questions:
        for operation, given in zip(operations, posed, strict=True):
            inputs = {name: encode_value(as_array(value)) for name, value in given.items()}
            question = {"operation": operation, "dtype": "", "inputs": inputs}
            questions.write(json.dumps(question).encode() + b"\n")
        questions.seek(0)
        try:
            done = subprocess.run(
                ["sh", "-c", 'ulimit -S -v "$0" && exec "$1"', most, command],
                stdin=questions,
                capture_output=True,
                timeout=LONGEST_BATCH,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            return (e.stdout or b"").splitlines(), f"no answer within {LONGEST_BATCH:.0f} s"
    said = done.stderr.decode(errors="replace")[-1000:]
    wrong = f"exit code {done.returncode}: {said}" if done.returncode or said else ""
    return done.stdout.splitlines(), wrong
