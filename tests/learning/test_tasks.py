"""What trains never judges, and settings are what they say."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import numpy as np
import pytest

from ratewise.errors import UnknownName
from ratewise.learning import tasks
from ratewise.learning.tasks import JUDGING, KINDS, OPTIMIZERS, TRAINING, Drawn
from ratewise.simulate import families
from ratewise.simulate.optimizers import names as linear

FREE = ("mlp", "residual-mlp", "convnet", "vit")


def data_of(kinds: Iterable[str], draws: int = 60) -> set[str]:
    """Return the names of the data that settings of these kinds are drawn from."""
    rng = np.random.default_rng(0)
    found = set()
    for kind in kinds:
        for _ in range(draws):
            family, options = KINDS[kind][0](rng)
            found.add(options.get("data", families.options(family)["data"]))
    return found


def test_no_training_setting_names_a_set_that_judges():
    assert not set(TRAINING) & set(JUDGING)
    used = data_of(KINDS)
    assert used <= set(TRAINING), used - set(TRAINING)
    assert len(used) == len(TRAINING)
    source = inspect.getsource(tasks)
    body = source[source.index("HORIZONS") :]
    assert not [name for name in JUDGING if f'"{name}"' in body]


def test_a_leak_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(KINDS, "leak", (lambda rng: ("mlp", {"data": "digits"}), 1))
    monkeypatch.setitem(KINDS, "silent leak", (lambda rng: ("mlp", {}), 1))
    for kind in ("leak", "silent leak"):
        assert not data_of([kind]) <= set(TRAINING)


def test_settings_span_what_users_have():
    rng = np.random.default_rng(1)
    draw = Drawn(FREE)
    settings = [draw(rng) for _ in range(60)]
    steps = [setting.steps for setting in settings]
    assert min(steps) >= 100
    assert max(steps) <= 8000
    assert max(steps) > 20 * min(steps)
    assert all(1 <= setting.task.batch_size <= 128 for setting in settings)
    assert {setting.noise.kind for setting in settings} == {"none", "gaussian"}
    assert all(setting.task.held_out >= 80 for setting in settings)
    words = " ".join(setting.name for setting in settings)
    assert all(name in words for name in ("mlp(", "lenet(", "sgd", "adamw"))


def test_rows_are_seen_once_and_often_and_the_policy_is_told_of_it_or_not():
    rng = np.random.default_rng(2)
    draw = Drawn(FREE)
    settings = [draw(rng) for _ in range(60)]
    passes = []
    for setting in settings:
        rows = len(setting.task.data_for(0)[0]) - setting.task.held_out
        epoch = setting.run.steps_per_epoch
        if epoch is not None:
            assert epoch == max(1, round(rows / setting.task.batch_size))
            passes.append(setting.run._replace(total_steps=setting.steps).passes)
    assert 30 < len(passes) < 60  # three quarters are told
    assert sum(x <= 1.1 for x in passes) > 8
    assert sum(x > 8 for x in passes) > 8


def test_every_optimizer_of_the_allow_list_takes_part():
    trained = {getattr(made, "func", made).__name__.lower() for made in OPTIMIZERS.values()}
    assert trained == set(linear())


def test_the_same_numbers_draw_the_same_settings():
    first, second = (
        [Drawn(FREE)(rng).name for _ in range(5)] for rng in map(np.random.default_rng, (4, 4))
    )
    assert first == second
    assert first != [Drawn(FREE)(rng).name for rng in [np.random.default_rng(5)] for _ in range(5)]


def test_an_unknown_kind_is_named():
    with pytest.raises(UnknownName, match="did you mean 'convnet'"):
        Drawn(["convent"])
