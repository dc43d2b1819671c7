"""`ratewise.plot`: the loss, the rate, and a mark with its reason at every change that is kept."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.contracts.rules import make_optimizer, metrics
from torch import nn

pytest.importorskip("matplotlib", reason="ratewise[compare] is not installed")

import ratewise
from ratewise.errors import InvalidArgument, MissingExtra, WrongType
from ratewise.plotting import REASON_MARKS

QUICK: dict[str, Any] = {
    "factor": 0.5,
    "patience": 1,
    "window": 2,
    "config": ratewise.GreedyConfig(reference="previous"),
}
STAGES = {
    **QUICK,
    "warmup": 2,
    "cooldown": 2,
    "config": ratewise.GreedyConfig(reference="previous", reset_after=3),
}


def trained(losses: Any, *rates: float, tensor: bool = False, **rule: Any) -> ratewise.GreedyLR:
    scheduler = ratewise.GreedyLR(make_optimizer(*(rates or (0.01,)), tensor=tensor), **rule)
    for loss in losses:
        scheduler.step(torch.tensor(loss, dtype=torch.float64) if tensor else loss)
    return scheduler


def lines(axis: Any) -> dict[str, Any]:
    """Return what is drawn, by its label; a mark of a reason by the reason alone."""
    return {line.get_label().split(" (")[0].lstrip("_"): line for line in axis.get_lines()}


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def check_marks(figure: Any, scheduler: ratewise.GreedyLR) -> None:
    """On both axes, each event of each reason has its mark, and nothing else has one."""
    above, below = map(lines, figure.axes)
    reasons = {event.reason for event in scheduler.events}
    assert set(below) == {"learning rate"} | reasons
    for reason in reasons:
        events = [event for event in scheduler.events if event.reason == reason]
        marker, colour = REASON_MARKS[reason]
        for axis, wanted in (
            (below, [(event.step, event.new_lr[0]) for event in events]),
            (above, [(e.step, e.smoothed) for e in events if math.isfinite(e.smoothed)]),
        ):
            if wanted:
                mark = axis[reason]
                assert list(zip(*mark.get_data(), strict=True)) == wanted
                assert (mark.get_marker(), mark.get_color()) == (marker, colour)
                assert mark.get_linestyle() == "None"
    counts = Counter(event.reason for event in scheduler.events)
    named = [text for text in legend(figure) if "(" in text]
    assert named == [f"{name} ({counts[name]})" for name in REASON_MARKS if name in counts]


def test_a_real_training_with_rises_falls_and_a_nan(tmp_path: Path):
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True) + torch.randn(64, 1) / 2
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    scheduler = ratewise.GreedyLR(optimizer, **QUICK)
    for step in range(1, 61):
        index = torch.randint(64, (8,))
        loss = nn.functional.mse_loss(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss.item() if step not in (30, 31) else math.nan)
    figure = ratewise.plot(scheduler, tmp_path / "new" / "rate.png")
    check_marks(figure, scheduler)
    assert {"increase", "decrease"} == set(lines(figure.axes[1])) - {"learning rate"}
    above, below = figure.axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("loss", "learning rate")
    assert below.get_xlabel() == "optimizer step"
    assert below.get_yscale() == "log"
    assert f"the last {len(scheduler.events)} changes" in above.get_title()
    drawn = lines(above)
    assert list(drawn["loss not finite"].get_xdata()) == [30, 31]
    heard = dict(zip(*drawn["loss"].get_data(), strict=True))
    for step, loss, _ in scheduler.trace:
        assert heard[step] == loss or (math.isnan(heard[step]) and step in (30, 31))
    assert (tmp_path / "new" / "rate.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "new" / "rate.png").stat().st_size > 20_000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["rate.png"]


def test_the_rate_is_drawn_as_it_held():
    """At each step the drawn staircase is the rate that the optimizer had after it."""
    scheduler, truth = trained([], **QUICK), {}
    for step, loss in enumerate(metrics(600), start=1):
        scheduler.step(loss)
        truth[step] = scheduler.get_last_lr()[0]
    rate = lines(ratewise.plot(scheduler).axes[1])["learning rate"]
    assert rate.get_drawstyle() == "steps-post"
    steps, values = rate.get_data()
    assert list(steps) == sorted(steps)
    held = iter([*steps[1:], math.inf])
    for begin, value, end in zip(steps, values, held, strict=True):
        known = [truth[step] for step in range(int(begin), int(min(end, 601)))]
        assert known[0] == value
        assert set(known) == {value}, "all changes are known: the last 256 are more than all"


def test_a_long_run_is_thinned_and_its_old_changes_have_no_mark():
    scheduler = trained(metrics(3000), **STAGES)
    figure = ratewise.plot(scheduler)
    check_marks(figure, scheduler)
    loss = lines(figure.axes[0])["loss"]
    assert len(loss.get_xdata()) <= 256
    assert loss.get_xdata()[-1] > 2900
    assert loss.get_marker() == "None"
    assert "the last 256 changes" in figure.axes[0].get_title()


def test_all_reasons_have_their_own_colour_and_shape():
    scheduler = trained([*metrics(250), *[9.0] * 40, *metrics(80)], **STAGES)
    scheduler.rescale(0.5, reason="rollback", metric=math.nan)
    figure = ratewise.plot(scheduler)
    check_marks(figure, scheduler)
    assert set(lines(figure.axes[1])) == {"learning rate", *REASON_MARKS}
    assert len({marker for marker, _ in REASON_MARKS.values()}) == len(REASON_MARKS)
    assert len({colour for _, colour in REASON_MARKS.values()}) == len(REASON_MARKS)
    assert "rollback" not in lines(figure.axes[0]), "it has no smoothed loss"


def test_a_reason_that_is_not_known_here_is_drawn_too():
    scheduler = trained(metrics(10), **QUICK)
    scheduler.rescale(0.5, reason="by hand")
    assert "by hand (1)" in legend(ratewise.plot(scheduler))


def test_a_schedule_s_zero_at_the_end_does_not_flatten_the_rest():
    scheduler = trained(metrics(61), **QUICK, schedule="cosine", total_steps=60)
    assert scheduler.get_last_lr()[0] == 0.0
    below = ratewise.plot(scheduler).axes[1]
    drawn = lines(below)["learning rate"].get_ydata()
    assert math.isnan(drawn[-1])
    low, high = below.get_ylim()
    assert low >= high / 2e5
    assert high > max(drawn[:-1])


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([100.0, 1.0, 10.0], "log"),
        ([3.0, 2.0, 1.0], "linear"),
        ([100.0, 0.0], "linear"),
        ([-100.0, 1.0], "linear"),
        ([math.nan], "linear"),
        ([math.inf, -math.inf], "linear"),
        ([1.0], "linear"),
    ],
)
def test_the_loss_is_logarithmic_where_that_helps_and_can_be(losses: list[float], scale: str):
    figure = ratewise.plot(trained(losses))
    assert figure.axes[0].get_yscale() == scale
    figure.canvas.draw()


def test_without_a_change_it_says_so_and_the_axis_is_sound():
    figure = ratewise.plot(trained([1.0, 2.0]), y_label="validation loss", x_label="epoch")
    assert legend(figure) == ["loss", "learning rate"]
    assert "no change of the rate" in figure.axes[0].get_title()
    assert [figure.axes[0].get_ylabel(), figure.axes[1].get_xlabel()] == [
        "validation loss",
        "epoch",
    ]
    low, high = figure.axes[1].get_ylim()
    assert low < 0.01 < high
    assert high / low == pytest.approx(4)
    figure.canvas.draw()
    assert any(label.get_text() for label in figure.axes[1].get_yticklabels())


def test_the_first_of_several_groups_is_named():
    figure = ratewise.plot(trained(metrics(9), 0.01, 0.02, **QUICK))
    assert figure.axes[1].get_ylabel() == "learning rate, first group"


def test_tensors_are_drawn_as_numbers_are():
    figures = [ratewise.plot(trained(metrics(60), **QUICK, tensor=flag)) for flag in (False, True)]
    one, other = ([lines(axis) for axis in figure.axes] for figure in figures)
    for here, there in zip(one, other, strict=True):
        assert set(here) == set(there)
        for name, line in here.items():
            assert line.get_xydata().tolist() == there[name].get_xydata().tolist()


@pytest.mark.parametrize(
    ("scheduler", "error", "words"),
    [
        (None, WrongType, "scheduler must be a ratewise scheduler, got NoneType"),
        (torch.optim.lr_scheduler.StepLR(make_optimizer(0.1), 5), WrongType, "got StepLR"),
        (trained([]), InvalidArgument, r"without a decision.*: call step\(loss\)"),
    ],
)
def test_what_has_nothing_to_draw_is_named(scheduler: Any, error: type, words: str):
    with pytest.raises(error, match=words):
        ratewise.plot(scheduler)


def test_another_format_is_named_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(InvalidArgument, match=r"path must be a file name that ends in \.png"):
        ratewise.plot(trained([1.0]), tmp_path / "rate.pdf")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"ratewise\.plot needs 'matplotlib'.*ratewise\[compare"):
        ratewise.plot(trained([1.0]))


def test_drawing_needs_no_torch():
    """What it reads is the trace and the events: here of an object that has nothing else."""
    thing = SimpleNamespace(trace=[(1, 0.5, 0.1)], events=[], get_last_lr=lambda: [0.1])
    assert ratewise.plot(thing).axes
    code = "import sys, ratewise; ratewise.plot; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.stdout == "set()\n", done.stderr
