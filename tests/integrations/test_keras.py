"""The Keras callback: the rule's rates, each batch's own loss, and errors that are named."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="the extra ratewise[keras] is not installed")

from tests.integrations.keras_runs import (  # noqa: E402
    BATCH,
    ROWS,
    RULE,
    SPOILED,
    Recorder,
    data,
    fit,
    float32,
    literal_rates,
    loss_with_holes,
    network,
    rate_of,
    rose_and_fell,
    torch_scheduler,
)

from ratewise.errors import (  # noqa: E402
    InvalidArgument,
    NonFiniteLoss,
    UnknownName,
    WrongType,
)
from ratewise.integrations.keras import GreedyLR  # noqa: E402
from ratewise.integrations.keras.callback import CAPACITY  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


# -- rates and losses ---------------------------------------------------------------------------


def test_rates_are_the_torch_schedulers_at_each_step() -> None:
    model, record = network(), Recorder()
    fit(model, record, GreedyLR(**RULE), epochs=6)
    optimizer, scheduler = torch_scheduler(float32([0.05])[0], **RULE)
    expected = [scheduler.get_last_lr()[0]]
    for loss in record.losses:
        optimizer.step()
        scheduler.step(loss)
        expected.append(scheduler.get_last_lr()[0])
    assert [*record.rates, rate_of(model)] == float32(expected)
    assert rose_and_fell(record.rates)


def test_rates_on_other_losses_differ() -> None:
    """The control of the test above: fed with running means, the rule decides otherwise."""
    model, before, after = network(), Recorder(), Recorder()
    fit(model, before, GreedyLR(**RULE), after, epochs=6)
    base = before.rates[0]
    assert before.rates == float32(literal_rates(before.losses, base, **RULE))[:-1]
    assert before.rates != float32(literal_rates(after.losses, base, **RULE))[:-1]


@pytest.mark.parametrize("kind", ["plain", "sample_weight", "spike"])
def test_batch_loss_is_the_one_computed_by_hand(kind: str) -> None:
    """By hand in float64; what differences of Keras's running means give is the control."""
    x, y = data()
    weight = np.linspace(0.1, 3.0, ROWS).astype("float32")
    kwargs = {"sample_weight": weight} if kind == "sample_weight" else {}
    if kind == "spike":
        y[0] = 1e4

    def by_hand(model: Any, batch: int) -> float:
        rows = slice(batch * BATCH, (batch + 1) * BATCH)
        predicted = keras.ops.convert_to_numpy(model(x[rows])).astype("float64")
        error = (predicted - y[rows]) ** 2
        return float(np.mean(error * weight[rows, None] if kwargs else error))

    record, means = Recorder(by_hand), Recorder()
    model = network(1e-9 if kind == "spike" else 0.05)
    fit(model, record, GreedyLR(**RULE), means, data=(x, y), **kwargs)
    np.testing.assert_allclose(record.losses, record.by_hand, rtol=1e-5)

    seen = np.array([8, 16, 24, 32, 38])
    totals = np.reshape(means.losses, (3, 5)) * seen
    differences = np.diff(totals, axis=1, prepend=0.0) / np.diff(seen, prepend=0)
    assert np.allclose(differences.ravel(), record.by_hand, rtol=1e-5) == (kind != "spike")
    assert not np.allclose(means.losses, record.by_hand, rtol=1e-2)


def test_keras_reports_what_it_does_without_the_callback_to_the_bit() -> None:
    still = GreedyLR(min_lr=0.05, max_lr=0.05, patience=0)
    alone, beside = Recorder(), Recorder()
    history = fit(network(), alone).history
    with_callback = fit(network(), still, beside).history
    assert beside.logs == alone.logs
    assert {name: with_callback[name] for name in history} == history
    assert with_callback["learning_rate"] == float32([0.05] * 3)
    assert not still.events


def test_another_mean_can_be_monitored() -> None:
    model, record = network(), Recorder()
    fit(model, record, GreedyLR("mae", **RULE))
    values = [logs["mae"] for logs in record.logs]
    assert record.rates == float32(literal_rates(values, record.rates[0], **RULE))[:-1]
    assert len(set(record.rates)) > 1


