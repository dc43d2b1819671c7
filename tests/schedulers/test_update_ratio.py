"""UpdateRatioLR moves weights as its definition says, and leaves everything else alone."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import pytest
import torch
from tests.schedulers.update_ratio_twin import BASE, Task, Twin, adamw, length, sgd
from torch import nn

from ratewise import SpikeGuard, UpdateRatioLR
from ratewise.errors import InvalidArgument, PastHorizonWarning, UnknownName, WrongType
from ratewise.rules import update_ratio as rule
from ratewise.rules.ratio_law import default_ratio
from ratewise.rules.update_ratio import UpdateRatioConfig

pytestmark = pytest.mark.numerics

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "per group": {"per": "group"},
    "per model": {"per": "model"},
    "no memory": {"gain": 1.0, "start": 1.0, "rise": math.inf, "fall": math.inf},
    "every third": {"measure_every": 3},
    "every third, per group": {"measure_every": 3, "per": "group"},
    "cosine": {"schedule": "cosine", "total_steps": 60},
    "restarts": {"schedule": "restarts", "total_steps": 60},
    "short reach": {"measure_every": 2, "reach": 1.02, "rise": 1.05},
    "tight": {"cap": 1.0, "rise": 1.02, "fall": 1.05, "floor": 0.1},
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
both_optimizers = pytest.mark.parametrize("make", [sgd, adamw], ids=["sgd", "adamw"])


def compare(task: Task, other: Task, settings: dict[str, Any], steps: int = 60) -> None:
    """Step both, and compare weights and ratios at every step."""
    scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, **{"measure_every": 1, **settings})
    names = ("gain", "start", "rise", "fall", "cap", "floor", "reach")
    config = UpdateRatioConfig(ratio=0.02, **{n: settings[n] for n in names if n in settings})
    rest = {
        n: settings[n] for n in ("per", "schedule", "total_steps", "measure_every") if n in settings
    }
    twin = Twin(other.optimizer, config, early=rule.EARLY, **rest)
    follow(scheduler, task, twin, other, steps)
    if twin.count % twin.every == 1 % twin.every:
        assert scheduler.ratios().tolist() == pytest.approx(twin.ratios, rel=1e-3)


def follow(scheduler: UpdateRatioLR, task: Task, twin: Twin, other: Task, steps: int) -> None:
    for _ in range(steps):
        task.run(scheduler, 1)
        other.backward()
        twin.step()
        torch.testing.assert_close(task.weights(), other.weights(), rtol=1e-4, atol=1e-5)


@every_setting
@both_optimizers
def test_weights_are_those_of_the_literal_twin_at_every_step(
    settings: dict[str, Any], make: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rule, "EARLY", 6)
    compare(Task(make), Task(make), settings)


@pytest.mark.parametrize(
    "other", [{"gain": 0.4}, {"per": "group"}, {"measure_every": 2}, {"floor": 0.9}]
)
def test_the_twin_notices_another_setting(other: dict[str, Any]):
    task, twin = Task(sgd), Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, **{"measure_every": 1, **other})
    scheduler._control.displacement.steps = scheduler._control.displacement._decided = rule.EARLY
    with pytest.raises(AssertionError, match="not close"):
        follow(scheduler, task, Twin(twin.optimizer, UpdateRatioConfig(ratio=0.02)), twin, 20)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"fused": True}),
        ("Adam", {"foreach": True}),
        ("RMSprop", {}),
        ("NAdam", {}),
        ("RAdam", {}),
        ("Adagrad", {}),
        ("Adamax", {}),
        ("Adadelta", {}),
        ("Rprop", {}),
        ("Adafactor", {}),
    ],
)
def test_any_optimizer_of_torch_s_will_do(name: str, options: dict[str, Any]):
    """For those of the first kinds the rate is raised for the step, for the last ones it is not."""

    def make(groups: Any) -> torch.optim.Optimizer:
        return getattr(torch.optim, name)(groups, lr=BASE, **options)

    compare(Task(make), Task(make), {"schedule": "cosine", "total_steps": 50}, steps=30)


def test_muon_will_do():
    """It takes matrices alone, and its step is no multiple of its rate."""
    ends = []
    for rate in (1e-3, 1.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 2, bias=False))
        x = torch.randn(64, 5)
        y, losses = x[:, :2].sin(), []
        optimizer = torch.optim.Muon(model.parameters(), lr=rate, weight_decay=0.0)
        scheduler = UpdateRatioLR(optimizer, ratio=0.02)
        assert not scheduler.online
        for _ in range(60):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert scheduler.ratios().tolist() == pytest.approx([0.02, 0.02], rel=0.2)
        ends.append(losses[-1] / losses[0])
    assert ends[0] < 0.7
    assert ends[1] == pytest.approx(ends[0], rel=1e-2)


@both_optimizers
def test_the_rate_does_not_matter(make: Any):
    """Three decades, and in float32."""
    ends = []
    for rate in (1e-4, 1e-2, 0.1):
        task = Task(lambda groups, rate=rate: make(groups, lr=rate), dtype=torch.float32)
        task.optimizer.param_groups[1]["lr"] = rate / 2
        task.run(UpdateRatioLR(task.optimizer, total_steps=80), 80)
        ends.append(task.weights())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=2e-3, atol=2e-4)
    plain = Task(lambda groups: make(groups, lr=1e-4), dtype=torch.float32)
    plain.optimizer.param_groups[1]["lr"] = 5e-5
    begin = plain.weights()
    for _ in range(80):
        plain.backward()
        plain.optimizer.step()
    assert length(plain.weights() - begin) < 0.1 * length(ends[0] - begin), "the control moves less"


@every_setting
def test_no_measured_step_exceeds_the_cap(settings: dict[str, Any]):
    task = Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, **{**settings, "measure_every": 1})
    cap = settings.get("cap", 2.0)
    for step in range(60):
        task.backward()
        if step % 7 == 6:  # a broken batch
            for p in task.model.parameters():
                p.grad *= 1e4
        old = [p.detach().clone() for p in task.model.parameters()]
        task.optimizer.step()
        scheduler.step()
        if settings.get("per", "tensor") == "tensor":
            for p, before in zip(task.model.parameters(), old, strict=True):
                typical = float(scheduler._control.displacement.state.typical) * settings.get(
                    "floor", 1.0
                )
                norm = max(length(before), typical * math.sqrt(p.numel()))
                assert length(p - before) <= cap * 0.02 * norm * (1 + 1e-5)
        assert float(scheduler.ratios().max()) <= cap * 0.02 * (1 + 1e-5) or "per" in settings


# -- what is left alone ---------------------------------------------------------------------------


@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_groups_and_rates_are_the_user_s_between_steps(tensor: bool):
    def make(groups: Any) -> torch.optim.Optimizer:
        groups[1].pop("lr")
        rate = torch.tensor(BASE, dtype=torch.float64) if tensor else BASE
        return torch.optim.SGD(groups, lr=rate)

    task = Task(make)
    scheduler = UpdateRatioLR(task.optimizer, schedule="linear", total_steps=10)
    groups, seen = task.optimizer.param_groups, []
    task.optimizer.register_step_pre_hook(lambda *_: seen.append(float(groups[0]["lr"])))
    for step in range(10):
        rates = [group["lr"] for group in groups]
        task.run(scheduler, 1)
        assert [len(group["params"]) for group in groups] == [2, 2]
        if tensor:
            assert all(group["lr"] is rate for group, rate in zip(groups, rates, strict=True))
        wanted = BASE * (1 - (step + 1) / 10)
        assert [float(rate) for rate in scheduler.get_last_lr()] == pytest.approx([wanted] * 2)
    assert seen != pytest.approx([BASE * (1 - step / 10) for step in range(10)]), "lent for a step"


def test_a_step_that_raises_leaves_the_rates_to_be_given_back():
    task = Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer)
    task.run(scheduler, 3)
    hook = task.optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task.optimizer.step()
    hook.remove()
    assert [group["lr"] for group in task.optimizer.param_groups] != [BASE, BASE / 2]
    scheduler.step()
    assert scheduler.get_last_lr() == [BASE, BASE / 2]
    assert scheduler.last_epoch == 3
    task.run(scheduler, 1)
    assert scheduler.get_last_lr() == [BASE, BASE / 2]


def test_a_frozen_group_and_tensors_without_gradients_stay():
    task, other = Task(sgd), Task(sgd)
    body, head = task.model[0], task.model[2]
    for p in body.parameters():
        p.requires_grad_(False)
    scheduler = task.run(UpdateRatioLR(task.optimizer), 20)
    assert torch.equal(body.weight, other.model[0].weight)
    assert not torch.equal(head.weight, other.model[2].weight)
    assert scheduler.factors()[:2].tolist() == [0.0, 0.0]
    assert all(scheduler.factors()[2:] > 0)
    for p in body.parameters():
        p.requires_grad_(True)
    task.run(scheduler, 1)
    ratio = default_ratio(None)
    assert scheduler.ratios()[0] == pytest.approx(UpdateRatioConfig.start * ratio), "its own"


def test_chosen_groups_alone_are_steered():
    task, other = Task(sgd), Task(sgd)
    scheduler = task.run(UpdateRatioLR(task.optimizer, groups=[1]), 1)
    other.backward()
    other.optimizer.step()
    assert torch.equal(task.model[0].weight, other.model[0].weight)
    assert not torch.equal(task.model[2].weight, other.model[2].weight)
    assert scheduler.factors().shape == (2,)


@pytest.mark.parametrize("per", ["tensor", "group", "model"])
def test_a_group_added_later_has_a_safe_start_of_its_own(per: str):
    task = Task(sgd)
    scheduler = task.run(UpdateRatioLR(task.optimizer, per=per, measure_every=1), 20)
    before = scheduler.factors()
    late = nn.Parameter(torch.ones(3, 3, dtype=torch.float64))
    task.optimizer.add_param_group({"params": [late], "lr": 100.0})
    task.backward()
    late.grad = torch.randn(3, 3, dtype=torch.float64)
    task.optimizer.step()
    moved = length(late - 1) / 3
    scheduler.step()
    assert scheduler.factors().shape == (5,)
    assert len(scheduler.get_last_lr()) == 3
    if per != "model":  # there it takes part in the one factor
        assert moved == pytest.approx(UpdateRatioConfig.start * scheduler.ratio, rel=1e-3)
        assert scheduler.factors()[:4].tolist() == pytest.approx(before.tolist(), rel=0.5)


def test_what_begins_at_zero_moves():
    task = Task(sgd, zero=True)
    compare(task, Task(sgd, zero=True), {"measure_every": 1}, steps=40)
    assert all(length(p) > 0 for p in task.model.parameters())
    nothing = nn.Parameter(torch.zeros(3))  # a model of zeros alone
    optimizer = torch.optim.SGD([nothing], lr=1e3)
    scheduler = UpdateRatioLR(optimizer, ratio=0.02, start=1.0)
    nothing.grad = torch.ones(3)
    optimizer.step()
    scheduler.step()
    assert length(nothing) == pytest.approx(0.02 * 0.01 * math.sqrt(3))


# -- time -----------------------------------------------------------------------------------------


def test_a_step_that_a_grad_scaler_skips_is_none():
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    task, other = Task(sgd), Task(sgd)
    one, two = UpdateRatioLR(task.optimizer), UpdateRatioLR(other.optimizer)
    for step in range(12):
        index = torch.randint(64, (8,), generator=task.sampler)
        for spoilt in (True, False) if step % 3 == 1 else (False,):
            task.optimizer.zero_grad()
            loss = nn.functional.mse_loss(task.model(task.x[index]), task.y[index])
            scaler.scale(loss * (math.inf if spoilt else 1.0)).backward()
            scaler.step(task.optimizer)
            scaler.update()
            one.step()
        other.run(two, 1)
        torch.testing.assert_close(task.weights(), other.weights(), rtol=1e-9, atol=0)
    assert one.last_epoch == 12
    assert one._control.displacement.steps == 12


def test_gradients_are_those_after_clipping_and_a_closure_s_count_too():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([weight], lr=1e6)
    scheduler = UpdateRatioLR(optimizer, ratio=0.01, start=1.0)

    def closure() -> torch.Tensor:
        weight.grad = torch.ones(2, 2)
        return weight.sum()

    optimizer.step(closure)
    scheduler.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.99))


def test_warmup_ramps_the_ratio_and_the_rate():
    task = Task(sgd)
    scheduler = UpdateRatioLR(
        task.optimizer, ratio=0.02, warmup_steps=4, start=1.0, gain=1.0, rise=9.0, measure_every=1
    )
    seen = []
    for step in range(6):
        assert scheduler.get_last_lr()[0] == pytest.approx(BASE * min(1.0, (step + 1) / 5))
        task.run(scheduler, 1)
        seen.append(float(scheduler.ratios()[0]))
    assert seen == pytest.approx([0.004, 0.008, 0.012, 0.016, 0.02, 0.02], rel=1e-4)


def test_what_another_scheduler_makes_of_the_rate_it_makes_of_the_ratio():
    task = Task(sgd)
    scheduler = UpdateRatioLR(
        task.optimizer, ratio=0.02, start=1.0, gain=1.0, rise=9.0, measure_every=1
    )
    other = torch.optim.lr_scheduler.MultiplicativeLR(task.optimizer, lambda step: 0.5)
    seen = []
    for _ in range(4):
        task.run(scheduler, 1)
        other.step()
        seen.append(float(scheduler.ratios()[0]))
    assert seen == pytest.approx([0.02, 0.01, 0.005, 0.0025], rel=1e-4)


def test_a_guard_lowers_the_ratio_when_it_goes_back():
    task = Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, gain=1.0, rise=9.0, measure_every=1)
    guard = SpikeGuard(task.model, task.optimizer, scheduler, tolerate=0)
    for loss in (1.0, 1.1, 1.0):
        assert not guard.spiked(loss)
        task.run(scheduler, 1)
    assert guard.spiked(1e6)
    task.run(scheduler, 3)
    assert float(scheduler.ratios()[0]) == pytest.approx(0.01, rel=1e-4)
    assert scheduler.get_last_lr()[0] == BASE / 2
    assert [event.reason for event in scheduler.events] == ["rollback"]


def test_without_a_horizon_the_ratio_holds_until_it_is_annealed():
    task = Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, schedule="linear")
    task.run(scheduler, 30)
    assert scheduler.get_last_lr()[0] == BASE
    scheduler.anneal(10)
    seen = [scheduler.get_last_lr()[0]]
    for _ in range(10):
        task.run(scheduler, 1)
        seen.append(scheduler.get_last_lr()[0])
    assert seen == pytest.approx([BASE * (1 - step / 10) for step in range(11)])
    weights = task.weights()
    with pytest.warns(PastHorizonWarning, match=r"step 41 is beyond total_steps=40"):
        task.run(scheduler, 1)
    assert torch.equal(task.weights(), weights), "the final rate is 0"


def test_annealing_early_goes_down_from_where_the_ratio_is():
    task = Task(sgd)
    scheduler = task.run(UpdateRatioLR(task.optimizer, schedule="linear", total_steps=100), 50)
    assert scheduler.get_last_lr()[0] == pytest.approx(BASE / 2)
    scheduler.anneal(5)
    assert scheduler.get_last_lr()[0] == pytest.approx(BASE / 2)
    task.run(scheduler, 4)
    assert scheduler.get_last_lr()[0] == pytest.approx(BASE / 10)


def test_beyond_the_horizon_the_final_rate_holds_and_one_warning_says_so():
    task = Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer, schedule="exponential", total_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.run(scheduler, 5)
    with pytest.warns(PastHorizonWarning) as caught:
        task.run(scheduler, 5)
    assert len(caught) == 1
    assert scheduler.get_last_lr()[0] == pytest.approx(0.01 * BASE)


# -- words and errors -----------------------------------------------------------------------------


def test_it_explains_itself():
    task = Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, schedule="linear", total_steps=40)
    out = io.StringIO()
    scheduler.explain(file=out)
    assert "not measured yet" in out.getvalue()
    task.run(scheduler, 20)
    out = io.StringIO()
    scheduler.explain(last=2, file=out)
    first, second, third, *tensors = out.getvalue().splitlines()
    assert first.startswith("step 20 of 40, lr")
    assert first.endswith("per tensor, ||dp|| / ||p|| is to be 0.01")
    assert second == "  (0.02 at full height, schedule at 0.5)"
    assert third == "  group 1: 0.5 of it, as its rate is of the largest (keep_proportions)"
    assert len(tensors) == 2
    assert all("moved by 0.0" in line for line in tensors)
    assert [step for step, _, _ in scheduler.trace] == list(range(1, 21))
    assert 0 < scheduler.trace[-1][1] < 0.04


def test_a_plot_shows_ratio_and_rate(tmp_path: Any):
    plot = pytest.importorskip("matplotlib") and __import__("ratewise").plot
    task = Task(sgd)
    scheduler = task.run(UpdateRatioLR(task.optimizer, total_steps=40), 20)
    plot(scheduler, tmp_path / "ratio.png", y_label="update ratio")
    assert (tmp_path / "ratio.png").stat().st_size > 1000


def test_a_loss_is_taken_and_ignored():
    task, other = Task(sgd), Task(sgd)
    one, two = UpdateRatioLR(task.optimizer), UpdateRatioLR(other.optimizer)
    for _ in range(5):
        one.observe(task.backward())
        task.optimizer.step()
        one.step(math.nan)
    other.run(two, 5)
    assert torch.equal(task.weights(), other.weights())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ratio": 2.0}, InvalidArgument, "ratio must be a number in"),
        ({"per": "layer"}, UnknownName, "unknown per 'layer'"),
        ({"schedule": "cosin"}, UnknownName, "did you mean 'cosine'"),
        ({"total_steps": 0}, InvalidArgument, "total_steps must be an integer >= 1"),
        ({"total_steps": 1.5}, InvalidArgument, "total_steps"),
        ({"measure_every": 0}, InvalidArgument, "measure_every must be an integer >= 1"),
        ({"warmup_steps": 9, "total_steps": 9}, InvalidArgument, "below total_steps"),
        ({"bounds": 3}, InvalidArgument, "bounds must be two numbers"),
        ({"bounds": (1.0, 0.1)}, InvalidArgument, "bounds must be two finite numbers"),
        ({"groups": [7]}, InvalidArgument, "groups must be indices below 2"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], error: type, words: str):
    with pytest.raises(error, match=words):
        UpdateRatioLR(Task(sgd).optimizer, **options)


def test_an_impossible_anneal_is_named():
    task = Task(sgd)
    with pytest.raises(InvalidArgument, match="schedule must be one that falls"):
        UpdateRatioLR(task.optimizer, schedule="constant").anneal(5)
    ramping = UpdateRatioLR(task.optimizer, warmup_steps=10)
    with pytest.raises(InvalidArgument, match="steps must be above 10"):
        ramping.anneal(10)
    with pytest.raises(InvalidArgument, match="steps must be an integer >= 1"):
        ramping.anneal(0)


def test_what_cannot_be_steered_is_named():
    with pytest.raises(WrongType, match="optimizer must be a torch"):
        UpdateRatioLR(nn.Linear(1, 1))
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(InvalidArgument, match="keeps past weights itself"):
        UpdateRatioLR(torch.optim.LBFGS([weight]))
    flat = nn.Parameter(torch.ones(2))
    flat._fsdp_flattened = True
    with pytest.raises(InvalidArgument, match="use FSDP2"):
        UpdateRatioLR(torch.optim.SGD([flat], lr=0.1))
    far = nn.Parameter(torch.ones(2, device="meta"))
    with pytest.raises(InvalidArgument, match="parameters on one device"):
        UpdateRatioLR(torch.optim.SGD([weight, far], lr=0.1))
    sparse = nn.Parameter(torch.eye(2).to_sparse())
    with pytest.raises(InvalidArgument, match="make it dense"):
        UpdateRatioLR(torch.optim.SGD([sparse], lr=0.1))


def test_sparse_gradients_and_complex_weights_are_no_matter():
    table = nn.Embedding(6, 3, sparse=True)
    wave = nn.Parameter(torch.full((2, 2), 1 + 1j))
    for optimizer in (torch.optim.SparseAdam(table.parameters()), torch.optim.SGD([wave], lr=9.0)):
        scheduler = UpdateRatioLR(optimizer, ratio=0.01, start=1.0)
        loss = table(torch.tensor([1, 2])).square().sum() + (wave * wave.conj()).real.sum()
        loss.backward()
        optimizer.step()
        scheduler.step()
        assert float(scheduler.ratios()[0]) == pytest.approx(0.01, rel=1e-4)
