"""Whole runs under the real Trainer: ramps, checkpoints, interruptions, processes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from accelerate.state import AcceleratorState
from tests.integrations.trainer_runs import RATE, STEPS, Run, Tiny, dry, rose_and_fell, rows
from tests.integrations.two_processes import together
from torch.optim.lr_scheduler import LinearLR, SequentialLR
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

from ratewise import GreedyConfig, GreedyLR, PlannedLR
from ratewise.errors import InvalidArgument
from ratewise.rules import criterion
from ratewise.rules.plan import Plan

#: Beside `RULE`, whose own config is of the other criterion.
SIGNIFICANCE: dict[str, Any] = {
    "window": 8,
    "config": GreedyConfig("significance", plateau="bad"),
}


@pytest.fixture(autouse=True)
def _small_and_apart():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


# -- warmup_steps of the training arguments -------------------------------------------------


@pytest.mark.parametrize(("asked", "steps"), [(6, 6), (0.2, 5)], ids=["steps", "share"])
def test_the_training_arguments_warmup_is_the_scheduler_s_ramp(
    tmp_path: Path, asked: float, steps: int
):
    run = Run(tmp_path, warmup_steps=asked).train()
    ramp = [RATE * (step + 1) / (steps + 1) for step in range(steps + 1)]
    assert run.rates[: steps + 1] == pytest.approx(ramp)
    assert run.rates == dry(run.model.losses, warmup_steps=steps)
    assert run.rates != dry(run.model.losses)  # the control: without a ramp
    assert rose_and_fell(run.rates[steps + 1 :])


def test_the_run_s_length_ends_a_scheduler_that_waits_for_significance(tmp_path: Path):
    run = Run(tmp_path, rule=SIGNIFICANCE).train()
    assert run.scheduler.horizon == STEPS
    assert run.scheduler.get_last_lr() == [0.0]
    held = STEPS * 3 // 10
    assert run.rates[:held] == dry(run.model.losses, **SIGNIFICANCE)[:held]
    named = Run(tmp_path, rule=SIGNIFICANCE | {"schedule": "constant", "total_steps": 99}).train()
    assert named.rates == dry(named.model.losses, **SIGNIFICANCE)


def test_a_plan_is_replayed_and_one_for_another_length_is_refused(tmp_path: Path):
    plan = Plan(((1, 0.0), (5, 0.03), (STEPS, 0.0)))
    run = Run(tmp_path, scheduler=lambda optimizer: PlannedLR(optimizer, plan)).train()
    assert run.rates == pytest.approx(list(plan.rates()))
    other = Plan(((1, 0.03), (STEPS + 8, 0.0)))
    with pytest.raises(InvalidArgument, match=f"for {STEPS + 8} steps, the run has {STEPS}"):
        Run(tmp_path, scheduler=lambda optimizer: PlannedLR(optimizer, other)).train()


def test_a_warmup_that_both_have_is_no_conflict_and_another_one_is(tmp_path: Path):
    run = Run(tmp_path, rule={"warmup_steps": 6}, warmup_steps=6).train()
    assert run.rates == dry(run.model.losses, warmup_steps=6)
    with pytest.raises(InvalidArgument, match="warmup_steps must be the scheduler's own, 4, or 0"):
        Run(tmp_path, rule={"warmup_steps": 4}, warmup_steps=6).train()
    short = {"schedule": "cosine", "total_steps": 5}
    with pytest.raises(InvalidArgument, match="below the scheduler's total_steps=5, got 6"):
        Run(tmp_path, rule=short, warmup_steps=6).train()
    run = Run(tmp_path, warmup_steps=6)
    sequence = [LinearLR(run.optimizer, total_iters=4), run.scheduler]
    run.trainer.lr_scheduler = SequentialLR(run.optimizer, sequence, [4])
    with pytest.raises(InvalidArgument, match="that of SequentialLR, or 0, got 6"):
        run.train()


def test_a_second_training_goes_on_without_another_ramp(tmp_path: Path):
    run = Run(tmp_path, warmup_steps=6).train()
    run.train()
    assert run.scheduler.last_epoch == 2 * STEPS
    assert run.rates == dry(run.model.losses, warmup_steps=6)


# -- checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [4, 9, 13], ids=lambda stop: f"step {stop}")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resumed_run_has_the_same_rates_and_weights_to_the_bit(
    tmp_path: Path, stop: int, accumulate: int
):
    options = {"save_strategy": "steps", "save_steps": stop, "warmup_steps": 6}
    options |= {"gradient_accumulation_steps": accumulate, "rule": {"patience": 1 // accumulate}}
    whole = Run(tmp_path, Tiny(dropout=0.2), **options).train()
    assert rose_and_fell(whole.rates[max(stop, 6) :])
    checkpoint = tmp_path / f"checkpoint-{stop}"
    torch.load(checkpoint / "scheduler.pt", weights_only=True)

    rest = Run(tmp_path, Tiny(dropout=0.2), **options)
    rest.train(resume_from_checkpoint=str(checkpoint))
    assert rest.rates == whole.rates[stop:]
    assert rest.weights == whole.weights
    assert rest.scheduler.state_dict() == whole.scheduler.state_dict()

    # The control: the scheduler's memory is what made them equal.
    fresh = Run(tmp_path, Tiny(dropout=0.2), **options)
    fresh.scheduler.load_state_dict = lambda state: None
    fresh.train(resume_from_checkpoint=str(checkpoint))
    assert fresh.rates != whole.rates[stop:]


def test_a_resumed_run_goes_on_with_an_evaluation_that_was_not_decided_on_yet(tmp_path: Path):
    options = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 6}
    options |= {"metric": "eval_loss", "rule": {"window": 1}, "trainer": {"eval_dataset": rows(12)}}
    whole = Run(tmp_path, **options).train()
    rest = Run(tmp_path, **options, warmup_steps=9)  # comes too late
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert rest.rates == whole.rates[6:]
    assert rest.rates[0] != rest.rates[1]  # it is decided on at the first step
    assert rest.weights == whole.weights


# -- how it behaves -------------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Notes whether a number was read from a tensor, which would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.read = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.read |= func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_hearing_the_loss_of_a_step_reads_nothing_from_the_device(tmp_path: Path):
    run = Run(tmp_path, rate=torch.tensor(RATE, dtype=torch.float64))
    hear, hand_over = run.callback._hear, run.callback.on_pre_optimizer_step
    reads = Reads()

    def watched(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            with reads:
                function(*args, **kwargs)
            if run.scheduler.last_epoch == 0:  # going over to the device, once
                reads.read = False

        return call

    run.callback._hear = watched(hear)
    run.callback.on_pre_optimizer_step = watched(hand_over)
    run.train()
    assert rose_and_fell(run.rates)
    assert not reads.read
    watched(lambda: float(torch.ones(())))()  # the control
    assert reads.read


def test_no_hook_is_left_where_the_next_training_begins_after_an_interruption(tmp_path: Path):
    run = Run(tmp_path)

    class Interrupts(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                raise KeyboardInterrupt

    interrupts = Interrupts()
    run.trainer.add_callback(interrupts)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    run.trainer.remove_callback(interrupts)
    run.train()
    assert run.rates == dry(run.model.losses)  # each loss was heard once
    assert not run.model._forward_hooks


def test_several_gpus_in_one_process_take_the_logged_loss(tmp_path: Path):
    run = Run(tmp_path)
    args = SimpleNamespace(n_gpu=2, get_warmup_steps=lambda steps: 0)
    state = SimpleNamespace(global_step=0, max_steps=STEPS)
    run.callback.on_train_begin(args, state, None, lr_scheduler=run.scheduler, model=run.model)
    assert not run.model._forward_hooks
    run.callback.on_log(args, state, None, logs={"loss": 0.5})
    assert run.scheduler.state_dict()["ratewise"]["pending"] == [0.5, 1.0]


RANK = f"""
import json, os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import trainer_runs as t
t.torch.set_num_threads(1)
run = t.Run(Path(sys.argv[1]), max_steps=16, ddp_backend="gloo").train()
run.scheduler.check_agreement()
Path(sys.argv[1], os.environ["RANK"]).write_text(json.dumps([run.rates, run.model.losses]))
t.torch.distributed.barrier()
os._exit(0)  # all is written: gloo's threads sometimes abort a process that ends
"""


def test_two_processes_decide_on_the_mean_of_their_losses(tmp_path: Path):
    (rates, first), (others, second) = together(RANK, tmp_path)
    assert rates == others == dry([(a + b) / 2 for a, b in zip(first, second, strict=True)])
    assert rose_and_fell(rates)
    assert dry(first) != dry(second)  # the control: each on its own loss


# -- the criterion that the run's length decides ----------------------------------------------


def test_the_run_s_length_decides_the_criterion_and_a_resumed_run_goes_on_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(criterion, "LEAST_METRICS", STEPS)
    plain: dict[str, Any] = {"scheduler": GreedyLR, "save_strategy": "steps", "save_steps": 5}
    whole = Run(tmp_path, **plain).train()
    assert whole.scheduler.criterion == "significance"
    assert whole.scheduler.get_last_lr() == [0.0]
    named = Run(tmp_path, scheduler=lambda optimizer: GreedyLR(optimizer, criterion="count"))
    assert whole.rates != named.train().rates
    for stop in (5, 15):
        again = Run(tmp_path, **plain).train(resume_from_checkpoint=tmp_path / f"checkpoint-{stop}")
        assert again.scheduler.criterion == "significance"
        assert (again.rates, again.weights) == (whole.rates[stop:], whole.weights)


def test_one_metric_an_epoch_is_counted_by_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(criterion, "LEAST_METRICS", STEPS // 2)
    options = {"eval_strategy": "epoch", "metric": "eval_loss", "scheduler": GreedyLR}
    run = Run(tmp_path, trainer={"eval_dataset": rows(8)}, **options).train()
    assert run.scheduler.criterion == "count"
