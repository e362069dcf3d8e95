"""Faults of readers of updates: what is of the root, what of the update, and in what order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from conformance.faults import Fault, patched, registers_in

from refmiracle.conformance.arguments import as_files
from refmiracle.conformance.engine_backend import digest_of
from refmiracle.fileformat import chain, update
from refmiracle.fileformat.model import decode_update, decode_whitened, weights_of
from refmiracle.numerics.philox import Stream, stream_permutation
from refmiracle.posterior.scales import scales_of_levels

OF_UPDATES: list[Fault] = []
fault = registers_in(OF_UPDATES)
APPLIED = "refmiracle.fileformat.chain.decode_update"
PARSED = "refmiracle.fileformat.chain.parse_update"


def parts(read, rho, nu, engine):
    """The scale and the normal of each variable, 0 where it is not coded, and which are coded."""
    layout, coded = read.layout, read.layout.is_coded()
    z = np.zeros_like(nu)
    z[coded] = decode_whitened(read, engine)
    return np.repeat(scales_of_levels(read.levels, rho), layout.sizes()), z, coded


def applying(right, rule, data, sizes):
    """The answer where an update is applied by a rule of (read, rho, nu, engine)."""
    return patched(APPLIED, rule, right.decode_chain)(data, sizes)


@fault("decode_chain", "/mrc")
def nu_added_before_the_product_is_rounded(right, data, sizes):
    def fused(*read):
        rho, z, _ = parts(*read)
        return (read[2] + rho.astype(np.float64) * z).astype(np.float32)

    return applying(right, fused, data, sizes)


@fault("decode_chain", "three-files")
def scale_relative_to_the_base(right, data, sizes):
    """Level 128 is the scale that the base has, if that is an update."""
    before = {}

    def relative(read, rho, nu, engine):
        own = before.get(read.base, rho).astype(np.float32)
        steps = 2.0 ** ((read.levels.astype(float) - 128) / 4) * (read.levels > 0)
        scales = np.where(read.levels > 0, (own * steps).astype(np.float32), own)
        _, z, _ = parts(read, rho, nu, engine)
        before.update(dict.fromkeys(followers[read.base], scales))
        return nu + np.repeat(scales, read.layout.sizes()) * z

    files = as_files(data, sizes)
    names = [chain.checksum_of(file) for file in files]
    followers = {name: names[i + 1 : i + 2] for i, name in enumerate(names)}
    return applying(right, relative, data, sizes)


@fault("decode_chain", "worked-example")
def signs_of_the_seed_of_the_update(right, data, sizes):
    files = as_files(data, sizes)
    base = chain.decode_chain(files, right.engine)
    seed = base.layout.seed
    if len(files) > 1:
        before = chain.decode_chain(files[:-1], right.engine)
        seed = update.parse_update(files[-1], base.layout, before.checksum).layout.seed
    return digest_of(weights_of(replace(base.layout, seed=seed), base.variables))


@fault("decode_chain", "/mrc")
def permutation_of_all_variables(right, data, sizes):
    def over_all(read, rho, nu, engine):
        scales, z, coded = parts(read, rho, nu, engine)
        order = stream_permutation(read.layout.seed, Stream.PERMUTATION, 0, len(nu))
        own = stream_permutation(read.layout.seed, Stream.PERMUTATION, 0, int(coded.sum()))
        at_places = z[coded][own]
        moved = np.zeros_like(nu)
        moved[[v for v in order if coded[v]]] = at_places
        return nu + scales * moved

    return applying(right, over_all, data, sizes)


@fault("decode_chain", "/mrc")
def coded_variables_in_the_order_of_tensors(right, data, sizes):
    def in_order(read, rho, nu, engine):
        scales, z, coded = parts(read, rho, nu, engine)
        own = stream_permutation(read.layout.seed, Stream.PERMUTATION, 0, int(coded.sum()))
        z[coded] = z[coded][own]
        return nu + scales * z

    return applying(right, in_order, data, sizes)


@fault("decode_chain", "/mrc")
def tensors_that_are_not_coded_are_zero(right, data, sizes):
    def rule(*read):
        rho, z, coded = parts(*read)
        return np.where(coded, read[2] + rho * z, np.float32(0))

    return applying(right, rule, data, sizes)


@fault("decode_chain", "/mrc")
def variables_replaced_by_what_changed(right, data, sizes):
    def rule(*read):
        rho, z, coded = parts(*read)
        return np.where(coded, rho * z, read[2])

    return applying(right, rule, data, sizes)


@fault("decode_chain", "levels-of-each-quarter")
def level_is_a_power_of_two(right, data, sizes):
    def rule(*read):
        _, z, _ = parts(*read)
        rho = read[1].astype(np.float32) * np.float32(2) ** (
            read[0].levels.astype(np.float32) - 128
        )
        return read[2] + np.repeat(rho, read[0].layout.sizes()) * z

    with np.errstate(all="ignore"):
        return applying(right, rule, data, sizes)


@fault("decode_chain", "levels-around-128")
def scale_of_the_root_at_level_127(right, data, sizes):
    return patched("refmiracle.posterior.scales.SAME", 127, right.decode_chain)(data, sizes)


@fault("decode_chain", "worked-example")
def level_0_is_a_scale(right, data, sizes):
    return patched("refmiracle.fileformat.update.UNCODED", -1, right.decode_chain)(data, sizes)


@fault("decode_chain", "levels-of-each-quarter")
def levels_as_signed_bytes(right, data, sizes):
    def rule(*read):
        signed = read[0].levels.astype(np.int8).astype(np.int64)
        rho = scales_of_levels(np.where(signed, signed + 128, 0), read[1])
        return read[2] + np.repeat(rho, read[0].layout.sizes()) * parts(*read)[1]

    return applying(right, rule, data, sizes)


@fault("decode_chain", "levels-of-each-quarter")
def scales_rounded_to_float16(right, data, sizes):
    def rule(*read):
        rho, z, _ = parts(*read)
        return read[2] + rho.astype(np.float16).astype(np.float32) * z

    with np.errstate(all="ignore"):
        return applying(right, rule, data, sizes)


@fault("decode_chain", "worked-example")
def normals_under_the_seed_of_the_root(right, data, sizes):
    def rule(read, *rest):
        own = replace(read, layout=replace(read.layout, seed=read.layout.sign_seed))
        return decode_update(own, *rest)

    return applying(right, rule, data, sizes)


@fault("decode_chain", "variable-of-zero")
def negative_of_zero_without_its_sign(right, data, sizes):
    weights = chain.decode_chain(as_files(data, sizes), right.engine).weights()
    return digest_of({name: w + np.float32(0) for name, w in weights.items()})


@fault("decode_chain", "base-of-another-index")
def base_not_compared(right, data, sizes):
    def parse(file, root, _):
        return update.parse_update(file, root, update.base_checksum(file))

    return patched(PARSED, parse, right.decode_chain)(data, sizes)


@fault("decode_chain", "base-bit-flipped")
def base_compared_by_16_bits(right, data, sizes):
    def parse(file, root, base):
        named = update.base_checksum(file)
        return update.parse_update(file, root, named if named % 2**16 == base % 2**16 else base)

    return patched(PARSED, parse, right.decode_chain)(data, sizes)


@fault("decode_chain", "worked-example")
def base_in_big_endian(right, data, sizes):
    def swapped(file):
        return int.from_bytes(file[4:8], "big")

    return patched("refmiracle.fileformat.update.base_checksum", swapped, right.decode_chain)(
        data, sizes
    )


@fault("decode_chain", "three-files")
def files_applied_in_reverse(right, data, sizes):
    root, *rest = as_files(data, sizes)
    files = [root, *rest[::-1]]
    joined = np.frombuffer(b"".join(files), np.uint8)
    return right.decode_chain(joined, np.array([len(f) for f in files]))


@fault("decode_chain", "three-files")
def only_the_last_update_applied(right, data, sizes):
    files = as_files(data, sizes)
    base = chain.decode_chain(files, right.engine)
    if len(files) < 3:
        return digest_of(base.weights())
    root = chain.read_root(files[0], right.engine)
    last = replace(root, checksum=chain.base_checksum(files[-1]))
    return digest_of(chain.apply_update(last, files[-1], right.engine).weights())
