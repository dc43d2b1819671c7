"""What a scheduler adds to a training step on a GPU: GreedyLR's runtimes beside torch's cosine.

The model is a transformer of GPT-2-small's size (124 M parameters, sequences of 1024 tokens), in
bf16 autocast with AdamW, on random tokens. Each repetition times every contender next to the same
training without a scheduler, all in this one process; the order rotates, and so does which of the
two comes first. Contenders with a tensor rate have capturable AdamW, and so has the training
beside them. "No scheduler, again" differs from its neighbour in nothing: that is the noise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer, lr_scheduler

import ratewise
from evidence import language
from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.language import Size
from evidence.speed import kept
from evidence.timing import Spread, measured_on, uncollected

try:
    from transformers.optimization import GreedyLR as TransformersGreedyLR
except ImportError:
    TransformersGreedyLR = None

BASE_LR = 3e-4
GOAL = 0.1  #: percent of a step that GreedyLR may add, and no more than cosine adds
WARM = 3  #: steps before the clock starts: the first one makes the optimizer's state
COSINE = "torch CosineAnnealingLR"
OURS = "ratewise.GreedyLR"
AGAIN = "no scheduler, again"


GPT2_SMALL = Size(12, 768, 12, 50257, 1024, 16)  #: the batch is halved until it fits
SMALL = Size(1, 32, 2, 101, 16, 2)


class Plan(NamedTuple):
    """How thoroughly it is measured; a trial tries the code, on the CPU."""

    size: Size
    steps: int  #: timed, a multiple of 10
    repeats: int
    trial: bool = False


SIZES = {"": Plan(GPT2_SMALL, 20, 21), "quick": Plan(SMALL, 3, 2, trial=True)}


class Contender(NamedTuple):
    """A scheduler and how it is stepped, or none."""

    name: str
    tensor: bool  #: whether the rate is a tensor on the device
    build: Callable[[Optimizer], Any]
    step: Callable[[Any, Tensor], None]  #: scheduler, loss


def contenders() -> list[Contender]:
    """Return what is compared; the order does not matter."""

    def cosine(optimizer: Optimizer) -> Any:
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=100_000)

    def bare(scheduler: Any, loss: Tensor) -> None:
        scheduler.step()

    def with_loss(scheduler: Any, loss: Tensor) -> None:
        scheduler.step(loss)

    def with_number(scheduler: Any, loss: Tensor) -> None:
        scheduler.step(loss.item())

    every_10 = partial(ratewise.GreedyLR, decide_every=10)
    chosen = [
        *(nothing(AGAIN, tensor) for tensor in (False, True)),
        *(Contender(COSINE, tensor, cosine, bare) for tensor in (False, True)),
        *(Contender(OURS, tensor, ratewise.GreedyLR, with_loss) for tensor in (False, True)),
        Contender(f"{OURS}, decide_every=10", True, every_10, with_loss),
    ]
    if TransformersGreedyLR is not None:
        bounds = {"min_lr": 0.1 * BASE_LR, "max_lr": 10 * BASE_LR}
        theirs = partial(TransformersGreedyLR, smooth=True, window_size=20, **bounds)
        name = "transformers.GreedyLR, loss.item()"
        chosen.append(Contender(name, False, theirs, with_number))
    return chosen


def nothing(name: str, tensor: bool) -> Contender:
    """Return the contender that has no scheduler."""
    return Contender(name, tensor, lambda optimizer: None, lambda scheduler, loss: None)


class Times(NamedTuple):
    """Microseconds a step: of the device, of the host's clock, and of the host in the call."""

    device: float
    wall: float
    call: float