def test_own_train_step_with_a_plain_loss() -> None:
    """Its logs hold no mean of the model's: the value is taken as it is."""
    import torch

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.dense(x)

        def train_step(self, batch: Any) -> dict[str, Any]:
            x, y = batch
            loss = keras.ops.mean(keras.ops.square(self(x) - y))
            self.zero_grad()
            loss.backward()
            with torch.no_grad():
                self.optimizer.apply([v.value.grad for v in self.trainable_weights])
            return {"own": loss}

    keras.utils.set_random_seed(0)
    model, record = Own(), Recorder()
    model(data()[0])
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    fit(model, record, GreedyLR("own", **RULE))
    values = [logs["own"] for logs in record.logs]
    assert record.rates == float32(literal_rates(values, record.rates[0], **RULE))[:-1]
    assert len(set(record.rates)) > 1
    with pytest.raises(UnknownName, match=r"unknown monitor 'loss'.* known: own"):
        fit(model, GreedyLR("loss"))


@pytest.mark.parametrize("monitor", ["val_loss", "loss"])
def test_epochs_decide_on_the_metric_of_the_logs(monitor: str) -> None:
    model, record = network(0.1), Recorder()
    greedy = GreedyLR(monitor, interval="epoch", factor=0.5, patience=0, window=1)
    fit(model, greedy, record, epochs=9, validation_data=data(1))
    values = [logs[monitor] for logs in record.epochs]
    expected = literal_rates(values, float32([0.1])[0], factor=0.5, patience=0, window=1)
    assert [logs["rate"] for logs in record.epochs] == float32(expected[1:])
    assert rose_and_fell([logs["rate"] for logs in record.epochs])
    assert len(greedy.events) > 1


def test_epochs_without_validation_are_passed_over_and_mentioned_once() -> None:
    greedy = GreedyLR("val_loss", interval="epoch", factor=0.5, patience=0, window=1)
    with pytest.warns(UserWarning, match="no 'val_loss' after epoch 1") as caught:
        fit(network(), greedy, epochs=6, validation_data=data(1), validation_freq=2)
    assert len([w for w in caught if "val_loss" in str(w.message)]) == 1
    assert greedy.state_dict()["step"] == 6
    assert {event.step % 2 for event in greedy.events} == {0}


def test_every_and_ramp_and_bounds() -> None:
    """Periods of 3 in epochs of 5 batches, and the ramp ends inside an epoch."""
    setting = {"decide_every": 3, "warmup_steps": 7, "factor": 0.5, "patience": 0, "window": 1}
    model, record = network(), Recorder()
    fit(model, record, GreedyLR(**setting, min_lr=0.04, max_lr=0.06), epochs=9)
    base, low, high = float32([0.05, 0.04, 0.06])
    bounds = {"low": low / base, "high": high / base}
    expected = literal_rates(record.losses, base, **setting, **bounds)
    assert record.rates == float32(expected)[:-1]
    np.testing.assert_allclose(record.rates[:9], base * np.minimum(1, np.arange(1, 10) / 8))
    settled = record.rates[8:]
    assert low == min(settled) < max(settled) == high
    assert record.rates != float32(literal_rates(record.losses, base, **setting))[:-1]


@pytest.mark.parametrize("bound", ["min_lr", "max_lr"])
def test_a_bound_equal_to_the_rate_is_not_crossed_by_float32(bound: str) -> None:
    model = network(0.1)
    fit(model, GreedyLR(**{bound: 0.1}), epochs=1)
    assert rate_of(network(0.1)) != 0.1  # it is float32's 0.1 that is in the model


def test_several_optimizers_keep_their_ratio() -> None:
    rates = {0.01: keras.optimizers.SGD(0.01), 0.002: keras.optimizers.Adam(0.002)}
    default, other = rates.values()
    chosen = keras.optimizers.OptimizerMap(default, {".*bias": other})
    model = network()
    model.compile(keras.optimizers.MultiOptimizer(chosen), loss="mse")
    greedy = GreedyLR(**RULE)
    fit(model, greedy)
    now = [float(each.learning_rate.numpy()) for each in (default, other)]
    assert now[0] != pytest.approx(0.01)
    assert now[0] / now[1] == pytest.approx(5.0, rel=1e-6)


