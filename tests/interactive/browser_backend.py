"""The page's functions as a backend of the conformance suite; bridge.js is the other half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refmiracle.conformance.programs import decode_value, encode_value

BRIDGE = Path(__file__).with_name("bridge.js")
OPERATIONS = (
    *("philox4x32", "stream_words", "stream_permutation", "pack_indices", "unpack_indices"),
    "read_integers",
    *("read_container", "describe_file", "block_layout", "normal_quantile", "codebook"),
    *("log_s", "gaussian_kl"),
    *("expand_hash", "images", "log_weights", "select_indices", "decode_blocks"),
    *("partition_rows", "variable_samples", "decode_model", "decode_chain", "predict"),
)


class BrowserRefusal(Exception):  # noqa: N818
    """The page refuses its input, in one line."""


class BrowserBackend:
    """Operations that a page in a browser computes; `page` has the bridge."""

    name = "docs/interactive in a browser"
    version = "1"
    dtypes = ("float64",)

    def __init__(self, page: Any) -> None:
        self.page = page
        for operation in OPERATIONS:
            setattr(self, operation, self.ask_for(operation))

    def ask_for(self, operation: str):
        """Return the callable of an operation."""

        def ask(*arguments):
            (answer,) = ask_many(self.page, operation, [arguments])
            if isinstance(answer, str):
                raise BrowserRefusal(answer)
            return answer

        return ask


def ask_many(page: Any, operation: str, questions: list[tuple]) -> list[list[np.ndarray] | str]:
    """Return the results for each tuple of arguments, or the line that refuses them.

    Raises
    ------
    SystemError
        If the code of the page fails: for the suite that is a failure, never a refusal.
    """
    encoded = [[encode_value(np.asarray(a)) for a in arguments] for arguments in questions]
    try:
        answers = page.evaluate("([o, all]) => all.map((i) => answer(o, i))", [operation, encoded])
    except Exception as e:
        raise SystemError(str(e)) from e
    return [a.get("refused") or [decode_value(o) for o in a["outputs"]] for a in answers]


def ask_files(page: Any, operation: str, files: list[bytes]) -> list[list[np.ndarray] | str]:
    """Return `ask_many` for operations that take a file alone."""
    return ask_many(page, operation, [(np.frombuffer(f, dtype=np.uint8),) for f in files])
