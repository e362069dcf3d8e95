"""Vectors of float32 as numba values: one LLVM vector each, kept in registers.

LLVM vectorises plain loops well, but not a tile of sums that should stay in registers while a
loop outside the vector runs over their terms.  With these few operations such a tile is written
down as it is meant.  Offsets count floats and are not checked: callers know where arrays end.
"""

from __future__ import annotations

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


def _native_registers() -> tuple[int, int]:
    """Return how many float32 a vector register of this machine holds, and how many there are."""
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know the features of every platform
        return 4, 32
    if features.get("avx512f"):
        return 16, 32
    if "avx" in features:  # a processor with or without it, but of that family
        return (8 if features["avx"] else 4), 16
    return 4, 32


LANES, REGISTERS = _native_registers()
LLVM_VECTOR = ir.VectorType(ir.FloatType(), LANES)
LLVM_BYTES = ir.VectorType(ir.IntType(8), LANES)
# Fusing a product and a sum into one rounding is welcome, where the machine can.
FUSE = ("contract",)


class Vector(types.Type):
    """numba's type of a vector of LANES float32."""

    def __init__(self):
        super().__init__(name=f"float32x{LANES}")


VECTOR = Vector()


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is a plain LLVM value."""

    def __init__(self, manager, frontend_type):
        super().__init__(manager, frontend_type, LLVM_VECTOR)


def _element(context, builder, array_type, array, offset):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


@intrinsic
def zero(_):
    """Return a vector of zeros."""

    def generate(context, builder, signature, args):
        return ir.Constant(LLVM_VECTOR, [0.0] * LANES)

    return VECTOR(), generate


@intrinsic
def load(_, array, offset):
    """Return array[offset : offset + LANES] of a flat float32 array."""

    def generate(context, builder, signature, args):
        pointer = _element(context, builder, signature.args[0], *args)
        value = builder.load(builder.bitcast(pointer, LLVM_VECTOR.as_pointer()))
        value.align = 4
        return value

    return VECTOR(array, types.int64), generate


@intrinsic
def store(_, array, offset, value):
    """Set array[offset : offset + LANES] = value."""

    def generate(context, builder, signature, args):
        pointer = _element(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(pointer, LLVM_VECTOR.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(array, types.int64, VECTOR), generate


def _repeat(builder, scalar):
    undefined = ir.Constant(LLVM_VECTOR, ir.Undefined)
    index = ir.IntType(32)
    one = builder.insert_element(undefined, scalar, index(0))
    mask = ir.Constant(ir.VectorType(index, LANES), [0] * LANES)
    return builder.shuffle_vector(one, undefined, mask)


@intrinsic
def splat(_, array, offset):
    """Return LANES times array[offset]."""

    def generate(context, builder, signature, args):
        pointer = _element(context, builder, signature.args[0], *args)
        return _repeat(builder, builder.load(pointer))

    return VECTOR(array, types.int64), generate


@intrinsic
def fill(_, scalar):
    """Return LANES times a float32."""

    def generate(context, builder, signature, args):
        return _repeat(builder, args[0])

    return VECTOR(types.float32), generate


@intrinsic
def load_bytes(_, array, offset):
    """Return array[offset : offset + LANES] of a flat uint8 array, as float32."""

    def generate(context, builder, signature, args):
        pointer = _element(context, builder, signature.args[0], *args)
        value = builder.load(builder.bitcast(pointer, LLVM_BYTES.as_pointer()))
        value.align = 1
        return builder.uitofp(value, LLVM_VECTOR)

    return VECTOR(array, types.int64), generate


@intrinsic
def store_bytes(_, array, offset, value):
    """Set array[offset : offset + LANES] = value, whole numbers from 0 to 255, as uint8."""

    def generate(context, builder, signature, args):
        pointer = _element(context, builder, signature.args[0], args[0], args[1])
        pointer = builder.bitcast(pointer, LLVM_BYTES.as_pointer())
        builder.store(builder.fptoui(args[2], LLVM_BYTES), pointer).align = 1
        return context.get_dummy_value()

    return types.void(array, types.int64, VECTOR), generate


@intrinsic
def add_product(_, total, a, b):
    """Return total + a b."""

    def generate(context, builder, signature, args):
        total, a, b = args
        return builder.fadd(builder.fmul(a, b, flags=FUSE), total, flags=FUSE)

    return VECTOR(VECTOR, VECTOR, VECTOR), generate


@intrinsic
def add(_, a, b):
    """Return a + b."""

    def generate(context, builder, signature, args):
        return builder.fadd(*args)

    return VECTOR(VECTOR, VECTOR), generate


@intrinsic
def subtract(_, a, b):
    """Return a - b."""

    def generate(context, builder, signature, args):
        return builder.fsub(*args)

    return VECTOR(VECTOR, VECTOR), generate


@intrinsic
def multiply(_, a, b):
    """Return a b."""

    def generate(context, builder, signature, args):
        return builder.fmul(*args)

    return VECTOR(VECTOR, VECTOR), generate


@intrinsic
def where_greater(_, a, b, yes, no):
    """Return yes where a > b, else no: also where one is NaN."""

    def generate(context, builder, signature, args):
        a, b, yes, no = args
        return builder.select(builder.fcmp_ordered(">", a, b), yes, no)

    return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), generate


@intrinsic
def where_above(_, a, b, yes, no):
    """Return yes where a > b, NaN being above every number and not above NaN; else no."""

    def generate(context, builder, signature, args):
        a, b, yes, no = args
        number = builder.fcmp_ordered("ord", b, b)
        above = builder.and_(builder.fcmp_unordered(">", a, b), number)
        return builder.select(above, yes, no)

    return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), generate


@intrinsic
def where_equal(_, a, b, yes, no):
    """Return yes where a == b, else no."""

    def generate(context, builder, signature, args):
        a, b, yes, no = args
        return builder.select(builder.fcmp_ordered("==", a, b), yes, no)

    return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), generate


@intrinsic
def total(_, value):
    """Return the sum of the lanes, in an order of LLVM's choice."""

    def generate(context, builder, signature, args):
        single = ir.FloatType()
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(single, [single, LLVM_VECTOR]),
            f"llvm.vector.reduce.fadd.v{LANES}f32",
        )
        return builder.call(function, [single(0.0), args[0]], fastmath=("reassoc",))

    return types.float32(VECTOR), generate