def test_events_say_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    record, greedy = Recorder(), GreedyLR(factor=0.9, patience=0, window=2, verbose=1)
    fit(network(), record, greedy, epochs=3)
    for event in greedy.events:
        assert float32(event.old_lr) == [record.rates[event.step - 1]]
        assert event.metric == record.losses[event.step - 1]
        pair = record.losses[max(0, event.step - 2) : event.step]
        assert event.smoothed == sum(pair) / len(pair)
        better = event.smoothed < event.reference
        assert event.reason == ("increase" if better else "decrease")
        assert (event.new_lr > event.old_lr) == better
    assert {event.reason for event in greedy.events} == {"increase", "decrease"}
    assert capsys.readouterr().out.count("step ") == len(greedy.events)


def test_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CAPACITY == 1000
    monkeypatch.setattr("ratewise.integrations.keras.callback.CAPACITY", 4)
    greedy = GreedyLR(factor=0.99, patience=0, window=1)
    fit(network(), greedy, epochs=3)
    assert [event.step for event in greedy.events] == [12, 13, 14, 15]


# -- what is not finite -------------------------------------------------------------------------


def spoiled() -> tuple[np.ndarray, np.ndarray]:
    """Data whose second batch has a loss of NaN."""
    x, y = data()
    y[BATCH + 3] = SPOILED
    return x, y


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("policy", ["bad", "skip"])
def test_nan_counts_once_and_never_poisons(policy: str, every: int) -> None:
    setting = {**RULE, "decide_every": every, "on_nonfinite": policy}
    record, means, greedy = Recorder(), Recorder(), GreedyLR(**setting)
    fit(network(loss=loss_with_holes), record, greedy, means, epochs=5, data=spoiled())
    assert [math.isnan(x) for x in record.losses] == [False, True, False, False, False] * 5
    assert [math.isnan(x) for x in means.losses] == [False, True, True, True, True] * 5
    assert record.rates == float32(literal_rates(record.losses, record.rates[0], **setting))[:-1]
    assert np.isfinite(record.rates).all()
    json.dumps(greedy.state_dict(), allow_nan=False)


def test_nan_raises_where_it_was_asked_for() -> None:
    greedy = GreedyLR(on_nonfinite="raise", decide_every=5)
    with pytest.raises(NonFiniteLoss, match=r"loss is nan at batch 2: .*on_nonfinite='bad'"):
        fit(network(loss=loss_with_holes), greedy, data=spoiled())


@pytest.mark.parametrize(("losses", "words"), [([1e308, 1e308], "sum .* inf"), ([math.nan], "nan")])
def test_a_loss_that_raises_changes_nothing(losses: list[float], words: str) -> None:
    greedy = GreedyLR(on_nonfinite="raise", decide_every=3, warmup_steps=1)
    fit(network(), greedy, epochs=1)  # four of five batches: a period has begun
    for loss in losses[:-1]:
        greedy._take(loss)
    before = greedy.state_dict()
    with pytest.raises(NonFiniteLoss, match=f"{words}.* at batch {before['step'] + 1}: mend"):
        greedy._take(losses[-1])
    assert greedy.state_dict() == before
    greedy._take(0.5)
    assert greedy.state_dict()["step"] == before["step"] + 1


