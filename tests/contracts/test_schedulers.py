"""What every scheduler of the package must do; one battery, a row of `rules.ROWS` each."""

from __future__ import annotations

import copy
import io
import math
import weakref
from typing import Any

import pytest
import torch
from tests.contracts.rules import (
    Row,
    every_row,
    follow,
    make_optimizer,
    metric_rows,
    metrics,
    other_rows,
)
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, SequentialLR

from ratewise.errors import InvalidArgument, InvalidState, MissingLoss, RatewiseError, WrongType


@every_row
def test_is_a_torch_scheduler_that_starts_at_the_rate_or_its_ramp(row: Row):
    optimizer = make_optimizer(0.01, 0.02)
    scheduler = row.make(optimizer)
    assert isinstance(scheduler, LRScheduler)
    assert scheduler.get_last_lr() == [0.01 * row.start, 0.02 * row.start]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.01, 0.02]


@every_row
def test_acts_and_keeps_the_ratio_of_the_groups(row: Row):
    optimizer = make_optimizer(0.01, 0.02)
    seen = follow(row.make(optimizer), metrics())
    assert len({rates[0] for rates in seen}) > 1 or row.name == "greedy"
    assert all(second == pytest.approx(2 * first) for first, second in seen)


@metric_rows
def test_a_bare_step_before_any_loss_says_what_to_pass(row: Row):
    scheduler = row.make(make_optimizer(0.01))
    with pytest.raises(MissingLoss, match=r"step\(loss\)"):
        scheduler.step()
    assert scheduler.last_epoch == 0


@every_row
def test_a_bare_step_after_a_loss_holds(row: Row):
    scheduler = row.make(make_optimizer(0.01))
    follow(scheduler, metrics(21))  # a whole number of periods in every row
    before = scheduler.state_dict()["ratewise"]["rule"]
    scheduler.step()
    assert scheduler.state_dict()["ratewise"]["rule"] == before
    assert scheduler.last_epoch == 22


@every_row
def test_observe_then_step_is_step_of_loss(row: Row):
    once, twice = row.make(make_optimizer(0.01)), row.make(make_optimizer(0.01))
    for loss in metrics():
        once.step(loss)
        twice.observe(loss)
        twice.step()
        assert once.get_last_lr() == twice.get_last_lr()


@every_row
@pytest.mark.parametrize("kind", [float, torch.tensor, lambda x: torch.tensor([x])])
def test_takes_numbers_and_tensors_of_one_element(row: Row, kind: Any):
    exact = [float(torch.tensor(loss)) for loss in metrics()]
    wanted = follow(row.make(make_optimizer(0.01)), exact)
    scheduler = row.make(make_optimizer(0.01))
    assert follow(scheduler, [kind(loss) for loss in exact]) == wanted


@every_row
@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_a_loss_that_requires_a_gradient_is_taken_and_its_graph_let_go(row: Row, tensor: bool):
    scheduler = row.make(make_optimizer(0.01, tensor=tensor))
    for step, loss in enumerate(metrics(11)):
        weight = torch.nn.Parameter(torch.tensor(loss, dtype=torch.float64))
        output = weight * 1.0
        leaf = weakref.ref(weight)  # the graph's, too
        scheduler.observe(output) if step % 2 else scheduler.step(output)
        del weight
        assert leaf() is not None, "a graph that is held holds its leaf"
        del output
        assert leaf() is None
    assert scheduler.last_epoch == 6


@metric_rows
@pytest.mark.parametrize(
    ("loss", "error"),
    [
        ("0.5", WrongType),
        (None, MissingLoss),
        ([0.5], WrongType),
        (True, WrongType),
        (torch.tensor([1.0, 2.0]), InvalidArgument),
        (torch.tensor(1j), WrongType),
        (torch.tensor(True), WrongType),
        (torch.ones((), device="meta"), InvalidArgument),
    ],
)
def test_refuses_what_is_not_one_number_and_changes_nothing(row: Row, loss: Any, error: type):
    scheduler = row.make(make_optimizer(0.01))
    before = scheduler.state_dict()
    with pytest.raises(error):
        scheduler.step(loss)
    assert scheduler.state_dict() == before


@other_rows
@pytest.mark.parametrize("loss", ["0.5", None, [0.5], torch.ones((), device="meta"), math.nan])
def test_one_that_takes_no_metric_ignores_whatever_it_is_handed(row: Row, loss: Any):
    scheduler, bare = row.make(make_optimizer(0.01)), row.make(make_optimizer(0.01))
    for _ in range(5):
        scheduler.observe(loss)
        scheduler.step(loss)
        bare.step()
        assert repr(scheduler.state_dict()) == repr(bare.state_dict())


@every_row
def test_survives_every_metric_with_finite_rates(row: Row):
    scheduler = row.make(make_optimizer(0.01))
    wild = [1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, -1.0] * 5
    assert all(math.isfinite(rate) for rates in follow(scheduler, wild) for rate in rates)


@every_row
def test_a_tensor_rate_is_filled_in_place(row: Row):
    optimizer = make_optimizer(0.01, tensor=True)
    rate = optimizer.param_groups[0]["lr"]
    scheduler = row.make(optimizer)
    seen = follow(scheduler, metrics())
    assert optimizer.param_groups[0]["lr"] is rate
    assert seen == follow(row.make(make_optimizer(0.01)), metrics())


