"""Tensor rates and losses: nothing is read, nothing compiles twice, and rates are the floats'."""

from __future__ import annotations

import copy
import functools
import io
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import MultiplicativeLR
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ratewise.schedulers.reactive as reactive
from ratewise import GreedyLR
from ratewise.errors import InvalidArgument
from ratewise.rules.greedy import REASONS

QUICK: dict[str, Any] = {"factor": 0.5, "patience": 1, "window": 2}
STAGES: dict[str, Any] = {**QUICK, "warmup": 2, "cooldown": 2, "reset_after": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "quick": QUICK,
    "no window": {**QUICK, "window": 1},
    "every third step": {**QUICK, "every": 3},
    "ramp": {**QUICK, "warmup_steps": 5},
    "anchor": {**QUICK, "anchor": "cosine", "total_steps": 90},
    "a function": {**QUICK, "anchor": lambda step: 1 / (1 + step)},
    "stages and resets": STAGES,
    "stages that hold": {**STAGES, "stage": "hold", "first": "good"},
    "given bounds": {
        **QUICK,
        "min_lr": 1e-3,
        "max_lr": [0.2, 0.3],
        "mode": "max",
        "reference": "previous",
    },
    "nonfinite skipped": {**QUICK, "on_nonfinite": "skip"},
    "nonfinite raised": {**QUICK, "on_nonfinite": "raise"},
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


class Watch(TorchDispatchMode):
    """Notes each operation that would make a GPU wait or that crosses between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if waits(func):
            self.seen.append(str(func))
        result = func(*args, **(kwargs or {}))
        values = tree_leaves((args, kwargs, result))
        if len({value.device for value in values if isinstance(value, Tensor)}) > 1:
            self.seen.append(f"{func} between devices")
        return result


@functools.cache
def waits(func: Any) -> bool:
    """Return whether an operation needs a value on the host, or brings one from there."""
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(tags & set(func.tags)) or str(func).startswith(("aten.item", "aten.lift_fresh"))


def optimizer_of(*rates: float, tensor: bool = True) -> torch.optim.Optimizer:
    """Return SGD over one parameter a rate; the rates are float64 tensors on the CPU."""
    groups = [
        {
            "params": [torch.nn.Parameter(torch.zeros(1))],
            "lr": torch.tensor(rate, dtype=torch.float64) if tensor else rate,
        }
        for rate in rates
    ]
    return torch.optim.SGD(groups, lr=rates[0])


def scheduler_of(*, tensor: bool = True, **settings: Any) -> GreedyLR:
    """Return a scheduler of two groups in a dry run: every call of it is a step."""
    return GreedyLR(optimizer_of(0.1, 0.02, tensor=tensor), **settings)


def waves(count: int = 80) -> list[Tensor]:
    """Return losses that fall and rise, as float64 tensors; fewer than 100 are never read."""
    wave = 2 + torch.cos(torch.arange(count, dtype=torch.float64) / 8)
    return list(wave.unbind())


def rates(scheduler: GreedyLR) -> list[float]:
    return [float(rate) for rate in scheduler.get_last_lr()]


# -- nothing is read ------------------------------------------------------------------------


@every_setting
@pytest.mark.parametrize("observed", [False, True], ids=["step(loss)", "observe, step"])
def test_a_step_reads_nothing_and_moves_nothing(settings: dict[str, Any], observed: bool):
    scheduler = scheduler_of(**settings)
    losses = waves(45)
    scheduler.step(losses[0])  # on a GPU the rates' device is known before; here the loss tells
    before = rates(scheduler)
    with Watch() as watch:
        for loss in losses[1:]:
            if observed:
                scheduler.observe(loss)
            scheduler.step(None if observed else loss)
    assert watch.seen == []
    assert rates(scheduler) != before
    assert len({event.reason for event in scheduler.events}) > 1


def test_what_waits_is_seen():
    loss = waves()[0]
    for waiting, name in (
        (lambda: float(loss), "aten._local_scalar_dense.default"),
        (lambda: bool(loss > 1), "aten._local_scalar_dense.default"),
        (lambda: torch.tensor([1.0]), "aten.lift_fresh.default"),
        (lambda: loss.to("meta"), "aten._to_copy.default between devices"),
        (lambda: torch.nonzero(loss), "aten.nonzero.default"),
        (lambda: scheduler_of(tensor=False).step(loss), "aten._local_scalar_dense.default"),
    ):
        with Watch() as watch:
            waiting()
        assert watch.seen == [name]


def test_transformers_reads_the_loss():
    optimization = pytest.importorskip("transformers.optimization")
    theirs = optimization.GreedyLR(optimizer_of(0.1), min_lr=0.01, max_lr=1.0)
    with Watch() as watch:
        theirs.step(waves()[0])
    assert "aten._local_scalar_dense.default" in watch.seen


@pytest.mark.parametrize(
    ("asking", "reads"),
    [
        (lambda s: s.get_last_lr(), False),
        (lambda s: s.last_reason, True),
        (lambda s: s.events, True),
        (lambda s: s.trace, True),
        (lambda s: s.explain(file=io.StringIO()), True),
        (lambda s: s.flush(), True),
        (lambda s: s.state_dict(), True),
        (lambda s: s.check_agreement(), True),
        (lambda s: s.rescale(0.5), True),
        (lambda s: s.load_state_dict(copy.deepcopy(STATE)), True),
        (lambda s: (add_group(s), s.step(waves()[0])), True),
    ],
    ids=lambda value: "" if callable(value) else "reads" if value else "keeps",
)
def test_what_is_documented_as_waiting_waits(asking: Callable[[GreedyLR], Any], reads: bool):
    scheduler = scheduler_of(**QUICK)
    for loss in waves(20):
        scheduler.step(loss)
    with Watch() as watch:
        asking(scheduler)
    assert bool(watch.seen) == reads


def add_group(scheduler: GreedyLR) -> None:
    rate = torch.tensor(0.5, dtype=torch.float64)
    scheduler.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate})


STATE = scheduler_of(**QUICK).state_dict()


@pytest.mark.parametrize(
    ("raising", "listening", "reads"), [(False, False, 0), (True, False, 2), (False, True, 2)]
)
def test_raising_and_listeners_read_once_in_100_steps(raising: bool, listening: bool, reads: int):
    scheduler = scheduler_of(**QUICK, on_nonfinite="raise" if raising else "bad")
    heard: list[Any] = []
    if listening:
        scheduler.add_listener(heard.append)
    scheduler.step(waves()[0])
    reading_steps = 0
    for loss in waves(210):
        with Watch() as watch:
            scheduler.step(loss)
        reading_steps += bool(watch.seen)
    assert reading_steps == reads
    assert bool(heard) == listening


# -- where there is no memory to read -------------------------------------------------------


def onto_meta(value: Any) -> Any:
    """Return `value` with every tensor in it on the meta device; our objects change in place."""
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, torch.device):
        return torch.device("meta")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(onto_meta, value))
    if isinstance(value, list | tuple):
        return type(value)(map(onto_meta, value))
    if type(value).__module__.startswith("ratewise.") and hasattr(value, "__dict__"):
        for name, held in vars(value).items():
            moved = held if name == "optimizer" else onto_meta(held)
            if moved is not held:
                setattr(value, name, moved)
    return value


@every_setting
def test_a_step_runs_on_a_device_without_memory(settings: dict[str, Any]):
    scheduler = scheduler_of(**settings)
    first, *losses = waves(12)
    scheduler.step(first)
    onto_meta(scheduler)
    losses = onto_meta(losses)
    for group in scheduler.optimizer.param_groups:
        group["lr"] = group["lr"].to("meta")
    for name in ("_ticks", "_rates.own", "_rates.wrote", "_rule.scale", "_rule.reason"):
        held: Any = scheduler
        for part in name.split("."):
            held = getattr(held, part)
        assert all(tensor.is_meta for tensor in tree_leaves(held)), name
    with Watch() as watch:
        for loss in losses:
            scheduler.observe(loss)
            scheduler.step(loss)
    assert watch.seen == []
    assert all(rate.is_meta for rate in scheduler.get_last_lr())
    with pytest.raises(RuntimeError, match="meta"):
        scheduler.state_dict()


def test_a_loss_on_another_device_than_the_rates_is_named():
    scheduler = scheduler_of(**QUICK)
    scheduler.step(waves()[0])
    before = scheduler.state_dict()
    with pytest.raises(InvalidArgument, match=r"rates' device, cpu.*a tensor on meta"):
        scheduler.step(waves()[1].to("meta"))
    assert scheduler.state_dict() == before


# -- the same as on Python floats -----------------------------------------------------------


def random_settings(rng: random.Random) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "factor": rng.choice([0.5, 0.9]),
        "patience": rng.choice([0, 1, 3]),
        "window": rng.choice([1, 2, 5]),
        "reference": rng.choice(["best", "previous"]),
        "warmup": rng.choice([0, 2]),
        "cooldown": rng.choice([0, 2]),
        "stage": rng.choice(["extend", "ignore", "hold"]),
        "reset_after": rng.choice([None, 1, 3]),
        "every": rng.choice([1, 1, 3]),
        "warmup_steps": rng.choice([0, 0, 4]),
        "on_nonfinite": rng.choice(["bad", "skip"]),
    }
    if rng.random() < 0.4:
        settings |= {"anchor": "cosine", "total_steps": 100}
    return settings


def random_loss(rng: random.Random, step: int) -> float:
    if rng.random() < 0.1:
        return rng.choice([math.nan, math.inf, -math.inf, 1e308, 0.0])
    return math.exp(rng.gauss(-min(step, 40 - step / 2) / 20, 0.1))


def both(rng: random.Random, steps: int = 70, chained: bool = False) -> tuple[GreedyLR, GreedyLR]:
    """Follow one random run on floats and on tensors; rates are equal after every step."""
    settings = random_settings(rng)
    floats, tensors = scheduler_of(tensor=False, **settings), scheduler_of(**settings)
    others = []
    for scheduler in (floats, tensors):
        scheduler.optimizer.step()
        if chained:
            others.append(MultiplicativeLR(scheduler.optimizer, lambda t: 0.9 if t % 7 else 1.25))
    for step in range(steps):
        loss = random_loss(rng, step)
        for other in others:
            other.step()
        floats.step(loss)
        tensors.step(torch.tensor(loss, dtype=torch.float64))
        assert rates(floats) == rates(tensors), (settings, step)
        assert floats.last_reason == tensors.last_reason
    return floats, tensors


def test_tensors_give_the_floats_rates_events_trace_and_state():
    rng = random.Random(0)
    reasons = set()
    for _ in range(16):
        floats, tensors = both(rng)
        # NaN is not equal to itself, but it is written the same.
        assert repr(floats.state_dict()) == repr(tensors.state_dict())
        assert repr(floats.events) == repr(tensors.events)
        assert repr(floats.trace) == repr(tensors.trace)
        reasons |= {event.reason for event in floats.events}
    assert reasons == set(REASONS) - {"none", "clamped", "nonfinite"}


def test_tensors_give_the_floats_rates_in_a_chain():
    rng = random.Random(1)
    for _ in range(10):
        floats, tensors = both(rng, chained=True)
        assert repr(floats.state_dict()) == repr(tensors.state_dict())
        assert any(floats.state_dict()["ratewise"]["outside"])


def test_a_run_goes_from_tensors_to_floats_and_back_through_a_file():
    for stop in range(0, 40, 5):
        whole, first = scheduler_of(**STAGES), scheduler_of(**STAGES)
        losses = waves(60)
        for loss in losses:
            whole.step(loss)
        for loss in losses[:stop]:
            first.step(loss)
        middle = scheduler_of(tensor=False, **STAGES)
        middle.load_state_dict(through_a_file(first.state_dict()))
        for loss in losses[stop : stop + 10]:
            middle.step(float(loss))
        last = scheduler_of(**STAGES)
        last.load_state_dict(through_a_file(middle.state_dict()))
        for loss in losses[stop + 10 :]:
            last.step(loss)
        assert repr(last.state_dict()) == repr(whole.state_dict())


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# -- groups ---------------------------------------------------------------------------------


def shared_rate(**settings: Any) -> GreedyLR:
    """Return a scheduler of two groups with one rate, as torch makes them of ``lr=tensor``."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    return GreedyLR(torch.optim.SGD(groups, lr=torch.tensor(0.1, dtype=torch.float64)), **settings)


def test_groups_that_share_one_tensor_get_the_rate_once():
    scheduler, twin = shared_rate(**QUICK), scheduler_of(tensor=False, **QUICK)
    for loss in waves(30):
        scheduler.step(float(loss))
        twin.step(float(loss))
        assert rates(scheduler) == [rates(twin)[0]] * 2


def test_a_group_that_is_not_scheduled_keeps_a_rate_that_was_shared():
    scheduler = shared_rate(**QUICK, groups=[0])
    for loss in waves(30):
        scheduler.step(loss)
    assert rates(scheduler)[1] == 0.1


@pytest.mark.parametrize(
    "rate", [0.5, torch.tensor(0.5, dtype=torch.float64)], ids=["0.5", "tensor"]
)
def test_the_step_that_takes_in_a_group_leaves_no_tensor_among_the_floats(rate: float | Tensor):
    scheduler = scheduler_of(**QUICK)
    for loss in waves(20):
        scheduler.step(loss)
    parameter = torch.nn.Parameter(torch.ones(1))
    scheduler.optimizer.add_param_group({"params": [parameter], "lr": rate})
    scheduler.step(waves(1)[0])
    assert not any(isinstance(leaf, Tensor) for leaf in tree_leaves(scheduler.state_dict()))


# -- compiled and reloaded optimizers -------------------------------------------------------


def compilations(rate: float | Tensor, steps: int) -> tuple[int, int]:
    """Return how often a step is compiled while the rate changes, and how many rates it had."""
    import torch._dynamo
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=rate)
    scheduler = GreedyLR(optimizer, factor=0.9, patience=1, window=2)
    counter = CompileCounter()
    step = torch.compile(optimizer.step, backend=counter)
    seen = set()
    try:
        for index in range(steps):
            weight.grad = torch.ones(3)
            step()
            loss = 1 + math.sin(index / 9) / 2
            scheduler.step(torch.tensor(loss) if isinstance(rate, Tensor) else loss)
            seen.add(rates(scheduler)[0])
    finally:
        torch._dynamo.reset()
    assert scheduler.last_epoch == steps
    return counter.frame_count, len(seen)


