"""Families on images: three convolutional, and a transformer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ratewise.errors import invalid
from ratewise.models import vision
from ratewise.simulate.families import real
from ratewise.simulate.families.parts import Source, assemble, check_multiple, check_whole
from ratewise.simulate.families.teacher import ImageTeacher
from ratewise.simulate.task import Task


def convolutional(
    architecture: str,
    *,
    data: Any = "digits",
    width: Any = 8,
    batch_size: Any = 16,
    folder: str | Path | None = None,
    **teacher: Any,
) -> Task:
    """Return a convolutional network of two blocks, with `width` and twice `width` channels.

    Args:
        architecture: "lenet" (a convolution and pooling a block), "vgg" (two of them and pooling)
            or "resnet" (residual blocks).
        data, width, batch_size, folder, teacher: options of the family.
    """
    source = _source(data, folder, teacher)
    check_whole("width", width, 1 if architecture == "vgg" else 4, 1024)
    if architecture != "vgg":
        check_multiple("width", width, "groups", 4)  # of the group norm
    channels, size = source.shape[:2]
    widths, outputs = (width, 2 * width), source.outputs
    models: dict[str, Callable[[], nn.Module]] = {
        "lenet": functools.partial(vision.ConvNet, (channels, *widths), size, outputs),
        "vgg": functools.partial(vision.VGG, (channels, *widths), size, outputs),
        "resnet": functools.partial(vision.ResNet, widths, outputs, channels=channels),
    }
    return assemble(architecture, models[architecture], source, batch_size)


def vit(
    *,
    data: Any = "digits",
    width: Any = 16,
    depth: Any = 2,
    heads: Any = 2,
    patch: Any = None,
    batch_size: Any = 16,
    folder: str | Path | None = None,
    **teacher: Any,
) -> Task:
    """Return a transformer over patches of `patch` pixels a side; None takes a quarter side."""
    source = _source(data, folder, teacher)
    channels, size = source.shape[:2]
    for name, number in (("width", width), ("depth", depth), ("heads", heads)):
        check_whole(name, number, 1, 1024)
    check_multiple("width", width, "heads", heads)
    divisors = [pixels for pixels in range(1, size + 1) if size % pixels == 0]
    if patch is None:
        patch = max(pixels for pixels in divisors if 4 * pixels <= size)
    check_whole("patch", patch, 1, size)
    if patch not in divisors:
        allowed = f"a divisor of the images' {size} pixels a side"
        raise invalid("patch", allowed, patch, f"pass one of {divisors}")
    model = functools.partial(
        vision.VisionTransformer, channels, size, patch, width, heads, depth, source.outputs
    )
    return assemble("vit", model, source, batch_size)


def _source(data: Any, folder: str | Path | None, teacher: dict[str, Any]) -> Source:
    real.check_data(data, (*real.IMAGES, "teacher"))
    return ImageTeacher(**teacher).source() if data == "teacher" else real.images(data, folder)
