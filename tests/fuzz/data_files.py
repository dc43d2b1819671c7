"""Data sets' files, damaged and made to do harm: a named error, or data of the kind promised."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.data import batches
from tests.fuzz.damage import damaged
from tests.fuzz.harness import Fault

from ratewise.data.cifar import read_cifar
from ratewise.data.housing import read_housing
from ratewise.data.idx import read_idx
from ratewise.data.matrices import read_expression, read_faces
from ratewise.data.text import read_sentences, read_text
from ratewise.errors import RatewiseError
from ratewise.files import contents

Make = Callable[[np.random.Generator], bytes]
Read = Callable[[Path], Any]
#: So much may be read and unpacked here, and a bomb need not be larger.
_MOST = 4 << 20
_COLUMNS = (
    "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,"
    "median_income,median_house_value,ocean_proximity"
)


def case(rng: np.random.Generator, folder: Path) -> str:
    """Damage a file of one kind, or make one out of parts, and read it."""
    name = list(KINDS)[int(rng.integers(len(KINDS)))]
    make, read, check = KINDS[name]
    way = rng.random()
    if way < 0.05:
        _read(folder / name, make(rng), read, check, whole=True)
        return "held"
    if way < 0.1:
        content = gzip.compress(bytes(2 * _MOST)) if name.endswith(".gz") else make(rng)
    elif way < 0.25 and name in ODD:
        content = ODD[name](rng)
    else:
        content = damaged(rng, make(rng))
    return _read(folder / name, content, read, check)


def _read(
    path: Path, content: bytes, read: Read, check: Callable[[Any], bool], whole: bool = False
) -> str:
    before, contents.MOST = contents.MOST, _MOST
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        found = read(path)
    except RatewiseError as error:
        if whole:
            raise Fault(f"{path.name}, undamaged, was refused: {error}") from error
        if path.name not in str(error) or not str(error).isprintable() or len(str(error)) > 1000:
            raise Fault(f"an error that does not name the file in a line: {error}") from error
        return f"refused {type(error).__name__}"
    except Exception as error:
        raise Fault(f"{path.name}: no named error: {type(error).__name__}: {error}") from error
    finally:
        contents.MOST = before
    if not check(found):
        raise Fault(f"{path.name} was read as what no such file holds")
    return "held"


def _idx(rng: np.random.Generator) -> bytes:
    shape = tuple(int(n) for n in rng.integers(1, 9, int(rng.integers(1, 5))))
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def _images(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    save = np.savez if rng.random() < 0.5 else np.savez_compressed
    n = int(rng.integers(1, 4))
    arrays = {
        f"{part}_{kind}": rng.integers(0, high, shape).astype(np.uint8)
        for part in ("train", "test")
        for kind, high, shape in (("images", 256, (n, 32, 32, 3)), ("labels", 10, (n,)))
    }
    save(buffer, **arrays)
    return buffer.getvalue()


def _faces(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    save = np.savez if rng.random() < 0.5 else np.savez_compressed
    save(buffer, images=rng.integers(0, 256, (3, 5, 4), dtype=np.uint8), subjects=np.arange(3))
    return buffer.getvalue()


def _batch(rng: np.random.Generator) -> bytes:
    n = int(rng.integers(1, 4))
    if rng.random() < 0.5:
        return batches.official(n)[1]
    values = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
    batch = {b"data": values, b"labels": rng.integers(0, 10, n).tolist()}
    return pickle.dumps(batch, protocol=int(rng.integers(3, 5)))


def _records(rng: np.random.Generator) -> bytes:
    n = int(rng.integers(1, 4))
    records = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    return records.tobytes()


def _table(rng: np.random.Generator) -> bytes:
    rows = rng.integers(0, 1000, (int(rng.integers(1, 20)), 5)) / 8
    return "\n".join("\t".join(map(str, row)) for row in rows).encode()


def _houses(rng: np.random.Generator) -> bytes:
    rows = [",".join(map(str, row)) + ",INLAND" for row in rng.integers(0, 99, (110, 9))]
    return "\n".join([_COLUMNS, *rows]).encode()


def _text(rng: np.random.Generator) -> bytes:
    return "".join(rng.choice(list("ab \n\u00e9"), 2000)).encode()


def _python(path: Path) -> Any:
    """Read a folder of CIFAR's with this file as both of its parts."""
    content, end = path.read_bytes(), path.suffix if path.suffix == ".bin" else ""
    folder = path.with_name(f"{path.name}-folder")
    folder.mkdir()
    for name in (f"data_batch_1{end}", f"test_batch{end}"):
        (folder / name).write_bytes(content)
    return read_cifar(folder)


def _are_images(found: Any) -> bool:
    return all(
        images.dtype == np.uint8
        and images.shape == (len(labels), 3, 32, 32)
        and labels.dtype == np.int64
        and ((labels >= 0) & (labels < 10)).all()
        for images, labels in found
    )


def _are_houses(found: Any) -> bool:
    features, values = found
    return not np.isinf(features).any() and np.isfinite(values).all() and len(values) >= 100


