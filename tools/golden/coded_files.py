"""Files of the random codes 1 to 12 and of network 2, put together by hand, right or wrong."""

from __future__ import annotations

from dataclasses import replace

from golden import containers
from golden.containers import SCALES, Fault, Fields, header_of, seal
from golden.integers import code_word, next_word, spread

NUMBERS = {
    "orc": 1,
    "pfr": 2,
    "sp-pfr": 3,
    "as-star": 4,
    "ad-star": 5,
    "dad-star": 6,
    "grc": 7,
    "grc-s": 8,
    "grc-d": 9,
    "gprs": 10,
    "gprs-s": 11,
    "gprs-d": 12,
}
LARGEST = 2**62 - 1
# Name, bytes, flags, note.
File = tuple[str, bytes, tuple[str, ...], str]

SHORT, DEEP, TIE = ("short-block",), ("deep",), ("tie", "short-block")
# 8 variables, as in docs/SPEC.md section 9.3, whose nodes these are.
SMALL = containers.SMALL
NODES = (1, 6, 2, 1, 3, 1, 45, 1)


def payload_of(theta: int, values: tuple[int, ...], raw: int = 0) -> bytes:
    """Return the messages: theta and a code word."""
    return theta.to_bytes(2, "little") + code_word(values, theta, raw)


def assemble(fields: Fields, code: str, values: tuple[int, ...], theta: int = 60000) -> bytes:
    """Return a file of a code; the integers are those of section 2.7."""
    raw = fields.bits if code == "sp-pfr" else 0
    return seal(header_of(fields, NUMBERS[code]) + payload_of(theta, values, raw))


# --- docs/SPEC.md sections 10.1 and 10.2


