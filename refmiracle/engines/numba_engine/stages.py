"""The stages of a network as a program has them: what each asks of its maps, and its instructions.

A stage takes values and gives one.  A value is a map of activations and one of gradients; what
several stages take has the sum of what comes back from them.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine import instructions as code
from refmiracle.engines.numba_engine.instructions import ADD, NOWHERE, SET, WIDTH
from refmiracle.engines.numba_engine.maps import Map, as_maps
from refmiracle.engines.numba_engine.products import ALONE, TERMS, TERMS_ALONE, UNITS
from refmiracle.engines.numba_engine.vector import LANES


def whole_tiles(count, tile):
    """Return the least number of whole tiles' members that hold so many."""
    return -(-count // tile) * tile


def row_of_numbers(*numbers):
    """Return an instruction, filled up with zeros."""
    return [*numbers, *[0] * (WIDTH - len(numbers))]


class Value:
    """What a stage gives: activations, and the gradient that comes back to them."""

    def __init__(self, shape, stage=None, needed=False):
        self.map, self.grad = Map(*shape), Map(*shape)
        self.stage, self.needed = stage, needed
        self.shared = False  # several stages take it
        self.reached = False  # by a gradient, as instructions are written

    def mode(self):
        """Return what the next gradient that reaches it does, and note that it has."""
        mode = ADD if self.reached else SET
        self.reached = True
        return mode


class Stage:
    """A step without weights, of one value, without instructions of its own."""

    reads_alone = False  # it leaves the gradient that reaches it as it is, with a ReLU too

    def __init__(self, x, shape, weighty=False):
        self.x, self.rectified = x, False
        self.y = Value(shape, self, weighty or x.needed)

    def need_zeros(self):
        """Ask for the zeros that it reads around maps, when it is known which they are."""

    def maps(self):
        """Return the maps that it works in, beside those of its value."""
        return ()

    def kept(self):
        """Return how many floats it keeps of each slice, beside maps."""
        return 0

    def unmasked(self, tables):
        """Return the instruction that takes the gradient through the ReLU, if there is one."""
        y, grad = tables.record(self.y.map), tables.record(self.y.grad)
        mask = row_of_numbers(code.MASK, y, grad, grad, SET)
        return [mask] if self.rectified else []


class Copy(Stage):
    """A ReLU of its own, or a flattening: the same numbers at other places."""

    def __init__(self, x, shape, rectified):
        super().__init__(x, shape)
        self.relu = rectified

    def _record(self, tables, one):
        same = one.shape == self.x.map.shape
        return tables.record(one) if same else tables.add(as_maps(one, self.x.map.shape))

    def forward(self, tables):
        """Return its instructions."""
        x, y = tables.record(self.x.map), self._record(tables, self.y.map)
        return [row_of_numbers(code.COPY, x, y, SET, self.relu)]

    def backward(self, tables):
        """Return its instructions."""
        dy, dx = self._record(tables, self.y.grad), tables.record(self.x.grad)
        if not self.relu:
            return [row_of_numbers(code.COPY, dy, dx, self.x.mode(), 0)]
        y = self._record(tables, self.y.map)
        return [row_of_numbers(code.MASK, y, dy, dx, self.x.mode())]


class Sum(Stage):
    """A residual's sum."""

    def __init__(self, a, b):
        super().__init__(a, a.map.shape)
        self.parts = a, b
        self.y.needed = a.needed or b.needed
        for part in self.parts:
            # One that only looks at its gradient may look at the sum's.
            stage = part.stage
            if not part.shared and stage and (stage.reads_alone or not stage.rectified):
                part.grad = self.y.grad

    def forward(self, tables):
        """Return its instructions."""
        a, b = (tables.record(part.map) for part in self.parts)
        return [row_of_numbers(code.SUM, a, b, tables.record(self.y.map), self.rectified)]

    def backward(self, tables):
        """Return its instructions."""
        dy = tables.record(self.y.grad)
        back = self.unmasked(tables)
        for part in self.parts:
            if part.grad is self.y.grad:
                part.reached = True
            elif part.needed:
                dx = tables.record(part.grad)
                back.append(row_of_numbers(code.COPY, dy, dx, part.mode(), 0))
        return back


class Maximum(Stage):
    """Maxima of 2x2 windows."""

    def __init__(self, x):
        channels, height, width = x.map.shape
        shape = channels, height // 2, width // 2
        super().__init__(x, shape)
        self.winner = Map(*shape)

    def maps(self):
        """Return the map of winners."""
        return (self.winner,)

    def forward(self, tables):
        """Return its instructions."""
        maps = (tables.record(one) for one in (self.x.map, self.y.map, self.winner))
        return [row_of_numbers(code.MAXIMUM, *maps, self.rectified)]

    def backward(self, tables):
        """Return its instructions."""
        maps = (tables.record(one) for one in (self.y.grad, self.winner, self.x.grad))
        back = row_of_numbers(code.MAXIMUM_BACK, *maps, self.x.mode())
        return [*self.unmasked(tables), back]


class Mean(Stage):
    """Means of windows."""

    def __init__(self, x, height, width):
        channels, tall, wide = x.map.shape
        super().__init__(x, (channels, tall // height, wide // width))
        self.window = height, width

    def forward(self, tables):
        """Return its instructions."""
        maps = (tables.record(one) for one in (self.x.map, self.y.map))
        return [row_of_numbers(code.MEAN, *maps, *self.window, self.rectified)]

    def backward(self, tables):
        """Return its instructions."""
        maps = (tables.record(one) for one in (self.y.grad, self.x.grad))
        back = row_of_numbers(code.MEAN_BACK, *maps, *self.window, self.x.mode())
        return [*self.unmasked(tables), back]


class Norm(Stage):
    """Group normalisation."""

    reads_alone = True

    def __init__(self, x, groups, room):
        super().__init__(x, x.map.shape, weighty=True)
        self.groups, channels = groups, x.map.shape[0]
        self.gain, self.dgain = room.vector(channels)
        self.bias, self.dbias = room.vector(channels)
        self.base = None  # of the moments

    def kept(self):
        """Return the floats of three vectors of moments for each group."""
        return 3 * self.groups * LANES

    def forward(self, tables):
        """Return its instructions."""
        maps = (tables.record(one) for one in (self.x.map, self.y.map))
        sizes = self.groups, self.gain, self.bias, self.base, self.rectified
        return [row_of_numbers(code.NORM, *maps, *sizes)]

    def backward(self, tables):
        """Return its instructions."""
        x, y = self.x, self.y
        maps = (tables.record(one) for one in (x.map, y.map, y.grad, x.grad))
        sizes = self.groups, self.gain, self.dgain, self.dbias, self.base
        return [row_of_numbers(code.NORM_BACK, *maps, *sizes, self.rectified, x.mode())]


class Conv(Stage):
    """A convolution; a dense layer is one of a single place.

    Units that several outputs share are computed once; but not where each output reads a channel
    of its own, which makes other outputs of the same weights.
    """

    def __init__(self, x, kernel, outputs, stride, padding, groups, copies, room):
        channels, height, width = x.map.shape
        (kh, kw), self.stride, self.padding = kernel, stride, padding
        rows = (height + 2 * padding - kh) // stride + 1
        columns = (width + 2 * padding - kw) // stride + 1
        super().__init__(x, (outputs, rows, columns), weighty=True)
        self.kernel, self.channels, self.outputs = kernel, channels, outputs
        self.each = outputs // channels if groups > 1 else 0  # outputs of a channel of their own
        self.copies = 1 if self.each else copies
        self.units = outputs // self.copies
        self.du = Map(self.units, rows, columns) if self.copies > 1 else None
        self._pack(room, 1 if self.each else channels, copies)
        self.phases = list(self._phases()) if x.needed else []
        self._pack_back(room)

    def need_zeros(self):
        """Ask for those of the padding, and those that the transpose reads."""
        self.x.map.need(*(self.padding,) * 4)
        for phase in self.phases:
            self.gradient_map().need(*phase.border(*self.y.map.shape[1:]))

    def gradient_map(self):
        """Return the map with the gradients of the units."""
        return self.du or self.y.grad

    def maps(self):
        """Return the map of the units' gradients, if outputs share units."""
        return (self.du,) if self.du else ()

    def _pack(self, room, fan, copies):
        (kh, kw), units = self.kernel, self.units
        self.tile = 1 if self.each else UNITS
        self.terms = fan * kh * kw
        self.weights = room.kernel(self.terms, self.outputs, copies, self.copies)
        self.signs = room.signs(self.outputs) if self.copies > 1 else NOWHERE
        counts, steps = (fan, kh, kw), (units, kw * fan * units, fan * units)
        self.table = room.table(units, self.tile, self.weights, counts, steps, 1)
        whole = whole_tiles(self.terms, TERMS_ALONE if self.each else TERMS)
        self.dw = room.gradient(units, self.tile, self.weights, counts, steps, whole)
        self.whole = whole
        self.bias, self.db = room.vector(self.outputs)
        self.fan = fan

    def _pack_back(self, room):
        """Pack the kernel of each phase, transposed."""
        (_, kw), units, s = self.kernel, self.units, self.stride
        row, column = kw * self.fan * units, self.fan * units
        for phase in self.phases:
            (u, us), (v, vs) = phase.rows[:2], phase.columns[:2]
            start = self.weights + u * row + v * column
            counts, steps = (self.each or units, us, vs), (1, s * row, s * column)
            step = self.each or units
            phase.table = room.table(self.channels, self.tile, start, counts, steps, step)

    def _phases(self):
        """Yield the parts of the input whose places are read by the same taps: (26a)."""
        _, height, width = self.x.map.shape
        stride, padding, (kh, kw) = self.stride, self.padding, self.kernel
        for y in range(min(stride, height)):
            for x in range(min(stride, width)):
                rows = phase_of(y, stride, padding, kh, height)
                columns = phase_of(x, stride, padding, kw, width)
                yield Phase(rows, columns)

    def _taps(self, tables):
        """Return where each term of the kernel reads, in the order of (channel, row, column)."""
        x, (kh, kw) = self.x.map, self.kernel
        channel = np.arange(self.terms // (kh * kw))[:, None, None] * x.plane()
        row = (np.arange(kh) * x.row())[None, :, None]
        taps = (channel + row + np.arange(kw) * LANES).ravel()
        return tables.places(taps, self.whole - self.terms)

    def _outputs(self):
        """Return the rows and columns of its output."""
        return np.arange(self.y.map.shape[1]), np.arange(self.y.map.shape[2])

    def _read_from(self):
        x = self.x.map
        return x.origin() - self.padding * (x.row() + LANES)

    def forward(self, tables):
        """Return its instructions."""
        x, y, (rows, columns) = self.x.map, self.y.map, self._outputs()
        read = tables.offsets(x, rows * self.stride, columns * self.stride)
        filled = tables.places(tables.offsets(y, rows, columns), ALONE)
        return [
            row_of_numbers(
                code.PRODUCT, self._read_from(), tables.places(read, ALONE),
                len(rows) * len(columns), self._taps(tables), self.terms, self.table,
                self.each or self.units, self.copies,
                y.origin(), filled, y.plane(), SET, self.rectified, self.bias, self.signs,
                self.channels if self.each else 0, x.plane(),
            )
        ]  # fmt: skip

    def backward(self, tables):
        """Return its instructions: through ReLU and copies, then by the weights and the input."""
        y, own = self.y, self.gradient_map()
        maps = (tables.record(one) for one in (y.map, y.grad))
        shared = self.copies, tables.record(own), self.signs
        settle = row_of_numbers(code.SETTLE, *maps, self.rectified, self.db, *shared)
        rows, columns = self._outputs()
        x_places = tables.offsets(self.x.map, rows * self.stride, columns * self.stride)
        pairs = tables.add(np.stack([x_places, tables.offsets(own, rows, columns)], axis=1))
        units = tables.places(np.arange(self.units) * own.plane(), UNITS)
        back = row_of_numbers(
            code.GRADIENT, self._read_from(), self._taps(tables), self.whole, own.origin(), units,
            self.each or self.units, pairs, len(rows) * len(columns), self.dw,
            self.channels if self.each else 0, self.x.map.plane(),
        )  # fmt: skip
        if not self.x.needed:
            return [settle, back]
        mode = self.x.mode()
        phases = [p for p in self.phases if p.terms() or mode == SET]
        return [settle, back, *(self._input_gradient(tables, p, mode) for p in phases)]

    def _input_gradient(self, tables, phase, mode):
        own, dx = self.gradient_map(), self.x.grad
        (_, us, i, tall, y), (_, vs, j, wide, x) = phase.rows, phase.columns
        s = self.stride
        read = tables.offsets(own, i + np.arange(tall), j + np.arange(wide))
        filled = tables.offsets(dx, y + s * np.arange(tall), x + s * np.arange(wide))
        unit = (np.arange(self.each or self.units) * own.plane())[:, None, None]
        row = (np.arange(us) * own.row())[None, :, None]
        taps = (unit - row - np.arange(vs) * LANES).ravel()
        repeats = self.channels if self.each else 0
        return row_of_numbers(
            code.PRODUCT, own.origin(), tables.places(read, ALONE), tall * wide,
            tables.add(taps) if len(taps) else 0, len(taps), phase.table,
            1 if self.each else self.channels, 1, dx.origin(), tables.places(filled, ALONE),
            dx.plane(), mode, 0, NOWHERE, NOWHERE, repeats, self.each * own.plane(),
        )  # fmt: skip


def phase_of(at, stride, padding, kernel, places):
    """Return which taps read every stride-th row of a map, and which outputs they belong to.

    The first tap, how many, the output that the first one reads row `at` for, how many such rows
    there are, and `at`; the next taps belong to outputs before.
    """
    first = (at + padding) % stride
    taps = max(0, -(-(kernel - first) // stride))
    return first, taps, (at + padding) // stride, -(-(places - at) // stride), at


class Phase:
    """Rows and columns of an input that the same taps read, as `phase_of` has them."""

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.table = 0

    def terms(self):
        """Tell whether a tap reads them."""
        return self.rows[1] * self.columns[1] > 0

    def border(self, rows, columns):
        """Return the zeros that it reads around so many rows and columns of gradients."""
        if not self.terms():
            return 0, 0, 0, 0
        found = []
        for (_, taps, at, count, _), length in ((self.rows, rows), (self.columns, columns)):
            found += [max(0, taps - 1 - at), max(0, at + count - length)]
        return tuple(found)
