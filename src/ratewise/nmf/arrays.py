"""The boundary between NumPy, torch and sparse matrices: what comes in, and what goes back."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ratewise.errors import invalid, wrong_type

#: A NumPy array or a torch tensor; what goes in comes out.
Array: TypeAlias = Any


def is_tensor(x: Any) -> bool:
    """Return whether this is a torch tensor; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def to_numpy(x: Any) -> Any:
    """Return a tensor as a NumPy array, and anything else as it is."""
    return x.detach().cpu().numpy() if is_tensor(x) else x


def numpy_type(x: Any) -> np.dtype[Any]:
    """Return the NumPy type of an array's, a sparse matrix's or a tensor's entries."""
    return np.dtype(str(x.dtype).removeprefix("torch."))


def namespace(*values: Any) -> Any:
    """Return torch if one of the values is its tensor, else NumPy; torch is loaded only then."""
    if all(isinstance(value, int | float | np.ndarray | np.generic) for value in values):
        return np
    import torch

    return torch if any(isinstance(value, torch.Tensor) for value in values) else np


def check_floating(name: str, value: Any) -> None:
    """Raise unless this is a NumPy array or torch tensor of a floating-point type."""
    if isinstance(value, np.ndarray | np.generic):
        fits = np.issubdtype(value.dtype, np.floating)
    else:
        fits = namespace(value) is not np and value.is_floating_point()
    if not fits:
        raise wrong_type(
            name, "a floating-point NumPy array or torch tensor", value, "pass float32 or float64"
        )


def check_amounts(**values: Any) -> None:
    """Raise unless all are finite and >= 0; tensors are not looked into: a device would wait."""
    for name, value in values.items():
        if namespace(value) is not np:
            continue
        try:
            smallest, largest = np.min(value), np.max(value)
            fits = smallest >= 0.0 and largest < np.inf
        except (TypeError, ValueError):
            raise wrong_type(
                name, "a number or an array of numbers", value, "pass a norm"
            ) from None
        if not fits:
            shown = float(largest if smallest >= 0.0 else smallest)
            raise invalid(name, "finite and >= 0", shown, "pass a norm, variance or length")


class Backend(NamedTuple):
    """Where a factorisation is worked on, and in which float type."""

    device: Any  #: a torch device; None is NumPy
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, x: Any, device: Any = None) -> Backend:
        """Return the backend for data, or the one that an array already belongs to.

        Args:
            x: array, CSR matrix or tensor.
            device: what torch.device takes; None leaves a tensor where it is, and anything else
                to NumPy.

        Raises:
            InvalidArgument: no such device.
        """
        if device is None:
            return cls(x.device if is_tensor(x) else None, numpy_type(x))
        import torch

        try:
            return cls(torch.device(device), numpy_type(x))
        except (RuntimeError, TypeError) as error:
            raise invalid("device", "a torch device", device, "pass 'cpu' or 'cuda'") from error

    def data(self, x: Any) -> Any:
        """Return array, CSR matrix or tensor in this float type; a tensor on this device."""
        if is_tensor(x) and self.device is not None:
            import torch

            return x.to(self.device, getattr(torch, self.dtype.name))
        return to_numpy(x).astype(self.dtype, copy=False)

    def array(self, x: Any) -> Array:
        """Return a NumPy array in this float type, as a tensor unless this is NumPy."""
        x = np.asarray(x, dtype=self.dtype)
        if self.device is None:
            return x
        import torch

        return torch.as_tensor(x).to(self.device)

    def codes(self, w: Any, sizes: Iterable[int]) -> list[Array | None]:
        """Return W_b^T of each batch, [k, b], contiguous copies; None for each if there is no W.

        Args:
            w: W, [n, k], a NumPy array, or None.
            sizes: rows of each batch.
        """
        codes: list[Array | None] = []
        start = 0
        for size in sizes:
            own = None if w is None else np.array(w[start : start + size].T, order="C")
            codes.append(None if own is None else self.array(own))
            start += size
        return codes


def joined(codes: list[Any], x: Any) -> Any:
    """Return W, [n, k], in the library and on the device of X; `codes` are given up one by one."""
    if is_tensor(x):
        import torch

        return torch.cat([own.T for own in codes]).contiguous().to(x.device)
    n, k = sum(own.shape[1] for own in codes), codes[0].shape[0]
    w = np.empty((n, k), numpy_type(codes[0]))
    start = 0
    for i, own in enumerate(codes):
        w[start : start + own.shape[1]] = to_numpy(own).T
        start += own.shape[1]
        codes[i] = None
    return w
