"""The two inner products of any network, written as LLVM loops with their sums in registers.

`multiply` is many outputs at many places: weights times activations.  `dots` is the gradient of
weights: activations times gradients, summed over places and lanes.  What they read lies wherever
tables of offsets say (`maps`): an offset for each term of a sum, and one for each place.  So zeros
around a map, strides and the phases of their transposes are only other tables.

A kernel is made for a number of units and places; how many sums that is decides the registers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from refmiracle.engines.numba_engine.vector import FUSE, LANES, LLVM_VECTOR, REGISTERS

UNITS = 4  # outputs in a tile of `multiply`, and of `dots`
MANY = REGISTERS >= 32
PLACES = 6 if MANY else 3
FEW = 2 if MANY else 1  # for the places that are left over
ALONE = 8  # places of a tile with one output
TERMS = 6 if MANY else 3  # terms in a tile of `dots`
TERMS_ALONE = 5  # with one output
WORD, INDEX = ir.IntType(64), ir.IntType(32)


class _Writer:
    """Writes LLVM for a kernel: numba's context and builder, and the arrays by their data."""

    def __init__(self, context, builder, signature, args):
        self.builder, self.data = builder, []
        for kind, value in zip(signature.args, args, strict=True):
            array = isinstance(kind, types.Array)
            self.data.append(
                context.make_array(kind)(context, builder, value).data if array else value
            )

    def word(self, table, at, more):
        """Return table[at + more]."""
        return self.builder.load(self.builder.gep(table, [self.builder.add(at, WORD(more))]))

    def vector(self, pointer, offset):
        """Return the vector at a pointer and so many floats more."""
        at = self.builder.gep(pointer, [offset])
        value = self.builder.load(self.builder.bitcast(at, LLVM_VECTOR.as_pointer()))
        value.align = 4
        return value

    def splat(self, pointer, offset):
        """Return LANES times the float there."""
        single = self.builder.load(self.builder.gep(pointer, [offset]))
        undefined = ir.Constant(LLVM_VECTOR, ir.Undefined)
        one = self.builder.insert_element(undefined, single, INDEX(0))
        mask = ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, undefined, mask)

    def add_product(self, total, a, b):
        """Return total + a b."""
        return self.builder.fadd(self.builder.fmul(a, b, flags=FUSE), total, flags=FUSE)

    def put(self, pointer, offset, value):
        """Store a vector of any length."""
        at = self.builder.gep(pointer, [offset])
        self.builder.store(value, self.builder.bitcast(at, value.type.as_pointer())).align = 4

    def sums(self, count, number, body):
        """Return so many vectors of sums after body(turn, sums) for each turn below count."""
        builder, before = self.builder, self.builder.block
        head, within, end = (builder.append_basic_block(n) for n in ("head", "within", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        turn = builder.phi(WORD)
        turn.add_incoming(WORD(0), before)
        sums = [builder.phi(LLVM_VECTOR) for _ in range(number)]
        for one in sums:
            one.add_incoming(ir.Constant(LLVM_VECTOR, [0.0] * LANES), before)
        builder.cbranch(builder.icmp_signed("<", turn, count), within, end)
        builder.position_at_end(within)
        found = body(turn, sums)
        turn.add_incoming(builder.add(turn, WORD(1)), builder.block)
        for one, value in zip(sums, found, strict=True):
            one.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(end)
        return sums

    def halves(self, a, b):
        """Return the sums of neighbouring lanes, those of a and then those of b."""
        kind = ir.VectorType(INDEX, LANES)
        even, odd = (
            self.builder.shuffle_vector(a, b, ir.Constant(kind, list(range(n, 2 * LANES, 2))))
            for n in (0, 1)
        )
        return self.builder.fadd(even, odd)

    def totals(self, vectors):
        """Return a short vector of the sums over the lanes of each: at most LANES of them."""
        many, left = list(vectors), LANES
        while len(many) > 1:
            many += many[-1:] * (len(many) % 2)
            many = [self.halves(a, b) for a, b in zip(many[::2], many[1::2], strict=True)]
            left //= 2
        (whole,) = many
        while left > 1:
            whole, left = self.halves(whole, whole), left // 2
        mask = ir.Constant(ir.VectorType(INDEX, len(vectors)), list(range(len(vectors))))
        return self.builder.shuffle_vector(whole, whole, mask)


def multiplier(units, places):
    """Return a kernel of so many units at so many places.

    It fills out[a, c] = sum over k of w[at + k units + a] x[first + t[place + c] + t[tap + k]],
    vectors of it, for k below `terms`.
    """

    @intrinsic
    def multiply(_, x, first, t, place, tap, terms, w, at, out):
        def generate(context, builder, signature, args):
            write = _Writer(context, builder, signature, args)
            x, first, t, place, tap, terms, w, at, out = write.data
            starts = [
                builder.gep(x, [builder.add(first, write.word(t, place, c))]) for c in range(places)
            ]
            taps, weights = builder.gep(t, [tap]), builder.gep(w, [at])

            def term(k, sums):
                offset = builder.load(builder.gep(taps, [k]))
                read = [write.vector(start, offset) for start in starts]
                found = list(sums)
                for a in range(units):
                    weight = write.splat(weights, builder.add(builder.mul(k, WORD(units)), WORD(a)))
                    for c in range(places):
                        s = a * places + c
                        found[s] = write.add_product(sums[s], weight, read[c])
                return found

            for s, value in enumerate(write.sums(terms, units * places, term)):
                write.put(out, WORD(s * LANES), value)
            return context.get_dummy_value()

        i = types.int64
        return types.void(x, i, t, i, i, i, w, i, out), generate

    return multiply


def dotter(terms, units):
    """Return a kernel of so many terms by so many units.

    It adds to g[at + a units + b] the sum over places p and lanes of
    x[first + t[tap + a] + t[pair + 2 p]] y[to + t[unit + b] + t[pair + 2 p + 1]], p below `count`.
    """

    @intrinsic
    def dots(_, x, first, tap, to, unit, t, pair, count, g, at):
        def generate(context, builder, signature, args):
            write = _Writer(context, builder, signature, args)
            x, first, tap, to, unit, t, pair, count, g, at = write.data
            reads = [
                builder.gep(x, [builder.add(first, write.word(t, tap, a))]) for a in range(terms)
            ]
            by = [builder.gep(x, [builder.add(to, write.word(t, unit, b))]) for b in range(units)]
            pairs = builder.gep(t, [pair])

            def place(p, sums):
                two = builder.mul(p, WORD(2))
                i, j = (
                    builder.load(builder.gep(pairs, [builder.add(two, WORD(n))])) for n in (0, 1)
                )
                # The fewer stay in registers while the others pass.
                own = (
                    [write.vector(one, j) for one in by]
                    if units <= terms
                    else [write.vector(one, i) for one in reads]
                )
                found = list(sums)
                for other in range(max(terms, units)):
                    value = (
                        write.vector(reads[other], i)
                        if units <= terms
                        else write.vector(by[other], j)
                    )
                    for n, mine in enumerate(own):
                        s = other * units + n if units <= terms else n * units + other
                        found[s] = write.add_product(sums[s], value, mine)
                return found

            sums = write.sums(count, terms * units, place)
            for n in range(0, len(sums), LANES):
                some = write.totals(sums[n : n + LANES])
                here = builder.add(at, WORD(n))
                pointer = builder.bitcast(builder.gep(g, [here]), some.type.as_pointer())
                before = builder.load(pointer)
                before.align = 4
                write.put(g, here, builder.fadd(before, some))
            return context.get_dummy_value()

        i = types.int64
        return types.void(x, i, i, i, i, t, i, i, g, i), generate

    return dots


multiply_many, multiply_few = multiplier(UNITS, PLACES), multiplier(UNITS, FEW)
multiply_alone, multiply_one = multiplier(1, ALONE), multiplier(1, 1)
dots_many, dots_alone = dotter(TERMS, UNITS), dotter(TERMS_ALONE, 1)
