"""What UpdateRatioLR and LearnedLR add to a step, and what other ways to steer tensors would.


A transformer of 10.9 M parameters on 8 sequences of 128 random tokens, float32, AdamW, one thread.
In each repetition every contender makes one step of its own optimizer on the same weights, each
after a forward and backward pass of its own, in an order that rotates; what the plain optimizer
took in the same repetition is subtracted. "no scheduler, again" differs from it in nothing: that
is the noise. Memory is the highest resident size of a process of its own that makes five steps.

    python benchmarks/update_ratio_cost.py [--repeats 13] [--out FILE.md]
    python benchmarks/update_ratio_cost.py --small --repeats 2   # the code alone
"""

from __future__ import annotations

import argparse
import gc
import inspect
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

import ratewise
from ratewise.rules import update_ratio as rule
from ratewise.schedulers import steering

BASE_LR = 1e-3
EVERY = (1, 4, 10)
GOAL, GOAL_LEARNED = 2.0, 1.0  #: percent of a step, at the default
AGAIN = "no scheduler, again"
OURS, GROUP, LEARNED = "per tensor", 'per="group"', "LearnedLR"
KEPT, SPLIT = "per tensor, copies kept between steps", "a parameter group a tensor"


class Size(NamedTuple):
    """A transformer's size and its batch."""

    layers: int
    width: int
    heads: int
    batch: int
    length: int


WHOLE = Size(6, 384, 6, 8, 128)
#: The same model with next to no activations: the most that copies can show in memory.
LEAN = WHOLE._replace(batch=1, length=8)
SMALL = Size(1, 32, 2, 2, 8)


class Transformer(nn.Module):
    """Tokens of 256 kinds to the next one's logits."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.width
        self.tokens, self.places = nn.Embedding(256, width), nn.Embedding(size.length, width)
        block = nn.TransformerEncoderLayer(
            width, size.heads, 4 * width, 0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, size.layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 256))
        self.mask = nn.Transformer.generate_square_subsequent_mask(size.length)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, length] to [batch, length, 256]."""
        x = self.tokens(tokens) + self.places.weight
        return self.head(self.blocks(x, mask=self.mask, is_causal=True))


class Split:
    """The other way: for the length of a step, each tensor is a group with a rate of its own."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.measuring = True
        self.factors: dict[int, float] = {}
        optimizer.register_step_pre_hook(self.before)
        optimizer.register_step_post_hook(self.after)

    @torch.no_grad()
    def before(self, optimizer: Optimizer, *_: Any) -> None:
        """Put the groups of one tensor in place, and copy the weights if they are measured."""
        self.groups = optimizer.param_groups
        self.params = [p for group in self.groups for p in group["params"]]
        if self.measuring:
            self.copies = [p.detach().clone() for p in self.params]
        optimizer.param_groups = [
            {**group, "params": [p], "lr": group["lr"] * self.factors.get(id(p), 1.0)}
            for group in self.groups
            for p in group["params"]
        ]

    @torch.no_grad()
    def after(self, optimizer: Optimizer, *_: Any) -> None:
        """Take them away again."""
        optimizer.param_groups = self.groups
        if self.measuring:
            now = [p.detach() for p in self.params]
            parts = steering._differences(now, self.copies)
            moved = torch.stack([norm for _, some in parts for norm in steering._norms(some)])
            unit = (moved / torch.stack(torch._foreach_norm(self.copies))).tolist()
            for p, value in zip(self.params, unit, strict=True):
                self.factors[id(p)] = min(1.0, 0.01 / max(value, 1e-9))
            del self.copies


def keep(ours: steering.Steering) -> Callable[[], None]:
    """Return what copies weights to the same place at every step."""
    copies: list[torch.Tensor] = []

    def copy() -> None:
        now = [p.detach() for p in ours.steered.params]
        if not copies:
            copies.extend(map(torch.empty_like, now))
        torch._foreach_copy_(copies, now)
        ours._copies = copies

    return copy


class Contender:
    """An optimizer over the model's weights, and what hangs on to it."""

    def __init__(self, name: str, model: nn.Module) -> None:
        kind, _, when = name.partition(": ")
        self.optimizer = AdamW(model.parameters(), lr=BASE_LR)
        self.scheduler: Any = None
        self.prepare: Callable[[], None] = lambda: None
        measuring = when != "between"
        if kind == SPLIT:
            self.scheduler = split = Split(self.optimizer)
            self.prepare = lambda: setattr(split, "measuring", measuring or not split.factors)
        elif kind != AGAIN and kind:
            per = "group" if kind == GROUP else "tensor"
            self.scheduler = (
                ratewise.LearnedLR(self.optimizer, total_steps=100_000)
                if kind == LEARNED
                else ratewise.UpdateRatioLR(self.optimizer, per=per, total_steps=100_000)
            )
            ours = self.scheduler._steering
            if kind == KEPT:
                ours._copy = keep(ours)

            def prepare() -> None:
                if ours.steps >= 2:  # the first steps are measured, whatever is timed later
                    ours.steps = rule.EARLY + 1
                    ours.every = 1 if measuring else 1_000_000

            self.prepare = prepare

    def step(self) -> float:
        """Make a step; return its seconds."""
        self.prepare()
        start = time.perf_counter()
        self.optimizer.step()
        if hasattr(self.scheduler, "step"):
            self.scheduler.step(0.5)
        return time.perf_counter() - start