#: By file name: what makes one, what reads it, and what has to be so of what was read.
KINDS: dict[str, tuple[Make, Read, Callable[[Any], bool]]] = {
    "x-ubyte": (_idx, read_idx, lambda found: found.dtype == np.uint8),
    "x-ubyte.gz": (
        lambda rng: gzip.compress(_idx(rng), mtime=0),
        read_idx,
        lambda found: found.dtype == np.uint8,
    ),
    "cifar.npz": (_images, read_cifar, _are_images),
    "cifar": (_batch, _python, _are_images),
    "cifar.bin": (_records, _python, _are_images),
    "faces.npz": (_faces, read_faces, lambda found: found.dtype == np.uint8 and found.ndim == 3),
    "genes.txt": (_table, read_expression, lambda found: np.isfinite(found).all()),
    "houses.csv": (_houses, read_housing, _are_houses),
    "text.txt": (_text, read_text, lambda found: isinstance(found, str) and len(found) >= 1000),
    "text.neg": (_text, read_sentences, lambda found: all(isinstance(line, str) for line in found)),
}


def _program(rng: np.random.Generator) -> bytes:
    """Instructions of pickles and pieces of batches, one after the other."""
    pieces = [
        b"(", b"]", b"}", b")", b"N", b"\x88", b"0", b"1", b"2", b"a", b"e", b"s", b"u", b"t", b"b",
        b"R", b"\x85", b"\x86", b"\x87", b"\x81", b"q\x01", b"h\x01", b"\x94", b"\x93", b"K\x01",
        b"I9\n", b"\x8a\x08" + b"\xff" * 8, b"\x8e" + struct.pack("<Q", 1 << 60), b"S'a'\n",
        b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cbuiltins\neval\n", b"\x8c\x05numpy", b"o",
        b"cnumpy.core.multiarray\n_reconstruct\n", batches.text(b"data"), batches.text(b"labels"),
        batches.dtype(b"u1", batches.BYTES), batches.dtype(b"O8", batches.BYTES), batches.BYTES,
        batches.images(1)[1], batches.labels(1), b"X\x04\0\0\0\xed\xa0\x80a",
        b"\x95" + bytes(8),
    ]  # fmt: skip
    chosen = rng.choice(len(pieces), int(rng.integers(1, 30)))
    program = b"".join(pieces[index] for index in chosen)
    return b"\x80\x02}(" * int(rng.integers(2)) + program + b"u." * int(rng.integers(2))


def _pointers(rng: np.random.Generator) -> bytes:
    return batches.pointers(int(rng.integers(1 << 47)))


def _archive(rng: np.random.Generator) -> bytes:
    """Arrays whose headers say what they are not, in archives of any method."""
    descr = str(rng.choice(["'|u1'", "'<i8'", "'|O'", "[('a', '<i8')]", "'<f3'", "'<U2'", "3"]))
    sizes = [-1, 0, 1, 2, 3, 32, 2**31, 2**40, 2**63, 10**30]
    shape = tuple(int(n) for n in rng.choice(np.array(sizes, object), int(rng.integers(5))))
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    text = text if rng.random() < 0.7 else damaged(rng, text)
    member = b"\x93NUMPY\1\0" + struct.pack("<H", len(text) % 65536) + text + bytes(24)
    buffer = io.BytesIO()
    method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    if rng.random() < 0.2:
        member += bytes(2 * _MOST)
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in ("images", "train_images", "train_labels", "test_images", "test_labels"):
            archive.writestr(f"{name}.npy", member)
    return buffer.getvalue()


def _either(rng: np.random.Generator) -> bytes:
    return _pointers(rng) if rng.random() < 0.1 else _program(rng)


#: By file name: what makes files that no writer would.
ODD: dict[str, Make] = {"cifar": _either, "cifar.npz": _archive, "faces.npz": _archive}


def _refused(name: str, content: bytes) -> Callable[[Path], None]:
    def regression(folder: Path) -> None:
        _, read, check = KINDS[name]
        outcome = _read(folder / name, content, read, check)
        if not outcome.startswith("refused"):
            raise Fault(f"{name} was taken: {outcome}")

    return regression


def _pipe(folder: Path) -> None:
    """A reader that opened a pipe would wait for ever."""
    os.mkfifo(folder / "text.txt")
    try:
        read_text(folder / "text.txt")
    except RatewiseError:
        return
    raise Fault("a pipe was read")


def _labels(content: bytes) -> bytes:
    return batches.batch(content, batches.images(1)[1])


REGRESSIONS: dict[str, Callable[[Path], None]] = {
    "numbers of a batch taken for pointers": _refused("cifar", batches.pointers()),
    "labels that are no classes": _refused("cifar", _labels(batches.labels(10))),
    "labels that are strings": _refused("cifar", _labels(b"](" + batches.text(b"cat") + b"e")),
    "a gzipped bomb": _refused("x-ubyte.gz", gzip.compress(bytes(2 * _MOST), mtime=0)),
    "a csv in Latin-1": _refused("houses.csv", "\u00e9\n".encode("latin-1") * 200),
    "a pipe": _pipe,
}
