"""A reader of the pickles of CIFAR-10's Python version that runs no code from them.

A pickle is a program for a machine with a stack. Python's own machine calls what the file names;
even one that is allowed NumPy's arrays alone can be told by a file to take numbers for pointers.
The one below knows the instructions that the official files are made of (protocol 2) and those
that Python 3 writes for the same objects (up to protocol 4). It builds dicts, lists, tuples,
integers and byte strings, and arrays of unsigned bytes from their shape and their bytes. The names
of NumPy's two functions are compared with the file's, and neither is called.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptData
from ratewise.files.contents import shown

_ARRAYS = {f"numpy.{core}.multiarray _reconstruct" for core in ("core", "_core")}
_MARK = object()
#: An official batch has 10,000 images, and about 40,000 instructions.
_INSTRUCTIONS = 1_000_000


class _Name:
    """A function or class that the file names."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Bytes:
    """The type of an array of unsigned bytes."""


class _Array:
    """An array, empty until its shape and bytes have come."""

    def __init__(self) -> None:
        self.values: NDArray[np.uint8] | None = None


def read_batch(pickled: bytes) -> dict[bytes, Any]:
    """Return the dict of a pickled batch, its texts as byte strings, its arrays as uint8.

    What a file can make it do: build at most a million such values, no larger together than the
    file. No class is imported, no function called, no pointer followed.

    Args:
        pickled: the file.

    Raises:
        CorruptData: cut short, no pickle, or with anything else in it; the error names it.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if opcode.name == "STOP":
                break
            if count == _INSTRUCTIONS:
                raise CorruptData(f"more than {_INSTRUCTIONS:,} instructions")
            machine.run(opcode.name, argument)
        (batch,) = machine.stack
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, CorruptData):
            raise
        raise CorruptData(f"cut short or no pickled batch ({shown(error)})") from error
    if not isinstance(batch, dict):
        raise CorruptData("a pickle of something else than a dict")
    return {
        key: value.values if isinstance(value, _Array) else value for key, value in batch.items()
    }


class _Machine:
    """The stack, what was put by for later, and what each instruction does with them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Carry one instruction out.

        Raises:
            CorruptData: it is none of those that are known.
            IndexError, KeyError, TypeError, ValueError: the stack does not have what it needs.
        """
        if name in ("PROTO", "FRAME"):
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _INTEGERS:
            self.stack.append(int(argument))
        elif name in _TEXTS:
            self.stack.append(_TEXTS[name](argument))
        elif name == "GLOBAL":
            self.stack.append(_Name(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif name in _STEPS:
            _STEPS[name](self)
        else:
            raise CorruptData(f"the instruction {name}, which no CIFAR-10 batch has")

    def popped(self, count: int) -> tuple[Any, ...]:
        """Take so many values off the stack, the first one first."""
        values = tuple(self.stack[len(self.stack) - count :])
        if len(values) < count or any(value is _MARK for value in values):
            raise ValueError("values are lacking")
        del self.stack[-count:]
        return values

    def since_mark(self) -> tuple[Any, ...]:
        """Take off the stack what was put there since the last mark, and the mark."""
        start = len(self.stack) - 1
        while self.stack[start] is not _MARK:  # at the stack's end: IndexError
            start -= 1
            if start < 0:
                raise ValueError("a mark is lacking")
        values = tuple(self.stack[start + 1 :])
        del self.stack[start:]
        return values

    def tuple_of(self, count: int) -> None:
        """Put the last values together."""
        self.stack.append(self.popped(count))

    def tuple_since_mark(self) -> None:
        """Put the values since the mark together."""
        self.stack.append(self.since_mark())

    def append(self, values: tuple[Any, ...]) -> None:
        """Put values at the end of the list on top."""
        if type(self.stack[-1]) is not list:
            raise TypeError("no list to append to")
        self.stack[-1].extend(values)

    def set_items(self, values: tuple[Any, ...]) -> None:
        """Put keys and values into the dict on top."""
        if type(self.stack[-1]) is not dict or len(values) % 2:
            raise TypeError("no dict to put items into")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not bytes:
                raise TypeError("a key that is no string")
            self.stack[-1][key] = value

    def name(self) -> None:
        """Make a name of its module and its own."""
        module, name = self.popped(2)
        if type(module) is not bytes or type(name) is not bytes:
            raise TypeError("a name that is no string")
        self.stack.append(_Name(f"{module.decode()} {name.decode()}"))

    def call(self) -> None:
        """Begin an array, or name the type of bytes; no function is called."""
        function, arguments = self.popped(2)
        if type(function) is not _Name or type(arguments) is not tuple:
            raise TypeError("no function to call")
        if function.name in _ARRAYS and type(arguments[0]) is _Name:
            if arguments[0].name != "numpy ndarray":
                raise CorruptData(f"it asks for {_dotted(arguments[0])}, which is not read")
            self.stack.append(_Array())
        elif function.name == "numpy dtype":
            if arguments[0] != b"u1":
                raise CorruptData("an array of another type than unsigned bytes")
            self.stack.append(_Bytes())
        else:
            raise CorruptData(f"it asks for {_dotted(function)}, which is not read")

    def build(self) -> None:
        """Give an array its shape and bytes; the type of bytes has one state only."""
        target, state = self.stack[-2], self.popped(1)[0]
        if type(target) is _Bytes:
            if state != (3, b"|", None, None, None, -1, -1, 0):
                raise CorruptData("an array of another type than unsigned bytes")
        elif type(target) is _Array:
            _, shape, kind, by_columns, raw = state
            if type(kind) is not _Bytes or type(raw) is not bytes or type(shape) is not tuple:
                raise CorruptData("an array of another type than unsigned bytes")
            sizes = len(shape) <= 4 and all(type(n) is int and n >= 0 for n in shape)
            if not sizes or math.prod(shape) != len(raw):
                raise CorruptData(f"an array whose shape needs other than its {len(raw):,} bytes")
            order: Any = "F" if by_columns else "C"
            target.values = np.frombuffer(raw, np.uint8).reshape(shape, order=order)
        else:
            raise CorruptData("a state for something that has none")


def _dotted(name: _Name) -> str:
    return shown(name.name.replace(" ", "."), 100)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_INTEGERS = ("BININT", "BININT1", "BININT2")
_TEXTS: dict[str, Callable[[Any], bytes]] = {
    # pickletools shows Python 2's strings, which are bytes, as Latin-1.
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), lambda text: text.encode("latin-1")),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), bytes),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), str.encode),
}
_STEPS: dict[str, Callable[[_Machine], None]] = {
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "APPEND": lambda machine: machine.append(machine.popped(1)),
    "APPENDS": lambda machine: machine.append(machine.since_mark()),
    "SETITEM": lambda machine: machine.set_items(machine.popped(2)),
    "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
    "STACK_GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
