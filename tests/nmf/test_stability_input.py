"""Bad input gets a named error; arrays, tensors and their types come out as they went in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ratewise.errors import InvalidArgument, WrongType
from ratewise.nmf import stability

GRAM = np.array([[2.0, 1.0], [1.0, 2.0]])
W, H = np.ones((3, 2)), np.ones((2, 4))

INVALID: dict[str, Callable[[], Any]] = {
    "gram must be": lambda: stability.block_bound(np.ones((2, 3))),
    "gram must be [..., k, k]": lambda: stability.largest_eigenvalue(np.ones(3)),
    "square, got (0, 0)": lambda: stability.block_bound(np.ones((0, 0))),
    "non-negative and finite, got -1.0": lambda: stability.block_bound(-GRAM + np.eye(2)),
    "non-negative and finite, got nan": lambda: stability.block_bound(GRAM * np.nan),
    "non-negative and finite, got inf": lambda: stability.component_bound(GRAM * np.inf),
    "gram must be symmetric": lambda: stability.block_bound(np.array([[1.0, 2.0], [0.0, 1.0]])),
    "iterations must be": lambda: stability.largest_eigenvalue(GRAM, iterations=0),
    "x must be of shape [..., k] for": lambda: stability.largest_eigenvalue(GRAM, np.ones(3)),
    "x must be of shape [..., k] or [..., n, k]": lambda: stability.component_bound(
        GRAM, np.ones((4, 3))
    ),
    "x must be non-negative": lambda: stability.component_bound(GRAM, np.array([1.0, -1.0])),
    "sigma_sq must be finite and >= 0, got -1.0": lambda: stability.noisy_bound(GRAM, 1.0, -1.0),
    "gradient_norm_sq must be": lambda: stability.noisy_bound(GRAM, np.nan, 1.0),
    "residual_norm must be": lambda: stability.joint_bound(1.0, 1.0, -0.1),
    "w_update must be": lambda: stability.joint_bound(1.0, 1.0, 0.1, w_update=np.inf),
    "h_gradient must be": lambda: stability.joint_bound(1.0, 1.0, 0.1, h_gradient=-1.0),
    "v_norm must be": lambda: stability.norm_cap(-1.0, 0.0),
    "loss must be": lambda: stability.norm_cap(1.0, np.array([0.0, np.nan])),
    "c must be": lambda: stability.rate(1.0, -0.5),
    "w, h must be": lambda: stability.balance(W, H.T),
    "got ((3, 2), (4,))": lambda: stability.balance(W, np.ones(4)),
    "cap must be a number > 0, got 0.0": lambda: stability.clip_to_norm_caps(W, H, 0.0),
    "cap must be finite and >= 0, got -1.0": lambda: stability.clip_update(W, -1.0),
    "got nan: pass a norm": lambda: stability.clip_update(W, float("nan")),
}

WRONG: dict[str, Callable[[], Any]] = {
    "gram must be a floating-point": lambda: stability.block_bound(np.eye(2, dtype=int)),
    "got list": lambda: stability.block_bound([[1.0]]),
    "x must be": lambda: stability.largest_eigenvalue(GRAM, [1.0, 1.0]),
    "w must be": lambda: stability.balance(W.astype(int), H),
    "h must be of the same library": lambda: stability.balance(W, torch.ones(2, 4)),
    "update must be": lambda: stability.clip_update(3, 1.0),
    "sigma_sq must be a number": lambda: stability.noisy_bound(GRAM, 1.0, "loud"),
    "cap must be a number": lambda: stability.clip_update(W, None),
}


@pytest.mark.parametrize("says", INVALID)
def test_a_value_outside_its_range_is_named(says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        INVALID[says]()
    assert says in str(caught.value)
    assert ": pass " in str(caught.value)


@pytest.mark.parametrize("says", WRONG)
def test_an_argument_of_the_wrong_kind_is_named(says: str) -> None:
    with pytest.raises(WrongType) as caught:
        WRONG[says]()
    assert says in str(caught.value)


def test_shapes_of_tensors_are_checked_and_values_are_not() -> None:
    with pytest.raises(InvalidArgument, match="square"):
        stability.block_bound(torch.ones(2, 3))
    with pytest.raises(WrongType, match="floating-point"):
        stability.block_bound(torch.eye(2, dtype=torch.int64))
    stability.block_bound(-torch.eye(2))  # a device would have to be waited for


def results(gram: Any, w: Any, h: Any, number: Any) -> dict[str, Any]:
    bound, x = stability.largest_eigenvalue(gram)
    return {
        "largest_eigenvalue": bound,
        "vector": x,
        "block_bound": stability.block_bound(gram),
        "noisy_bound": stability.noisy_bound(gram, 2.0, 1.0),
        "noisy_bound of arrays": stability.noisy_bound(gram, number, number),
        "projected": stability.noisy_bound(gram, 4.0, number, projected=True),
        "component_bound": stability.component_bound(gram),
        "rows": stability.component_bound(gram, w),
        "joint_bound": stability.joint_bound(number, number, number, w_update=number),
        "slopes": stability.joint_bound(number, 1.0, number, w_gradient=number, h_update=0.5),
        "rate": stability.rate(stability.component_bound(gram), 1.5),
        "balance": stability.balance(w, h)[0],
        "caps": stability.clip_to_norm_caps(w, h, 0.5)[1],
        "cap": stability.norm_cap(number, number),
        "update": stability.clip_update(w, 0.5),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_arrays_and_tensors_give_the_same_of_the_same_type(
    dtype: str, batch: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    w, h = (rng.random((*batch, *shape)).astype(dtype) for shape in ((4, 3), (3, 6)))
    number = rng.random(batch).astype(dtype) if batch else np.asarray(0.5, dtype=dtype)
    gram = h @ h.swapaxes(-1, -2)
    arrays = results(gram, w, h, number)
    tensors = results(*(torch.from_numpy(x) for x in (gram, w, h, number)))
    for name, array in arrays.items():
        assert isinstance(array, np.ndarray | np.generic), name
        assert isinstance(tensors[name], torch.Tensor), name
        assert array.dtype == dtype, name
        assert str(tensors[name].dtype) == f"torch.{dtype}", name
        assert array.shape == tuple(tensors[name].shape), name
        np.testing.assert_allclose(tensors[name].numpy(), array, rtol=2e-6)


def test_numbers_and_tensors_mix() -> None:
    one = torch.tensor([1.0, 2.0])
    for limit in (
        stability.joint_bound(one, 1.0, 1.0),
        stability.joint_bound(1.0, 1.0, one),
        stability.joint_bound(1.0, 1.0, 1.0, h_update=one),
        stability.joint_bound(1.0, 1.0, 1.0, w_gradient=0.1, h_gradient=one),
        stability.norm_cap(1.0, one),
        stability.rate(one, 1.0),
        stability.rate(1.0, one),
    ):
        assert isinstance(limit, torch.Tensor)
        assert limit.shape == (2,)


def test_arguments_are_left_as_they_are() -> None:
    rng = np.random.default_rng(0)
    w, h = rng.random((4, 3)), rng.random((3, 6))
    gram, x = h @ h.T, rng.random(3)
    copies = [a.copy() for a in (w, h, gram, x)]
    results(gram, w, h, np.asarray(0.5))
    stability.largest_eigenvalue(gram, x)
    for a, copy in zip((w, h, gram, x), copies, strict=True):
        np.testing.assert_array_equal(a, copy)


def test_a_noise_of_zero_leaves_the_block_limit() -> None:
    for projected in (False, True):
        for square in (0.0, 1.0):
            limit = stability.noisy_bound(GRAM, square, 0.0, projected=projected)
            assert limit == stability.block_bound(GRAM)
    assert stability.noisy_bound(GRAM, 0.0, 1.0) == 0
    assert np.isinf(stability.noisy_bound(np.zeros((2, 2)), 0.0, 1.0))
