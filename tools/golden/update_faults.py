"""Chains of files that a reader must refuse: at least one for each rule of SPEC, section 13.2."""

from __future__ import annotations

import struct
from dataclasses import replace

from golden import coded_files, containers
from golden.containers import WORKED_EXAMPLE as ROOT
from golden.containers import flip, seal
from golden.integers import next_word
from golden.update_files import HASHED, OF_HASHED, SMALL, Update, chain

# Name, class of fault, files from the root on, note.
Fault = tuple[str, str, tuple[bytes, ...], str]

ANOTHER = "an update of another file"
CUT, RANGE = "the header is cut off", "block size out of range"
OTHER = "not the code word of its integers"
SMALLER, LARGER = "shorter than its header calls for", "longer than its header calls for"

# Lengths that do not cut the two files of 47 and 26 bytes.
LENGTHS = (
    ("lengths-of-no-file", "no file", (), ""),
    ("lengths-below-the-bytes", "the lengths are not those of the files", (47, 25), ""),
    ("lengths-above-the-bytes", "the lengths are not those of the files", (47, 27), ""),
    ("lengths-below-0", "the lengths are not those of the files", (47, 27, -1), ""),
    ("lengths-of-a-third-file", "truncated", (47, 26, 0), "the last file is empty"),
    ("lengths-exchanged", "bad CRC", (26, 47), ""),
)


def faults() -> list[Fault]:
    """Return all of them."""
    return [
        *damaged(),
        *wrong_bases(),
        *wrong_headers(),
        *wrong_varints(),
        *wrong_lengths(),
        *wrong_messages(),
    ]


def good() -> bytes:
    """Return the update of docs/SPEC.md, section 13.4."""
    return SMALL.of(ROOT)


def behind(name: str, fault: str, data: bytes, note: str = "") -> Fault:
    """Return a wrong update of the worked example."""
    return name, fault, (ROOT, data), note


def changed(at: int, byte: int) -> bytes:
    """Return the right update but for a byte, its checksum made right."""
    body = good()[:-4]
    return seal(body[:at] + bytes([byte]) + body[at + 1 :])


def damaged() -> list[Fault]:
    """Rules 1 to 4."""
    whole, unknown = good(), "unknown version"
    header = seal(whole[:7])
    return [
        behind("empty", "empty", b""),
        *(behind(f"truncated-to-{n}", "truncated", whole[:n]) for n in (2, 4, 8, 11, 12, 20, 25)),
        behind("sealed-11-bytes", "truncated", header, "a checksum, but no whole base"),
        behind("magic-third-letter", "wrong magic", changed(2, 0x44)),
        behind("version-1f", unknown, changed(3, 0x1F)),
        behind("version-2d", unknown, changed(3, 0x2D), "random code 13"),
        behind("version-2", unknown, changed(3, 2)),
        *(behind(f"bit-flipped-in-byte-{n}", "bad CRC", flip(whole, n))
          for n in (4, 8, 13, 20, 25)),
        behind("trailing-zero", "trailing bytes", whole + b"\0"),
        behind("checksum-in-big-endian", "bad CRC", whole[:-4] + whole[-4:][::-1]),
        ("root-damaged", "bad CRC", (flip(ROOT, 41), whole), "the base alone is wrong"),
        ("update-as-root", unknown, (whole,), "a model is wanted"),
        ("update-as-root-of-an-update", unknown, (whole, SMALL.of(whole)), ""),
        ("model-as-update", unknown, (ROOT, ROOT), "an update is wanted"),
    ]  # fmt: skip


def wrong_bases() -> list[Fault]:
    """Rule 5: the checksums of bases, and the files of a chain in another order."""
    update = OF_HASHED
    root, one, two, three = chain(HASHED, update, replace(update, seed=6), replace(update, seed=7))
    altered = containers.assemble(replace(containers.SMALL, given=(9, 31, 19)))
    flipped = struct.pack("<I", struct.unpack("<I", ROOT[-4:])[0] ^ 1)
    return [
        ("base-of-another-index", ANOTHER, (altered, good()), "of a model that differs in a bit"),
        ("base-of-another-seed", ANOTHER,
         (containers.assemble(replace(containers.SMALL, seed=8)), good()), ""),
        *(behind(f"base-bit-flipped-in-byte-{n}", ANOTHER, seal(flip(good()[:-4], n)))
          for n in range(4, 8)),
        behind("base-off-by-one", ANOTHER, SMALL.of(flipped)),
        behind("base-in-big-endian", ANOTHER, SMALL.of(ROOT[-4:][::-1])),
        behind("base-zero", ANOTHER, SMALL.of(bytes(4))),
        behind("base-is-the-first-four-bytes", ANOTHER, SMALL.of(ROOT[:4])),
        ("link-missing", ANOTHER, (root, two), "the file between them is not there"),
        ("second-link-missing", ANOTHER, (root, one, three), ""),
        ("order-of-updates", ANOTHER, (root, two, one), ""),
        ("update-applied-twice", ANOTHER, (root, one, one), ""),
        ("two-updates-of-one-base", ANOTHER, (root, one, replace(update, seed=6).of(root)),
         "both are of the root"),
        ("third-file-damaged", "bad CRC", (root, one, flip(two, len(two) - 6), three), ""),
        ("bits-0-of-another-base", ANOTHER, (altered, changed(8, 0)), "the base comes first"),
    ]  # fmt: skip


