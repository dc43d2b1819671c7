"""What UpdateRatioLR and LearnedLR add to a step, and what other ways to steer tensors would.

Transformers of 0.1, 1 and 10.9 M parameters on random tokens, float32, AdamW, one thread.
In each repetition every contender makes one step of its own optimizer on the same weights, each
after a forward and backward pass of its own, in an order that rotates; what the plain optimizer
took in the same repetition is subtracted. "no scheduler, again" differs from it in nothing: that
is the noise. Times are those of a core: what else runs on the machine is not in them. Memory is
the highest resident size of a process of its own that makes five steps.
"""

from __future__ import annotations

import inspect
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import AdamW

import ratewise
from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.language import Size, loss
from evidence.speed import kept
from evidence.speed.tensor_rates import Heard
from evidence.speed.update_ratio_ways import Rebuilt, Split, Stretched, keep_copies
from evidence.timing import added, interleaved, measured_on, uncollected
from ratewise.rules import update_ratio as rule
from ratewise.rules.ratio_law import Outlook
from ratewise.schedulers.displacement import Displacement

BASE_LR = 1e-3
MEASURE_EVERY = (1, 4, 10)
AGAIN = "no scheduler, again"
OURS, GROUP, LEARNED = "per tensor", 'per="group"', "LearnedLR"
KEPT, SPLIT = "per tensor, copies kept between steps", "a parameter group a tensor"
REBUILT, STRETCHED = "rebuilt from AdamW's state", "weights stretched for the step"

WHOLE = Size(6, 384, 6, 256, 128, 8)
#: Where a step is short for its tensors: a small model on many tokens, and on few.
MANY, FEW = Size(2, 64, 4, 65, 64, 54), Size(5, 128, 4, 65, 64, 3)
#: The same model with next to no activations: the most that copies can show in memory.
LEAN = WHOLE._replace(batch=1, length=8)
SMALL = Size(1, 32, 2, 256, 8, 2)


class Plan(NamedTuple):
    """How thoroughly it is measured; a trial tries the code."""

    sizes: tuple[tuple[Size, int, float], ...]  #: repetitions, percent of a step that is wanted
    trial: bool = False


SIZES = {
    "": Plan(((MANY, 24, 3.0), (FEW, 40, 6.0), (WHOLE, 9, 1.0))),
    "quick": Plan(((SMALL, 2, 3.0),), trial=True),
}


class Contender:
    """An optimizer over the model's weights, and what hangs on to it."""

    def __init__(self, name: str, model: nn.Module) -> None:
        kind, _, when = name.partition(": ")
        self._measuring = when != "between"
        self._split: Split | None = None
        self._ours: Displacement | None = None
        self.optimizer = AdamW(model.parameters(), lr=BASE_LR)
        self.scheduler: Any = None
        if kind == SPLIT:
            self._split = Split(self.optimizer)
        elif kind in WITHOUT_COPY:
            WITHOUT_COPY[kind](self.optimizer)
        elif kind == LEARNED:
            self.scheduler = ratewise.LearnedLR(self.optimizer, total_steps=100_000)
        elif kind not in (AGAIN, ""):
            per = "group" if kind == GROUP else "tensor"
            self.scheduler = ratewise.UpdateRatioLR(self.optimizer, per=per, total_steps=100_000)
        if self.scheduler is not None:
            self._ours = ours = self.scheduler._control.displacement
            if kind == KEPT:
                ours._copy = keep_copies(ours)

    def _prepare(self) -> None:
        """Have the next step measured, or not; the first ones are, whatever is timed later."""
        if self._split is not None:
            self._split.measuring = self._measuring or not self._split.factors
        elif self._ours is not None and self._ours.steps >= 2:
            self._ours.steps = rule.EARLY + 1
            self._ours.measure_every = 1 if self._measuring else 1_000_000

    def step(self) -> float:
        """Make a step; return its seconds."""
        self._prepare()
        start = time.thread_time()
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step(0.5)
        return time.thread_time() - start


