"""A queue of the nodes of a tree, compiled: a binary heap in arrays that grow when full.

The heap orders slots: `order` is a permutation of all slots of which the first `size` are the
heap and the others are free.  Of a slot, `numbers` holds the node and `records` what goes with it:

    key, T, log T, a, b, z(a), z(b), U

The lowest key comes first, of equals the lowest node number.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled

FIRST_SLOTS = 64
EMPTY = np.int64(0)  # the size of a queue
KEY, TIME, LOG_TIME, LEFT, RIGHT, LOW_Z, HIGH_Z, UNIFORM = range(8)


@compiled(**EXACT)
def new_queue():
    """Return the arrays of an empty queue."""
    return np.arange(FIRST_SLOTS), np.empty(FIRST_SLOTS, np.int64), np.empty((FIRST_SLOTS, 8))


@compiled(**EXACT)
def _grown(queue):
    order, numbers, records = queue
    slots = len(order)
    more = np.arange(2 * slots), np.empty(2 * slots, np.int64), np.empty((2 * slots, 8))
    for i in range(slots):
        more[0][i], more[1][i] = order[i], numbers[i]
        for k in range(8):
            more[2][i, k] = records[i, k]
    return more


@compiled(**EXACT)
def _before(queue, i, j):
    """Tell whether slot i comes before slot j."""
    _, numbers, records = queue
    a, b = records[i, KEY], records[j, KEY]
    return a < b or (a == b and numbers[i] < numbers[j])


@compiled(**EXACT)
def push(queue, size, node, record):
    """Add a node; return the queue's arrays, which may be new, and its size."""
    if size == len(queue[0]):
        queue = _grown(queue)
    order, numbers, records = queue
    slot, at = order[size], size
    numbers[slot] = node
    for k in range(8):
        records[slot, k] = record[k]
    while at > 0:
        parent = (at - 1) // 2
        if not _before(queue, slot, order[parent]):
            break
        order[at], at = order[parent], parent
    order[at] = slot
    return queue, size + 1


@compiled(**EXACT)
def pop(queue, size):
    """Return the first node's slot, whose contents stay until the next push, and the new size."""
    order = queue[0]
    size -= 1
    first, slot, at = order[0], order[size], 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _before(queue, order[child + 1], order[child]):
            child += 1
        if not _before(queue, order[child], slot):
            break
        order[at], at = order[child], child
    order[at] = slot
    order[size] = first
    return first, size