class Bench:
    """A model on a device and its random tokens.

    Args:
        size: of the model; its batch is halved until a step fits.
        device: "cuda", or the CPU to try the code.
    """

    def __init__(self, size: Size, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device, self.size = device, size
        self.model = size.model().to(device)
        self.model.head.weight = self.model.embed.weight  # tied, as GPT-2's are
        nn.init.normal_(self.model.embed.weight, std=0.02)
        while True:
            if device.type == "cuda":
                torch.cuda.empty_cache()
            self.tokens = [self.size.tokens().to(device) for _ in range(4)]
            try:
                self.time(nothing("", False), 1)
                return
            except torch.cuda.OutOfMemoryError:
                self.model.zero_grad(set_to_none=True)
                self.size = self.size._replace(batch=self.size.batch // 2)
                if not self.size.batch:
                    raise

    def time(self, contender: Contender, steps: int) -> Times:
        """Train for some steps with a new optimizer and scheduler; return the times of a step."""
        cuda = self.device.type == "cuda"
        rate = torch.tensor(BASE_LR, device=self.device) if contender.tensor else BASE_LR
        optimizer = AdamW(self.model.parameters(), lr=rate, capturable=contender.tensor and cuda)
        scheduler = contender.build(optimizer)
        in_call = 0.0

        def train(step: int) -> None:
            nonlocal in_call
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                loss = language.loss(self.model, self.tokens[step % 4])
            loss.backward()
            optimizer.step()
            loss = loss.detach()
            start = time.perf_counter()
            contender.step(scheduler, loss)
            in_call += time.perf_counter() - start

        for step in range(WARM):
            train(step)
        with uncollected():
            if cuda:
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                begin.record()
            in_call = 0.0
            start = time.perf_counter()
            for step in range(steps):
                train(step)
            if cuda:
                end.record()
                end.synchronize()
            wall = time.perf_counter() - start
        device = begin.elapsed_time(end) / 1e3 if cuda else wall
        return Times(*(1e6 * seconds / steps for seconds in (device, wall, in_call)))


def measure(plan: Plan, data: str | None) -> dict[str, Any]:
    """Return each contender's times and those beside it without a scheduler, by repetition.

    Raises:
        NotMeasured: there is no CUDA device.
    """
    if not plan.trial and not torch.cuda.is_available():
        raise kept.NotMeasured("not measured: no CUDA device")
    torch.set_num_threads(1)
    bench = Bench(plan.size, torch.device("cpu" if plan.trial else "cuda"))
    chosen = contenders()
    pairs: list[list[tuple[Times, Times]]] = [[] for _ in chosen]
    for tensor in (False, True):
        bench.time(nothing("", tensor), plan.steps)
    for repetition in range(plan.repeats):
        for turn in range(len(chosen)):
            index = (turn + repetition) % len(chosen)
            alone = nothing("no scheduler", chosen[index].tensor)
            order = [alone, chosen[index]][:: -1 if repetition % 2 else 1]
            first, second = (bench.time(one, plan.steps) for one in order)
            pairs[index].append((second, first) if repetition % 2 else (first, second))
    names = ("torch", *(("transformers",) if TransformersGreedyLR is not None else ()))
    return {
        "pairs": [
            {"name": one.name, "tensor": one.tensor, "pairs": pair}
            for one, pair in zip(chosen, pairs, strict=True)
        ],
        "steps": plan.steps,
        "repeats": plan.repeats,
        "parameters": sum(p.numel() for p in bench.model.parameters()),
        "batch": bench.size.batch,
        "length": plan.size.length,
        "device": "a CPU: a trial of the code, no measurement"
        if plan.trial
        else f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}",
        "on": measured_on(*names),
    }


class Row(NamedTuple):
    """A contender's times and those beside it without a scheduler, in microseconds a step."""

    name: str
    tensor: bool
    pairs: list[list[dict[str, float]]]  #: without a scheduler, and with it

    def added(self, clock: str = "device") -> Spread:
        """Return what a step takes more."""
        return Spread.of([with_it[clock] - without[clock] for without, with_it in self.pairs])

    @property
    def percent(self) -> float:
        """What the device takes more, of the step beside it."""
        both = [(without["device"], with_it["device"]) for without, with_it in self.pairs]
        return statistics.median(100 * (more - less) / less for less, more in both)

    def cells(self) -> list[str]:
        """Return the row of the table."""
        step = statistics.median(without["device"] for without, _ in self.pairs)
        host = (f"{self.added(clock).median:.1f}" for clock in ("wall", "call"))
        rate = "tensor" if self.tensor else "float"
        middle = self.added().cells(1)
        return [self.name, rate, f"{step / 1e3:.2f}", *middle, f"{self.percent:.3f}", *host]


def claims(rows: list[Row]) -> list[Claim]:
    """Return what is claimed of each of ours."""
    cosines = {r.tensor: r.added().median for r in rows if r.name == COSINE}
    found = []
    for r in (r for r in rows if r.name.startswith(OURS)):
        who, cosine = f"{r.name}, {'tensor' if r.tensor else 'float'} rate", cosines[r.tensor]
        title, held = f"{who}: adds at most {GOAL}% of a step", outcome(r.percent <= GOAL)
        found.append(Claim(title, f"<= {GOAL}%", f"{r.percent:.3f}%", "", held))
        middle, span = r.added().cells(1)
        title, held = f"{who}: no more than cosine adds", outcome(r.added().median <= cosine)
        found.append(Claim(title, f"<= {cosine:.1f} us", f"{middle} us ({span})", "", held))
    return found


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    rows = [Row(**one) for one in measured.pop("pairs")]
    cells = [row.cells() for row in rows]
    return pages.render(
        "speed/gpu_overhead.md.j2", claims(rows), rows=cells, again=AGAIN, **measured
    )


run = kept.command(measure, text)
