"""MIRACLE with Mean-KL in one file: a network that reads digits, sent as one kilobyte.

Sender and receiver make the same table of random rows, drawn from P.  The sender trains a posterior
Q over the weights whose divergence from P is, in each block of weights, as many bits as name a row;
among so many rows is one that Q could have drawn, and its number is sent.  That is MIRACLE (arXiv
1810.00440); that the divergence is a parameter, no penalty, is Mean-KL (arXiv 2307.07816).  To be
read downwards: (numbers) are equations of docs/derivations.md, sections those of docs/SPEC.md.
"""

import argparse
import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# The network: convolutions alone, a ReLU behind each but the last, which sees all of its 4x4 map.
LAYERS = ((5, 2, 1, 9), (5, 2, 9, 16), (4, 1, 16, 10))  # kernel, stride, maps in, maps out
SHAPES = [shape for k, _, i, o in LAYERS for shape in ((k, k, i, o), (o,))]  # weights and biases
SIZES = [np.prod(shape) for shape in SHAPES]
V, BITS, BLOCK = sum(SIZES), 16, 12  # a block of 12 weights is sent as a number of 16 bits
BLOCKS = V // BLOCK  # without a rest here
BATCH, GROUPS, KEPT = 32, 100, 5000  # the last 5000 training images are kept for validation
RATES = 0.03, 0.02, 0.002  # Adam's: at first, when the first block is sent, and at the end


# --- 1. The table, the same on every machine: random words, and arithmetic that all round alike
def words(seed, stream, rows, count):
    """Return the first words of rows of a stream, by Philox4x32-10: section 4."""
    c0, c1 = np.arange(-(-count // 4), dtype=np.uint64), np.asarray(rows, np.uint64)[:, None]
    c2 = c3 = np.zeros((1, 1), np.uint64)
    for i in range(10):
        k0, k1 = (seed + i * 0x9E3779B9) % 2**32, (stream + i * 0xBB67AE85) % 2**32
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1 = p1 >> 32 ^ c1 ^ k0, p1 & 0xFFFFFFFF
        c2, c3 = p0 >> 32 ^ c3 ^ k1, p0 & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).reshape(len(rows), -1)[:, :count]


A, B, C, D = (  # of Wichura's algorithm AS 241, highest power first: section 6.3
    (2509.0809287301227, 33430.57558358813, 67265.7709270087, 45921.95393154987,
     13731.69376550946, 1971.5909503065513, 133.14166789178438, 3.3871328727963665),
    (5226.495278852854, 28729.085735721943, 39307.89580009271, 21213.794301586597,
     5394.196021424751, 687.1870074920579, 42.31333070160091, 1.0),
    (0.0007745450142783414, 0.022723844989269184, 0.2417807251774506, 1.2704582524523684,
     3.6478483247632045, 5.769497221460691, 4.630337846156546, 1.4234371107496835),
    (1.0507500716444169e-09, 0.0005475938084995345, 0.015198666563616457, 0.14810397642748008,
     0.6897673349851, 1.6763848301838038, 2.053191626637759, 1.0),
)  # fmt: skip


def normals(seed, rows, count):
    """Return rows of the table: normals as quantiles of uniforms, sections 5 and 6, and (44)."""
    p = (words(seed, 3, rows, count) + 0.5) / 2.0**32
    q = p - 0.5
    r = 0.180625 - q * q
    centre = q * (np.polyval(A, r) / np.polyval(B, r))
    m, e = np.frexp(np.where(q < 0, p, 1 - p))
    m, e = np.where(m < 0.7071067811865476, m + m, m), e - (m < 0.7071067811865476)
    f = (m - 1.0) / (m + 1.0)
    log = (2.0 * f) * np.polyval([1.0 / k for k in range(21, 0, -2)], f * f)
    r = np.sqrt(-(log + e * 0.6931471805599453)) - 1.6
    tail = np.copysign(np.polyval(C, r) / np.polyval(D, r), q)
    return np.where(np.abs(q) <= 0.425, centre, tail).astype(np.float32)


# --- 2. The blocks: a random order, so that each has some of the weights that matter
def order_of(seed):
    """Return which weight stands at each place, shape (BLOCKS, BLOCK): section 7.2."""
    return np.argsort(words(seed, 5, [0], V)[0], kind="stable").reshape(BLOCKS, BLOCK)


def to_tensors(blocks, order):
    """Return the tensors, float32, of the weights that stand in the blocks."""
    flat = np.empty(V, np.float32)
    flat[order] = blocks
    parts = np.split(flat, np.cumsum(SIZES)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True)]


# --- 3. The network and its gradient; maps are (maps, height, width, images)
def conv(x, w, b, stride):
    """Return the maps of (25a), and what each of their places sees of x, as columns."""
    seen = sliding_window_view(x, w.shape[:2], (1, 2))[:, ::stride, ::stride]
    columns = seen.transpose(4, 5, 0, 1, 2, 3).reshape(w[..., 0].size, -1)
    y = w.reshape(len(columns), -1).T @ columns + b[:, None]
    return y.reshape(len(b), *seen.shape[1:4]), columns