def test_a_compiled_step_is_compiled_once_in_1000_steps():
    times, different = compilations(torch.tensor(0.1), steps=1000)
    assert times == 1
    assert different > 20


def test_a_float_rate_is_compiled_again():
    times, different = compilations(0.1, steps=100)
    assert times > 1
    assert different > 20


@pytest.mark.parametrize("part", [1.0, 0.5], ids=["the same rate", "half of it"])
def test_rates_that_a_checkpoint_made_numbers_become_tensors_again(part: float):
    scheduler, twin = scheduler_of(**QUICK), scheduler_of(**QUICK)
    losses = waves(60)
    for loss in losses[:25]:
        scheduler.step(loss)
        twin.step(loss)
    saved = copy.deepcopy(scheduler.optimizer.state_dict())
    for group, rate in zip(saved["param_groups"], rates(scheduler), strict=True):
        group["lr"] = part * rate
    scheduler.optimizer.load_state_dict(saved)
    assert all(isinstance(group["lr"], float) for group in scheduler.optimizer.param_groups)
    for loss in losses[25:]:
        scheduler.step(loss)
        twin.step(loss)
        assert all(
            isinstance(rate, Tensor) and rate.dtype == torch.float64
            for rate in scheduler.get_last_lr()
        )
        # What else changes a rate is kept as a factor, as in a chain.
        assert rates(scheduler) == [part * rate for rate in rates(twin)]
    assert len(set(scheduler.events)) > 3


