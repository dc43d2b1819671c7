"""Under the real Accelerate: `prepare` is all there is to do, and a step is a step."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("accelerate", reason="the extra ratewise[transformers] is not installed")

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from tests.integrations.two_processes import together
from torch.utils.data import DataLoader, TensorDataset

from ratewise import GreedyConfig, GreedyLR

RATE, BATCHES = 0.05, 12
#: Moves often, in both directions.
RULE: dict[str, Any] = {
    "factor": 0.5,
    "patience": 1,
    "window": 2,
    "config": GreedyConfig(reference="previous"),
}


@pytest.fixture(autouse=True)
def _small_and_apart():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    forget()
    yield
    forget()
    torch.set_num_threads(threads)


def forget() -> None:
    """Take Accelerate back to how a fresh process finds it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def batches() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8 * BATCHES, 4, generator=generator)
    y = x.sum(1) + torch.randn(len(x), generator=generator)
    # A generator of its own: an iterator would draw from the one that dropout draws from.
    return DataLoader(TensorDataset(x, y), 8, generator=generator)


class Run:
    """What a training script has, prepared; nothing of Accelerate is called in another way."""

    def __init__(
        self, rate: Any = RATE, *, rule: Any = None, scaler: Any = None, **accelerator: Any
    ) -> None:
        torch.manual_seed(0)
        self.accelerator = Accelerator(cpu=True, **accelerator)
        self.accelerator.scaler = scaler
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.5)
        self.scheduler = GreedyLR(optimizer, **RULE | (rule or {}))
        self.model, self.optimizer, self.prepared, self.loader = self.accelerator.prepare(
            model, optimizer, self.scheduler, batches()
        )
        self.rates: list[float] = []  # that the optimizer stepped with
        self.losses: list[float] = []

    def micro_batch(self, x: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """One pass of a loop with `accumulate`, as Accelerate's guide writes it."""
        with self.accelerator.accumulate(self.model):
            loss = nn.functional.mse_loss(self.model(x).squeeze(-1), y)
            self.losses.append(loss.item())
            self.accelerator.backward(loss * scale)
            rate = float(self.optimizer.param_groups[0]["lr"])
            if self.accelerator.sync_gradients:
                self.rates.append(rate)
            self.optimizer.step()
            self.advance(loss)
            self.optimizer.zero_grad()
        return loss

    def advance(self, loss: torch.Tensor) -> None:
        self.prepared.step(loss)

    def train(self, passes: int = 2 * BATCHES, done: int = 0) -> Run:
        """Go on from micro-batch `done` to `passes`."""
        while done < passes:
            for x, y in self.accelerator.skip_first_batches(self.loader, done % BATCHES):
                if done < passes:
                    self.micro_batch(x, y)
                    done += 1
        return self

    @property
    def weights(self) -> list[list[float]]:
        return [parameter.flatten().tolist() for parameter in self.model.parameters()]


class Observing(Run):
    """The same with every micro-batch's loss observed, and a bare step."""

    def advance(self, loss: torch.Tensor) -> None:
        self.scheduler.observe(loss)
        self.prepared.step()


def rose_and_fell(rates: list[float]) -> bool:
    steps = [after - before for before, after in itertools.pairwise(rates)]
    return max(steps) > 0 > min(steps)


def dry(losses: list[Any], **rule: Any) -> list[float]:
    """The rates that steps with these losses begin with; None is a step without one."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = GreedyLR(optimizer, **RULE | rule)
    rates = []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(loss)
    return rates


def by_hand() -> tuple[list[float], list[list[float]]]:
    """The loop of `Run` without Accelerate."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.5)
    scheduler = GreedyLR(optimizer, **RULE)
    loader, rates = batches(), []
    for _ in range(2):
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x).squeeze(-1), y)
            loss.backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step(loss)
            optimizer.zero_grad()
    return rates, [parameter.flatten().tolist() for parameter in model.parameters()]


@pytest.mark.parametrize("kind", [Run, Observing])
@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_prepared_it_gives_the_rates_and_weights_of_a_loop_without_accelerate(
    kind: type[Run], tensor: bool
):
    run = kind(torch.tensor(RATE, dtype=torch.float64) if tensor else RATE).train()
    assert (run.rates, run.weights) == by_hand()
    assert rose_and_fell(run.rates)
    assert run.prepared.get_last_lr() == run.scheduler.get_last_lr()


