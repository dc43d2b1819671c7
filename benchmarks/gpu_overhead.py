"""What a scheduler adds to a training step on a GPU: GreedyLR's runtimes beside torch's cosine.

The model is a transformer of GPT-2-small's size (124 M parameters, sequences of 1024 tokens), in
bf16 autocast with AdamW, on random tokens. Each repetition times every contender next to the same
training without a scheduler, all in this one process; the order rotates, and so does which of the
two comes first. Contenders with a tensor rate have capturable AdamW, and so has the training
beside them. "No scheduler, again" differs from its neighbour in nothing: that is the noise.

    python benchmarks/gpu_overhead.py [--steps 20] [--repeats 21] [--out FILE.md]
    python benchmarks/gpu_overhead.py --device cpu --small   # the code alone: times mean nothing
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer, lr_scheduler

import ratewise

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

    every_10 = partial(ratewise.GreedyLR, every=10)
    chosen = [
        *(nothing(AGAIN, tensor) for tensor in (False, True)),
        *(Contender(COSINE, tensor, cosine, bare) for tensor in (False, True)),
        *(Contender(OURS, tensor, ratewise.GreedyLR, with_loss) for tensor in (False, True)),
        Contender(f"{OURS}, every=10", True, every_10, with_loss),
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


class Row(NamedTuple):
    """One line: what a contender adds to the step beside it, in microseconds but for `percent`."""

    contender: Contender
    step: float
    added: float
    low: float
    high: float
    percent: float
    wall: float
    call: float


def measure(bench: Bench, steps: int, repeats: int) -> list[Row]:
    """Return a row for each contender, medians over the repetitions."""
    chosen = contenders()
    pairs: list[list[tuple[Times, Times]]] = [[] for _ in chosen]
    for tensor in (False, True):
        bench.time(nothing("", tensor), steps)
    for repetition in range(repeats):
        for turn in range(len(chosen)):
            index = (turn + repetition) % len(chosen)
            pair = [nothing("no scheduler", chosen[index].tensor), chosen[index]]
            if repetition % 2:
                second, first = bench.time(pair[1], steps), bench.time(pair[0], steps)
            else:
                first, second = bench.time(pair[0], steps), bench.time(pair[1], steps)
            pairs[index].append((first, second))
    return [row(contender, pair) for contender, pair in zip(chosen, pairs, strict=True)]


def row(contender: Contender, pairs: list[tuple[Times, Times]]) -> Row:
    """Return a contender's row from its repetitions: without a scheduler, and with it."""
    added = [with_it.device - without.device for without, with_it in pairs]
    low, middle, high = statistics.quantiles(added, n=4, method="inclusive")
    return Row(
        contender,
        step=statistics.median(without.device for without, _ in pairs),
        added=middle,
        low=low,
        high=high,
        percent=statistics.median(
            100 * more / without.device for more, (without, _) in zip(added, pairs, strict=True)
        ),
        wall=statistics.median(with_it.wall - without.wall for without, with_it in pairs),
        call=statistics.median(with_it.call - without.call for without, with_it in pairs),
    )


def markdown(rows: list[Row]) -> str:
    """Return the table and the verdicts."""
    lines = [
        "| scheduler | rate | step, ms | added, us | middle half | added, % | added by the "
        "host's clock, us | host in the call, us |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in rows:
        rate = "tensor" if r.contender.tensor else "float"
        lines.append(
            f"| {r.contender.name} | {rate} | {r.step / 1e3:.2f} | {r.added:.1f} | {r.low:.1f} to "
            f"{r.high:.1f} | {r.percent:.3f} | {r.wall:.1f} | {r.call:.1f} |"
        )
    lines.append("")
    by_name = {(r.contender.name, r.contender.tensor): r for r in rows}
    for r in rows:
        name, tensor, *_ = r.contender
        if not name.startswith(OURS):
            continue
        cosine, noise = by_name[COSINE, tensor].added, by_name[AGAIN, tensor]
        share, beside = (
            "met" if met else "missed" for met in (r.percent <= GOAL, r.added <= cosine)
        )
        lines.append(
            f"- {name}, {'tensor' if tensor else 'float'} rate: {r.percent:.3f}% of the step, goal "
            f"at most {GOAL}%: {share}; {r.added:.1f} us, goal no more than cosine's {cosine:.1f} "
            f"us: {beside}; noise {noise.low:.1f} to {noise.high:.1f} us."
        )
    return "\n".join(lines)


def heading(bench: Bench, steps: int, repeats: int) -> str:
    """Return what was measured, on what."""
    cuda = bench.device.type == "cuda"
    where = torch.cuda.get_device_name() if cuda else "a CPU: a trial of the code, no measurement"
    names = ("torch", "transformers") if TransformersGreedyLR is not None else ("torch",)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    runtime = f", CUDA {torch.version.cuda}" if cuda else ""
    return (
        f"Added to one training step, medians of {repeats} repetitions of {steps} steps; "
        f"{bench.parameters / 1e6:.1f} M parameters, {bench.batch} sequences of "
        f"{bench.tokens.shape[2] - 1} tokens, bf16; {where}; Python "
        f"{platform.python_version()}, {versions}{runtime}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20, help="timed steps, a multiple of 10")
    parser.add_argument("--repeats", type=int, default=21, help="repetitions, 2 or more")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the code")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file, too")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.repeats < 2:
        parser.error("--steps must be 1 or more and --repeats 2 or more")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    if arguments.device == "cpu" and not arguments.small:
        parser.error("--device cpu is for trying the code: add --small")

    torch.set_num_threads(1)
    bench = Bench(SMALL if arguments.small else GPT2_SMALL, torch.device(arguments.device))
    rows = measure(bench, arguments.steps, arguments.repeats)
    page = f"{heading(bench, arguments.steps, arguments.repeats)}\n\n{markdown(rows)}"
    print(page)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        trial = f" --device {arguments.device}" * (arguments.device == "cpu")
        trial += " --small" * arguments.small
        command = (
            f"python benchmarks/gpu_overhead.py --steps {arguments.steps} "
            f"--repeats {arguments.repeats}{trial} --out {arguments.out}"
        )
        arguments.out.write_text(
            f"# What a scheduler adds to a training step on a GPU\n\nMade by `{command}`.\n\n"
            f"{page}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
