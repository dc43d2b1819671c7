"""Between NumPy and torch, and between a factor W and its codes: arrays as each side wants them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ratewise.errors import invalid
from ratewise.nmf.capping import Array
from ratewise.nmf.rows import Rows


def is_tensor(x: Any) -> bool:
    """Return whether this is a torch tensor; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def to_numpy(x: Any) -> Any:
    """Return a tensor as a NumPy array, and anything else as it is."""
    return x.detach().cpu().numpy() if is_tensor(x) else x


def device_of(x: Any, named: Any) -> Any:
    """Return the torch device to work on, or None for NumPy.

    Args:
        x: the data; a tensor stays where it is unless a device is named.
        named: what torch.device takes, or None.

    Raises:
        InvalidArgument: it names no device.
    """
    if named is None:
        return x.device if is_tensor(x) else None
    import torch

    try:
        return torch.device(named)
    except (RuntimeError, TypeError) as error:
        raise invalid("device", "a torch device", named, "pass 'cpu' or 'cuda'") from error


def alike(x: Any, like: Array) -> tuple[Any, Any]:
    """Return data in the library and float type of another array or tensor, and its device.

    Args:
        x: array, CSR matrix or tensor.
        like: array or tensor; the device of an array is None.
    """
    if not is_tensor(like):
        return to_numpy(x).astype(like.dtype, copy=False), None
    if is_tensor(x):
        return x.to(like.device, like.dtype), like.device
    return x.astype(to_numpy(like[:1]).dtype, copy=False), like.device


def moved(x: Any, like: Any, device: Any) -> Any:
    """Return an array in the float type of another, as a tensor where a device is named."""
    if device is None:
        return np.asarray(x, dtype=like.dtype)
    import torch

    if isinstance(like.dtype, torch.dtype):
        return torch.as_tensor(x).to(device, like.dtype)
    return torch.as_tensor(np.asarray(x, dtype=like.dtype)).to(device)


def codes_of(w: Any, batches: list[Rows], device: Any) -> list[Any]:
    """Return W_b^T of each batch, [k, b], contiguous copies; None for each if there is no W."""
    if w is None:
        return [None] * len(batches)
    codes, start = [], 0
    for rows in batches:
        stop = start + rows.shape[0]
        codes.append(moved(np.array(w[start:stop].T, order="C"), w, device))
        start = stop
    return codes


def joined(codes: list[Any], x: Any) -> Any:
    """Return W, [n, k], in the library and on the device of X; `codes` are given up one by one."""
    if is_tensor(x):
        import torch

        return torch.cat([own.T for own in codes]).contiguous().to(x.device)
    n, k = sum(own.shape[1] for own in codes), codes[0].shape[0]
    w = np.empty((n, k), to_numpy(codes[0][:1]).dtype)
    start = 0
    for i, own in enumerate(codes):
        w[start : start + own.shape[1]] = to_numpy(own).T
        start += own.shape[1]
        codes[i] = None
    return w
