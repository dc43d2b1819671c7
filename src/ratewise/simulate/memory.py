"""How much memory a run takes, so that no more of them are stacked than a budget allows."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ratewise.errors import invalid
from ratewise.simulate import optimizers
from ratewise.simulate.stack import Stack
from ratewise.simulate.task import Data, Task

#: Bytes that one call may use unless it says otherwise.
DEFAULT_BUDGET = 2 << 30
#: What a process grows by over the bytes of the tensors that are alive at once, at most: gaps that
#: the allocator cannot use, and what a kernel takes while it works. 1.3 to 1.8 where measured.
_GAPS = 2
#: [runs, parameters] tensors that noise on the gradient makes.
_NOISE = 6
#: Python's own objects, generators of random numbers and a rule's state.
_OBJECTS = 6 << 10
_HISTORIES = 5


class _Alive(TorchDispatchMode):
    """Counts the bytes of all tensors made within it that are alive: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._meet(tensor.untyped_storage())
        return result

    def _meet(self, storage: torch.UntypedStorage) -> None:
        name = storage._cdata
        if name not in self._known:
            self._known[name] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._part, name).atexit = False

    def _part(self, name: int) -> None:
        self.now -= self._known.pop(name)


def bytes_a_run(
    task: Task,
    optimizer: optimizers.Choice,
    *,
    steps: int,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Return about how many bytes one more run in a stack takes while it trains.

    Measured where two small stacks make two steps on the CPU; what noise takes is counted.
    """
    most = []
    for runs in (few := 2, many := 6):
        batch = _batch(task, runs, dtype)
        with _Alive() as alive:
            stack = Stack(task, optimizer, range(runs), dtype=dtype)
            for _ in range(2):
                own = [part.clone() for part in batch]
                stack.backward(stack.losses(tuple(own)))
                noise = [torch.empty_like(stack.flat) for _ in range(_NOISE)]
                del noise
                stack.step(torch.zeros(runs, dtype=dtype))
        most.append(alive.most)
    tensors = max(0, most[1] - most[0]) // (many - few)
    data = task.data_for(0)
    if callable(task.data):  # while it is made there are all runs', their stack, and its cast
        own_data = sum(part.numel() * max(part.itemsize, dtype.itemsize) for part in data)
        cast = any(part.is_floating_point() and part.dtype is not dtype for part in data)
        tensors = max(tensors + own_data, (3 if cast else 2) * own_data)
    order = 3 * 8 * len(data[0]) if data else 0
    return _GAPS * (tensors + order) + _OBJECTS + 4 * 8 * steps


def _batch(task: Task, runs: int, dtype: torch.dtype) -> Data:
    """Return a batch of each run, each part [runs, batch_size, ...]."""
    several = [task.data_for(run) for run in range(runs)]
    parts = (
        torch.stack([part[: task.batch_size] for part in one]) for one in zip(*several, strict=True)
    )
    return tuple(part.to(dtype) if part.is_floating_point() else part for part in parts)


def bytes_shared(task: Task, dtype: torch.dtype, device: torch.device) -> int:
    """Return how many bytes a copy of the data that all runs share takes, where one is made."""
    if callable(task.data):
        return 0
    moved = device.type != "cpu"
    kinds = [(part, dtype if part.is_floating_point() else part.dtype) for part in task.data]
    return sum(
        part.numel() * kind.itemsize for part, kind in kinds if moved or kind is not part.dtype
    )


def bytes_kept(runs: int, recorded: int) -> int:
    """Return how many bytes the results take, whatever the chunk."""
    return runs * (8 * _HISTORIES * recorded + 64)


def most_runs(budget: int, kept: int, a_run: int) -> int:
    """Return how many runs may be stacked within a budget.

    Args:
        budget: bytes.
        kept: bytes that results and shared data take; results twice, while chunks are joined.
        a_run: bytes of one more run.

    Raises:
        InvalidArgument: not even one.
    """
    least = kept + max(kept, a_run)
    if budget < least:
        allowed = f"at least {least} bytes (twice {kept} for the results, {a_run} for one run)"
        fix = "raise it, or record less (every=10) of fewer or smaller runs"
        raise invalid("memory", allowed, budget, fix)
    return (budget - kept) // a_run


def check_budget(memory: object) -> int:
    """Return the budget in bytes, or say what is wrong with it."""
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise invalid("memory", "a number of bytes >= 1", memory, "pass e.g. 2 * 2**30")
    return memory


def spread(runs: int, chunk: int) -> Sequence[range]:
    """Return the runs of each chunk, sizes as even as they can be.

    >>> [len(part) for part in spread(10, 4)]
    [3, 4, 3]
    """
    count = -(-runs // chunk)
    edges = [round(i * runs / count) for i in range(count + 1)]
    return [range(a, b) for a, b in itertools.pairwise(edges)]
