"""How a Keras fit ends: by itself under significance, or by a schedule with a name."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from tests.integrations.keras_runs import Recorder, fit, keras, network, rate_of

from ratewise.errors import InvalidArgument, InvalidState, PastHorizonWarning, UnknownName
from ratewise.integrations.keras import GreedyLR
from ratewise.integrations.keras.schedule import FitSchedule
from ratewise.rules import criterion
from ratewise.rules.fixed import fixed_scale
from ratewise.rules.greedy_config import GreedyConfig

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 5  #: of an epoch
#: Nothing is decided: what moves the rate is the schedule.
STILL: dict[str, Any] = {
    "criterion": "significance",
    "threshold": 1e9,
    "config": GreedyConfig(plateau="neutral"),
}


def rates(epochs: int = 4, **options: Any) -> list[float]:
    """Return the rate of each batch of a fit."""
    fitting = options.pop("fitting", {})
    record = Recorder()
    fit(network(0.05), record, GreedyLR(**{**STILL, **options}), epochs=epochs, **fitting)
    return record.rates


def heights(name: str, total: int, first: int = 0) -> Any:
    scales = [fixed_scale(name, step, total) for step in range(first, total)]
    return pytest.approx([0.05 * scale for scale in scales], rel=1e-6)


@pytest.mark.parametrize("interval", ["batch", "epoch"])
def test_under_significance_a_fit_ends_annealed_and_under_count_it_does_not(interval):
    assert rates(interval=interval) == heights("stable-decay:0.7", 4 * STEPS)
    assert rates(interval=interval, criterion="count") == heights("constant", 4 * STEPS)
    assert rates(interval=interval, schedule="constant") == heights("constant", 4 * STEPS)


def test_a_schedule_that_is_named_takes_its_place():
    assert rates(schedule="cosine") == heights("cosine", 4 * STEPS)
    named = rates(schedule="stable-decay:0.5", criterion="count")
    assert named == heights("stable-decay:0.5", 4 * STEPS)


def test_the_rule_goes_on_deciding_under_the_fall():
    options: dict[str, Any] = {"config": GreedyConfig("significance", plateau="bad"), "window": 6}
    falling, free = Recorder(), Recorder()
    fit(network(), falling, GreedyLR(**options), epochs=6)
    fit(network(), free, GreedyLR(**options, schedule="constant"), epochs=6)
    held = 6 * STEPS * 3 // 10
    assert falling.rates[:held] == free.rates[:held]
    assert len(set(free.rates)) > 2
    assert 0 < falling.rates[-1] < free.rates[-1]


def test_the_ramp_comes_first():
    first = rates(warmup_steps=4)[:6]
    assert first == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05, 0.05])


def test_a_fit_that_goes_on_at_a_later_epoch_is_where_it_stopped():
    late = rates(schedule="linear", fitting={"initial_epoch": 3})
    assert late == heights("linear", 4 * STEPS, first=3 * STEPS)


def test_several_fits_are_one_run_where_its_length_is_given():
    model, greedy, record = network(), GreedyLR(**STILL, total_steps=3 * STEPS), Recorder()
    for _ in range(3):
        fit(model, record, greedy, epochs=1)
    assert record.rates == heights("stable-decay:0.7", 3 * STEPS)
    with pytest.warns(PastHorizonWarning, match="step 15 is beyond total_steps=15"):
        fit(model, record, greedy, epochs=1)
    assert record.rates[-1] == 0


def test_each_fit_has_an_end_of_its_own_otherwise_and_leaves_a_rate_that_trains():
    model, greedy, record = network(), GreedyLR(**STILL), Recorder()
    for _ in range(2):
        fit(model, record, greedy, epochs=2)
        assert rate_of(model) > 0
    for half in (record.rates[: 2 * STEPS], record.rates[2 * STEPS :]):
        assert half == heights("stable-decay:0.7", 2 * STEPS)


def test_where_keras_does_not_know_the_steps_they_are_counted_in_the_first_epoch():
    schedule = FitSchedule("linear", None)
    schedule.begin_fit()
    seen = []
    for epoch in range(3):
        schedule.begin_epoch(epoch, {"epochs": 3, "steps": None}, iterations=0)
        for batch in range(2):
            seen.append(schedule.height)
            schedule.after(batch)
    assert seen == pytest.approx([1.0, 1.0, *(1 - step / 6 for step in range(2, 6))])


def test_with_several_steps_an_execution_the_rate_is_that_of_the_first():
    schedule = FitSchedule("linear", None)
    schedule.begin_epoch(0, {"epochs": 1, "steps": 4}, iterations=0)
    assert schedule.after(1) == 0.5
    assert schedule.after(3) == 0.5  # nothing comes after it


def test_a_length_is_in_optimizer_steps_where_gradients_are_accumulated():
    schedule = FitSchedule("linear", 10)
    schedule.begin_epoch(2, {"epochs": 3, "steps": 4}, iterations=4, batches=2)
    assert schedule.height == 0.6
    assert schedule.after(3) == pytest.approx(0.4)


def test_what_is_wrong_is_named_and_a_saved_state_of_another_end_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        GreedyLR(schedule="cosin")
    with pytest.raises(InvalidArgument, match="total_steps"):
        GreedyLR(total_steps=0)
    state = GreedyLR(**STILL).state_dict()
    with pytest.raises(InvalidState, match="schedule"):
        GreedyLR(**STILL, schedule="cosine").load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GreedyLR(**STILL).load_state_dict(state)


def test_stopped_between_epochs_it_goes_on_to_the_bit():
    options: dict[str, Any] = {"config": GreedyConfig("significance", plateau="bad"), "window": 6}
    whole, before, after = Recorder(), Recorder(), Recorder()
    fit(network(), whole, GreedyLR(**options), epochs=6)
    model, greedy = network(), GreedyLR(**options)
    fit(model, before, greedy, Stop(4), epochs=6)
    again = GreedyLR(**options)
    again.load_state_dict(greedy.state_dict())
    fit(model, after, again, epochs=6, initial_epoch=4)
    assert before.rates + after.rates == whole.rates
    assert len(np.unique(whole.rates)) > STEPS


class Stop(Recorder):
    """Ends a fit after so many epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._last = epochs - 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = epoch >= self._last


