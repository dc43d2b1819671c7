"""The Keras callback goes on exactly: in a fresh process, from files, and from none but its own."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="the extra ratewise[keras] is not installed")

from tests.integrations.keras_runs import (  # noqa: E402
    RULE,
    Recorder,
    fit,
    float32,
    literal_rates,
    network,
    rose_and_fell,
    torch_scheduler,
    weights,
)

from ratewise.errors import (  # noqa: E402
    InvalidState,
)
from ratewise.integrations.keras import GreedyLR  # noqa: E402

# -- going on -----------------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HALF = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import keras_runs as t, keras, numpy as np
from ratewise.integrations.keras import GreedyLR
folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.keras")
record, greedy = t.Recorder(), GreedyLR(**t.RULE, state_file=folder + "/greedy.json")
t.fit(model, record, greedy, initial_epoch=1)
np.savez(folder + "/second.npz", *t.weights(model), rates=record.rates)
"""


def test_a_fresh_process_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole, record = network(), Recorder()
    fit(whole, record, GreedyLR(**RULE))

    first, before = network(), Recorder()
    fit(first, before, GreedyLR(**RULE, state_file=tmp_path / "greedy.json"), epochs=1)
    first.save(tmp_path / "model.keras")
    command = [sys.executable, "-c", HALF, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    second = np.load(tmp_path / "second.npz")

    assert [*before.rates, *second["rates"]] == record.rates
    assert rose_and_fell(list(second["rates"]))
    expected = weights(whole)
    assert len(expected) == len(second.files) - 1
    for index, weight in enumerate(expected):
        np.testing.assert_array_equal(second[f"arr_{index}"], weight)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of three epochs, and what was saved after its first."""
    folder = tmp_path_factory.mktemp("halves")
    whole, record = network(), Recorder()
    fit(whole, record, GreedyLR(**RULE, decide_every=2), epochs=4)
    first, greedy = network(), GreedyLR(**RULE, decide_every=2)
    fit(first, greedy, epochs=1)
    first.save(folder / "model.keras")
    return {"rates": record.rates[5:], "state": greedy.state_dict(), "folder": folder}


def second_half(halves: dict[str, Any], state: dict[str, Any] | None) -> list[float]:
    model, record, greedy = (
        keras.models.load_model(halves["folder"] / "model.keras"),
        Recorder(),
        GreedyLR(**RULE, decide_every=2),
    )
    if state is not None:
        greedy.load_state_dict(state)
    fit(model, record, greedy, epochs=4, initial_epoch=1)
    return record.rates


def test_state_by_hand_goes_on_through_json(halves: dict[str, Any]) -> None:
    state = json.loads(json.dumps(halves["state"]))
    assert state == halves["state"]
    assert second_half(halves, state) == halves["rates"]
    assert rose_and_fell(halves["rates"])
    assert second_half(halves, None) != halves["rates"]


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("memory", "reference", 0.0),
        ("memory", "values", [0.0, 0.0]),
        ("memory", "scale", [1.5]),
        ("memory", "good", 1),
        ("memory", "stage", -3),
        ("period", "seen", 0),
        ("period", "total", 50.0),
    ],
)
def test_a_field_that_is_lost_is_noticed(
    halves: dict[str, Any], part: str, field: str, value: Any
) -> None:
    state = copy.deepcopy(halves["state"])
    assert state[part][field] != value
    state[part] |= {field: value} | ({"finite": 0, "total": 0.0} if field == "seen" else {})
    assert second_half(halves, state) != halves["rates"]


def legal(key: str, value: Any) -> bool:
    """Return whether a field of that name may have the value."""
    return (key in ("stage", "reference", "total") and value == -7) or (
        key == "total" and value is math.nan
    )


def paths(tree: dict[str, Any], *above: str) -> Iterable[tuple[str, ...]]:
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, *above, key)


def test_a_state_with_any_part_missing_or_spoiled_is_refused_and_changes_nothing(
    halves: dict[str, Any],
) -> None:
    greedy = GreedyLR(**RULE, decide_every=2)
    greedy.load_state_dict(halves["state"])
    refused = 0
    for *above, key in paths(halves["state"]):
        for damage in ("missing", "extra", None, "text", math.nan, [], True, -7):
            state = copy.deepcopy(halves["state"])
            node = state
            for name in above:
                node = node[name]
            if damage == "missing":
                del node[key]
            elif damage == "extra":
                node[key + "_"] = node[key]
            elif node[key] is damage or node[key] == damage or legal(key, damage):
                continue  # no damage
            else:
                node[key] = damage
            with pytest.raises(InvalidState):
                greedy.load_state_dict(state)
            refused += 1
    assert refused > 300
    assert greedy.state_dict() == halves["state"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, r"format must be in 1\.\.1, got 2: .* newer ratewise"),
        ({"callback": "other"}, "is not of a ratewise.integrations.keras.GreedyLR"),
    ],
)
def test_foreign_and_newer_states_are_named(
    halves: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidState, match=words):
        GreedyLR(**RULE, decide_every=2).load_state_dict(halves["state"] | change)
    with pytest.raises(InvalidState, match="is not of a"):
        GreedyLR().load_state_dict(torch_scheduler(0.1)[1].state_dict())
    with pytest.raises(InvalidState, match=r"other settings \(decide_every, window\)"):
        GreedyLR(**{**RULE, "window": 3}, decide_every=4).load_state_dict(halves["state"])


def test_a_state_of_several_rates_does_not_fit_one() -> None:
    optimizers = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(0.1), {"x": keras.optimizers.SGD(0.1)}
    )
    model, greedy, other = network(), GreedyLR(), GreedyLR()
    model.compile(keras.optimizers.MultiOptimizer(optimizers), loss="mse")
    fit(model, greedy, epochs=1)
    other.load_state_dict(greedy.state_dict())
    with pytest.raises(InvalidState, match="of 2 learning rates, the optimizer has 1"):
        fit(network(), other)


@pytest.mark.parametrize(
    "content", ["", '{"states": [{"format": 1', '{"states": 3}', "[1]", "\xff"]
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "greedy.json"
    path.write_bytes(content.encode("latin-1"))
    model = network()
    start = weights(model)
    with pytest.raises(InvalidState, match=r"greedy.json is damaged .* move it away"):
        fit(model, GreedyLR(state_file=path))
    assert path.read_bytes() == content.encode("latin-1")
    assert os.listdir(tmp_path) == ["greedy.json"]
    for before, after in zip(start, weights(model), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_file_of_another_moment_or_setting_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "greedy.json"
    fit(network(), GreedyLR(**RULE, state_file=path), epochs=3)
    saved = path.read_bytes()
    with pytest.raises(InvalidState, match="of optimizer step 10 and 15, the model is at 0: load"):
        fit(network(), GreedyLR(**RULE, state_file=path))
    with pytest.raises(InvalidState, match=r"other settings \(factor\)"):
        fit(network(), GreedyLR(**{**RULE, "factor": 0.5}, state_file=path))
    assert path.read_bytes() == saved


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == self.at:
            self.at = (-1, -1)
            raise KeyboardInterrupt


@pytest.mark.parametrize("fresh", [False, True], ids=["same callbacks", "new callbacks"])
def test_backup_and_restore_goes_on_to_the_bit(tmp_path: Path, fresh: bool) -> None:
    whole, record = network(), Recorder()
    fit(whole, record, GreedyLR(**RULE), epochs=4)

    def callbacks() -> list[Any]:
        greedy = GreedyLR(**RULE, state_file=tmp_path / "greedy.json")
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return [greedy, backup]

    stop, model, used = Stop(2, 3), network(), callbacks()
    with pytest.raises(KeyboardInterrupt):
        fit(model, *used, stop, epochs=4)
    again = Recorder()
    if fresh:
        model, used = network(), callbacks()
    fit(model, again, *used, stop, epochs=4)
    assert again.rates == record.rates[10:]
    for one, other in zip(weights(model), weights(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_died_between_the_two_files_goes_on(tmp_path: Path) -> None:
    """The memory of epoch 3 is there, the model's file still of epoch 2."""
    path, record = tmp_path / "greedy.json", Recorder()
    save = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    fit(network(), record, GreedyLR(**RULE, state_file=path), save)
    model, again = keras.models.load_model(tmp_path / "2.keras"), Recorder()
    fit(model, again, GreedyLR(**RULE, state_file=path), initial_epoch=2)
    assert again.rates == record.rates[10:]


def test_an_interrupted_fit_goes_on_in_the_same_process(tmp_path: Path) -> None:
    """The model was not rolled back, so the file's moment is past and the memory's is not."""
    model, record = network(), Recorder()
    greedy = GreedyLR(**RULE, state_file=tmp_path / "greedy.json")
    with pytest.raises(KeyboardInterrupt):
        fit(model, record, greedy, Stop(1, 2))
    fit(model, record, greedy)
    assert record.rates == float32(literal_rates(record.losses, record.rates[0], **RULE))[:-1]


def test_state_belongs_to_the_optimizer() -> None:
    model, record, greedy = network(), Recorder(), GreedyLR(**RULE)
    fit(model, record, greedy, epochs=2)
    fit(model, record, greedy, epochs=2)
    assert record.rates == float32(literal_rates(record.losses, record.rates[0], **RULE))[:-1]
    anew = Recorder()
    model.compile(keras.optimizers.SGD(0.02), loss="mse")
    fit(model, anew, greedy)
    expected = literal_rates(anew.losses, float32([0.02])[0], **RULE)
    assert anew.rates == float32(expected)[:-1]
