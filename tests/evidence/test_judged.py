"""The judged tasks: drawn once, known by name, and none of their data may train a policy."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from evidence import judged
from evidence.judged import FAMILIES, Judged
from ratewise import simulate
from ratewise.errors import UnknownName
from ratewise.learning.tasks import HELD_OUT, JUDGING, TRAINING

#: Data that come with the packages.
BUNDLED = ("teacher", "digits")
#: One task for each model and data set.
KINDS = {(one.model, one.data): one for one in reversed(judged.tasks())}


def trained_on(tasks: tuple[Judged, ...]) -> set[str]:
    """Return the data that policies may have been trained on; teachers differ by their seed."""
    return {one.data for one in tasks if one.data != "teacher" and one.data in TRAINING}


def test_no_data_set_judges_that_may_train():
    assert not trained_on(judged.tasks())
    assert {one.data for one in judged.tasks()} == {"teacher", *JUDGING}


def test_data_that_may_train_would_be_noticed():
    wrong = replace(judged.tasks()[0], options={"data": "housing"})
    assert trained_on((*judged.tasks(), wrong)) == {"housing"}


def test_there_are_as_many_as_promised():
    counts = Counter(one.family for one in judged.tasks())
    assert set(counts) == set(FAMILIES)
    assert counts["mlp"] >= 40
    assert sum(one.data == "teacher" for one in judged.tasks() if one.family == "mlp") == 30
    assert all(1000 <= one.steps <= 2000 for one in judged.tasks() if one.family == "long")


def test_names_are_unique_and_enough():
    names = [one.name for one in judged.tasks()]
    assert len(names) == len(set(names))
    for one in judged.tasks():
        assert one.name.endswith(f"{one.optimizer} {one.steps}")
        assert judged.named(one.name) is one
    settings = [(one.model, str(one.options), one.optimizer, one.steps) for one in judged.tasks()]
    assert len(settings) == len(set(settings))


def test_a_name_that_does_not_exist_is_told_so():
    with pytest.raises(UnknownName, match="unknown judged task 'mlp digit': did you mean"):
        judged.named("mlp digit")


def test_the_draw_does_not_change():
    drawn = judged._teachers()
    assert drawn == judged._teachers()
    assert len({one.model for one in drawn}) == 2
    assert {one.optimizer for one in drawn} == {"sgd", "adamw", "adam"}
    assert {one.steps for one in drawn} == {150, 300, 500, 800}
    assert any(one.options["classes"] is None for one in drawn)


def test_a_task_can_be_hashed_and_sent_to_a_process():
    one = judged.tasks()[0]
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert hash(again) == hash(one)
    assert again.task() is one.task()


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_every_kind_can_be_simulated(kind: tuple[str, str]):
    one = KINDS[kind]
    if one.data not in BUNDLED and not os.environ.get("RATEWISE_DATA"):
        pytest.skip("RATEWISE_DATA names no data folder")
    task = one.task()
    rows = len(task.data_for(0)[0])
    assert task.name == one.name
    assert task.held_out == int(HELD_OUT * rows)
    made = simulate.run(task, one.optimizer, runs=2, steps=2, lr=1e-3, seed=[1, 2], chunk=2)
    assert np.isfinite(made.final).all()
    assert np.isfinite(made.held_out).all()
    assert not made.diverged().any()


def test_words_come_from_sentences_that_are_trained_on():
    if not os.environ.get("RATEWISE_DATA"):
        pytest.skip("RATEWISE_DATA names no data folder")
    codes, labels = judged.named("word-attention polarity adamw 300").task().data_for(0)
    assert codes.shape == (judged.SENTENCES, judged.WORDS)
    assert set(labels.tolist()) == {0, 1}
    trained = codes[: -int(HELD_OUT * len(codes))]
    assert torch.equal(trained.unique(), torch.arange(judged.VOCABULARY))
