"""Families of perceptrons, on tables and on random teachers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ratewise.models import dense
from ratewise.simulate.families import real
from ratewise.simulate.families.parts import Source, assemble, check_whole
from ratewise.simulate.families.teacher import VectorTeacher
from ratewise.simulate.task import Task


def mlp(
    *,
    data: Any = "digits",
    width: Any = 32,
    depth: Any = 1,
    batch_size: Any = 32,
    folder: str | Path | None = None,
    **teacher: Any,
) -> Task:
    """Return a perceptron of `depth` hidden layers of `width` units."""
    source = _source(data, folder, teacher)
    _shape(width, depth)
    widths = (*source.shape, *[width] * depth, source.outputs)
    return assemble("mlp", functools.partial(dense.mlp, *widths), source, batch_size)


def residual_mlp(
    *,
    data: Any = "digits",
    width: Any = 16,
    depth: Any = 3,
    batch_size: Any = 32,
    folder: str | Path | None = None,
    **teacher: Any,
) -> Task:
    """Return a perceptron of `depth` residual blocks, `width` wide throughout."""
    source = _source(data, folder, teacher)
    _shape(width, depth)
    model = functools.partial(dense.ResidualMLP, source.shape[0], width, depth, source.outputs)
    return assemble("residual-mlp", model, source, batch_size)


def _source(data: Any, folder: str | Path | None, teacher: dict[str, Any]) -> Source:
    real.check_data(data, (*real.VECTORS, "teacher"))
    return VectorTeacher(**teacher).source() if data == "teacher" else real.vectors(data, folder)


def _shape(width: Any, depth: Any) -> None:
    check_whole("width", width, 1, 4096)
    check_whole("depth", depth, 1, 64)
