"""What a scheduler adds to a training step on a GPU: GreedyLR's runtimes beside torch's cosine.

The model is a transformer of GPT-2-small's size (124 M parameters, sequences of 1024 tokens), in
bf16 autocast with AdamW, on random tokens. Each repetition times every contender next to the same
training without a scheduler, all in this one process; the order rotates, and so does which of the
two comes first. Contenders with a tensor rate have capturable AdamW, and so has the training
beside them. "No scheduler, again" differs from its neighbour in nothing: that is the noise.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer, lr_scheduler

import ratewise
from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.speed import kept
from evidence.timing import Spread, measured_on

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


class Size(NamedTuple):
    """A transformer's size, and the batch to begin with: it is halved until it fits."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    length: int
    batch: int


GPT2_SMALL = Size(12, 768, 12, 50257, 1024, 16)
SMALL = Size(1, 32, 2, 101, 16, 2)


class Plan(NamedTuple):
    """How thoroughly it is measured; a trial tries the code, on the CPU."""

    size: Size
    steps: int  #: timed, a multiple of 10
    repeats: int
    trial: bool = False


SIZES = {"": Plan(GPT2_SMALL, 20, 21), "quick": Plan(SMALL, 3, 2, trial=True)}


class Block(nn.Module):
    """Attention and a two-layer network, each after a norm and around a shortcut."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.width
        self.heads = size.heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, length, width] to the same."""
        batch, length, width = x.shape
        mixed = self.mix(self.norms[0](x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.network(self.norms[1](x))


class Transformer(nn.Module):
    """A language model with tied embeddings; returns its loss on a batch of tokens."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.places = nn.Embedding(size.length, size.width)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean cross-entropy of [batch, length + 1] tokens, each from those before."""
        seen, wanted = tokens[:, :-1], tokens[:, 1:]
        x = self.tokens(seen) + self.places.weight[: seen.shape[1]]
        logits = self.norm(self.blocks(x)) @ self.tokens.weight.T
        return nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())


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
        self.device = device
        self.model = Transformer(size).to(device)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.batch = size.batch
        while True:
            if device.type == "cuda":
                torch.cuda.empty_cache()
            shape = (4, self.batch, size.length + 1)
            self.tokens = torch.randint(size.vocabulary, shape, device=device)
            try:
                self.time(nothing("", False), 1)
                return
            except torch.cuda.OutOfMemoryError:
                self.model.zero_grad(set_to_none=True)
                self.batch //= 2
                if not self.batch:
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
                loss = self.model(self.tokens[step % 4])
            loss.backward()
            optimizer.step()
            loss = loss.detach()
            start = time.perf_counter()
            contender.step(scheduler, loss)
            in_call += time.perf_counter() - start

        for step in range(WARM):
            train(step)
        gc.collect()
        gc.disable()
        try:
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
        finally:
            gc.enable()
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
        "parameters": bench.parameters,
        "batch": bench.batch,
        "length": plan.size.length,
        "device": "a CPU: a trial of the code, no measurement"
        if plan.trial
        else f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}",
        "on": measured_on(*names),
    }


class Row(NamedTuple):
    """What a contender adds to the step beside it, in microseconds but for `percent`."""

    name: str
    tensor: bool
    step: float
    added: Spread
    percent: float
    wall: float
    call: float


def row(name: str, tensor: bool, pairs: list[list[dict[str, float]]]) -> Row:
    """Return a contender's row from its repetitions: without a scheduler, and with it."""

    def more(clock: str) -> list[float]:
        return [with_it[clock] - without[clock] for without, with_it in pairs]

    step = [without["device"] for without, _ in pairs]
    return Row(
        name,
        tensor,
        step=statistics.median(step),
        added=Spread.of(more("device")),
        percent=statistics.median(100 * a / b for a, b in zip(more("device"), step, strict=True)),
        wall=statistics.median(more("wall")),
        call=statistics.median(more("call")),
    )


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    rows = [row(**one) for one in measured.pop("pairs")]
    by_name = {(r.name, r.tensor): r for r in rows}
    claimed = []
    for r in rows:
        if r.name.startswith(OURS):
            who = f"{r.name}, {'tensor' if r.tensor else 'float'} rate"
            span = f"{r.added.low:.1f} to {r.added.high:.1f}"
            held = outcome(r.percent <= GOAL)
            title = f"{who}: adds at most {GOAL}% of a step"
            claimed.append(Claim(title, f"<= {GOAL}%", f"{r.percent:.3f}%", "", held))
            cosine = by_name[COSINE, r.tensor].added.median
            held, wanted = outcome(r.added.median <= cosine), f"<= {cosine:.1f} us"
            title = f"{who}: no more than cosine adds"
            claimed.append(Claim(title, wanted, f"{r.added.median:.1f} us ({span})", "", held))
    table = [
        [
            r.name,
            "tensor" if r.tensor else "float",
            f"{r.step / 1e3:.2f}",
            f"{r.added.median:.1f}",
            f"{r.added.low:.1f} to {r.added.high:.1f}",
            f"{r.percent:.3f}",
            f"{r.wall:.1f}",
            f"{r.call:.1f}",
        ]
        for r in rows
    ]
    return pages.render("speed/gpu_overhead.md.j2", claimed, rows=table, again=AGAIN, **measured)


run = kept.command(measure, text)
