"""The parameters that are scaled: vectors over tensors, and over units with a factor each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import InvalidState
from ratewise.schedulers.shards import Reduction, check_parameters

Groups = Sequence[dict[str, Any]]

#: What has a factor of its own.
PER = ("tensor", "group", "model")


def tensors_of(groups: Groups) -> Iterator[Tensor]:
    """Return the groups' parameters, in their order."""
    return (parameter for group in groups for parameter in group["params"])


def names_of(groups: Groups) -> list[str]:
    """Return what the groups' parameters are called in messages, in their order.

    An optimizer that was given named parameters (torch >= 2.6) knows their names; a parameter
    without one is called by its position.

    >>> names_of([{"params": [0, 0], "param_names": ["0.weight", "0.bias"]}, {"params": [0]}])
    ['0.weight', '0.bias', 'parameter 2']
    """
    names: list[str] = []
    for group in groups:
        known, first, count = group.get("param_names"), len(names), len(group["params"])
        if isinstance(known, Sequence) and len(known) == count:
            names += map(str, known)
        else:
            names += [f"parameter {index}" for index in range(first, first + count)]
    return names


class Parameters:
    """The parameters of some groups, by position, and how they make up units.

    Everything is a vector in float32 on the parameters' device; only the construction copies
    anything there.

    Args:
        groups: parameter groups.
        per: one of `PER`.

    Raises:
        InvalidArgument: parameters whose norms cannot be formed.
    """

    def __init__(self, groups: Groups, per: str) -> None:
        self.per = per
        self.params = list(tensors_of(groups))
        self.names = names_of(groups)
        self.counts = [len(group["params"]) for group in groups]
        check_parameters(self.params)
        self.device = self.params[0].device if self.params else torch.device("cpu")
        self.zero = torch.zeros((), device=self.device)
        #: [tensors] numbers of elements, and whether there are two dimensions or more.
        self.sizes = torch.tensor([float(p.numel()) for p in self.params], device=self.device)
        self.matrices = torch.tensor([p.ndim > 1 for p in self.params], device=self.device)
        self.reduce = Reduction(self.params, self.device)
        ends = [sum(self.counts[: index + 1]) for index in range(len(self.counts))]
        #: Which tensors are each group's.
        self.groups = [slice(e - n, e) for e, n in zip(ends, self.counts, strict=True)]

    @property
    def count(self) -> int:
        """How many units there are."""
        return {"tensor": len(self.params), "group": len(self.counts), "model": 1}[self.per]

    def unchanged(self, groups: Groups) -> bool:
        """Return whether these are the groups' parameters now."""
        return self.counts == [len(group["params"]) for group in groups] and all(
            new is old for new, old in zip(tensors_of(groups), self.params, strict=True)
        )

    def carry(self, old: Parameters, factor: Tensor) -> Tensor:
        """Return the units' factors, [units], of tensors that had some before; 0 for new ones.

        Args:
            old: the parameters before.
            factor: [old units].
        """
        known = {id(p): value for p, value in zip(old.params, old.spread(factor), strict=True)}
        mine = [known.get(id(p), self.zero).to(self.device) for p in self.params]
        if self.per != "tensor":
            parts = self.groups if self.per == "group" else [slice(None)]
            mine = [(mine[part] or [self.zero])[0] for part in parts]
        return torch.stack(mine) if mine else self.zero.new_zeros(0)

    def spread(self, units: Tensor) -> Tensor:
        """Return the units' values as their tensors', [tensors]."""
        if self.per == "tensor":
            return units.clone()
        if self.per == "model":
            return units[:1].expand(len(self.params)).clone()
        return self.by_group(list(units))

    def by_group(self, values: Sequence[float | Tensor]) -> Tensor:
        """Return the groups' values as their tensors', [tensors]; a number is not copied over."""
        vectors = [
            value.to(torch.float32).expand(count)
            if isinstance(value, Tensor)
            else torch.full((count,), value, device=self.device)
            for value, count in zip(values, self.counts, strict=True)
        ]
        return torch.cat(vectors) if vectors else self.zero.new_zeros(0)

    def by_unit(self, values: Sequence[float]) -> Tensor:
        """Return the groups' values as their units', [units]; of a model there is but one."""
        if self.per == "tensor":
            return self.by_group(values)
        # filled where it is: a number that is copied to a device waits for it
        numbers = [torch.full((), value, device=self.device) for value in values[: self.count]]
        return torch.stack(numbers)

    def largest(self, values: Tensor) -> list[Tensor]:
        """Return the largest of each group's tensors' values, [tensors]; 0 of none."""
        return [values[part].max() if part.stop > part.start else self.zero for part in self.groups]

    def norms(self, where: Sequence[int], norms: Sequence[Tensor]) -> Tensor:
        """Return norms of some tensors' local parts as those of all whole tensors, [tensors].

        Args:
            where: the tensors' positions; all others have 0.
            norms: theirs.
        """
        return self.reduce(self._all(where, norms))

    def sums(self, where: Sequence[int], sums: Sequence[Tensor]) -> Tensor:
        """Return the same of sums, which are added up and not squared."""
        return self.reduce.sums(self._all(where, sums))

    def _all(self, where: Sequence[int], values: Sequence[Tensor]) -> Tensor:
        all_of_them = [self.zero] * len(self.params)
        for index, value in zip(where, values, strict=True):
            all_of_them[index] = value
        return torch.stack(all_of_them).to(torch.float32)

    def together(self, norms: Tensor) -> Tensor:
        """Return the units' norms, [units], from their tensors'."""
        if self.per == "tensor":
            return norms
        parts = self.groups if self.per == "group" else [slice(None)]
        return torch.stack([norms[part].square().sum().sqrt() for part in parts])

    def shapes(self) -> list[list[int]]:
        """Return the parameters' shapes, as plain data."""
        return [list(parameter.shape) for parameter in self.params]

    def check_shapes(self, saved: Any) -> None:
        """Raise `InvalidState` unless a state's shapes are these parameters'."""
        theirs, here = [list(shape) for shape in saved], self.shapes()
        for index, pair in enumerate(zip(theirs, here, strict=False)):
            if pair[0] != pair[1]:
                raise InvalidState(
                    f"{self.names[index]} was of shape {pair[0]} when the state was saved, and is "
                    f"of {pair[1]} now: give the optimizer the same parameters in the same order"
                )
        if len(theirs) != len(here):
            raise InvalidState(
                f"state_dict is of {len(theirs)} parameters, the optimizer has {len(here)}: "
                "give it the same ones in the same order"
            )