@every_row
@pytest.mark.parametrize("stop", [0, 1, 7, 25])
def test_resumes_to_the_bit_through_a_file_without_pickle(row: Row, stop: int):
    losses = metrics()
    whole = follow(row.make(make_optimizer(0.01, 0.03)), losses)
    optimizer = make_optimizer(0.01, 0.03)
    scheduler = row.make(optimizer)
    follow(scheduler, losses[:stop])
    file = io.BytesIO()
    torch.save({"scheduler": scheduler.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = make_optimizer(0.5, 0.5)
    fresh = row.make(make_optimizer(0.01, 0.03)) if stop == 0 else row.make(other)
    fresh.load_state_dict(saved["scheduler"])
    assert follow(fresh, losses[stop:]) == whole[stop:]


@every_row
def test_state_is_copied_out_and_refused_whole(row: Row):
    scheduler = row.make(make_optimizer(0.01))
    follow(scheduler, metrics(10))
    state = scheduler.state_dict()
    frozen = copy.deepcopy(state)
    follow(scheduler, metrics(10))
    assert state == frozen
    for spoil in (
        lambda s: s["ratewise"].update(format=99),
        lambda s: s["ratewise"].update(format="1"),
        lambda s: s["ratewise"].update(surprise=1),
        lambda s: s["ratewise"].pop("rates"),
        lambda s: s["ratewise"]["rule"].pop(next(iter(s["ratewise"]["rule"]))),
        lambda s: s.pop("ratewise"),
        lambda s: s["ratewise"].update(rates=[0.1, 0.2]),
    ):
        spoilt = copy.deepcopy(frozen)
        spoil(spoilt)
        before = scheduler.state_dict()
        with pytest.raises(InvalidState):
            scheduler.load_state_dict(spoilt)
        assert scheduler.state_dict() == before
    scheduler.load_state_dict(frozen)
    assert scheduler.state_dict() == frozen


@every_row
def test_torch_s_own_keys_are_read_leniently(row: Row):
    scheduler = row.make(make_optimizer(0.01))
    follow(scheduler, metrics(10))
    state = scheduler.state_dict()
    theirs = {"ratewise": state["ratewise"], "something_of_a_later_torch": 1}
    fresh = row.make(make_optimizer(0.01))
    fresh.load_state_dict(theirs)
    assert fresh.get_last_lr() == scheduler.get_last_lr()


@every_row
def test_a_group_added_later_is_scheduled(row: Row):
    optimizer = make_optimizer(0.01)
    scheduler = row.make(optimizer)
    follow(scheduler, metrics(8))
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.02})
    assert all(len(rates) == 2 for rates in follow(scheduler, metrics()))
    assert len(scheduler.state_dict()["ratewise"]["rates"]) == 2


@every_row
@pytest.mark.parametrize("tensor", [False, True])
def test_groups_added_between_saving_and_loading_are_the_same_groups(row: Row, tensor: bool):
    def grown() -> Any:
        optimizer = make_optimizer(0.01, tensor=tensor)
        scheduler = row.make(optimizer)
        losses = metrics(8)
        follow(scheduler, [torch.tensor(x, dtype=torch.float64) if tensor else x for x in losses])
        rate = torch.tensor(0.02, dtype=torch.float64) if tensor else 0.02
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate})
        return scheduler

    first, second = grown(), grown()
    second.load_state_dict(first.state_dict())
    assert len(first.state_dict()["ratewise"]["rates"]) == 2
    losses = [torch.tensor(x, dtype=torch.float64) if tensor else x for x in metrics(30)]
    assert follow(second, losses) == follow(first, losses)


@every_row
def test_in_sequential_the_hand_off_is_the_initial_rate(row: Row):
    optimizer = make_optimizer(0.01)
    ramp = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 3, 0.7, total_iters=5)
    inner = row.make(optimizer, missing="hold") if row.takes("missing") else row.make(optimizer)
    sequence = SequentialLR(optimizer, [ramp, inner], milestones=[5])
    optimizer.step()
    for _ in range(4):
        sequence.step()
    assert optimizer.param_groups[0]["lr"] < 0.01
    sequence.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * row.start)


@every_row
def test_in_a_chain_the_other_s_part_is_kept(row: Row):
    optimizer = make_optimizer(0.01)
    alone = follow(row.make(make_optimizer(0.01)), metrics(30))
    other = torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.9)
    inner = row.make(optimizer)
    chain = ChainedScheduler([other, inner], optimizer=optimizer)
    optimizer.step()
    for step, loss in enumerate(metrics(30)):
        inner.observe(loss)
        chain.step()
        wanted = alone[step][0] * 0.9 ** (step + 1)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(wanted, rel=1e-9)


@every_row
def test_not_an_optimizer_is_named(row: Row):
    with pytest.raises(WrongType, match="optimizer must be a torch"):
        row.make(torch.nn.Linear(1, 1))


def test_errors_are_the_package_s_and_the_built_in_kind():
    assert issubclass(WrongType, RatewiseError)
    assert issubclass(WrongType, TypeError)
    assert issubclass(InvalidArgument, ValueError)
