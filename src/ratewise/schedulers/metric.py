"""What a training loop may hand over as a metric: checked, and brought to where it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ratewise.errors import invalid, wrong_type

_DENSE = "pass loss.to_dense() or loss.dequantize()"
_FIX = "pass a number or a tensor of one element, such as loss.detach()"


def as_float(loss: Any) -> float:
    """Return the metric as a float; NaN and infinities pass, they are the rule's business.

    A loss that requires a gradient is read, and its graph is not kept.

    Args:
        loss: a Python or NumPy number, or a tensor of one element; one on a device is waited for.

    Raises:
        WrongType: a string, a boolean, None, a container, a sparse or quantized tensor.
        InvalidArgument: a tensor or array of several elements, or one on the meta device.

    >>> as_float(torch.tensor([0.5])), as_float(2)
    (0.5, 2.0)
    """
    if type(loss) is float:
        return loss
    if isinstance(loss, Tensor):
        scalar = as_scalar(loss)
        if scalar.device.type == "meta":
            raise invalid("loss", "a tensor that holds a number", "a meta tensor", _FIX)
        return float(scalar)
    if isinstance(loss, bool | np.bool_ | str | bytes) or not hasattr(loss, "__float__"):
        raise wrong_type("loss", "a number", loss, _FIX)
    try:
        return float(loss)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong_type("loss", "one real number", loss, _FIX) from error


def as_scalar(loss: Tensor) -> Tensor:
    """Return a tensor metric detached and without dimensions, on its device; nothing is read.

    Raises:
        WrongType: a boolean, complex, sparse or quantized tensor.
        InvalidArgument: a tensor of several elements.
    """
    if loss.layout != torch.strided or loss.is_quantized:
        raise wrong_type("loss", "a dense tensor, not a sparse or quantized one", loss, _DENSE)
    if loss.numel() != 1:
        shape = f"tensor of shape {tuple(loss.shape)}"
        raise invalid("loss", "one number", shape, "pass loss.mean() or another scalar")
    if loss.dtype == torch.bool or loss.is_complex():
        raise wrong_type("loss", "a real number, not a boolean or complex one", loss, _FIX)
    return loss.detach().reshape(())


def on_device(loss: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the metric as a scalar tensor on `device`; a tensor there is not read.

    Raises:
        InvalidArgument: a tensor on another device than the CPU and the rates' own.
        WrongType: not a real number.
    """
    if not isinstance(loss, Tensor) or (loss.device.type == "cpu" and device.type != "cpu"):
        return torch.full((), as_float(loss), dtype=dtype, device=device)
    scalar = as_scalar(loss)
    if scalar.device != device:
        where = f"a tensor on {scalar.device}"
        raise invalid("loss", f"on the rates' device, {device}", where, "pass loss.to(...)")
    return scalar.to(dtype)
