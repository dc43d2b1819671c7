"""A policy for factorisations: its environment, that it is learned, and the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env

from ratewise.errors import InvalidArgument
from ratewise.learning.factorisations import (
    FAR,
    FactorisationEnv,
    FactorisationRecipe,
    Factorisations,
    FactorisationSettings,
    Run,
)
from ratewise.learning.ppo import Learner, learn
from ratewise.learning.random_factorisations import Shape, draw
from ratewise.nmf import learned
from ratewise.nmf.learned import PolicySchedule
from ratewise.nmf.observation import FEATURES

TINY: dict[str, Any] = {
    "stacks": 1,
    "wide": 0,
    "problems": 2,
    "copies": 4,
    "windows": 4,
    "minibatch": 24,
}


def test_the_environment_is_one_that_others_can_learn_in():
    env = FactorisationEnv()
    check_env(env)
    gymnasium_check(env, skip_render_check=True)


def test_rewards_add_up_to_how_far_a_run_is_ahead_of_its_copies_and_all_end_together():
    env = Factorisations(FactorisationSettings(stacks=2, problems=2, copies=3, windows=5))
    seen = env.reset()
    assert seen.shape == (12, len(FEATURES))
    # copies of one problem, under the same noise
    np.testing.assert_allclose(env._last, 0.0, atol=1e-4)
    actions = np.tile(np.array([[-0.5], [0.0], [0.3]], np.float32), (4, 1))
    total = np.zeros(12)
    for step in range(4):
        seen, rewards, dones, infos = env.step(actions)
        total += rewards
        assert dones.all() == dones.any() == (step == 3)
    assert all("terminal_observation" in info for info in infos)
    scores = np.concatenate([score for _, score in env.ended]).reshape(4, 3)
    np.testing.assert_allclose(
        total.reshape(4, 3),
        FAR * np.arcsinh((scores - scores.mean(1, keepdims=True)) / FAR),
        atol=1e-4,
    )
    assert np.ptp(scores, 1).min() > 0.01  # who acts otherwise ends elsewhere
    assert env.round == 1


def test_who_acts_as_its_copies_do_is_paid_nothing():
    env = Factorisations(FactorisationSettings(stacks=1, problems=2, copies=3, windows=5))
    env.reset()
    for _ in range(4):
        _, rewards, _, _ = env.step(np.full((6, 1), 0.2, np.float32))
        np.testing.assert_allclose(rewards, 0.0, atol=1e-5)


def test_training_and_use_see_the_same():
    """A run under a policy's actions is the schedule with that policy, step by step."""
    rng = np.random.default_rng(0)
    wide = len(FEATURES)
    span = np.full(wide, 5.0, np.float32)
    weights = (0.4 * rng.standard_normal((1, wide)).astype(np.float32),)
    policy = learned.NMFPolicy(weights, (np.zeros(1, np.float32),), -span, span, windows=5)
    problems = draw(Shape(20, 22, 3, 40, 0.4), 6, np.random.default_rng(1))
    run = Run(problems, 40, 5, seed=3)
    network = policy.arrays(torch.zeros(6), torch)
    while True:
        seen = torch.from_numpy(run.window())
        if run.done:
            break
        run.act(network(seen.T, xp=torch)[0])
    schedule = PolicySchedule(policy, 40, torch.zeros(6))
    from ratewise.learning.noisy_descent import Descent

    descent = Descent(problems, 3)
    for _ in range(40):
        step = descent.step(schedule.c)
        schedule.observe(step.loss, step.inner, step.square)
    torch.testing.assert_close(descent.loss(), run.descent.loss(), rtol=1e-4, atol=1e-6)


def learned_file(out: Path, decisions: int = 72, **changes: Any) -> learned.NMFPolicy:
    settings = FactorisationSettings(decisions=decisions, **{**TINY, **changes})
    return learn(FactorisationRecipe(settings), out, about={"tasks": ["nmf"]}, progress=False)


def test_stopped_and_gone_on_with_it_is_the_same_and_another_seed_another(tmp_path: Path):
    whole = learned_file(tmp_path / "whole.safetensors")
    settings = FactorisationSettings(decisions=72, **TINY)
    first = Learner(FactorisationRecipe(settings), tmp_path / "parts.checkpoint.safetensors")
    next(first.rounds())  # stopped after one round of three
    parts = learned_file(tmp_path / "parts.safetensors")
    assert whole.digest == parts.digest == learned.load(tmp_path / "parts.safetensors").digest
    assert whole.provenance["rounds"] == 3
    assert learned_file(tmp_path / "other.safetensors", seed=1).digest != whole.digest


def test_learning_pays_and_paid_for_the_opposite_it_learns_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    more = {"decisions": 12 * 3 * 32, "problems": 8, "lr": 5e-3}
    scores, own = {}, Run.log_loss
    for sign in (1, -1):
        if sign < 0:
            monkeypatch.setattr(Run, "log_loss", lambda run: -own(run))
        name = f"{'up' if sign > 0 else 'down'}.safetensors"
        policy = learned_file(tmp_path / name, **more)
        monkeypatch.undo()
        scores[sign] = _score(policy)
    assert scores[1] < scores[-1] - 0.1


def _score(policy: learned.NMFPolicy) -> float:
    from evidence.nmf.methods import Learned, Stack, run_stack

    problems = draw(Shape(24, 30, 4, 60), 32, np.random.default_rng(9))
    stack = Stack("", problems, 60, 0)
    return float(run_stack(stack, Learned(policy, 60, 32)).log().mean())


def test_no_more_decisions_than_were_asked_for():
    for decisions in (72, 480_000, 500_000):
        settings = (
            FactorisationSettings(decisions=decisions, **TINY)
            if decisions == 72
            else FactorisationSettings(decisions)
        )
        assert settings.rounds * settings.a_round <= max(decisions, settings.a_round)
    with pytest.raises(InvalidArgument, match="windows"):
        FactorisationSettings(windows=0)
    with pytest.raises(InvalidArgument, match="copies"):
        FactorisationSettings(copies=1)  # nobody to be ahead of


def test_the_curve_is_kept(tmp_path: Path):
    learned_file(tmp_path / "own.safetensors")
    curve = json.loads((tmp_path / "own.curve.json").read_text())["curve"]
    assert len(curve) == 3
    assert all(entry["setting"].startswith("Shape(") for entry in curve)