def conv_input_gradient(dy, x, w, stride):
    """Return dL/dx from dL/dy, the second of (26a): a sum over the places (u, v) of the kernel."""
    dx, (maps, height, width, _) = np.zeros_like(x), dy.shape
    parts = (w.reshape(-1, maps) @ dy.reshape(maps, -1)).reshape(*w.shape[:3], *dy.shape[1:])
    for u, v in np.ndindex(w.shape[:2]):
        dx[:, u:, v:][:, : stride * height : stride, : stride * width : stride] += parts[u, v]
    return dx


def forward(w, images):
    """Return the logits, shape (classes, images), and the input and the columns of each layer."""
    y, tape = images.T.reshape(1, 28, 28, len(images)), []
    for layer, (_, stride, _, _) in enumerate(LAYERS):
        x = np.maximum(y, 0) if layer else y
        y, columns = conv(x, w[2 * layer], w[2 * layer + 1], stride)
        tape.append((x, columns))
    return y.reshape(-1, len(images)), tape


def loss_and_gradient(w, images, labels):
    """Return the mean cross-entropy in nats, (28), and its gradient by each tensor, (26a)."""
    logits, tape = forward(w, images)
    p = np.exp(logits - logits.max(axis=0))
    p /= p.sum(axis=0)
    own = labels, np.arange(len(labels))
    loss = -np.log(p[own]).mean()
    p[own] -= 1
    dy, gradient = (p / len(labels)).reshape(-1, 1, 1, len(labels)), []
    for layer, (x, columns) in reversed(list(enumerate(tape))):
        rows, weight = dy.reshape(len(dy), -1), w[2 * layer]
        gradient = [(columns @ rows.T).reshape(weight.shape), rows.sum(axis=1), *gradient]
        if layer:
            dy = conv_input_gradient(dy, x, weight, LAYERS[layer][1]) * (x > 0)
    return loss, gradient