def test_with_accumulation_it_advances_once_a_step_on_the_mean_of_what_was_observed():
    run = Observing(gradient_accumulation_steps=3)
    run.accelerator.gradient_state.plugin_kwargs["adjust_scheduler"] = True
    run.train(6 * BATCHES)
    means = [sum(run.losses[i : i + 3]) / 3 for i in range(0, 6 * BATCHES, 3)]
    assert len(run.rates) == run.scheduler.last_epoch == 2 * BATCHES
    assert run.scheduler._step_count == 1 + 6 * BATCHES  # Accelerate raises it by itself
    assert run.rates == dry(means)
    assert rose_and_fell(run.rates)
    assert run.rates != dry(run.losses[2::3])  # the control: the last micro-batch alone


def test_with_accumulation_a_loss_given_to_step_is_the_last_micro_batch_s():
    run = Run(gradient_accumulation_steps=3).train(6 * BATCHES)
    assert run.scheduler.last_epoch == 2 * BATCHES
    assert run.rates == dry(run.losses[2::3])


class Evaluating(Run):
    """A metric every fourth step, and bare steps in between."""

    def advance(self, loss: torch.Tensor) -> None:
        if len(self.rates) % 4 == 0:
            self.scheduler.observe(loss)
        self.prepared.step()


def test_a_metric_that_comes_at_intervals_is_decided_on_when_it_comes():
    run = Evaluating(rule={"missing": "hold"}).train(6 * BATCHES)
    seen = [loss if step % 4 == 0 else None for step, loss in enumerate(run.losses, start=1)]
    assert run.rates == dry(seen, missing="hold")
    assert rose_and_fell(run.rates)
    assert run.rates != dry(run.losses)  # the control: every step's loss


def test_warmup_steps_ramp_up_before_anything_is_decided():
    run = Run(rule={"warmup_steps": 4}).train()
    assert run.rates[:5] == pytest.approx([RATE * part / 5 for part in (1, 2, 3, 4, 5)])
    assert run.rates == dry(run.losses, warmup_steps=4)


class Spoilt(Run):
    """The loss of one step is not a number; its gradients are sound."""

    def advance(self, loss: torch.Tensor) -> None:
        self.losses[-1] = math.nan if len(self.rates) == 6 else self.losses[-1]
        self.prepared.step(self.losses[-1])


def test_one_nan_is_a_bad_step_and_no_more():
    run = Spoilt().train()
    assert any(map(math.isnan, run.losses))
    assert run.rates == dry(run.losses)
    assert rose_and_fell(run.rates[8:])


def constant_schedule() -> Any:
    """One that counts how often it is stepped, on an optimizer of its own."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    optimizer.step()
    return schedule


@pytest.mark.parametrize("split", [False, True], ids=["a call a process", "split batches"])
def test_a_step_counts_once_however_many_processes_accelerate_steps_for(split: bool):
    run = Run()
    constant = constant_schedule()
    _, theirs = run.accelerator.prepare(constant.optimizer, constant)
    run.prepared.split_batches = theirs.split_batches = split
    PartialState().num_processes = 4  # for all that asks, until the state is reset
    for x, y in run.loader:
        run.micro_batch(x, y)
        theirs.step()
    assert run.scheduler.last_epoch == BATCHES
    assert run.rates == dry(run.losses)
    assert constant.last_epoch == (BATCHES if split else 4 * BATCHES)  # the control


def test_a_step_that_the_scaler_skips_does_not_count():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    run, constant = Run(scaler=scaler).train(5), constant_schedule()
    state, weights = run.scheduler.state_dict(), run.weights
    x, y = next(iter(run.loader))
    run.micro_batch(x, y, scale=math.inf)  # the gradient overflows
    assert run.optimizer.step_was_skipped
    run.scheduler.step(1.0)  # nor does it when it is stepped past Accelerate's wrapper
    constant.step()
    assert run.weights == weights
    assert run.scheduler.last_epoch == 5
    assert run.scheduler.state_dict()["ratewise"]["rates"] == state["ratewise"]["rates"]
    assert constant.last_epoch == 1  # the control
    run.micro_batch(x, y)
    assert run.scheduler.last_epoch == 6


def test_a_named_schedule_goes_on_past_the_end_of_the_run():
    run = Run(rule={"schedule": "linear", "total_steps": 5}).train(8)
    assert run.scheduler.last_epoch == 8
    run = Run(rule={"schedule": "linear", "total_steps": 5})
    run.scheduler.total_steps = 5  # the control: the name that Accelerate stops at
    assert run.train(8).scheduler.last_epoch == 5


# -- save_state and load_state --------------------------------------------------------------


@pytest.mark.parametrize("kind", [Run, Observing])
@pytest.mark.parametrize("stop", [3, 10, 14])
def test_a_loaded_run_has_the_same_rates_and_weights_to_the_bit(
    tmp_path: Path, kind: type[Run], stop: int
):
    whole = kind().train()
    first = kind().train(stop)
    first.accelerator.save_state(str(tmp_path))
    torch.load(tmp_path / "scheduler.bin", weights_only=True)
    forget()
    rest = kind()
    rest.accelerator.load_state(str(tmp_path))
    rest.train(done=stop)
    assert first.rates + rest.rates == whole.rates
    assert rest.weights == whole.weights
    assert rest.scheduler.state_dict() == whole.scheduler.state_dict()
    assert rose_and_fell(rest.rates)
    forget()
    fresh = kind()  # the control: all but the scheduler is loaded
    fresh.scheduler.load_state_dict = lambda state: None
    fresh.accelerator.load_state(str(tmp_path))
    assert fresh.train(done=stop).rates != rest.rates


class Progress:
    """What a script adds to its checkpoints: how far it has come, and the rates until there."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rates": list(self.rates)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rates = list(state["rates"])