def test_every_loss_nan_ends_at_the_lower_bound() -> None:
    x, y = data()
    model = network(loss=loss_with_holes)
    fit(model, GreedyLR(**RULE), epochs=8, data=(x, y * 0 + SPOILED))
    assert rate_of(model) == float32([0.1 * float32([0.05])[0]])[0]


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ({"factor": 1.5}, InvalidArgument, "factor must be a number in"),
        ({"interval": "epochs"}, UnknownName, "did you mean 'epoch'"),
        ({"decide_every": 0}, InvalidArgument, "decide_every must be an integer >= 1, got 0"),
        ({"warmup_steps": -1}, InvalidArgument, "warmup_steps must be an integer >= 0"),
        ({"warmup_steps": True}, InvalidArgument, "warmup_steps must be"),
        ({"min_lr": "0.1"}, WrongType, "min_lr must be a number, got str"),
        ({"max_lr": math.inf}, InvalidArgument, "max_lr must be a finite number"),
        ({"min_lr": 0.2, "max_lr": 0.1}, InvalidArgument, "min_lr must be at most max_lr=0.1"),
        ({"state_file": 3}, WrongType, "state_file must be a path, got int"),
        ({"monitor": None}, WrongType, "monitor must be a metric's name"),
        ({"monitor": "val_loss"}, InvalidArgument, "interval must be 'epoch' for"),
        ({"on_nonfinite": "ignore"}, UnknownName, "unknown on_nonfinite"),
    ],
)
def test_settings_are_checked(setting: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        GreedyLR(**setting)


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ({"monitor": "los"}, UnknownName, "did you mean 'loss'. known: loss, mae$"),
        (
            {"monitor": "val_los", "interval": "epoch"},
            UnknownName,
            "did you mean 'val_loss'. known: loss, mae, val_loss, val_mae",
        ),
        ({"min_lr": 0.06}, InvalidArgument, r"learning_rate must be in .*\[0.06, 0.5\], got 0.05"),
        ({"max_lr": 0.04}, InvalidArgument, "compile with another learning rate"),
    ],
)
def test_what_does_not_fit_the_model_is_named_before_the_first_batch(
    setting: dict[str, Any], error: type, words: str
) -> None:
    model = network()
    with pytest.raises(error, match=words):
        fit(model, GreedyLR(**setting), validation_data=data(1))
    assert int(model.optimizer.iterations.numpy()) == 0


def test_only_means_can_be_taken_apart() -> None:
    model = network()
    model.compile("sgd", loss="mse", metrics=[keras.metrics.R2Score()])
    with pytest.raises(InvalidArgument, match=r"mean over batches.*interval='epoch'"):
        fit(model, GreedyLR("r2_score", mode="max"))
    fit(model, GreedyLR("r2_score", mode="max", interval="epoch"), epochs=1)


def test_a_schedule_as_learning_rate_is_named() -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    with pytest.raises(WrongType, match=r"got CosineDecay: .*compile with e.g. .*Adam\(1e-3\)"):
        fit(network(schedule), GreedyLR())
    scaled = network()
    scaled.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(schedule)), loss="mse")
    with pytest.raises(WrongType, match="got CosineDecay"):
        fit(scaled, GreedyLR())


def test_a_callback_outside_a_list_is_named() -> None:
    x, y = data()
    with pytest.raises(WrongType, match=r"callbacks must be a list.*callbacks=\[\.\.\.\]"):
        network().fit(x, y, batch_size=BATCH, verbose=0, callbacks=GreedyLR())


@pytest.mark.parametrize(
    ("missing", "words"),
    [("keras", "pip install 'ratewise[keras]'"), ("tensorflow", "KERAS_BACKEND")],
)
def test_what_is_not_installed_is_named(missing: str, words: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import ratewise.integrations.keras"
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingExtra" in last
    assert repr(missing) in last
    assert words in last


JAX = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import keras_runs as t, keras, numpy as np
from ratewise.integrations.keras import GreedyLR
assert keras.backend.backend() == "jax"
record, means = t.Recorder(), t.Recorder()
t.fit(t.network(), record, GreedyLR(**t.RULE), means)
assert record.rates == t.float32(t.literal_rates(record.losses, record.rates[0], **t.RULE))[:-1]
assert t.rose_and_fell(record.rates)
count = np.array([8, 8, 8, 8, 6])
total = np.cumsum(count * np.reshape(record.losses, (3, 5)), axis=1) / np.cumsum(count)
np.testing.assert_allclose(means.losses, total.ravel(), rtol=1e-5)
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_on_jax_as_on_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", JAX],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