# -- the criterion that the fit's length decides --------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criterion, "LEAST_METRICS", 4 * STEPS)


def test_the_fit_s_length_decides_the_criterion(few):
    found = []
    for epochs, options in (
        (4, {}),
        (3, {}),
        (4, {"interval": "epoch"}),
        (4 * STEPS, {"interval": "epoch"}),
        (1, {"total_steps": 4 * STEPS}),
        (4, {"decide_every": 2}),
        (4, {"schedule": "linear"}),
        (4, {"window": 20}),
    ):
        greedy = GreedyLR(**options)
        assert greedy.criterion is None or "window" in options
        fit(network(), greedy, epochs=epochs)
        found.append(greedy.criterion)
    waits, counts = "significance", "count"
    assert found == [waits, counts, counts, waits, waits, counts, counts, counts]


def test_what_is_decided_gives_the_rates_of_what_is_named(few):
    waits, counts = {"criterion": "significance"}, {"criterion": "count"}

    def plain(epochs: int = 4, **options: Any) -> list[float]:
        record = Recorder()
        fit(network(0.05), record, GreedyLR(**options), epochs=epochs)
        return record.rates

    assert plain() == plain(**waits) != plain(**counts)
    assert plain(epochs=3) == plain(epochs=3, **counts) != plain(epochs=3, **waits)


def test_an_interrupted_fit_goes_on_under_the_criterion_that_was_decided(few, tmp_path):
    class Stops(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 2

    whole, late, path = Recorder(), Recorder(), tmp_path / "greedy.json"
    fit(network(), whole, GreedyLR(), epochs=4)
    model = network()
    fit(model, GreedyLR(state_file=path), Stops(), epochs=4)
    again = GreedyLR(state_file=path)
    fit(model, late, again, epochs=4, initial_epoch=3)
    assert late.rates == whole.rates[3 * STEPS :]
    assert again.criterion == "significance"
    state = again.state_dict()
    GreedyLR(criterion="significance").load_state_dict(state)
    with pytest.raises(InvalidState, match="criterion"):
        GreedyLR(criterion="count").load_state_dict(state)
    other = GreedyLR()
    other.load_state_dict(GreedyLR(criterion="count").state_dict())
    assert other.criterion == "count"
