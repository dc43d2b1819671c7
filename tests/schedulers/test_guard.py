"""SpikeGuard on real trainings: a rate far too high, bad batches, and what it must not touch."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from ratewise import GreedyLR
from ratewise.errors import InvalidArgument, InvalidState, SnapshotLost, TooManyRollbacks, WrongType
from ratewise.schedulers.guard import SpikeGuard

GOOD_RATE = 0.1  # SGD with momentum learns digits at it; 30 times as much diverges


class Digits:
    """A real training on digits, with or without a guard, with or without bad batches."""

    def __init__(
        self, lr: float, *, guarded: bool, bad: frozenset[int] = frozenset(), seed=0, **options
    ):
        images, labels = load_digits(return_X_y=True)
        self.x, self.y = torch.tensor(images / 16).float(), torch.tensor(labels)
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 64), nn.Tanh())
        self.model.append(nn.Linear(64, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        self.scheduler = GreedyLR(self.optimizer, on_nonfinite="bad")
        self.guard = None
        if guarded:
            self.guard = SpikeGuard(self.model, self.optimizer, self.scheduler, **options)
        self.bad = bad
        self.losses: list[float] = []

    def train(self, steps: int = 200) -> Digits:
        generator = torch.Generator().manual_seed(1)
        for step in range(steps):
            index = torch.randint(1500, (32,), generator=generator)
            scale = -1e18 if step in self.bad else 1.0
            output = self.model(self.x[index]) * scale
            loss = nn.functional.cross_entropy(output, self.y[index])
            self.losses.append(loss.item())
            if self.guard is not None and self.guard.spiked(loss):
                continue
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step(loss)
        return self

    def test_accuracy(self) -> float:
        self.model.eval()
        with torch.no_grad():
            right = self.model(self.x[1500:]).argmax(1) == self.y[1500:]
        return float(right.float().mean())


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_30_times_too_high_and_bad_batches_are_recovered_from(seed: int):
    """What the first steps at that rate have spoilt stays lost: about 0.87 of 0.92 right."""
    bad = frozenset({60, 61, 120})
    alone = Digits(30 * GOOD_RATE, guarded=False, bad=bad, seed=seed).train(400)
    guarded = Digits(30 * GOOD_RATE, guarded=True, bad=bad, seed=seed).train(400)
    assert not math.isfinite(alone.losses[-1]) or alone.losses[-1] > 100 * alone.losses[0]
    assert alone.test_accuracy() < 0.3
    assert guarded.test_accuracy() > 0.8
    assert guarded.guard.rollbacks > 0


def test_bad_batches_are_survived_and_without_the_guard_they_are_not():
    bad = frozenset({60, 61, 120})
    alone = Digits(GOOD_RATE, guarded=False, bad=bad).train()
    guarded = Digits(GOOD_RATE, guarded=True, bad=bad).train()
    untouched = Digits(GOOD_RATE, guarded=True).train()
    assert alone.test_accuracy() < 0.5
    assert guarded.test_accuracy() > untouched.test_accuracy() - 0.03 > 0.85
    assert (guarded.guard.skipped, guarded.guard.rollbacks) == (2, 1), "60, 120; and 61"
    assert (untouched.guard.skipped, untouched.guard.rollbacks) == (0, 0)


def test_a_batch_that_is_to_blame_costs_neither_steps_nor_rate():
    """A spike now and then must not lower the rate for good, or a long run comes to a halt."""
    bad = frozenset(range(30, 400, 30))
    run = Digits(GOOD_RATE, guarded=True, bad=bad).train(400)
    assert run.guard.rollbacks == 0
    assert len(bad) <= run.guard.skipped <= len(bad) + 4, "hardly a healthy batch is passed over"
    assert run.scheduler.last_epoch == 400 - run.guard.skipped
    assert run.test_accuracy() > 0.85
    eager = Digits(GOOD_RATE, guarded=True, bad=bad, tolerate=0, max_rollbacks=20).train(400)
    assert eager.scheduler.get_last_lr()[0] < 0.1 * run.scheduler.get_last_lr()[0]


def test_a_slow_rise_goes_back_although_no_loss_is_a_spike():
    guard = Digits(GOOD_RATE, guarded=True).guard
    losses = [2.0 - 0.15 * step for step in range(12)] + [0.4 * 1.05**step for step in range(40)]
    before = guard.rollbacks
    seen = [guard.spiked(loss) for loss in losses]
    assert guard.skipped == 0
    assert guard.rollbacks > before
    assert True in seen


def test_a_rollback_is_an_event_that_the_scheduler_explains(capsys):
    run = Digits(GOOD_RATE, guarded=True, bad=frozenset({60, 61})).train(80)
    (event,) = [event for event in run.scheduler.events if event.reason == "rollback"]
    assert event.new_lr[0] == pytest.approx(0.5 * event.old_lr[0])
    run.scheduler.explain(100)
    assert "was a spike: back to the last good weights" in capsys.readouterr().out


def test_earlier_returns_to_the_same_snapshot_stay_in_the_log():
    run = Digits(GOOD_RATE, guarded=True, tolerate=0)
    heard = []
    run.scheduler.add_listener(heard.append)
    for loss in (math.nan, math.inf, math.nan):
        run.guard.spiked(loss)
    assert [event.new_lr[0] / GOOD_RATE for event in run.scheduler.events] == [1 / 2, 1 / 4, 1 / 8]
    assert heard == run.scheduler.events, "each was told once"


def test_everything_is_back_as_it_was_but_the_rate():
    run = Digits(GOOD_RATE, guarded=True, snapshot_every=20, tolerate=0).train(40)
    kept = [{k: v.clone() for k, v in run.model.state_dict().items()}]
    momentum = [run.optimizer.state[p]["momentum_buffer"].clone() for p in run.model.parameters()]
    run.guard._keep()
    rate = run.scheduler.get_last_lr()[0]
    memory = run.scheduler.state_dict()["ratewise"]["rule"]["memory"]
    for parameter in run.model.parameters():
        parameter.data.fill_(math.nan)
    assert run.guard.spiked(math.nan)
    assert all(torch.equal(v, kept[0][k]) for k, v in run.model.state_dict().items())
    for p, before in zip(run.model.parameters(), momentum, strict=True):
        assert torch.equal(run.optimizer.state[p]["momentum_buffer"], before)
    assert run.scheduler.get_last_lr()[0] == pytest.approx(rate / 2)
    assert run.scheduler.state_dict()["ratewise"]["rule"]["memory"] == memory


def test_several_returns_to_one_snapshot_lower_the_rate_further():
    run = Digits(GOOD_RATE, guarded=True, tolerate=0)
    assert [run.guard.spiked(math.inf) for _ in range(3)] == [True] * 3
    assert run.scheduler.get_last_lr()[0] == pytest.approx(GOOD_RATE / 8)


def test_a_limit_on_returns_then_a_named_error_and_good_weights():
    run = Digits(GOOD_RATE, guarded=True, tolerate=0, max_rollbacks=2)
    before = [p.clone() for p in run.model.parameters()]
    for _ in range(2):
        run.guard.spiked(math.nan)
    for parameter in run.model.parameters():
        parameter.data.fill_(math.nan)
    with pytest.raises(TooManyRollbacks, match="after 2 returns"):
        run.guard.spiked(math.nan)
    assert all(map(torch.equal, run.model.parameters(), before))


@pytest.mark.parametrize("losses", [[1.0, 1.9, 1.5], [-5.0, -4.0, -5.5], [0.0, 0.0], [1.0] * 60])
def test_ordinary_losses_are_no_spikes(losses: list[float]):
    guard = Digits(GOOD_RATE, guarded=True).guard
    assert not any(guard.spiked(loss) for loss in losses)


@pytest.mark.parametrize("losses", [[1.0, 2.5], [-5.0, 1.0], [math.inf], [1.0, math.nan]])
def test_spikes_are_seen(losses: list[float]):
    guard = Digits(GOOD_RATE, guarded=True).guard
    assert [guard.spiked(loss) for loss in losses][-1]


def test_on_disk_it_is_one_file_that_is_never_partial(tmp_path: Path):
    path = tmp_path / "good.pt"
    run = Digits(GOOD_RATE, guarded=True, bad=frozenset({60, 61}), path=path).train(100)
    assert run.guard.rollbacks == 1
    assert [file.name for file in tmp_path.iterdir()] == ["good.pt"]
    assert set(torch.load(path, weights_only=True)) == {"model", "optimizer", "scheduler"}
    memory = Digits(GOOD_RATE, guarded=True, bad=frozenset({60, 61})).train(100)
    assert memory.losses == run.losses


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped", "foreign", "empty"])
def test_a_snapshot_file_that_was_harmed_is_named_and_nothing_is_lost(harm: str, tmp_path: Path):
    path = tmp_path / "good.pt"
    run = Digits(GOOD_RATE, guarded=True, path=path, tolerate=0)
    whole = path.read_bytes()
    middle = len(whole) // 2
    run.train(10)
    if harm == "gone":
        path.unlink()
    elif harm == "foreign":
        torch.save({"model": run.model.state_dict()}, path)
    else:
        path.write_bytes(
            {
                "cut": whole[:middle],
                "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
                "empty": b"",
            }[harm]
        )
    parts = (run.model, run.optimizer, run.scheduler, run.guard)
    before = repr([part.state_dict() for part in parts[:3]])
    with pytest.raises(SnapshotLost, match=r"good.pt' cannot be read"):
        run.guard.spiked(math.nan)
    assert repr([part.state_dict() for part in parts[:3]]) == before
    assert run.guard.rollbacks == 0
    path.write_bytes(whole)
    assert run.guard.spiked(math.nan)
    assert run.guard.rollbacks == 1, "put back, it is as good as before"


def test_a_snapshot_that_cannot_be_written_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: Any
):
    path = tmp_path / "good.pt"
    run = Digits(GOOD_RATE, guarded=True, path=path, snapshot_every=5)
    whole = path.read_bytes()

    def full(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SnapshotLost, match=r"good.pt' cannot be written \(No space left"):
        run.train(10)
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["good.pt"]


def test_looking_every_k_steps_reads_the_loss_no_oftener(monkeypatch):
    read = []
    monkeypatch.setattr(
        "ratewise.schedulers.guard.as_float", lambda loss: read.append(loss) or float(loss)
    )
    guard = Digits(GOOD_RATE, guarded=True, check_every=5).guard
    for step in range(20):
        guard.spiked(torch.tensor(1.0 + step / 100))
    assert len(read) == 4


@pytest.mark.parametrize("kind", ["none", "torch"])
def test_without_a_scheduler_or_with_one_of_torch_s(kind: str):
    layer = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scheduler = None if kind == "none" else CosineAnnealingLR(optimizer, 10)
    guard = SpikeGuard(layer, optimizer, scheduler, factor=0.25, tolerate=0)
    assert guard.spiked(math.nan)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.025)
    if scheduler is not None:
        optimizer.step()
        scheduler.step()
        whole = CosineAnnealingLR(torch.optim.SGD(layer.parameters(), lr=0.025), 10)
        whole.optimizer.step()
        whole.step()
        assert scheduler.get_last_lr() == pytest.approx(whole.get_last_lr())


@pytest.mark.parametrize("kind", ["one cycle", "chain"])
def test_a_scheduler_whose_rates_it_could_not_lower_is_refused(kind: str):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
    ours = GreedyLR(optimizer)
    theirs = {
        "one cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 10),
        "chain": lambda: torch.optim.lr_scheduler.ChainedScheduler([ours], optimizer=optimizer),
    }[kind]()
    with pytest.raises(WrongType, match="not what wraps it, or None"):
        SpikeGuard(nn.Linear(1, 1), optimizer, theirs)


def test_a_tensor_rate_stays_the_same_tensor():
    layer = nn.Linear(1, 1)
    rate = torch.tensor(0.1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate)
    guard = SpikeGuard(layer, optimizer, GreedyLR(optimizer), tolerate=0)
    guard.spiked(math.nan)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.05)


def test_a_bad_batch_leaves_no_mark_on_running_statistics():
    run = Digits(GOOD_RATE, guarded=True).train(20)
    norm = run.model[0]
    good = norm.running_mean.clone()
    run.model(torch.full((8, 64), math.nan))
    assert norm.running_mean.isnan().any(), "the control: the forward pass has spoilt them"
    assert run.guard.spiked(math.nan)
    assert torch.equal(norm.running_mean, good)
    run.optimizer.add_param_group({"params": list(nn.Linear(2, 1).parameters())})
    run.model(torch.full((8, 64), math.nan))
    assert run.guard.spiked(math.nan), "a new snapshot is taken here, without the mark"
    assert norm.running_mean.isfinite().all()
    run.train(60)
    assert all(x.isfinite().all() for x in run.guard._kept["model"].values())


@pytest.mark.parametrize("milestone", [3, 8])
def test_a_return_never_raises_a_rate_that_another_schedule_lowered(milestone: int):
    """The milestone lies before the snapshot at 5 that is gone back to, or after it."""
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [milestone])
    ours = GreedyLR(optimizer, patience=50, window=1)
    guard = SpikeGuard(layer, optimizer, ours, snapshot_every=5, tolerate=0)
    for _ in range(9):
        loss = layer(torch.ones(1, 2)).sum() * 0 + 1.0
        assert not guard.spiked(loss)
        loss.backward()
        optimizer.step()
        ours.step(loss)
        theirs.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    guard.spiked(math.nan)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_returns_are_told_once_each_wherever_the_snapshot_lies(kind: str, tmp_path: Path):
    path = None if kind == "memory" else tmp_path / "good.pt"
    run = Digits(GOOD_RATE, guarded=True, snapshot_every=5, path=path)
    for loss in [1.0] * 3 + [math.nan] * 2 + [1.0] * 12 + [math.nan] * 2:
        run.guard.spiked(loss)
    assert run.guard.rollbacks == len(run.scheduler.events) == 2


def test_a_group_that_is_added_is_in_the_next_snapshot():
    run = Digits(GOOD_RATE, guarded=True)
    for _ in range(5):
        run.guard.spiked(1.0)
    run.optimizer.add_param_group({"params": list(nn.Linear(2, 1).parameters())})
    assert [run.guard.spiked(math.nan) for _ in range(2)] == [True, True]
    assert run.guard.rollbacks == 1
    assert len(run.scheduler.state_dict()["ratewise"]["rates"]) == 2


def test_a_guard_resumes():
    run = Digits(GOOD_RATE, guarded=True).train(30)
    fresh = Digits(GOOD_RATE, guarded=True)
    fresh.guard.load_state_dict(run.guard.state_dict())
    assert fresh.guard.state_dict() == run.guard.state_dict()
    with pytest.raises(InvalidState, match=r"the guard.s state_dict has unknown keys"):
        fresh.guard.load_state_dict(run.scheduler.state_dict())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tolerate": -1}, InvalidArgument, "tolerate must be an integer >= 0"),
        ({"spike": 0}, InvalidArgument, "spike"),
        ({"factor": 0.0}, InvalidArgument, r"factor must be a number in \(0, 1\]"),
        ({"factor": 1.5}, InvalidArgument, "factor"),
        ({"check_every": 0}, InvalidArgument, "check_every must be an integer >= 1"),
        ({"snapshot_every": True}, InvalidArgument, "snapshot_every"),
        ({"max_rollbacks": 0}, InvalidArgument, "max_rollbacks"),
        ({"scheduler": 3}, WrongType, "scheduler"),
        ({"path": 3}, WrongType, "path must be a file's name"),
        ({"path": "no/such/folder/good.pt"}, InvalidArgument, "in a folder that exists"),
        ({"path": "."}, InvalidArgument, "path must be a file"),
        ({"optimizer": 3}, WrongType, "optimizer"),
        ({"model": 3}, WrongType, "model"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], error: type, words: str):
    layer = nn.Linear(1, 1)
    good = {"model": layer, "optimizer": torch.optim.SGD(layer.parameters(), lr=0.1)}
    with pytest.raises(error, match=words):
        SpikeGuard(**(good | options))
