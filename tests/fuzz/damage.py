"""Ways to damage the bytes of a file."""

from __future__ import annotations

import numpy as np

#: Bytes that mean something to a reader: extremes of numbers, and what begins or ends things.
TELLING = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\n", b"\r", b",", b"'", b'"', b"(", b")", b".", b"-", b"9",
    b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0" * 8,
    b"nan", b"inf", b"-1", b"1e999", b"9" * 30, b"\xef\xbb\xbf", b"\xe9", b"PK\x03\x04",
    b"\x1f\x8b", b"\x93NUMPY", b"\x80\x02", b"|O", b"<f8", b"(" * 50,
)  # fmt: skip


def damaged(rng: np.random.Generator, whole: bytes) -> bytes:
    """Return a file's bytes with one to four things done to them."""
    content = bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        if not content:
            break
        # Headers and directories stand at the ends: half of all damage is done there.
        end = min(len(content), 200)
        spot = int(rng.integers(len(content)))
        if rng.random() < 0.5:
            spot = int(rng.integers(end)) if rng.random() < 0.6 else len(content) - 1 - spot % end
        telling = TELLING[int(rng.integers(len(TELLING)))]
        length = int(rng.integers(1, 40))
        way = int(rng.integers(8))
        if way == 0:
            content[spot] ^= 1 << int(rng.integers(8))
        elif way == 1:
            content[spot] = int(rng.integers(256))
        elif way == 2:
            del content[spot:]
        elif way == 3:
            del content[spot : spot + length]
        elif way == 4:
            content[spot:spot] = telling
        elif way == 5:
            content[spot : spot + len(telling)] = telling
        elif way == 6:
            content[spot:spot] = content[spot : spot + length] * int(rng.integers(1, 20))
        else:
            other = int(rng.integers(len(content)))
            content[spot : spot + length] = content[other : other + length]
    return bytes(content)