def of_the_document(code: str, bits: int, seed: int, network: int = 1) -> bytes:
    """Return the file of a row of section 10.1, or for network 2 of section 10.2."""
    factors = {1: (5, 5, 1000, 5, 4000, 50, 50, 1), 2: (2000, 5, 300, 5, 25, 1)}[network]
    scales = tuple(0x2400 + 0x111 * t for t in range(len(factors)))
    fields = Fields(1, 1, 10, seed, factors, bits, scales, network=network)
    values = []
    for t in range(fields.variables if NUMBERS[code] >= 4 else fields.blocks):
        x = t * 2654435761 % 2**32
        n = 2 ** (x // 2**27) + x % 2 ** (x // 2**27)
        m = {"orc": x // 2**18 + 1, "sp-pfr": n * 2**16 + x // 2**16}.get(code, n)
        values.append(m)
    return assemble(fields, code, tuple(values))


BITS = {"orc": 14, "pfr": 9, "sp-pfr": 16}
SEEDS = (300, 2**32 - 1, 1)
OF_THE_DOCUMENT = tuple(
    (code, BITS.get(code, 5), SEEDS[i % 3], 1) for i, code in enumerate(NUMBERS)
)
OF_NETWORK_2 = (("sp-pfr", 16, 7, 2), ("gprs-d", 5, 300, 2))


# --- right ones


def valid() -> list[File]:
    """Return files of every code; then ones at the edges of their integers."""
    files: list[File] = [
        (code, of_the_document(code, bits, seed), SHORT, "docs/SPEC.md section 10.1")
        for code, bits, seed, _ in OF_THE_DOCUMENT
    ]
    small = "docs/SPEC.md section 9.3"
    files.append(("worked-example-gprs-s", assemble(SMALL, "gprs-s", NODES, 34696), SHORT, small))
    return [*files, *blocks_at_the_edges(), *variables_at_the_edges(), *files_of_network_2()]


def blocks_at_the_edges() -> list[File]:
    """Return files of codes of blocks."""
    one = replace(SMALL, block_size=1)
    wide = Fields(0, 2, 7, 9, (50, 20, 5000, 50, 8000, 500, 500, 10), 10)
    bins = tuple((2**e + 5) * 2**10 + 357 * e % 2**10 for e in range(12))
    largest = (*(2**56 - 1 - 2**k for k in range(7)), 2**24)
    return [
        ("orc-bits-1", assemble(replace(SMALL, bits=1), "orc", (2, 1, 2), 20000), SHORT, ""),
        ("orc-bits-24", assemble(replace(SMALL, bits=24), "orc", (2**24, 1, 7)), SHORT, ""),
        (
            "pfr-largest-row",
            assemble(SMALL, "pfr", (2**32, 2**31, 1)),
            SHORT,
            "row 2^32 - 1 of the codebook",
        ),
        ("sp-pfr-bits-do-not-divide", assemble(wide, "sp-pfr", bins), SHORT, "k_d is 1, 1, 2, ..."),
        (
            "sp-pfr-bits-24-in-one-place",
            assemble(replace(one, bits=24), "sp-pfr", largest),
            (),
            "n up to 2^32 - 1; the sum of u rounds",
        ),
        (
            "sp-pfr-one-block",
            assemble(replace(SMALL, block_size=8, bits=3), "sp-pfr", (8 * 77 + 5,)),
            (),
            "fewer bits than places",
        ),
        ("pfr-theta-1", assemble(SMALL, "pfr", (1, 1, 2), 1), SHORT, ""),
        ("orc-theta-65535", assemble(SMALL, "orc", (9, 31, 18), 65535), SHORT, ""),
    ]


def variables_at_the_edges() -> list[File]:
    """Return files of codes of variables: the deepest nodes, both groupings, all signs."""
    deep = (LARGEST, 2**61, 1, 2**53 + 1, 0x2AAAAAAAAAAAAAAA, 2**32, 2**40 + 7, LARGEST - 1)
    odd = Fields(1, 2, 13, 9, (499, 7, 500, 3, 4999, 11, 450, 4), 12)
    nodes = tuple(spread(odd.variables, 20))
    one_block = replace(SMALL, block_size=8, grouping=1, signs=0)
    return [
        *((f"{code}-deep", assemble(SMALL, code, deep), (*SHORT, *DEEP), "nodes up to 2^62 - 1")
          for code in ("as-star", "ad-star", "grc")),
        (
            "grc-s-inputs-and-signs-by-weight",
            assemble(odd, "grc-s", nodes, 61000),
            SHORT,
            "INPUTS, WEIGHT",
        ),
        ("gprs-one-block", assemble(one_block, "gprs", NODES, 34696), (), "INPUTS, NONE"),
        ("grc-d-theta-1", assemble(SMALL, "grc-d", (1,) * 8, 1), SHORT, ""),
        ("dad-star-theta-65535", assemble(SMALL, "dad-star", (9, *NODES[1:]), 65535), SHORT, ""),
    ]  # fmt: skip


def files_of_network_2() -> list[File]:
    """Return files of network 2, of code 0 and of others."""
    scales = SCALES[:6]
    unhashed = Fields(0, 1, 300, 2, (1,) * 6, 12, scales, network=2)
    odd = Fields(1, 2, 13, 300, (999, 7, 130, 3, 49, 4), 11, scales, network=2)
    plain = Fields(1, 0, 30, 2**32 - 1, (100, 1, 100, 1, 1, 1), 14, scales, network=2)
    deep = (LARGEST, 2**61, 1, 2**53 + 1, 2**32, 3)
    return [
        ("lenet-300-100", containers.assemble(containers.SMALL_2), SHORT, "one variable a tensor"),
        (
            "lenet-300-100-equal-words-in-the-permutation",
            containers.assemble(unhashed),
            TIE,
            "no hashing: 266,610 variables",
        ),
        ("lenet-300-100-inputs-and-signs-by-weight", containers.assemble(odd), SHORT, ""),
        ("lenet-300-100-signs-none", containers.assemble(plain), SHORT, ""),
        *(
            (f"lenet-300-100-{row[0]}", of_the_document(*row), SHORT, "docs/SPEC.md section 10.2")
            for row in OF_NETWORK_2
        ),
        (
            "lenet-300-100-as-star-deep",
            assemble(containers.SMALL_2, "as-star", deep),
            (*SHORT, *DEEP),
            "nodes up to 2^62 - 1",
        ),
        (
            "lenet-300-100-pfr",
            assemble(replace(containers.SMALL_2, block_size=6), "pfr", (77,), 50000),
            (),
            "one block",
        ),
    ]


# --- wrong ones


def faults() -> list[Fault]:
    """Return name, class of fault, bytes and note of files that a reader must refuse."""
    return [*wrong_headers(), *wrong_words(), *wrong_integers()]


def wrong_headers() -> list[Fault]:
    """Return files whose header or length is wrong."""
    head = header_of(SMALL, NUMBERS["gprs-s"])
    good = assemble(SMALL, "gprs-s", NODES, 34696)
    body = good[:-4]
    unknown, short = "unknown random code", "shorter than its header calls for"
    as_code = header_of(SMALL)
    small_2 = containers.SMALL_2
    wide = replace(small_2, block_size=7)
    subnormal = replace(SMALL, rho=(*SCALES[:7], 0x03FF))
    return [
        ("network-3", "unknown network", containers.with_byte(4, 3), ""),
        ("network-3-gprs-s", "unknown network", seal(body[:4] + b"\3" + body[5:]), ""),
        ("random-code-13", unknown, seal(body[:5] + b"\x0d" + body[6:]), ""),
        ("gprs-s-bit-flipped-in-its-messages", "bad CRC", containers.flip(good, 44), ""),
        ("gprs-s-without-messages", short, seal(head), ""),
        ("gprs-s-without-a-code-word", short, seal(head + b"\x88\x87"), ""),
        (
            "gprs-s-last-scale-subnormal",
            "scale not positive and normal",
            assemble(subnormal, "gprs-s", NODES, 34696),
            "",
        ),
        ("gprs-s-theta-0", "theta is zero", seal(head + b"\0\0" + body[43:]), ""),
        (
            "orc-with-the-payload-of-mrc",
            short,
            seal(header_of(SMALL, NUMBERS["orc"]) + b"\x4f\xe4"),
            "two bytes of indices are no theta with a code word",
        ),
        (
            "mrc-with-the-payload-of-orc",
            "longer than its header calls for",
            seal(as_code + payload_of(60000, (10, 32, 19))),
            "",
        ),
        (
            "network-2-with-factors-of-network-1",
            "hash factor out of range",
            containers.with_byte(4, 2),
            "the fifth factor is 400000",
        ),
        (
            "lenet-300-100-block-size-above-variables",
            "block size out of range",
            containers.assemble(replace(wide, given=(9,))),
            "6 variables",
        ),
        (
            "lenet-300-100-gprs-d-cut-off",
            "the integers are cut off",
            seal(of_the_document(*OF_NETWORK_2[1])[:-5]),
            "",
        ),
    ]


def wrong_words() -> list[Fault]:
    """Return files whose bytes behind theta are no code word of so many integers."""
    head = header_of(SMALL, NUMBERS["gprs-s"]) + b"\x88\x87"
    theta = 34696
    word = code_word(NODES, theta)
    cut, behind = "the integers are cut off", "bytes behind the end"
    other = "not the code word of its integers"
    easy = header_of(SMALL, NUMBERS["grc"]) + (30000).to_bytes(2, "little")
    bins = header_of(SMALL, NUMBERS["sp-pfr"])
    return [
        ("gprs-s-code-word-cut-off", cut, seal(head + word[:-1]), ""),
        ("gprs-s-two-bytes-ff", other, seal(head + b"\xff\xff"), ""),
        ("gprs-s-zero-behind-the-code-word", behind, seal(head + word + b"\0"), ""),
        ("gprs-s-bytes-behind-the-code-word", behind, seal(head + word + b"more"), ""),
        ("gprs-s-one-integer-too-few", cut, seal(head + code_word((9,) * 7, theta)), ""),
        (
            "gprs-s-integers-at-unused-places",
            behind,
            seal(head + code_word((*NODES, 99), theta)),
            "9 places, but 8 variables",
        ),
        ("grc-not-the-lowest-code-word", other, seal(easy + next_word((1,) * 8, 30000)), ""),
        ("gprs-s-code-word-of-another-theta", other, seal(head + code_word(NODES, 65000)), ""),
        ("sp-pfr-one-bin-too-few", cut, seal(bins + payload_of(60000, (37, 99), 5)), ""),
        (
            "sp-pfr-without-the-bits-of-the-bins",
            cut,
            seal(bins + payload_of(40000, (1, 1, 2))),
            "",
        ),
    ]


def wrong_integers() -> list[Fault]:
    """Return files whose code word is right, but an integer of which names nothing."""
    fault, large = "integer out of range", "integer above 2^62 - 1"
    narrow = replace(SMALL, bits=24)
    rows = [
        ("orc-row-2-to-the-bits", fault, SMALL, "orc", (10, 33, 19), 60000),
        ("orc-row-of-many-bits", fault, SMALL, "orc", (10, 2**40, 19), 60000),
        ("pfr-row-2-to-the-32", fault, SMALL, "pfr", (1, 2, 2**32 + 1), 60000),
        ("sp-pfr-candidate-2-to-the-32", fault, SMALL, "sp-pfr", (2**37, 99, 99), 60000),
        ("sp-pfr-bits-24-candidate-2-to-the-32", fault, narrow, "sp-pfr", (2**24, 2**56, 2**25),
         60000),
        ("as-star-node-2-to-the-62", large, SMALL, "as-star", (1, 2**62, *NODES[2:]), 60000),
        ("ad-star-node-2-to-the-62", large, SMALL, "ad-star", (*NODES[:7], 2**62), 60000),
        ("grc-node-2-to-the-90", large, SMALL, "grc", (*NODES[:7], 2**90), 65000),
        ("pfr-row-2-to-the-62", large, SMALL, "pfr", (1, 2, 2**62), 60000),
        ("sp-pfr-bits-24-message-2-to-the-62", large, narrow, "sp-pfr", (2**24, 2**62, 2**25),
         60000),
    ]  # fmt: skip
    return [(name, what, assemble(*rest), "") for name, what, *rest in rows]
