"""Policies with random weights, which act at once, and their files, taken apart and changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from ratewise.nmf import observation
from ratewise.nmf.learned import NMFPolicy
from ratewise.rules.features import FEATURES, MOST
from ratewise.rules.learned import Policy
from ratewise.rules.ratio_law import RatioLaw

WIDE = len(FEATURES)


def random_policy(seed: int = 0, **changes: Any) -> Policy:
    """Return a policy of 8 hidden units with weights of about 1/2."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (0.5 * rng.standard_normal(shape)).astype(np.float32)

    span = np.full(WIDE, MOST, np.float32)
    settings: dict[str, Any] = {
        "weights": (draw(8, WIDE), draw(1, 8)),
        "biases": (draw(8), draw(1)),
        "low": -span,
        "high": span,
        "bound": 1.5,
        "windows": 12,
        "law": RatioLaw(),
        "name": "random",
    }
    return Policy(**{**settings, **changes})


def random_nmf_policy(seed: int = 0, **changes: Any) -> NMFPolicy:
    """Return a policy of a factorisation, of 4 hidden units."""
    rng = np.random.default_rng(seed)
    wide = len(observation.FEATURES)
    span = np.full(wide, observation.MOST, np.float32)
    settings: dict[str, Any] = {
        "weights": tuple(rng.standard_normal(s).astype(np.float32) for s in ((4, wide), (1, 4))),
        "biases": (np.zeros(4, np.float32), np.zeros(1, np.float32)),
        "low": -span,
        "high": span,
        "windows": 4,
    }
    return NMFPolicy(**{**settings, **changes})


def said(path: Path) -> dict[str, Any]:
    """Return what a policy's file says beside its tensors."""
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    return dict(json.loads(json.loads(whole[8 : 8 + size])["__metadata__"]["ratewise"]))


def rewrite(
    path: Path, change: Callable[[dict[str, Any], dict[str, Any]], str | dict | None]
) -> None:
    """Change a policy's file, and leave it a sound file of safetensors.

    Args:
        path: the file.
        change: takes the metadata and the tensors, changes them, and may return other metadata,
            as data or as text.
    """
    about, tensors = said(path), load_file(path)
    other = change(about, tensors)
    text = other if isinstance(other, str) else json.dumps(about if other is None else other)
    save_file(tensors, path, {"ratewise": text})
