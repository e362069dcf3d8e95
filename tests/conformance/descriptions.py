"""Files of network 0 with something changed in what they say of it."""

import spec_decoder
from fileformat.document import seal

from refmiracle.conformance.vectors import default_golden, load_file

LONGEST = 200


def described_files():
    """Return the small valid files of the golden vectors."""
    cases = load_file(default_golden() / "files" / "decode_model.json").cases
    files = [c.inputs["data"].tobytes() for c in cases if "/described-" in c.id and c.outputs]
    return [data for data in files if len(data) < LONGEST]


def descriptions_changed(rng, count):
    """Yield them with one or two bytes of their description changed, or cut off within it."""
    right = [data[:-4] for data in described_files()]
    for n in range(count):
        body = bytearray(right[n % len(right)])
        _, end = spec_decoder.read_network(0, bytes(body))
        for _ in range(rng.integers(1, 3)):
            body[rng.integers(8, end)] = rng.choice([*range(10), 64, 127, 129, 255])
        yield seal(bytes(body[: rng.integers(8, end)] if n % 10 == 0 else body))
