"""A policy is learned from nothing, goes on after a stop, and gets better where it can."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env
from tests.rules.policies import rewrite

from ratewise import simulate
from ratewise.errors import InvalidArgument, InvalidState
from ratewise.learning.env import TrainingEnv
from ratewise.learning.group import Group
from ratewise.learning.ppo import Learner, learn
from ratewise.learning.tasks import OPTIMIZERS, Setting, held_apart
from ratewise.learning.update_ratio_env import UpdateRatioRecipe, UpdateRatioSettings
from ratewise.learning.vec_env import Trainings, _rewards
from ratewise.rules import learned
from ratewise.rules.learned import Policy
from ratewise.rules.ratio_law import Horizon, RatioLaw
from ratewise.simulate import Learned
from ratewise.simulate.noise import Noise

TINY: dict[str, Any] = {"groups": 1, "trainings": 2, "copies": 4, "windows": 5, "minibatch": 16}


def setting(steps: int = 100, **options: Any) -> Setting:
    own = {"data": "teacher", "size": 128, "inputs": 6, "width": 8, "batch_size": 8, **options}
    task = held_apart(simulate.family("mlp", **own))
    return Setting(task, OPTIMIZERS["adamw"], steps, Noise(), f"mlp, {steps} steps")


def draw(rng: np.random.Generator) -> Setting:
    return setting(int(rng.choice([40, 60])))


def draw_longer(rng: np.random.Generator) -> Setting:
    return setting(int(rng.choice([100, 150])))


def anchor(**changes: Any) -> Policy:
    return Policy.anchor(**{"law": RatioLaw(), "bound": 1.5, "windows": 5, **changes})


def test_the_environment_is_one_that_others_can_learn_in():
    env = TrainingEnv(draw, anchor())
    check_env(env)
    gymnasium_check(env, skip_render_check=True)


def test_an_episode_that_does_nothing_scores_nothing_and_ends():
    env = TrainingEnv(draw, anchor())
    env.reset(seed=1)
    ends = [env.step(np.zeros(1, np.float32)) for _ in range(4)]
    assert [end[2] for end in ends] == [False, False, False, True]
    assert [end[1] for end in ends] == [0.0] * 4
    env.reset(seed=1)
    other = [env.step(np.ones(1, np.float32)) for _ in range(4)]
    assert other[-1][1] != 0.0


def test_a_group_trains_what_the_simulator_trains():
    """Its runs under actions of a network are those of the learned rule with that network."""
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((1, len(learned.FEATURES))).astype(np.float32),)
    policy = anchor()
    acting = Policy(
        weights, (np.zeros(1, np.float32),), policy.low, policy.high, 1.5, 5, policy.law
    )
    own = setting()
    group = Group(own, policy, [7], 1, [0.01])
    network = acting.on(np.zeros((), np.float64), np)
    while True:
        seen = group.window()[0].astype(np.float64)
        if group.done:
            break
        action, _ = network(seen, xp=np)
        group.act(np.array([action]))
    ours = group._training.clean()
    rules = [Learned(policy), Learned(acting)]
    expected = simulate.run(own.task, own.optimizer, rules, runs=2, steps=100, lr=0.01, seed=[7, 7])
    np.testing.assert_allclose(ours, expected.final, rtol=1e-4)
    assert abs(ours[0] / ours[1] - 1) > 1e-3


def test_rewards_compare_runs_of_one_seed_alone():
    scores = np.array([[0.0, 0.1, 0.2, 0.3], [5.0, 5.1, 5.2, 5.3], [0.0, 0.0, 0.0, 0.0]])
    rewards = _rewards(scores).reshape(3, 4)
    np.testing.assert_allclose(rewards[0], rewards[1], atol=1e-6)
    assert (np.diff(rewards[0]) > 0).all()
    assert (rewards[2] == 0).all()


def test_all_trainings_end_together_whatever_their_length():
    env = Trainings(draw, anchor(), groups=2, trainings=1, copies=3, seed=0)
    seen = env.reset()
    assert seen.shape == (6, len(learned.FEATURES))
    for step in range(4):
        seen, rewards, dones, infos = env.step(np.zeros((6, 1), np.float32))
        assert dones.all() == dones.any() == (step == 3)
    assert len(env.ended) == 2
    assert (rewards == 0).all()  # all did the same
    assert all("terminal_observation" in info for info in infos)


def learned_file(out: Path, decisions: int = 96, draw: Any = draw, **changes: Any) -> Policy:
    return learn(
        UpdateRatioRecipe(draw, UpdateRatioSettings(decisions=decisions, **{**TINY, **changes})),
        out,
        about={"tasks": ["test"]},
        progress=False,
    )


def test_a_small_one_is_learned_from_nothing_and_is_the_same_again(tmp_path: Path, monkeypatch):
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    learned_file(tmp_path / "a.safetensors")
    learned_file(tmp_path / "b.safetensors")
    learned_file(tmp_path / "c.safetensors", seed=1)
    a, b, c = (learned.load(tmp_path / f"{name}.safetensors") for name in "abc")
    for ours, theirs in zip(a.weights + a.biases, b.weights + b.biases, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(a.weights[0], c.weights[0])
    assert not list(elsewhere.iterdir()), "it leaves something behind"
    assert a.provenance["settings"]["seed"] == 0
    assert a.provenance["tasks"] == ["test"]
    assert a.provenance["rounds"] == 3
    curve = json.loads((tmp_path / "a.curve.json").read_text())["curve"]
    assert len(curve) == 3
    from ratewise import LearnedLR

    weight = torch.nn.Parameter(torch.ones(3, 3))
    LearnedLR(torch.optim.SGD([weight]), policy=tmp_path / "a.safetensors", total_steps=60)


def test_stopped_and_gone_on_with_it_is_the_same(tmp_path: Path):
    whole = learned_file(tmp_path / "whole.safetensors")
    settings = UpdateRatioSettings(decisions=96, **TINY)
    first = Learner(UpdateRatioRecipe(draw, settings), tmp_path / "parts.checkpoint.safetensors")
    next(first.rounds())  # stopped after one round of three
    parts = learned_file(tmp_path / "parts.safetensors")
    for ours, theirs in zip(
        whole.weights + whole.biases, parts.weights + parts.biases, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(whole.low, parts.low)


def test_other_settings_do_not_go_on_from_a_checkpoint(tmp_path: Path):
    learned_file(tmp_path / "own.safetensors", decisions=32)
    with pytest.raises(InvalidState, match="other settings \\(decisions\\)"):
        learned_file(tmp_path / "own.safetensors", decisions=64)
    checkpoint = tmp_path / "own.checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    for field, value in {"rounds": -1, "low": [math.nan], "settings": 3, "curve": [1]}.items():
        rewrite(checkpoint, lambda about, tensors, f=field, v=value: about.update({f: v}))
        with pytest.raises(InvalidState, match=f"damaged .*{field}"):
            learned_file(tmp_path / "own.safetensors", decisions=32)
        checkpoint.write_bytes(whole)
    checkpoint.write_bytes(whole[:-7])
    with pytest.raises(InvalidState, match="damaged"):
        learned_file(tmp_path / "own.safetensors", decisions=32)


def test_learning_pays_where_the_anchor_is_far_too_low(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The right answer is known: act up. The control: paid for the opposite, it learns that."""
    low = Horizon(level=0.002, power=0.0, least=1e-5, most=1.0, unknown=0.01)
    law = RatioLaw(unknown=low)
    monkeypatch.setattr("ratewise.learning.update_ratio_env.RatioLaw", lambda: law)
    more = {
        "draw": draw_longer,
        "decisions": 16 * 64,
        "groups": 1,
        "trainings": 2,
        "copies": 8,
        "minibatch": 32,
    }
    learned_file(tmp_path / "up.safetensors", **more)
    curve = json.loads((tmp_path / "up.curve.json").read_text())["curve"]
    means = [entry["mean"] for entry in curve]
    assert np.mean(means[-5:]) > np.mean(means[:5]) + 0.05
    monkeypatch.setattr("ratewise.learning.vec_env._rewards", lambda scores: -_rewards(scores))
    learned_file(tmp_path / "down.safetensors", **more)
    curve = json.loads((tmp_path / "down.curve.json").read_text())["curve"]
    worse = [entry["mean"] for entry in curve]
    assert np.mean(worse[-5:]) < np.mean(means[-5:]) - 0.05


@pytest.mark.parametrize("name", ["decisions", "groups", "windows"])
def test_settings_are_checked(name: str):
    with pytest.raises(InvalidArgument, match=name):
        UpdateRatioSettings(**{name: 0})