def wrong_headers() -> list[Fault]:
    """Rules 6 to 9."""
    body, head = good()[:-4], SMALL.head(ROOT)
    bits, none = "bits out of range", "no tensor is coded"
    return [
        *(behind(f"header-of-{n}-bytes", CUT, seal(body[:n])) for n in range(8, len(head))),
        behind("bits-0", bits, replace(SMALL, bits=0, given=(0,)).of(ROOT)),
        behind("bits-25", bits, replace(SMALL, bits=25).of(ROOT)),
        behind("bits-255", bits, changed(8, 255)),
        behind("levels-0", none, seal(head[:-8] + bytes(8) + b"\x94\x50"), "nothing is coded"),
        behind("block-size-0", RANGE, changed(9, 0)),
        behind("block-size-above-the-coded-variables", RANGE,
               replace(SMALL, block_size=4).of(ROOT), "8 variables, but 3 coded ones"),
        behind("largest-block-size", RANGE, replace(SMALL, block_size=2**32 - 1).of(ROOT)),
        ("levels-of-network-2", CUT,
         (ROOT, seal(SMALL.head(ROOT)[:-8] + bytes((128, 0, 121, 0, 0, 131)))), "six levels"),
        ("six-levels-for-eight-tensors", none,
         (ROOT, seal(SMALL.head(ROOT)[:-8] + bytes(8) + b"\x80\x83\x94\x50")),
         "what stands behind the eighth is no level"),
    ]  # fmt: skip


def wrong_varints() -> list[Fault]:
    """Rule 7, each of both varints."""
    at_size, at_seed = good()[:9], good()[:10]
    levels, rest = good()[12:20], good()[20:-4]
    rows = (
        ("not-canonical", "varint not canonical", b"\x82\x00"),
        ("not-canonical-zero", "varint not canonical", b"\x80\x00"),
        ("2-to-the-32", "varint too large", b"\x80\x80\x80\x80\x10"),
        ("of-six-bytes", "varint too large", b"\x82\x80\x80\x80\x80\x00"),
    )
    return [
        *(behind(f"block-size-{name}", fault, seal(at_size + wrong + b"\xac\x02" + levels + rest))
          for name, fault, wrong in rows),
        *(behind(f"seed-{name}", fault, seal(at_seed + wrong + levels + rest))
          for name, fault, wrong in rows),
    ]  # fmt: skip


def wrong_lengths() -> list[Fault]:
    """Rule 10, of indices."""
    body = good()[:-4]
    all_of_them = replace(SMALL, levels=(128,) * 8, given=(37, 5, 1, 2)).messages()
    return [
        behind("sealed-one-byte-short", SMALLER, seal(body[:-1])),
        behind("sealed-without-indices", SMALLER, seal(body[:-2])),
        behind("sealed-with-a-byte-more", LARGER, seal(body + b"\0")),
        behind("indices-of-all-variables", LARGER, seal(body[:-2] + all_of_them),
               "8 variables, but 3 coded ones"),
        behind("padding-bit-set", "padding bits not zero", changed(21, 0x51)),
        behind("first-padding-bit-set", "padding bits not zero", changed(21, 0x58)),
    ]  # fmt: skip


def wrong_messages() -> list[Fault]:
    """Rule 10, of the other codes."""
    nodes = replace(SMALL, code="gprs-s", given=(1, 6, 2), theta=40000)
    head, word = nodes.head(ROOT), nodes.messages()[2:]
    rows = replace(SMALL, code="orc")
    range_, large = "integer out of range", "integer above 2^62 - 1"
    cut, end = "the integers are cut off", "bytes behind the end"
    easy = replace(SMALL, code="grc", given=(1, 1, 1), theta=30000)

    def of(name: str, fault: str, update: Update, note: str = "") -> Fault:
        return behind(name, fault, update.of(ROOT), note)

    def sent(name: str, fault: str, messages: bytes, note: str = "") -> Fault:
        return behind(name, fault, seal(head + messages), note)

    theta = (40000).to_bytes(2, "little")
    return [
        sent("gprs-s-without-messages", SMALLER, b""),
        sent("gprs-s-without-a-code-word", SMALLER, theta),
        sent("gprs-s-theta-0", "theta is zero", bytes(2) + word),
        sent("gprs-s-code-word-cut-off", cut, theta + word[:-1]),
        sent("gprs-s-zero-behind-the-code-word", end, theta + word + b"\0"),
        sent("gprs-s-two-bytes-ff", OTHER, theta + b"\xff\xff"),
        sent("gprs-s-nodes-of-all-variables", end,
             coded_files.payload_of(40000, (1, 6, 2, 1, 3, 1, 45, 99)),
             "8 variables, but 3 coded ones"),
        sent("gprs-s-nodes-of-all-places", end,
             coded_files.payload_of(40000, (1, 6, 2, 999)), "the last place holds nothing"),
        behind("grc-not-the-lowest-code-word", OTHER,
               seal(easy.head(ROOT) + (30000).to_bytes(2, "little") + next_word((1,) * 3, 30000))),
        of("orc-row-2-to-the-bits", range_, replace(rows, given=(65, 1))),
        of("pfr-row-2-to-the-32", range_, replace(rows, code="pfr", given=(1, 2**32 + 1))),
        of("sp-pfr-candidate-2-to-the-32", range_,
           replace(rows, code="sp-pfr", given=(2**38, 64))),
        of("as-star-node-2-to-the-62", large, replace(nodes, code="as-star", given=(1, 2**62, 2))),
        of("grc-node-2-to-the-90", large,
           replace(nodes, code="grc", given=(1, 2, 2**90), theta=65000)),
        behind("orc-with-indices", SMALLER, seal(rows.head(ROOT) + b"\x94\x50")),
        behind("mrc-with-messages", LARGER,
               seal(SMALL.head(ROOT) + coded_files.payload_of(60000, (38, 6)))),
    ]  # fmt: skip
