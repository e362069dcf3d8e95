"""Faults that people make who write files: of all codes, and the best of several candidates."""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
from conformance.faults import Fault, patched, registers_in

from refmiracle.codes.code import VARIABLE
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.engines.numba_engine.mrc import CHUNK
from refmiracle.fileformat.container import parse_model

OF_WRITERS: list[Fault] = []
fault = registers_in(OF_WRITERS)
FIELDS = OPERATIONS["compose_file"].inputs


def changed(right, fields, **changes):
    """The file of other fields, or of these where there is no such file."""
    given = dict(zip(FIELDS, fields, strict=True))
    given |= {name: np.asarray(change(given)) for name, change in changes.items()}
    with suppress(Exception):
        return right.compose_file(*given.values())
    return right.compose_file(*fields)


def sealed(body):
    """A body with its checksum."""
    return np.frombuffer(bytes(body) + zlib.crc32(bytes(body)).to_bytes(4, "little"), np.uint8)


@fault("compose_file", "orc-small")
def rows_are_not_counted_from_one(right, *fields):
    return patched(
        "refmiracle.codes.block_codes.CodeOfRows.to_positive",
        lambda code, messages: np.maximum(np.asarray(messages), 1),
        right.compose_file,
    )(*fields)


@fault("compose_file", "sp-pfr-small")
def bins_are_coded_with_their_candidates(right, *fields):
    name = "refmiracle.codes.block_codes.SpacePartitioning.raw_bits"
    return patched(name, lambda *_: 0, right.compose_file)(*fields)


@fault("compose_file", "theta-1")
def theta_is_the_writers_own(right, *fields):
    model = parse_model(right.compose_file(*fields).tobytes())
    return np.frombuffer(replace(model, theta16=0).to_bytes(), np.uint8)


@fault("compose_file", "theta-256")
def theta_in_one_byte(right, *fields):
    return changed(right, fields, theta=lambda f: int(f["theta"]) % 256 or int(f["theta"]) >> 8)


@fault("compose_file", "theta-255")
def theta_with_its_high_byte_first(right, *fields):
    data = right.compose_file(*fields)
    if not int(fields[FIELDS.index("theta")]):
        return data
    theta = int(fields[FIELDS.index("theta")]).to_bytes(2, "little")
    body = data[:-4].tobytes()
    at = body.index(theta, 12 + 2 * len(fields[FIELDS.index("rho")]))
    return sealed(body[:at] + theta[::-1] + body[at + 2 :])


@fault("compose_file", "dad-star-small")
def codes_of_one_decoder_have_one_number(right, *fields):
    twins = {9: 5, 6: 5, 12: 5, 8: 4, 11: 4, 10: 7, 2: 1}
    return changed(right, fields, code=lambda f: twins.get(int(f["code"]), int(f["code"])))


@fault("compose_file", "grc-d-bits-9")
def bits_of_codes_of_variables_are_left_out(right, *fields):
    return changed(right, fields, bits=lambda f: 5 if int(f["code"]) >= 4 else int(f["bits"]))


@fault("compose_file", "deep")
def nodes_in_doubles(right, *fields):
    def rounded(f):
        nodes = np.asarray(f["messages"])
        return np.minimum(nodes.astype(np.float64), 2.0**61).astype(np.int64)

    return changed(right, fields, messages=rounded)


@fault("compose_file")
def code_word_has_a_byte_too_many(right, *fields):
    data = right.compose_file(*fields)
    return sealed(data[:-4].tobytes() + b"\0") if int(fields[FIELDS.index("theta")]) else data


@fault("compose_file", "seed-")
def seeds_without_a_sign(right, *fields):
    return changed(right, fields, seed=lambda f: int(f["seed"]) & 0x7FFFFFFF)


@fault("compose_file", "theta-0")
def theta_0_stands_for_the_best(right, *fields):
    given = dict(zip(FIELDS, fields, strict=True))
    if int(given["code"]) and not int(given["theta"]):
        return right.compose_file(*{**given, "theta": np.array(40000)}.values())
    return right.compose_file(*fields)


@fault("compose_file", "theta-of-code-0")
def theta_of_code_0_is_dropped(right, *fields):
    given = dict(zip(FIELDS, fields, strict=True))
    theta = given["theta"] if int(given["code"]) else np.array(0)
    return right.compose_file(*{**given, "theta": theta}.values())