KINDS = (OURS, LEARNED, KEPT, GROUP, SPLIT)
NAMES = (AGAIN, *(f"{kind}: {when}" for kind in KINDS for when in ("measured", "between")))


def training(size: Size) -> tuple[nn.Module, Callable[[], None]]:
    """Return a model, and what fills its gradients."""
    torch.manual_seed(0)
    model = Transformer(size)
    tokens = torch.randint(256, (size.batch, size.length + 1))

    def backward() -> None:
        model.zero_grad()
        logits = model(tokens[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()

    return model, backward


def measure(size: Size, repeats: int) -> tuple[float, float, dict[str, list[float]]]:
    """Return the seconds of a whole step and of AdamW's part, and what contenders add, in ms."""
    model, backward = training(size)
    plain = Contender("", model)
    contenders = {name: Contender(name, model) for name in NAMES}
    added: dict[str, list[float]] = {name: [] for name in NAMES}
    whole, alone = [], []
    for repetition in range(-3, repeats):
        shift = repetition % (len(NAMES) + 1)
        order: list[str] = ["", *NAMES]
        times = {}
        for name in order[shift:] + order[:shift]:
            gc.collect()
            start = time.perf_counter()
            backward()
            passes = time.perf_counter() - start
            times[name] = (contenders[name] if name else plain).step()
            if not name and repetition >= 0:
                whole.append(passes + times[""])
                alone.append(times[""])
        if repetition >= 0:
            for name in NAMES:
                added[name].append(1e3 * (times[name] - times[""]))
    return statistics.median(whole), statistics.median(alone), added


def peak(name: str, size: Size) -> None:
    """Print the highest resident size of this process after five steps, in MB."""
    model, backward = training(size)
    contender = Contender(name, model)
    for _ in range(5):
        backward()
        contender.step()
    # Not getrusage's: what a process was started from counts there, too.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def memory(name: str, size: str) -> float:
    """Return what `peak` prints in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, "--size", size]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


class Kernels(TorchDispatchMode):
    """Counts operations that a device would get; those that move no numbers are none."""

    NONE = ("empty", "detach", "view", "unbind", "split", "slice", "select", "expand", "unsqueeze")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, and count it."""
        self.count += not func.overloadpacket.__name__.startswith(self.NONE)
        return func(*args, **(kwargs or {}))


def operations(per: str, measuring: bool) -> tuple[int, int]:
    """Return how many tensors there are, and operations that a device would get in one step."""
    with torch.device("meta"):
        model = Transformer(WHOLE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    scheduler = ratewise.UpdateRatioLR(optimizer, per=per, total_steps=1000)
    ours = scheduler._steering
    ours.steps, ours.every = rule.EARLY + 1, 1 if measuring else 1_000_000
    for p in model.parameters():
        p.grad = torch.empty_like(p)
    with Kernels() as kernels:
        scheduler.before_step(False)
        scheduler.after_step()
    return len(ours.steered.params), kernels.count


def fixed(every: int, steps: int = 300) -> float:
    """Return the milliseconds that a step of a model with four small tensors takes more."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    plain, steered = (AdamW(model.parameters(), lr=BASE_LR) for _ in range(2))
    scheduler = ratewise.UpdateRatioLR(steered, every=every)
    more = []
    for step in range(rule.EARLY + steps):
        times = [time.perf_counter()]
        plain.step()
        times.append(time.perf_counter())
        steered.step()
        scheduler.step()
        times.append(time.perf_counter())
        if step >= rule.EARLY:
            more.append(1e3 * (times[2] - 2 * times[1] + times[0]))
    return statistics.fmean(sorted(more)[: int(0.98 * len(more))])


def decision(times: int = 200) -> float:
    """Return the milliseconds that a policy takes to decide, once in a twenty-fifth of a run."""
    weight = nn.Parameter(torch.ones(4, 4))
    scheduler = ratewise.LearnedLR(AdamW([weight]), total_steps=1000)
    start = time.perf_counter()
    for step in range(times):
        scheduler._correction.decide(0.5, step, 1000)
    return 1e3 * (time.perf_counter() - start) / times


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    low, median, high = statistics.quantiles(values, n=4)
    return low, median, high


def report(size: Size, repeats: int, sizes: tuple[str, ...]) -> str:
    """Return the page's tables."""
    whole, alone, added = measure(size, repeats)
    count = sum(p.numel() for p in Transformer(size).parameters())
    default = inspect.signature(ratewise.UpdateRatioLR).parameters["every"].default
    version = metadata.version("torch")
    lines = [
        f"{count / 1e6:.1f} M parameters, {size.batch} x {size.length} tokens, float32, AdamW, one "
        f"thread; {repeats} repetitions; Python {platform.python_version()}, torch {version}, "
        f"{platform.system()} {platform.machine()}. A whole step took {1e3 * whole:.0f} ms "
        f"(median), AdamW's part {1e3 * alone:.1f} ms.",
        "",
        "| added to a step | median, ms | middle half, ms | of a step |",
        "| --- | ---: | ---: | ---: |",
    ]
    middle = {}
    for name, values in added.items():
        low, middle[name], high = spread(values)
        lines.append(
            f"| {name} | {middle[name]:.1f} | {low:.1f} to {high:.1f} | "
            f"{0.1 * middle[name] / whole:.2f}% |"
        )
    lines += [
        "",
        "One step in `every` is measured, so a run pays (`measured` + (`every` - 1) `between`) / "
        f"`every`. The goal is at most {GOAL:g}% at the default, `every={default}`, and "
        f"{GOAL_LEARNED:g}% for LearnedLR, which measures as often:",
        "",
        f"| of a step | {' | '.join(f'every={every}' for every in EVERY)} |",
        "| --- |" + " ---: |" * len(EVERY),
    ]
    for kind in KINDS:
        both = middle[f"{kind}: measured"], middle[f"{kind}: between"]
        shares = [0.1 * (both[0] + (n - 1) * both[1]) / n / whole for n in EVERY]
        lines.append(f"| {kind} | {' | '.join(f'{share:.2f}%' for share in shares)} |")
    if sizes:
        lines += [
            "",
            "| highest memory, MB above no scheduler | in this training | with 1 x 8 tokens |",
            "| --- | ---: | ---: |",
        ]
    plain = [memory(AGAIN, name) for name in sizes]
    for name in KINDS if sizes else ():
        more = [
            memory(f"{name}: measured", s) - least for s, least in zip(sizes, plain, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(f'{mb:.0f}' for mb in more)} |")
    parts = ", ".join(f"{fixed(every):.2f} ms at every={every}" for every in EVERY)
    lines += ["", f"However small the model, a step takes longer by {parts} (four small tensors)."]
    lines += [f"A policy decides in {decision():.2f} ms, 25 times in a run."]
    lines += ["", "| operations that a device would get in a step | measured | between |"]
    lines += ["| --- | ---: | ---: |"]
    for per in ("tensor", "group"):
        (tensors, most), (_, least) = operations(per, True), operations(per, False)
        lines.append(f'| per="{per}", {tensors} tensors, a Python rate | {most} | {least} |')
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=13, help="repetitions, 2 or more")
    parser.add_argument("--small", action="store_true", help="a tiny model: times mean nothing")
    parser.add_argument("--out", type=Path, help="write the page to this Markdown file, too")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=("whole", "lean", "small"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.repeats < 2:
        parser.error("--repeats must be 2 or more")
    torch.set_num_threads(1)
    sizes = {"whole": WHOLE, "lean": LEAN, "small": SMALL}
    if arguments.peak is not None:
        peak(arguments.peak, sizes[arguments.size])
        return
    small = arguments.small
    names = () if small else ("whole", "lean")  # what a small model takes drowns in torch
    table = report(SMALL if small else WHOLE, arguments.repeats, names)
    print(table)
    if arguments.out is not None:
        command = f"python benchmarks/update_ratio_cost.py --repeats {arguments.repeats}"
        command += f"{' --small' if small else ''} --out {arguments.out}"
        arguments.out.write_text(PAGE.format(command=command, table=table), encoding="utf-8")


PAGE = """# What UpdateRatioLR and LearnedLR cost

Made by `{command}`.

{table}

GPU: not measured. A device gets the copy in bulk, one operation a tensor that applies the factors,
and for a measurement some hundred more, nearly all on vectors of one number a tensor. Nothing is
read from it (`tests/schedulers/test_update_ratio_devices.py`).

## The ways to steer each tensor

- **Displacements are scaled after the step** (`per tensor`, what is released): any optimizer and
  any device, groups untouched, a step that raises leaves nothing behind but rates that are given
  back. It needs a copy of the weights while the step runs, which is freed afterwards: activations
  had that memory a moment before. Keeping the copy saves no time.
- **A parameter group a tensor, for the length of a step**: the cheapest between measurements, for
  it copies nothing then. Not taken: it hides the user's groups from the optimizer and from other
  hooks, optimizers that write into their groups (Prodigy, D-Adaptation) lose what they wrote, and
  on a device it undoes `foreach` and `fused`: a call a tensor instead of one.
- **Rates alone** (`per="group"`, `"model"`): one factor a group fits into the rate, so that steps
  between measurements copy nothing.
- **Measured now and then, factors kept in between**: all three do so with `every`.
"""


if __name__ == "__main__":
    main()