KINDS = (OURS, LEARNED, KEPT, GROUP, SPLIT)
#: What can be done between measurements alone.
WITHOUT_COPY: dict[str, Callable[[AdamW], Any]] = {REBUILT: Rebuilt, STRETCHED: Stretched}
NAMES = (
    AGAIN,
    *(f"{kind}: {when}" for kind in KINDS for when in ("measured", "between")),
    *(f"{kind}: between" for kind in WITHOUT_COPY),
)


def training(size: Size) -> tuple[nn.Module, Callable[[], None]]:
    """Return a model, and what fills its gradients."""
    torch.manual_seed(0)
    model, tokens = size.model(), size.tokens()

    def backward() -> None:
        model.zero_grad()
        loss(model, tokens).backward()

    return model, backward


def timed(size: Size, repeats: int) -> dict[str, list[float]]:
    """Return seconds: of whole plain steps, of AdamW's part in them, and of contenders' steps."""
    model, backward = training(size)
    contenders = {name: Contender(name, model) for name in ("", *NAMES)}
    whole: list[float] = []

    def step(name: str) -> float:
        start = time.thread_time()
        backward()
        passes = time.thread_time() - start
        taken = contenders[name].step()
        if not name:
            whole.append(passes + taken)
        return taken

    with uncollected():
        found = interleaved({name: partial(step, name) for name in contenders}, repeats, warm=3)
    return {"whole": whole[-repeats:], **found}


def peak(name: str, size: Size) -> float:
    """Return the highest resident size of this process after five steps, in MB."""
    model, backward = training(size)
    contender = Contender(name, model)
    for _ in range(5):
        backward()
        contender.step()
    # Not getrusage's: what a process was started from counts there, too.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory(name: str, size: Size) -> float:
    """Return what `peak` finds in a process of its own."""
    module = "evidence.speed.update_ratio_cost"
    code = f"import torch; from {module} import peak, Size; torch.set_num_threads(1)"
    code += f"; print(peak({name!r}, {size!r}))"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def operations(per: str, measuring: bool) -> tuple[int, int]:
    """Return how many tensors there are, and operations that a device would get in one step."""
    with torch.device("meta"):
        model = WHOLE.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    scheduler = ratewise.UpdateRatioLR(optimizer, per=per, total_steps=1000)
    ours = scheduler._control.displacement
    ours.steps, ours.measure_every = rule.EARLY + 1, 1 if measuring else 1_000_000
    for p in model.parameters():
        p.grad = torch.empty_like(p)
    with Heard("meta") as heard:
        scheduler._control.before_step(False)
        scheduler._control.after_step()
    return len(ours.parameters.params), heard.kernels


