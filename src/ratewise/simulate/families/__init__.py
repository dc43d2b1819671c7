"""Families of small trainings, by name: `names`, `options`, `family`.

Each is an architecture with data that suit it, a few hundred to a few ten thousand parameters and
an ordinary step of a few milliseconds at most; or a function to be descended.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ratewise.errors import InvalidArgument, unknown
from ratewise.simulate.families import analytic, images, sequences, vectors
from ratewise.simulate.families.teacher import ImageTeacher, Teacher, VectorTeacher
from ratewise.simulate.task import Task

#: name -> (builder, whose options are its arguments; the random teacher that it may learn from)
_FAMILIES: dict[str, tuple[Callable[..., Task], type[Teacher] | None]] = {
    "mlp": (vectors.mlp, VectorTeacher),
    "residual-mlp": (vectors.residual_mlp, VectorTeacher),
    "lenet": (partial(images.convolutional, "lenet"), ImageTeacher),
    "vgg": (partial(images.convolutional, "vgg"), ImageTeacher),
    "resnet": (partial(images.convolutional, "resnet"), ImageTeacher),
    "vit": (images.vit, ImageTeacher),
    "gru": (sequences.gru, None),
    "attention": (sequences.attention, None),
    "deep-transformer": (
        partial(sequences.transformer, "deep-transformer", width=16, depth=6, heads=2),
        None,
    ),
    "wide-transformer": (
        partial(sequences.transformer, "wide-transformer", width=64, depth=1, heads=4),
        None,
    ),
    "quadratic": (analytic.quadratic, None),
    "rosenbrock": (analytic.rosenbrock, None),
    "rastrigin": (analytic.rastrigin, None),
    "ackley": (analytic.ackley, None),
}


def names() -> list[str]:
    """Return the names of all families.

    >>> "mlp" in names()
    True
    """
    return list(_FAMILIES)


def options(name: str) -> dict[str, Any]:
    """Return the options of a family with their defaults; a teacher's count with data="teacher".

    >>> options("quadratic")
    {'condition': 100, 'dim': 20}

    Raises:
        UnknownName: no such family.
    """
    build, teacher = _entry(name)
    own = inspect.signature(build).parameters.values()
    found = {p.name: p.default for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD}
    return {**found, **_teacher_options(teacher)}


def family(name: str, /, **chosen: Any) -> Task:
    """Return a family's task.

    Args:
        name: one of `names()`.
        chosen: some of `options(name)`. Among them `data`, the name of what is learned, and
            `folder`, where its files lie; None takes the environment variable RATEWISE_DATA.

    Raises:
        UnknownName: no such family, option or data.
        InvalidArgument: an option outside its range.
        MissingData, CorruptData: a file of the data is absent or damaged.
        MissingExtra: the data come with scikit-learn, which is not installed.

    >>> tiny = family("mlp", data="teacher", inputs=16, width=32, classes=4, batch_size=16)
    >>> sum(parameter.numel() for parameter in tiny.model().parameters())
    676
    """
    build, teacher = _entry(name)
    known = options(name)
    for option in chosen:
        if option not in known:
            raise unknown(f"option of {name!r}", option, known)
    given = sorted(set(_teacher_options(teacher)) & set(chosen))
    if given and chosen.get("data") != "teacher":
        raise InvalidArgument(
            f"{given[0]} is an option of a random teacher, got data="
            f"{chosen.get('data', known['data'])!r}: pass data='teacher'"
        )
    return build(**chosen)


def _entry(name: Any) -> tuple[Callable[..., Task], type[Teacher] | None]:
    if not isinstance(name, str) or name not in _FAMILIES:
        raise unknown("family", name, _FAMILIES)
    return _FAMILIES[name]


def _teacher_options(teacher: type[Teacher] | None) -> dict[str, Any]:
    fields = dataclasses.fields(teacher) if teacher else ()
    return {field.name: field.default for field in fields}
