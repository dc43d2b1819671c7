"""Which torch optimizers leave a rate that is a tensor on its device: the table of docs/devices.md.

Each optimizer steps on a device without memory, torch's "meta" device, that is passed off as a
GPU: nothing on it can be read, so every read is heard, and answered with a 1. Fused and compiled
steps are run on the CPU instead. Last comes how many operations one decision of GreedyLR takes.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import ratewise
from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.speed import kept

#: Enough for RAdam, whose first steps do without the part that takes the rate.
STEPS = 8
SIZES = {"": None, "quick": None}
NAMES = (
    "SGD",
    "Adam",
    "AdamW",
    "NAdam",
    "RAdam",
    "Adamax",
    "Adadelta",
    "Adagrad",
    "RMSprop",
    "Rprop",
    "ASGD",
    "Adafactor",
    "Muon",
    "LBFGS",
    "SparseAdam",
)
#: column -> settings of the optimizer
WAYS: dict[str, dict[str, Any]] = {
    "as constructed": {},
    "foreach=False": {"foreach": False},
    "capturable": {"capturable": True},
    "capturable, foreach=False": {"capturable": True, "foreach": False},
    "fused": {"fused": True},
}
KEPT, READ, FIRST, REFUSED, NO_SUCH = "kept", "read", "read once", "refused", "-"
READING = torch.ops.aten._local_scalar_dense.default
#: They move no numbers: no kernel is launched for them.
VIEWS = re.compile("alias|detach|empty|expand|select|slice|split|unbind|unsqueeze|view")


class Heard(TorchDispatchMode):
    """Counts operations and, of a device, what is read there; a read of "meta" gives 1."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.reads = 0
        self.kernels = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, and count it."""
        if func is READING and args[0].device.type == self.device:
            self.reads += 1
            if self.device == "meta":
                return 1.0
        self.kernels += not VIEWS.match(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def meta_as_gpu() -> Iterator[None]:
    """Let torch's optimizers take the meta device for one that has foreach and CUDA graphs."""

    devices = mock.Mock(return_value=["cuda", "meta"])
    with ExitStack() as stack:
        for module in [m for n, m in sys.modules.items() if n.startswith("torch.optim.")]:
            for kind in ("capturable", "foreach_kernels"):
                if hasattr(module, name := f"_get_{kind}_supported_devices"):
                    stack.enter_context(mock.patch.object(module, name, devices))
        yield


def stepper(name: str, device: str, rate: float | Tensor, **settings: Any) -> Callable[[], Any]:
    """Return the step of a new optimizer with gradients; the rate comes in after construction."""
    shape = (4, 4) if name == "Muon" else (4,)
    parameters = [torch.nn.Parameter(torch.ones(shape, device=device)) for _ in range(2)]
    for parameter in parameters:
        gradient = torch.ones(shape, device=device)
        parameter.grad = gradient.to_sparse() if name == "SparseAdam" else gradient
    optimizer = getattr(torch.optim, name)(parameters, lr=0.1, **settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if name == "LBFGS":
        return lambda: optimizer.step(lambda: torch.ones((), device=device))
    return optimizer.step


def verdict(name: str, *, tensor: bool = True, **settings: Any) -> str:
    """Return what an optimizer with these settings does to its rate, one of the five words.

    Args:
        name: of the class in `torch.optim`.
        tensor: the rate is a tensor on the parameters' device; a Python number otherwise.
        settings: of the optimizer, such as ``fused=True``.
    """
    known = inspect.signature(getattr(torch.optim, name)).parameters
    if any(key not in known for key in settings):
        return NO_SUCH
    # Neither fused kernels nor sparse gradients exist on the meta device.
    device = "cpu" if settings.get("fused") or name == "SparseAdam" else "meta"
    reads = []
    try:
        with meta_as_gpu():
            rate = torch.tensor(0.1, device=device) if tensor else 0.1
            step = stepper(name, device, rate, **settings)
            for _ in range(STEPS):
                with Heard(device) as heard:
                    step()
                reads.append(heard.reads)
    except (RuntimeError, ValueError, NotImplementedError):
        return REFUSED
    return READ if reads[-1] else FIRST if any(reads) else KEPT


def compiled(name: str) -> str:
    """Return what a step that `torch.compile` has traced does to a tensor rate, on the CPU.

    Kept is where one graph holds the whole step and reads nothing. A read breaks the graph: then
    there is none, or several.
    """
    import torch._dynamo

    if name in ("LBFGS", "SparseAdam"):
        return NO_SUCH
    graphs, reads = 0, 0

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1

        def run(*values: Any) -> Any:
            nonlocal reads
            with Heard("cpu") as heard:
                result = graph(*values)
            reads += heard.reads
            return result

        return run

    torch._dynamo.reset()
    step = torch.compile(stepper(name, "cpu", torch.tensor(0.1)), backend=backend)
    for _ in range(STEPS):
        step()
    return KEPT if graphs == 1 and not reads else READ


def words(name: str) -> list[str]:
    """Return an optimizer's line of the table."""
    found = [verdict(name, tensor=False), *(verdict(name, **way) for way in WAYS.values())]
    return [name, *found, compiled(name)]


def table(rows: list[list[str]] | None = None) -> str:
    """Return the table in Markdown, as docs/devices.md has it."""
    columns = ["optimizer", "Python rate", *WAYS, "compiled"]
    rule = ["---"] * len(columns)
    lines = [columns, rule, *(rows if rows is not None else map(words, NAMES))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def operations(every: int = 1, **settings: Any) -> tuple[int, int]:
    """Return how many operations a step of GreedyLR takes on tensors: with a decision, without.

    Args:
        every: decide each so many steps; with 1 there is no step without.
        settings: of the scheduler.
    """
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = ratewise.GreedyLR(optimizer, decide_every=every, **settings)
    loss = torch.tensor(1.0)
    counts = []
    for _ in range(3 * every):
        with Heard("cpu") as heard:
            scheduler.step(loss)
        counts.append(heard.kernels)
    return counts[-1], counts[-2] if every > 1 else 0


def measure(size: None, data: str | None) -> dict[str, Any]:
    """Return every optimizer's words, and what a decision of GreedyLR takes."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # torch tells at length why it cannot trace Adafactor
    torch.set_num_threads(1)
    (decision, between), (plain, _) = operations(every=10), operations(every=10, window=1)
    rows = [words(name) for name in NAMES]
    logging.disable(logging.NOTSET)
    return {
        "rows": rows,
        "decision": decision,
        "plain": plain,
        "between": between,
        "torch": torch.__version__.split("+")[0],
    }


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    decision, between = measured["decision"], measured["between"]
    held = outcome(decision <= 200 and between <= 5)
    wanted, shown = "<= 200, <= 5", f"{decision}, {between}"
    title = "GreedyLR on a device: operations of a decision, and of a step between two"
    claimed = [Claim(title, wanted, shown, "", held)]
    return pages.render(
        "speed/tensor_rates.md.j2", claimed, words=table(measured["rows"]), **measured
    )


run = kept.command(measure, text)
