"""A digest of the code that makes results: a part of their keys, so that none outlives it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ratewise.errors import unknown


@cache
def digest(*modules: str) -> str:
    """Return 16 hexadecimal digits of what modules do; comments and docstrings have no part in it.

    Raises:
        UnknownName: there is no such module, or it has no source.

    >>> digest("evidence.code") == digest("evidence.code") != digest("evidence.how")
    True
    """
    return hashlib.sha256("".join(map(_text, modules)).encode()).hexdigest()[:16]


def below(*packages: str) -> tuple[str, ...]:
    """Return the names of packages and of every module in them, in order.

    >>> below("evidence.speed")[:2]
    ('evidence.speed', 'evidence.speed.cluster_cost')
    """
    found = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.submodule_search_locations is None:
            raise unknown("package", package, [])
        folders = pkgutil.walk_packages(spec.submodule_search_locations, f"{package}.")
        found += [package, *sorted(module.name for module in folders)]
    return tuple(found)


def _text(module: str) -> str:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise unknown("module", module, [])
    return canonical(Path(found.origin).read_text(encoding="utf-8"))


def canonical(source: str) -> str:
    """Return a module's syntax tree as text, the same for every version of Python.

    >>> canonical("x = 1") == canonical('"Said."\\nx = 1  # why')
    True
    >>> canonical("x = 1") == canonical("x = 2")
    False
    """
    return repr(_plain(ast.parse(source)))


def _plain(node: Any) -> Any:
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node))
        return (type(node).__name__, *(field for field in fields if field[1] not in (None, [])))
    if isinstance(node, Iterable) and not isinstance(node, str | bytes):
        return [_plain(one) for one in node if not _said(one)]
    return node


def _said(node: Any) -> bool:
    """Return whether a statement is a text alone, as docstrings are."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