# --- 4. Mean-KL: each block has its divergence by construction, whatever tau and phi are
def mean_kl(tau, phi):
    """Return mu / rho and sigma / rho of each weight, and what the gradient needs."""
    p = np.exp(phi - phi.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    kappa = BITS * np.log(2) * p  # nats: (4)
    r = np.sqrt(2 * kappa)  # the mean cannot be farther than r: (5)
    t, sech = np.tanh(tau), 1 / np.cosh(tau)
    x = np.maximum(r * sech, 1e-8)  # what the mean leaves: s - 1 - log s = x^2, s <= 1: (7)
    y = np.sqrt(2) * x + x * x  # towards -log s, from above, by Newton's method: (15), (16)
    for _ in range(5):
        y = y + (np.expm1(-y) + y - x * x) / np.expm1(-y)
    return r * t, np.exp(-y / 2), (p, r, t, sech, x, y)


def mean_kl_gradient(g, eps, sigma, saved):
    """Return dL/dtau and dL/dphi from g = dL/dw, for w = mu + sigma eps in units of rho."""
    p, r, t, sech, x, y = saved
    q = eps * sigma * x / np.expm1(-y)  # (17)
    half = g * (t + q * sech) * r / 2  # (19)
    return g * (r * sech**2 - q * x * t), half - p * half.sum(axis=1, keepdims=True)  # (18), (21)


# --- 5. Training, and sending: when a block is sent, those that are left are trained around it
def adam(theta, moments, g, step, rate):
    """Take a step of Adam, in place: (29), (30)."""
    moments += np.stack([0.1 * (g - moments[0]), 0.001 * (g * g - moments[1])])
    theta -= rate * moments[0] / (1 - 0.9**step) / (np.sqrt(moments[1] / (1 - 0.999**step)) + 1e-8)


def best_rows(table, mu, sigma):
    """Return for each block the row z with the largest q(z) / p(z): (33), (34)."""
    return (table**2 @ (0.5 - 0.5 / sigma**2).T + table @ (mu / sigma**2).T).argmax(axis=0)


def train(images, labels, steps, seed):
    """Return the file of a network trained on some images: MIRACLE's algorithm 2."""
    rng, order = np.random.default_rng(seed), order_of(seed)
    tensor = np.repeat(np.arange(len(SIZES)), SIZES)[order]
    theta = rng.standard_normal((2, BLOCKS, BLOCK)) * [[[0.3]], [[0]]]  # tau and phi
    log_rho = np.log([2 / np.sqrt(np.prod(shape[:-1])) for shape in SHAPES])
    moments, rho_moments = np.zeros((2, *theta.shape)), np.zeros((2, len(SHAPES)))
    table = normals(seed, range(2**BITS), BLOCK).astype(float)
    indices, sent = np.zeros(BLOCKS, int), np.zeros((BLOCKS, BLOCK))
    first = steps // 4  # when blocks begin to be sent, in groups; `due` says when each is
    due = np.linspace(first, steps, GROUPS).astype(int)[rng.permutation(BLOCKS) % GROUPS]
    for step in range(steps + 1):
        rho = np.exp(log_rho).astype(np.float16)
        mu, sigma, saved = mean_kl(*theta)  # in units of rho
        now = due == step
        if now.any():
            indices[now] = best_rows(table, mu[now], sigma[now])
            sent[now] = table[indices[now]]
        eps = rng.standard_normal((BLOCKS, BLOCK))
        z = np.where(due[:, None] <= step, sent, mu + sigma * eps)
        batch = rng.integers(len(images), size=BATCH)
        w = to_tensors(rho[tensor] * z, order)
        loss, gradient = loss_and_gradient(w, images[batch], labels[batch])
        g = np.concatenate([d.ravel() for d in gradient])[order] * rho[tensor]
        rate = np.interp(step, (0, first, steps), RATES)
        adam(theta, moments, np.stack(mean_kl_gradient(g, eps, sigma, saved)), step + 1, rate)
        if step < first:  # (22); from then on rho is kept as it is, for simplicity
            adam(log_rho, rho_moments, np.bincount(tensor.flat, (g * z).flat), step + 1, rate / 5)
        if step % 1000 == 0:
            print(f"step {step}: loss {loss:.3f}, {np.sum(due <= step)} of {BLOCKS} blocks sent")
    return encode(seed, rho, indices)


# --- 6. The file, section 2, in which the network is described, section 3.1
CONVS = [number for k, stride, _, o in LAYERS for number in (1, k, k, stride, 0, 1, o, 7)][:-1]
HEADER = bytes([*b"RMC", 1, 0, 0, 0, BITS, 1, 28, 28, 10, 2 * len(LAYERS), *CONVS, 3, BLOCK])


def encode(seed, rho, indices):
    """Return the bytes of a file."""
    bits = (indices[:, None] >> np.arange(BITS)[::-1] & 1).astype(bool)
    body = HEADER + bytes([seed] + [1] * len(SHAPES)) + rho.astype("<f2").tobytes()
    body += np.packbits(bits).tobytes()
    return body + zlib.crc32(body).to_bytes(4, "little")


def decode(data):
    """Return the tensors of a file, which has to be what `encode` makes of what it says."""
    body, at = data.ljust(V), len(HEADER) + 1 + len(SHAPES)  # of one that is cut off, too
    seed, rho = body[len(HEADER)], np.frombuffer(body, "<f2", len(SHAPES), at)
    bits = np.unpackbits(np.frombuffer(body, np.uint8, offset=at + 2 * len(SHAPES)))
    indices = bits[: BLOCKS * BITS].reshape(BLOCKS, BITS) @ (1 << np.arange(BITS)[::-1])
    fits = seed < 128 and np.all((rho >= 2**-14) & (rho < np.inf))  # sections 2.2 and 2.1
    if not fits or encode(seed, rho, indices) != data:
        raise ValueError("not a whole file of this program")
    order, rho = order_of(seed), np.repeat(np.float32(rho), SIZES)
    return to_tensors(rho[order] * normals(seed, indices, BLOCK), order)


def load(folder, name):
    """Return the images of a part of MNIST, shape (images, 784), from -1/2 to 1/2, and labels."""
    names = f"{name}-images-idx3-ubyte.gz", f"{name}-labels-idx1-ubyte.gz"
    x, y = (np.frombuffer(gzip.decompress((folder / n).read_bytes()), np.uint8) for n in names)
    return x[16:].reshape(-1, 28 * 28) / np.float32(255) - np.float32(0.5), y[8:]


def main():
    """Train, write the file, read it, and count the mistakes of the network that was read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "data" / "mnist")
    parser.add_argument("--out", type=Path, default="model.rmc", help="the file to write")
    parser.add_argument("--steps", type=int, default=15_000, help="steps of training, 10 or more")
    parser.add_argument("--seed", type=int, default=0, help="0 to 127")
    flags = parser.parse_args()
    if flags.steps < 10 or not 0 <= flags.seed <= 127:
        parser.error("expected --steps of 10 or more and --seed from 0 to 127")
    try:
        (images, labels), test = load(flags.data, "train"), load(flags.data, "t10k")
        flags.out.write_bytes(train(images[:-KEPT], labels[:-KEPT], flags.steps, flags.seed))
    except OSError as fault:
        parser.error(str(fault))
    w = decode(flags.out.read_bytes())
    for name, (x, y) in {"validation": (images[-KEPT:], labels[-KEPT:]), "test": test}.items():
        print(f"{name} error {np.mean(forward(w, x)[0].argmax(axis=0) != y):.2%}")
    print(f"{flags.out}: {flags.out.stat().st_size} bytes, for {V} weights")


if __name__ == "__main__":
    main()
