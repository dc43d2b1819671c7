"""Every task loads, is split without overlap, and learns something."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from ratewise.compare import optimizers, tasks
from ratewise.compare.task import Task
from ratewise.compare.training import one_thread, train
from ratewise.errors import InvalidArgument, MissingData, UnknownName, WrongType

BUNDLED = [name for name in tasks.names() if tasks.requirements(name) == "bundled"]
OTHERS = [name for name in tasks.names() if name not in BUNDLED]


def load(name: str, preset: str = "small") -> Task:
    if name in OTHERS and not os.environ.get("RATEWISE_DATA"):
        pytest.skip("RATEWISE_DATA names no data folder")
    try:
        return tasks.load(name, preset)
    except MissingData as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", tasks.names())
def test_learns_and_uses_the_parts_it_should(name: str):
    task = load(name)
    rate = {"digits-cnn": 0.003}.get(name, 0.01)
    steps = 300 if name == "polarity-attention" else 120  # its words are learned slowly
    short = replace(task, steps=steps, evaluations=2)
    with one_thread():
        run = train(short, "adamw", "cosine", rate, seed=0)
    assert run.status == "finished"
    assert run.test_loss[-1] < 0.97 * run.test_loss[0]
    assert run.metric_name
    better = run.test_metric[-1] - run.test_metric[0]
    assert better > 0 if run.metric_mode == "max" else better < 0


@pytest.mark.parametrize("name", BUNDLED + OTHERS)
def test_no_example_is_in_two_parts(name: str):
    """What judges was not trained on, but for rules, blanks and phrases that a text repeats."""
    task = load(name)
    rows = [
        {x[i].numpy().tobytes() for i in range(len(x))}
        for x in (part[0] for part in (task.train, task.validation, task.test))
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        shared = len(rows[i] & rows[j])
        assert shared <= 0.05 * min(len(rows[i]), len(rows[j])), (name, shared)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_full_preset_is_larger(name: str):
    small, full = load(name), load(name, "full")
    assert full.preset == "full"
    assert full.steps > small.steps
    loss = full.loss(full.model(), tuple(part[:2] for part in full.train))
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "breast-cancer-mlp"])
def test_a_task_tells_its_data_set(name: str):
    assert tasks.load(name).data_set == name.rpartition("-")[0]


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'digits-mlp'"):
        tasks.load("digit-mlp")
    with pytest.raises(UnknownName, match="unknown preset 'big'"):
        tasks.load("digits-mlp", "big")
    with pytest.raises(UnknownName, match="did you mean 'adamw'"):
        optimizers.named("adamv")


def own(**changes: object) -> Task:
    x = torch.zeros(8, 2)
    fields = {
        "name": "own",
        "model": lambda: torch.nn.Linear(2, 1),
        "loss": lambda model, batch: model(batch[0]).pow(2).mean(),
        "train": (x,),
        "validation": (x,),
        "test": (x,),
        "steps": 3,
        "batch_size": 4,
    }
    return Task(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"name": ""}, WrongType, "Task.name"),
        ({"data_set": 3}, WrongType, "Task.data_set must be a string or None"),
        ({"model": torch.nn.Linear}, None, ""),
        ({"model": 3}, WrongType, "Task.model must be a function"),
        ({"train": torch.zeros(3)}, WrongType, "Task.train must be a tuple of tensors"),
        ({"test": ()}, WrongType, "Task.test"),
        ({"train": (torch.zeros(3, 2), torch.zeros(4))}, InvalidArgument, r"\[3, 4\]"),
        ({"steps": 0}, InvalidArgument, "Task.steps must be an integer >= 1, got 0"),
        ({"batch_size": 1.5}, InvalidArgument, "Task.batch_size"),
        ({"metric_mode": "up"}, InvalidArgument, "Task.metric_mode"),
    ],
)
def test_a_task_of_one_s_own_is_checked(changes, error, words):
    if error is None:
        assert own(**changes).name == "own"
        return
    with pytest.raises(error, match=words):
        own(**changes)
