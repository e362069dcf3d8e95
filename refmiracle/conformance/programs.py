"""The way to a backend that is a program: one line of JSON in, one line out."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.conformance.backends import Arrays, BrokenError, Introduced, RefusedError, names
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.patience import NOT_POSED, LateError, Patience
from refmiracle.errors import InputError
from refmiracle.files import first_line

# Bytes of one line: what the largest answer needs many times over.
LONGEST_ANSWER = 1 << 28
# Seconds that a program has to end when its input does, and when its output has ended.
FAREWELL = 5.0
LAST_WORDS = 1.0
# Each start may take long, so a program that breaks down at every case is left alone some day.
MOST_LOST = 100


def encode_value(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array as the protocol writes it: little-endian bytes in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def decode_value(value: dict[str, Any]) -> NDArray[Any]:
    """Return the array that `encode_value` wrote."""
    dtype = np.dtype(value["dtype"]).newbyteorder("<")
    flat = np.frombuffer(base64.b64decode(value["base64"], validate=True), dtype=dtype)
    return flat.reshape(value["shape"]).astype(np.dtype(value["dtype"]))


class Program:
    """A process that is asked one question after another.

    Attributes
    ----------
    process : subprocess.Popen
    over : bool
        Whether it was ended, or ended itself.

    Raises
    ------
    BrokenError
        If it cannot be started.
    """

    def __init__(self, command: str) -> None:
        try:
            self.process = subprocess.Popen(
                command_words(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # a group of its own, which can be ended as one
            )
        except (OSError, ValueError) as e:
            raise BrokenError(f"it cannot be started: {first_line(e)}") from e
        self.over = False

    def exchange(self, line: bytes) -> bytes:
        """Write a line and return the one that answers it; may take for ever.

        Raises
        ------
        BrokenError
            If there will be none.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        answer = b""
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
            reads = True
        except OSError:  # it does not read any more; it may have answered nevertheless
            reads = self._has_ended()
        if reads:
            answer = self.process.stdout.readline(LONGEST_ANSWER + 1)
        if len(answer) > LONGEST_ANSWER:
            raise BrokenError(f"the answer is longer than {LONGEST_ANSWER} bytes")
        if not answer:
            raise BrokenError(self._last_words())
        return answer

    def _has_ended(self) -> bool:
        try:
            self.process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _last_words(self) -> str:
        if self._has_ended():
            return f"the program ended with exit code {self.process.returncode}"
        return "the program has closed its standard input or output"

    def close(self) -> None:
        """Close its input and wait until it has ended, or end it."""
        if self.over:
            return
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it may have gone already
            self.process.stdin.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(FAREWELL)
        finally:
            self.end()
        self.close_pipes()

    def end(self) -> None:
        """End it and all that it has started, as far as the system knows."""
        self.over = True
        if sys.platform != "win32":
            # Also behind one that has ended: what it has started may hold its pipes.
            with contextlib.suppress(OSError):  # nobody of the group is left
                os.killpg(self.process.pid, signal.SIGKILL)
        elif self.process.poll() is None:
            tree = ["taskkill", "/F", "/T", "/PID", str(self.process.pid)]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(tree, capture_output=True, timeout=FAREWELL, check=False)
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(FAREWELL)

    def close_pipes(self) -> None:
        """Close both ends, on the thread that uses them: others would wait for it."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


def command_words(command: str) -> str | list[str]:
    """Return a command line as the system takes it: Windows splits it itself.

    Raises
    ------
    ValueError
        If a quotation mark has no other, or there is no word.
    """
    words = command.split() if sys.platform == "win32" else shlex.split(command)
    if not words:
        raise ValueError("it is empty")
    return command if sys.platform == "win32" else words


class CommandBackend(Introduced):
    """A program that answers a line of JSON on standard input with one on standard output.

    One that gives no answer is ended, and started anew for the next question.

    Raises
    ------
    InputError
        If it cannot be started or does not introduce itself.
    """

    def __init__(self, command: str, patience: Patience | None = None) -> None:
        self.command = command
        self.patience = patience or Patience()
        self.lost = 0
        try:
            hello = self._start()
            operations = names("operations", hello.get("operations"))
            super().__init__(hello, operations, self.patience)
        except (BrokenError, LateError, InputError) as e:
            self.close()
            raise InputError(f"--command {command}: no hello: {e}") from e
        except BaseException:
            self.close()
            raise

    def _start(self) -> dict[str, Any]:
        self.program = Program(self.command)
        return self._ask({"operation": "hello"})

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the answer, or end the program, which may be anywhere in the conversation."""
        program, line = self.program, json.dumps(question).encode() + b"\n"
        try:
            answer = self.patience.ask(lambda: program.exchange(line), program.close_pipes)
            return parse_answer(answer)
        except BrokenError:
            self.lost += 1
            program.end()
            program.close_pipes()
            raise
        except (LateError, KeyboardInterrupt):
            program.end()
            raise

    def call(self, operation: str, inputs: dict[str, NDArray[Any]], dtype: str) -> Arrays:
        """Ask the program; ``{"error": ...}`` is a refusal."""
        self.patience.check()
        if self.lost >= MOST_LOST:
            raise LateError(f"{NOT_POSED}: {self.lost} questions have ended the program")
        if self.program.over:
            self._start()
        answer = self._ask(
            {
                "operation": operation,
                "dtype": dtype,
                "inputs": {name: encode_value(value) for name, value in inputs.items()},
            }
        )
        if "error" in answer:
            raise RefusedError(str(answer["error"]))
        try:
            return [decode_value(answer["outputs"][n]) for n in OPERATIONS[operation].outputs]
        except Exception as e:  # NumPy has many for what a program may write
            raise BrokenError(f"the answer lacks an output or has a malformed one ({e})") from e

    def close(self) -> None:
        """Let the program end, or end it."""
        if hasattr(self, "program"):
            self.program.close()
        self.patience.close()


def parse_answer(line: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds.

    Raises
    ------
    BrokenError
        If it holds none.
    """
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise BrokenError(f"the answer is no JSON: {line[:80]!r}") from e
    if not isinstance(answer, dict):
        raise BrokenError(f"the answer is no JSON object: {line[:80]!r}")
    return answer
