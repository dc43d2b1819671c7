"""UpdateRatioLR and LearnedLR under Trainer, Lightning, Accelerate: as a loop by hand, resumed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.rules.policies import random_policy
from torch import nn

from ratewise import LearnedLR, UpdateRatioLR
from ratewise.rules.ratio_law import default_ratio

STEPS, RATE = 28, 0.02
Make = Any
SCHEDULERS: dict[str, Make] = {
    "update ratio": lambda o, **more: UpdateRatioLR(o, total_steps=STEPS, **more),
    "online": lambda o, **more: UpdateRatioLR(o, total_steps=STEPS, online=True, **more),
    "learned": lambda o, **more: LearnedLR(
        o, total_steps=STEPS, policy=random_policy(windows=7), **more
    ),
}
every_scheduler = pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE)


def vector(model: nn.Module) -> list[float]:
    return nn.utils.parameters_to_vector(model.parameters()).tolist()


def by_hand(model: nn.Module, make: Make, losses: Any, **more: Any) -> tuple[list[float], Any]:
    """Train in a loop as anybody writes it.

    Args:
        model: a fresh one.
        make: makes the scheduler of an optimizer.
        losses: functions of the model, one a step.
        more: what a trainer would tell the scheduler.
    """
    optimizer = adamw(model)
    scheduler = make(optimizer, **more)
    for loss_of in losses:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step(loss.detach())
    return vector(model), scheduler


def told_by_trainer(make: Make, **known: int) -> dict[str, int]:
    """Return what of a training a scheduler takes from a trainer."""
    return {k: x for k, x in known.items() if k != "batch_size" or make is SCHEDULERS["learned"]}


# -- Trainer --------------------------------------------------------------------------------------


def trained(folder: Path, make: Make, resume: Any = None, **more: Any) -> tuple[Any, Any]:
    """Return a model that Trainer has trained, and its scheduler."""
    runs = pytest.importorskip("tests.integrations.trainer_runs")
    model = runs.Tiny()
    optimizer = adamw(model)
    scheduler = make(optimizer)
    options = {"max_steps": STEPS, "per_device_train_batch_size": 4, "logging_steps": 1}
    options |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 3}
    options |= {"save_strategy": "no", "log_level": "error"} | more
    trainer = runs.Trainer(
        model,
        runs.TrainingArguments(str(folder), **options),
        train_dataset=runs.rows(),
        optimizers=(optimizer, scheduler),
        callbacks=[runs.ObserveCallback(scheduler)],
    )
    trainer.remove_callback(runs.transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    return model, scheduler


@every_scheduler
def test_trainer_gives_the_weights_of_a_loop_by_hand(tmp_path: Path, make: Make):
    runs = pytest.importorskip("tests.integrations.trainer_runs")
    model, scheduler = trained(tmp_path, make)
    batches = [lambda m, b=b: m(*b)["loss"] for b in model.batches]
    told = told_by_trainer(make, steps_per_epoch=10, batch_size=4)
    weights, alone = by_hand(runs.Tiny(), make, batches, **told)
    assert vector(model) == weights
    assert scheduler.ratios().tolist() == alone.ratios().tolist()
    others, _ = by_hand(runs.Tiny(), lambda o, **_: make(o), batches[::-1])
    assert others != weights  # the control


@every_scheduler
def test_trainer_resumes_to_the_bit(tmp_path: Path, make: Make):
    options = {"save_strategy": "steps", "save_steps": 9}
    model, scheduler = trained(tmp_path, make, **options)
    checkpoint = tmp_path / "checkpoint-9"
    torch.load(checkpoint / "scheduler.pt", weights_only=True)
    again, other = trained(tmp_path, make, str(checkpoint), **options)
    assert vector(again) == vector(model)
    assert other.state_dict() == scheduler.state_dict()


@pytest.mark.parametrize("name", ["update ratio", "learned"])
def test_trainer_tells_the_steps_in_an_epoch(tmp_path: Path, name: str):
    make = SCHEDULERS[name]
    for accumulate, steps in ((1, 10), (4, 3)):  # 40 rows, 4 a batch
        _, scheduler = trained(tmp_path, make, gradient_accumulation_steps=accumulate)
        assert scheduler.steps_per_epoch == steps
        assert scheduler.ratio == default_ratio(STEPS, steps)
    _, scheduler = trained(tmp_path, lambda o: make(o, steps_per_epoch=1000))
    assert scheduler.steps_per_epoch == 1000  # one's own word holds
    if name == "learned":
        assert scheduler.batch_size == 4
        _, scheduler = trained(
            tmp_path, lambda o: make(o, batch_size=32), gradient_accumulation_steps=4
        )
        assert scheduler.batch_size == 32


# -- Lightning ------------------------------------------------------------------------------------


def fitted(make: Make, *callbacks: Any, checkpoint: Any = None) -> Any:
    """Return a module that Lightning has trained; its loop has four epochs of seven batches."""
    pytest.importorskip("lightning.pytorch", reason="ratewise[lightning] is not installed")
    from lightning.pytorch.callbacks import ModelCheckpoint
    from tests.integrations import test_lightning as whole

    from ratewise.integrations.lightning import configure

    class Module(whole.Module):
        def configure_optimizers(self) -> Any:
            optimizer = adamw(self)
            self.scheduler = make(optimizer)
            return configure(self, optimizer, self.scheduler)

    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = whole.trainer(
            *callbacks,
            max_epochs=STEPS // whole.BATCHES,
            gradient_clip_val=1.0,
            enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        )
        trainer.fit(module, whole.Loader(), ckpt_path=checkpoint, weights_only=True)
    return module


@every_scheduler
def test_lightning_gives_the_weights_of_a_loop_by_hand(make: Make):
    module = fitted(make)
    from tests.integrations import test_lightning as whole

    batches = [lambda m, b=b: whole.loss_of(m, b) for b in whole.Loader().batches]
    epochs = STEPS // whole.BATCHES
    told = told_by_trainer(make, steps_per_epoch=whole.BATCHES)
    weights, _ = by_hand(whole.network(), make, batches * epochs, **told)
    assert module.weights == weights
    assert module.scheduler.steps_per_epoch == whole.BATCHES
    assert module.scheduler.ratio == default_ratio(STEPS, whole.BATCHES)


@every_scheduler
def test_lightning_resumes_to_the_bit(tmp_path: Path, make: Make):
    pytest.importorskip("lightning.pytorch", reason="ratewise[lightning] is not installed")
    from lightning.pytorch.callbacks import ModelCheckpoint

    when = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1)
    whole = fitted(make, when)
    paths = sorted(tmp_path.glob("*.ckpt"))
    assert len(paths) >= 3
    for path in paths[:2]:
        again = fitted(make, checkpoint=path)
        assert again.weights == whole.weights, path.name
        assert again.scheduler.state_dict() == whole.scheduler.state_dict()


# -- Accelerate -----------------------------------------------------------------------------------


class Prepared:
    """What a training script has, prepared by Accelerate."""

    def __init__(self, make: Make) -> None:
        accelerate = pytest.importorskip("accelerate")
        forget()
        self.accelerator = accelerate.Accelerator(cpu=True)
        self.plain = self.network()
        optimizer = adamw(self.plain)
        self.scheduler = make(optimizer)
        prepared = self.accelerator.prepare(self.plain, optimizer, self.scheduler)
        self.model, self.optimizer, self.prepared = prepared

    @staticmethod
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    @staticmethod
    def loss(model: nn.Module, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator)
        y = x.sum(1, keepdim=True) + torch.randn(8, 1, generator=generator)
        return nn.functional.mse_loss(model(x), y)

    def train(self, begin: int = 0, end: int = STEPS) -> Prepared:
        for step in range(begin, end):
            self.optimizer.zero_grad()
            loss = self.loss(self.model, step)
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.prepared.step(loss.detach())
        return self


def forget() -> None:
    """Take Accelerate back to how a fresh process finds it."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@every_scheduler
def test_accelerate_gives_the_weights_of_a_loop_by_hand(make: Make):
    run = Prepared(make).train()
    batches = [lambda m, k=k: Prepared.loss(m, k) for k in range(STEPS)]
    weights, _ = by_hand(Prepared.network(), make, batches)
    assert vector(run.plain) == weights


@every_scheduler
@pytest.mark.parametrize("stop", [5, 23])
def test_accelerate_resumes_to_the_bit(tmp_path: Path, make: Make, stop: int):
    whole = Prepared(make).train()
    Prepared(make).train(end=stop).accelerator.save_state(str(tmp_path))
    rest = Prepared(make)
    rest.accelerator.load_state(str(tmp_path))
    rest.train(stop)
    assert vector(rest.plain) == vector(whole.plain)
    assert rest.scheduler.state_dict() == whole.scheduler.state_dict()
    fresh = Prepared(make)  # the control: all but the scheduler is loaded
    fresh.scheduler.load_state_dict = lambda state: None
    fresh.accelerator.load_state(str(tmp_path))
    assert vector(fresh.train(stop).plain) != vector(whole.plain)