def keep_training(folder: Path, *, dies_at: int | None = None, saving: bool = False) -> Run:
    """Go on from the last whole checkpoint in `folder`, and save at every fifth step.

    At step `dies_at` the process is killed: within the step, or while it saves.
    """
    run, progress = Run(), Progress()
    run.accelerator.register_for_checkpointing(progress)
    whole = sorted(folder.glob("step-*"))
    if whole:
        run.accelerator.load_state(str(whole[-1]))
    for done in range(len(progress.rates), 2 * BATCHES):
        if done == dies_at and not saving:
            run.optimizer.step = lambda: os.kill(os.getpid(), signal.SIGKILL)
        run.train(done + 1, done)
        progress.rates.append(run.rates[-1])
        if (done + 1) % 5 == 0:
            shutil.rmtree(folder / "new", ignore_errors=True)
            run.accelerator.save_state(str(folder / "new"))
            if done + 1 == dies_at:
                (folder / "new" / "scheduler.bin").write_bytes(b"half of a")
                os.kill(os.getpid(), signal.SIGKILL)
            (folder / "new").rename(folder / f"step-{done + 1:02d}")
    run.rates = progress.rates
    return run


CHILD = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[2])!r}]
from pathlib import Path
import test_accelerate as t
t.torch.set_num_threads(1)
t.keep_training(Path(sys.argv[1]), dies_at=int(sys.argv[2]), saving=sys.argv[3] == "saving")
"""


def test_a_run_that_is_killed_twice_ends_like_one_that_is_not(tmp_path: Path):
    whole = keep_training(tmp_path / "whole")
    assert rose_and_fell(whole.rates[10:])
    for dies_at, where, last in (("12", "stepping", "step-10"), ("20", "saving", "step-15")):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), dies_at, where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert sorted(path.name for path in (tmp_path / "killed").glob("step-*"))[-1] == last
    forget()
    rest = keep_training(tmp_path / "killed")
    assert rest.rates == whole.rates
    assert rest.weights == whole.weights


RANK = f"""
import json, os, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[2])!r}]
from pathlib import Path
import test_accelerate as t
t.torch.set_num_threads(1)
run = t.Observing()
assert run.accelerator.num_processes == 2
for _ in range(6):
    for x, y in run.loader:
        run.micro_batch(x, y)
assert run.scheduler.last_epoch == len(run.rates)
Path(sys.argv[1], os.environ["RANK"]).write_text(json.dumps([run.rates, run.losses]))
t.torch.distributed.barrier()
os._exit(0)  # all is written: gloo's threads sometimes abort a process that ends
"""


def test_two_processes_decide_once_a_step_on_the_mean_of_their_losses(tmp_path: Path):
    (rates, first), (others, second) = together(
        RANK, tmp_path, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1"
    )
    assert rates == others == dry([(a + b) / 2 for a, b in zip(first, second, strict=True)])
    assert rose_and_fell(rates)
    assert dry(first) != dry(second)  # the control: each on its own loss