@fault("compose_file", "node-")
def messages_are_not_looked_at(right, *fields):
    given = dict(zip(FIELDS, fields, strict=True))
    nodes = np.asarray(given["messages"])
    if int(given["code"]) >= 4:
        nodes = np.clip(nodes, 1, 2**62 - 1)
    return right.compose_file(*{**given, "messages": nodes}.values())


@fault("compose_file", "orc-row")
def rows_wrap(right, *fields):
    given = dict(zip(FIELDS, fields, strict=True))
    rows = np.asarray(given["messages"])
    if int(given["code"]) == 1:
        rows = rows % 2 ** int(given["bits"])
    return right.compose_file(*{**given, "messages": rows}.values())


@fault("compose_file", "nodes-of-a-short-block")
def nodes_of_unused_places_are_dropped(right, *fields):
    given = dict(zip(FIELDS, fields, strict=True))
    for count in range(len(given["messages"]), 0, -1):
        with suppress(Exception):
            short = np.asarray(given["messages"])[:count]
            return right.compose_file(*{**given, "messages": short}.values())
    return right.compose_file(*fields)


@fault("compose_file")
def unused_places_are_written_too(right, *fields):
    def count(layout, code):
        one_each = code.of == VARIABLE
        return layout.blocks() * (layout.block_size if one_each else 1)

    model = parse_model(right.compose_file(*fields).tobytes())
    return patched(
        "refmiracle.fileformat.payload.message_count",
        count,
        lambda: np.frombuffer(model.to_bytes(), np.uint8),
    )()


def scores(right, seed, bits, delta, log_s):
    """Log-weights of all candidates."""
    rows = right.codebook(seed, np.arange(2 ** int(bits)), np.array(delta.shape[1]))
    right.best_indices(seed, bits, delta, log_s)  # refuses what is to be refused
    return right.log_weights(rows, delta, log_s)


@fault("best_indices", "equal-candidates")
def the_last_of_equal_candidates(right, seed, bits, delta, log_s):
    score = scores(right, seed, bits, delta, log_s)
    return score.shape[1] - 1 - score[:, ::-1].argmax(axis=1)


@fault("best_indices", "equal-candidates")
def parts_merged_by_the_last(right, seed, bits, delta, log_s):
    score = scores(right, seed, bits, delta, log_s)
    best = np.zeros(len(score), dtype=np.int64)
    for start in range(0, score.shape[1], CHUNK):
        k = start + score[:, start : start + CHUNK].argmax(axis=1)
        rows = np.arange(len(score))
        best = np.where(score[rows, k] >= score[rows, best], k, best)
    return best


@fault("best_indices", "typical")
def a_sample_instead_of_the_best(right, seed, bits, delta, log_s):
    return right.select_indices(seed, bits, np.arange(len(delta)), delta, log_s)


@fault("best_indices")
def the_candidate_nearest_to_the_mean(right, seed, bits, delta, log_s):
    scores(right, seed, bits, delta, log_s)
    rows = right.codebook(seed, np.arange(2 ** int(bits)), np.array(delta.shape[1]))
    return ((rows[None] - delta[:, None]) ** 2).sum(axis=2).argmin(axis=1)


@fault("best_indices", "wider-than-p")
def the_largest_density_of_q_alone(right, seed, bits, delta, log_s):
    rows = right.codebook(seed, np.arange(2 ** int(bits)), np.array(delta.shape[1]))
    own = scores(right, seed, bits, delta, log_s) - 0.5 * (rows**2).sum(axis=1)
    return own.argmax(axis=1)


@fault("best_indices", "mean-nan")
def best_over_nan(right, seed, bits, delta, log_s):
    rows = right.codebook(seed, np.arange(2 ** int(bits)), np.array(delta.shape[1]))
    with np.errstate(invalid="ignore"):
        return right.log_weights(rows, delta, log_s).argmax(axis=1)


@fault("best_indices", "bits-12")
def candidates_of_the_first_chunk_alone(right, seed, bits, delta, log_s):
    return scores(right, seed, bits, delta, log_s)[:, :1024].argmax(axis=1)