def fixed(measure_every: int, steps: int = 300) -> float:
    """Return the milliseconds that a step of a model with four small tensors takes more."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    plain, steered = (AdamW(model.parameters(), lr=BASE_LR) for _ in range(2))
    scheduler = ratewise.UpdateRatioLR(steered, measure_every=measure_every)
    more = []
    for step in range(rule.EARLY + steps):
        times = [time.thread_time()]
        plain.step()
        times.append(time.thread_time())
        steered.step()
        scheduler.step()
        times.append(time.thread_time())
        if step >= rule.EARLY:
            more.append(1e3 * (times[2] - 2 * times[1] + times[0]))
    return statistics.fmean(sorted(more)[: int(0.98 * len(more))])


def decision(times: int = 200) -> float:
    """Return the milliseconds that a policy takes to decide, once in a twenty-fifth of a run."""
    weight = nn.Parameter(torch.ones(4, 4))
    scheduler = ratewise.LearnedLR(AdamW([weight]), total_steps=1000)
    start = time.thread_time()
    for step in range(times):
        scheduler._policy.decide(0.5, step, Outlook(1000))
    return 1e3 * (time.thread_time() - start) / times


def measure(plan: Plan, data: str | None) -> dict[str, Any]:
    """Return all that was measured."""
    torch.set_num_threads(1)
    shapes = [
        {
            "size": size,
            "repeats": repeats,
            "goal": goal,
            "parameters": sum(p.numel() for p in size.model().parameters()),
            "tensors": sum(1 for _ in size.model().parameters()),
            "seconds": timed(size, repeats),
        }
        for size, repeats, goal in plan.sizes
    ]
    sizes = () if plan.trial else (WHOLE, LEAN)  # what a small model takes drowns in torch
    plain = [memory(AGAIN, size) for size in sizes]
    return {
        "shapes": shapes,
        "memory": {
            kind: [
                memory(f"{kind}: measured", size) - least
                for size, least in zip(sizes, plain, strict=True)
            ]
            for kind in KINDS
            if sizes
        },
        "fixed": {str(n): fixed(n) for n in MEASURE_EVERY},
        "decision": decision(),
        "operations": {
            per: [operations(per, True), operations(per, False)] for per in ("tensor", "group")
        },
        "on": measured_on("torch"),
    }


class Shape:
    """What was measured on one size, in milliseconds.

    Args:
        measured: one of the shapes that `measure` returns.
    """

    def __init__(self, measured: dict[str, Any]) -> None:
        seconds = measured["seconds"]
        plain = _ms(seconds[""])
        self.whole = 1e3 * statistics.median(seconds["whole"])
        self.alone, self.goal = statistics.median(plain), measured["goal"]
        self.repeats, self.size = measured["repeats"], Size(**measured["size"])
        self.parameters, self.tensors = measured["parameters"], measured["tensors"]
        self.more = {name: added(_ms(seconds[name]), plain) for name in NAMES}

    def rows(self) -> list[list[str]]:
        """Return what each contender adds to a step."""
        return [
            [name, *x.cells(2), f"{x.median / self.whole:.2%}"] for name, x in self.more.items()
        ]

    def share(self, kind: str, measure_every: int) -> float:
        """Return percents of a step, of which one in so many is measured."""
        both = self.more[f"{kind}: measured"].median, self.more[f"{kind}: between"].median
        return 100 * (both[0] + (measure_every - 1) * both[1]) / measure_every / self.whole

    def __str__(self) -> str:
        """Return the model's size, and how long a step takes."""
        return f"{self.parameters / 1e6:.1f} M parameters, {self.whole:.0f} ms"


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    shapes = [Shape(one) for one in measured["shapes"]]
    default = inspect.signature(ratewise.UpdateRatioLR).parameters["measure_every"].default
    claimed = []
    for shape in shapes:
        for kind, name in ((OURS, "UpdateRatioLR"), (LEARNED, LEARNED)):
            taken = shape.share(kind, default)
            title = f"{shape}: {name} takes at most {shape.goal:g}% of a step"
            held = outcome(taken <= shape.goal)
            claimed.append(Claim(title, f"<= {shape.goal:g}%", f"{taken:.2f}%", "", held))
    return pages.render(
        "speed/update_ratio_cost.md.j2",
        claimed,
        shapes=shapes,
        default=default,
        early=rule.EARLY,
        measure_every=MEASURE_EVERY,
        shares=[
            [str(shape), kind, *(f"{shape.share(kind, n):.2f}%" for n in MEASURE_EVERY)]
            for shape in shapes
            for kind in KINDS
        ],
        peaks=[[kind, *(f"{mb:.0f}" for mb in mbs)] for kind, mbs in measured["memory"].items()],
        counts=[
            [f'per="{per}", {tensors} tensors, a Python rate', most, least]
            for per, ((tensors, most), (_, least)) in measured["operations"].items()
        ],
        **{name: measured[name] for name in ("fixed", "decision", "on")},
    )


def _ms(seconds: list[float]) -> list[float]:
    return [1e3 * x for x in seconds]


run = kept.command(measure, text)