@pytest.mark.parametrize(("fused", "steps"), [(True, 3), (False, 2)])
def test_a_step_that_a_fused_kernel_skips_is_counted(fused: bool, steps: int):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=torch.tensor(0.1), fused=fused)
    scheduler = GreedyLR(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    moved = []
    for size in (1.0, math.inf, 1.0):
        before = weight.detach().clone()
        weight.grad = None
        scaler.scale(size * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(torch.tensor(1.0))
        moved.append(not torch.equal(before, weight))
    assert moved == [True, False, True]
    assert scheduler.last_epoch == steps


# -- Python rates with losses on a device ---------------------------------------------------


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every tensor count as one on a device: what is sent arrives a period later."""
    monkeypatch.setattr(reactive, "is_far", lambda loss: isinstance(loss, Tensor))


every_late = pytest.mark.parametrize(
    "name", ["quick", "ramp", "anchor", "stages and resets", "nonfinite skipped"]
)
every_period = pytest.mark.parametrize("every", [1, 3])


def late_scheduler(name: str, every: int) -> GreedyLR:
    return scheduler_of(tensor=False, **{**SETTINGS[name], "every": every})


def late_losses() -> list[Tensor]:
    losses = waves(45)
    losses[20] = losses[31] = torch.tensor(math.nan, dtype=torch.float64)
    return losses


def memory(scheduler: GreedyLR) -> str:
    return repr(scheduler.state_dict()["ratewise"]["rule"])


@every_late
@every_period
def test_decisions_are_exactly_one_period_late(far: None, name: str, every: int):
    late, prompt = late_scheduler(name, every), late_scheduler(name, every)
    then, now = [], []
    for loss in late_losses():
        then.append((memory(prompt), rates(prompt)))
        prompt.step(float(loss))
        late.step(loss)
        now.append((memory(late), rates(late)))
    # before the step that is `every - 1` back, that is after the one that is `every` back
    shifted = then[: len(then) - every + 1]
    assert [state for state, _ in now[every - 1 :]] == [state for state, _ in shifted]
    if name not in ("anchor", "ramp"):  # these two go on with the step, not with the decisions
        assert [rate for _, rate in now[every - 1 :]] == [rate for _, rate in shifted]
    assert len({state for state, _ in now}) > 8
    assert len({event.reason for event in late.events}) > 1


@every_late
@every_period
def test_a_late_run_resumes_to_the_bit_at_every_step(far: None, name: str, every: int):
    losses = late_losses()
    scheduler = late_scheduler(name, every)
    states, seen = [scheduler.state_dict()], []
    for loss in losses:
        scheduler.step(loss)
        states.append(scheduler.state_dict())
        seen.append(rates(scheduler))
    for stop in range(len(losses) + 1):
        fresh = late_scheduler(name, every)
        fresh.load_state_dict(through_a_file(states[stop]))
        assert repr(fresh.state_dict()) == repr(states[stop])
        for step in range(stop, len(losses)):
            fresh.step(losses[step])
            assert rates(fresh) == seen[step], (stop, step)
        assert repr(fresh.state_dict()) == repr(states[-1])


def test_what_is_under_way_is_part_of_the_state(far: None):
    scheduler = late_scheduler("quick", 1)
    assert scheduler.state_dict()["ratewise"]["late"] is None
    losses = late_losses()[:20]
    differ = 0
    for loss in losses:
        scheduler.step(loss)
        state = scheduler.state_dict()
        assert state["ratewise"]["late"] == [float(loss), 1.0]
        # without it the rest of the run is another one
        poorer = copy.deepcopy(state)
        poorer["ratewise"]["late"] = None
        ends = []
        for start in (state, poorer):
            fresh = late_scheduler("quick", 1)
            fresh.load_state_dict(start)
            ends.append([(fresh.step(later), rates(fresh))[1] for later in losses])
        differ += ends[0] != ends[1]
    assert differ


def test_observed_losses_are_late_too(far: None):
    stepped, observed = late_scheduler("quick", 3), late_scheduler("quick", 3)
    for loss in late_losses():
        stepped.step(loss)
        observed.observe(loss)
        observed.step()
        assert rates(stepped) == rates(observed)
    assert repr(stepped.state_dict()) == repr(observed.state_dict())


# -- loss tensors that are used again -------------------------------------------------------


def period_means(scheduler: GreedyLR, pairs: list[tuple[float, float]], dtype: torch.dtype) -> Any:
    """Step every=2 with one tensor that is overwritten in place; return the metrics decided on."""
    buffer = torch.zeros((), dtype=dtype)
    for pair in pairs:
        for value in pair:
            buffer.fill_(value)
            scheduler.step(buffer)
    return [metric for _, metric, _ in scheduler.trace]


PAIRS = [(1.0, 3.0), (5.0, 1.0), (2.0, 8.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_that_is_overwritten_counts_as_it_was(dtype: torch.dtype):
    scheduler = scheduler_of(every=2)
    assert period_means(scheduler, PAIRS, dtype) == [2.0, 3.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_so_it_does_where_it_arrives_late(far: None, dtype: torch.dtype):
    scheduler = scheduler_of(tensor=False, every=2)
    assert period_means(scheduler, PAIRS, dtype) == [2.0, 3.0]


def test_late_losses_of_low_precision_are_summed_exactly(far: None):
    scheduler = scheduler_of(tensor=False, every=300)
    for _ in range(600):
        scheduler.step(torch.tensor(2.5, dtype=torch.bfloat16))
    assert [metric for _, metric, _ in scheduler.trace] == [2.5]


# -- the user's own torch settings ----------------------------------------------------------


def test_a_default_device_moves_nothing():
    scheduler, twin = scheduler_of(**QUICK), scheduler_of(**QUICK)
    losses = waves(30)
    for loss in losses:
        twin.step(loss)
    scheduler.step(losses[0])
    with torch.device("meta"):
        for loss in losses[1:]:
            scheduler.step(loss)
    assert rates(scheduler) == rates(twin)


def test_a_default_device_does_not_take_what_is_under_way(far: None):
    scheduler = scheduler_of(tensor=False, **QUICK)
    losses = waves(30)
    with torch.device("meta"):
        for loss in losses:
            scheduler.step(loss)
    assert len(set(scheduler.events)) > 1


class FloatSums(TorchDispatchMode):
    """Counts cumulative sums of floats: in deterministic mode torch refuses them on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen += func.overloadpacket.__name__ == "cumsum" and args[0].is_floating_point()
        return func(*args, **(kwargs or {}))


def test_a_decision_is_deterministic_on_cuda_by_torch_s_own_list():
    scheduler = scheduler_of()
    with FloatSums() as sums:
        for loss in waves(3):
            scheduler.step(loss)
    assert sums.seen == 0


def test_a_float_cumsum_is_seen():
    with FloatSums() as sums:
        torch.ones(3).cumsum(0)
        torch.ones(3, dtype=torch.int64).cumsum(0)
    assert sums.seen == 1
