"""Since 1.3: integers at 2^8, 2^16, 2^24, 2^31 and 2^32 - 1, and just beyond what is legal.

Words, permutations, indices, integers and the layout.  A port that holds a number in 8, 16 or 24
bits, in a float32 or in a signed word, answers otherwise here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from golden import bits, containers, integers
from golden.containers import Fields
from golden.sources import spec_decoder
from golden.writer import later, make_case

Case = dict[str, Any]

SINCE = "1.3"
EXACT = {"exact": 0}
WORD = 2**32
POWERS = {"8": 2**8, "16": 2**16, "24": 2**24, "31": 2**31}
# Both sides of each width.
ENDS = (*(n for p in POWERS.values() for n in (p - 1, p)), WORD - 1)


def new_case(operation: str, name: str, inputs: Any, outputs: Any = None, **more: Any) -> Case:
    """Return a case whose results are exact, or with a `fault` a negative one."""
    bounds = dict.fromkeys(outputs or {}, EXACT)
    return make_case(f"{operation}/{name}", inputs, outputs, bounds, since=SINCE, **more)


def words_from(seed: int, stream: int, row: int, first: int, count: int) -> list[int]:
    """Return words of a row without those before them."""
    blocks = range(first // 4, -(-(first + count) // 4))
    found = [w for b in blocks for w in spec_decoder.philox4x32((b, row, 0, 0), (seed, stream))]
    return found[first % 4 : first % 4 + count]


def no_word(inputs: dict[str, Any], *names: str) -> list[tuple[str, dict[str, Any], str]]:
    """Return name, inputs and fault of questions whose number of a name is no 32-bit word."""
    return [
        (f"{name}-{said}", {**inputs, name: value}, f"{name} is no 32-bit word")
        for name in names
        for said, value in (("2-to-the-32", WORD), ("negative", -1))
    ]


# --- words


@later("philox4x32")
def philox() -> list[Case]:
    """Each word of the counter, then each of the key."""
    cases = []
    for word in range(4):
        counters = [tuple(n if i == word else i + 1 for i in range(4)) for n in ENDS]
        cases.append(philox_case(f"ends-of-counter-word-{word}", counters, (1, 2)))
    for word in range(2):
        for width, n in POWERS.items():
            key = tuple(n if i == word else 3 for i in range(2))
            name = f"key-word-{word}-2-to-the-{width}"
            cases.append(philox_case(name, [(1, 2, 3, 4)], key))
    return cases


def philox_case(name: str, counters: Any, key: Any) -> Case:
    """Return a case of philox4x32."""
    words = [spec_decoder.philox4x32(c, key) for c in counters]
    inputs = {"counter": bits.uint32(counters), "key": bits.uint32(key)}
    return new_case("bits/philox4x32", name, inputs, {"words": bits.uint32(words)})


def address(seed: int, stream: int, row: int, first: int, count: int) -> dict[str, int]:
    """Return the arguments of stream_words."""
    return {"seed": seed, "stream": stream, "row": row, "first": first, "count": count}


def words_case(name: str, inputs: dict[str, int], note: str = "") -> Case:
    """Return a case of stream_words."""
    words = bits.uint32(words_from(**inputs))
    return new_case("bits/stream_words", name, inputs, {"words": words}, note=note)


@later("stream_words")
def stream_words() -> list[Case]:
    """Seed, row and first word; then the end of a row, and many words."""
    base = address(300, 4, 2, 0, 6)
    cases = [
        words_case(f"{name}-2-to-the-{width}", {**base, name: n})
        for name in ("seed", "row")
        for width, n in POWERS.items()
    ]
    for width in (8, 16, 24, 29, 30, 31):
        note = f"the block counter passes 2^{width}"
        first = 2 ** (width + 2) - 3
        cases.append(words_case(f"block-2-to-the-{width}", {**base, "first": first}, note))
    cases += [
        words_case("last-words-of-a-row", {**base, "first": 2**34 - 6}, "block 2^32 - 1"),
        words_case("count-above-2-to-the-8", {**base, "count": 261}),
        words_case("count-above-2-to-the-16", {**base, "count": 2**16 + 5}),
        *(new_case("bits/stream_words", name, inputs, fault=fault)
          for name, inputs, fault in no_word(base, "seed", "row")),
    ]  # fmt: skip
    beyond = (
        ("first-negative", {"first": -1}, "words are counted from 0"),
        ("count-negative", {"count": -1}, "there is no negative number of words"),
        ("beyond-the-end-of-a-row", {"first": 2**34 - 5}, "a row has 2^34 words"),
    )
    return cases + [
        new_case("bits/stream_words", name, {**base, **change}, fault=fault)
        for name, change, fault in beyond
    ]


@later("stream_permutation")
def permutations() -> list[Case]:
    """Seed and row; then so many words that the block counter passes 2^16."""
    base = {"seed": 3, "stream": 5, "row": 0, "count": 12}

    def case(name: str, change: dict[str, int], note: str = "") -> Case:
        inputs = {**base, **change}
        found = bits.permutation_of(**inputs)
        order = np.array(found, dtype=np.uint32 if len(found) > 2**16 else np.int64)
        outputs = {"permutation": order}
        flags = ("tie",) if len(found) > 2**16 else ()
        return new_case("bits/stream_permutation", name, inputs, outputs, note=note, flags=flags)

    cases = [
        case(f"{name}-2-to-the-{width}", {name: n})
        for name in ("seed", "row")
        for width, n in POWERS.items()
    ]
    note = "word 262,144 is the first of block 65,536; numbers above 65,535"
    cases += [
        case("count-above-2-to-the-8", {"count": 261}),
        case("block-2-to-the-16", {"count": 2**18 + 4}, note),
    ]
    faults = no_word(base, "seed", "row")
    faults.append(("count-negative", {**base, "count": -1}, "no negative number of words"))
    return cases + [
        new_case("bits/stream_permutation", name, inputs, fault=fault)
        for name, inputs, fault in faults
    ]


# --- indices and integers

MANY = 3000  # indices of 24 bits: a string of 72,000 bits


def uint8(payload: bytes) -> Any:
    """Return bytes as an array, which goes to a file where it is long."""
    return np.frombuffer(payload, dtype=np.uint8)


@later("pack_indices")
def pack_indices() -> list[Case]:
    """Pose a string of more than 2^16 bits; widths that no file has."""
    indices = bits.spread_indices(24, MANY)
    inputs = {"indices": bits.uint32(indices), "bits": 24}
    payload = uint8(containers.pack(indices, 24))
    many = new_case("bits/pack_indices", "bit-2-to-the-16", inputs, {"payload": payload})
    return [many] + [
        new_case(
            "bits/pack_indices",
            f"bits-{width}" if width >= 0 else "bits-negative",
            {"indices": np.array([0, 0]), "bits": width},
            fault="bits out of range",
        )
        for width in (0, 25, -1)
    ]


@later("unpack_indices")
def unpack_indices() -> list[Case]:
    """Pose the same, the other way round."""
    indices = bits.spread_indices(24, MANY)
    inputs = {"payload": uint8(containers.pack(indices, 24)), "bits": 24, "count": MANY}
    outputs = {"indices": bits.uint32(indices)}
    rows = (
        ("bits-0", b"", 0, 2, "bits out of range"),
        ("bits-25", bytes(7), 25, 2, "bits out of range"),
        ("count-negative", b"", 5, -1, "there is no negative number of indices"),
    )
    return [new_case("bits/unpack_indices", "bit-2-to-the-16", inputs, outputs)] + [
        new_case(
            "bits/unpack_indices",
            name,
            {"payload": payload, "bits": width, "count": count},
            fault=fault,
        )
        for name, payload, width, count, fault in rows
    ]


def long_lists() -> list[tuple[str, Sequence[int], int, Any]]:
    """Return name, integers, theta and dtype."""
    return [
        ("integer-2-to-the-16", (*((1,) * 2**16), 3, 1, 2), 1, np.uint8),
        ("theta-255", (1, 2, 3, 70), 255, np.int64),
        ("theta-256", (1, 2, 3, 70), 256, np.int64),
        ("theta-257", (1, 2, 3, 70), 257, np.int64),
    ]


@later("read_integers")
def read_integers() -> list[Case]:
    """Pose a list longer than 2^16; arguments just beyond what a file may say."""
    cases = []
    for name, values, theta, dtype in long_lists():
        payload = uint8(integers.code_word(values, theta))
        inputs = integers.reader_inputs(payload, len(values), theta)
        outputs = {"integers": np.array(values, dtype=dtype)}
        cases.append(new_case("bits/read_integers", name, inputs, outputs))
    word = integers.code_word((1, 3, 200), 36864)
    rows = (
        ("theta-negative", 3, -1, 0, "theta out of range"),
        ("raw-25", 3, 36864, 25, "raw bits out of range"),
        ("raw-negative", 3, 36864, -1, "raw bits out of range"),
        ("count-negative", -1, 36864, 0, "there is no negative number of integers"),
    )
    return cases + [
        new_case("bits/read_integers", name, integers.reader_inputs(word, *numbers), fault=fault)
        for name, *numbers, fault in rows
    ]


@later("write_integers")
def write_integers() -> list[Case]:
    """Pose the same lists."""
    cases = []
    for name, values, theta, dtype in long_lists():
        inputs = {"integers": np.array(values, dtype=dtype), "theta": theta, "raw": 0}
        payload = uint8(integers.code_word(values, theta))
        cases.append(new_case("bits/write_integers", name, inputs, {"payload": payload}))
    for raw in (25, -1):
        inputs = {"integers": np.array([2**40]), "theta": 30000, "raw": raw}
        name = f"raw-{raw}" if raw > 0 else "raw-negative"
        cases.append(new_case("bits/write_integers", name, inputs, fault="raw bits out of range"))
    return cases


# --- the layout


@later("block_layout")
def block_layout() -> list[Case]:
    """Seeds, a network without sharing, and arguments that no layout has."""
    weights = bits.some_weights()[::7]
    cases = []

    def inputs_of(fields: Fields, chosen: Sequence[int]) -> dict[str, Any]:
        header = bits.header_arrays(fields)
        return {**{k: header[k] for k in bits.LAYOUT}, "weights": np.array(chosen)}

    def case(name: str, fields: Fields, chosen: Sequence[int]) -> Case:
        places, signs = bits.place_and_sign(fields, chosen)
        outputs = {"places": np.array(places), "weight_signs": np.array(signs)}
        return new_case("bits/block_layout", name, inputs_of(fields, chosen), outputs)

    shared = (50, 4, 250, 5, 5000, 50, 50, 2)
    for width, seed in POWERS.items():
        fields = Fields(1, 2, 20, seed, shared)
        cases.append(case(f"seed-2-to-the-{width}", fields, weights))
    cases += [
        case("unshared", Fields(0, 1, 2**16, 5, (1,) * 8), bits.some_weights()),
        case("block-size-431080", Fields(1, 0, bits.STARTS[-1], 6, (1,) * 8), weights),
    ]
    good = inputs_of(Fields(1, 2, 20, 3, shared), (0, 500, 431079))
    beyond = [
        ("weight-431080", {"weights": np.array([0, bits.STARTS[-1]])}, "no such weight"),
        ("weight-negative", {"weights": np.array([0, -1])}, "no such weight"),
        ("factor-0", {"factors": np.array((0, *shared[1:]))}, "hash factor out of range"),
        ("grouping-2", {"grouping": 2}, "unknown layout flags"),
        ("signs-3", {"signs": 3}, "unknown layout flags"),
        ("block-size-0", {"block_size": 0}, "block size out of range"),
        ("block-size-above-variables", {"block_size": 10**6}, "block size out of range"),
        ("seed-2-to-the-32", {"seed": WORD}, "seed is no 32-bit word"),
        ("seed-negative", {"seed": -1}, "seed is no 32-bit word"),
        *(
            (
                f"factor-above-weights-of-tensor-{t}",
                {"factors": np.array([*shared[:t], count + 1, *shared[t + 1 :]])},
                "hash factor out of range",
            )
            for t, count in enumerate(containers.COUNTS)
        ),
    ]
    return cases + [
        new_case("bits/block_layout", name, {**good, **change}, fault=fault)
        for name, change, fault in beyond
    ]


# --- the codebook


@later("codebook")
def codebook() -> list[Case]:
    """Seeds, indices and places."""

    def inputs(seed: int, indices: Sequence[int], dimension: int) -> dict[str, Any]:
        return {"seed": seed, "indices": np.array(indices), "dimension": dimension}

    def case(name: str, *address: Any) -> Case:
        seed, indices, dimension = address
        rows = [list(map(spec_decoder.normal, spec_decoder.words(seed, 3, k, dimension)))
                for k in indices]  # fmt: skip
        outputs = {"rows": np.array(rows, dtype=np.float32)}
        return new_case("numerics/codebook", name, inputs(*address), outputs)

    cases = [case(f"seed-2-to-the-{width}", n, (5,), 3) for width, n in POWERS.items()]
    cases += [case("ends-of-indices", 9, ENDS, 3), case("place-2-to-the-8", 9, (3,), 260)]
    faults = [
        ("index-2-to-the-32", inputs(9, (0, WORD), 3), "an index is no 32-bit word"),
        ("index-negative", inputs(9, (0, -1), 3), "an index is no 32-bit word"),
        *no_word(inputs(9, (1,), 3), "seed"),
    ]
    return cases + [
        new_case("numerics/codebook", name, arguments, fault=fault)
        for name, arguments, fault in faults
    ]
