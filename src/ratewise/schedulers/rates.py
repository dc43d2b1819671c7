"""Rates written into parameter groups without undoing what others have multiplied them by.

``rate[g] = own[g] * outside[g]``: `own` is what the schedule wants, `outside` what others have
made of it since (another scheduler in a `ChainedScheduler`, a user's hand); it is exactly 1 until
somebody does. `HostRates` keeps Python floats, `DeviceRates` tensors that never leave their device.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ratewise.rules import schema
from ratewise.schedulers.clock import capturing
from ratewise.schedulers.rate_watch import RateWatch

Groups = Sequence[dict[str, Any]]

#: After a change: the step that must contain it, and the next, which shows what others do alone.
LOOKS = 2
#: Steps on a device that are kept until they are read.
KEPT = 100
_RATES = schema.several(schema.rate)
#: What `state()` of `HostRates` and `DeviceRates` must look like.
TABLE = {"rates": _RATES, "own": _RATES, "outside": schema.several(schema.flag)}


class HostRates:
    """What was written last into each group, in Python floats."""

    def __init__(self) -> None:
        self.own: list[float] = []
        self.wrote: list[float] = []
        self._outside: list[bool] = []
        self._watches: list[RateWatch] = []
        #: At how many of the next steps `look` has something to see.
        self.looking = LOOKS + 1  # the first of them is at construction
        self._calm = False  # whether each watch is, and all rates are ours
        self._before: list[float] | None = None  # rates before a change that no watch knows of yet

    @classmethod
    def of(cls, groups: Groups, base: Sequence[float]) -> HostRates:
        """Return the rates of groups whose schedule stands at `base`."""
        rates = cls()
        for group, rate in zip(groups, base, strict=True):
            rates.add(group, rate)
        return rates

    def add(self, group: dict[str, Any], base: float) -> None:
        """Take in a group whose schedule stands at `base`, whatever its rate is now."""
        current = float(group["lr"])
        self.watches.append(RateWatch(current))
        self.own.append(base)
        self.wrote.append(current)
        self._outside.append(current != base)
        self._calm = False

    @property
    def watches(self) -> list[RateWatch]:
        """One a group."""
        if self._before is not None:
            for watch, found, wrote in zip(self._watches, self._before, self.wrote, strict=True):
                watch.note(found, wrote)
            self._before = None
        return self._watches

    def untouched(self, groups: Groups) -> bool:
        """Return whether all rates are the numbers that were written last, and nobody is suspected.

        Then `replace` does what `look` and `write` would, at a fraction of their cost.
        """
        if not self._calm or len(groups) != len(self.wrote):
            return False
        return all(map(is_, [group["lr"] for group in groups], self.wrote))

    def replace(self, groups: Groups, own: Sequence[float]) -> None:
        """Set each group's rate, where `untouched` holds."""
        new = list(own)
        if new == self.own:
            return
        for group, rate in zip(groups, new, strict=True):
            group["lr"] = rate
        self._before, self.wrote, self.own = self.wrote, new[:], new
        self.looking = LOOKS

    def write(self, groups: Groups, own: Sequence[float]) -> None:
        """Set each group's rate where our part of it has changed; leave the others' part."""
        watches = self.watches
        for index, new in enumerate(own):
            old = self.own[index]
            if new == old:
                continue
            group = groups[index]
            current = group["lr"]
            if not isinstance(current, Tensor) or current.device.type == "cpu":
                current = float(current)
                if current != self.wrote[index]:
                    self._outside[index], self._calm = True, False
                outside = current / old if self._outside[index] and old else 1.0
                self._set(index, group, new * outside if outside != 1.0 else new)
                watches[index].note(current, self.wrote[index])
                self.looking = LOOKS
            else:  # reading a rate on a device would wait for it
                self._set(index, group, new)
            self.own[index] = new

    def look(self, groups: Groups) -> None:
        """See whether the rates contain what was written; not on a device, which would wait."""
        self.looking -= 1
        watches = self.watches
        for group, watch in zip(groups, watches, strict=False):
            rate = group["lr"]
            if not isinstance(rate, Tensor) or rate.device.type == "cpu":
                watch.look(float(rate))
        self._calm = not any(self._outside) and all(watch.calm for watch in watches)

    def current(self, groups: Groups) -> list[float]:
        """Return the rates as they are; on a device, as they were written last."""
        return [
            wrote
            if isinstance(rate := group["lr"], Tensor) and rate.device.type != "cpu"
            else float(rate)
            for group, wrote in zip(groups, self.wrote, strict=True)
        ]

    def reset(self, groups: Groups, own: Sequence[float]) -> None:
        """Set each group's rate to our part of it, and forget the others'."""
        for index, new in enumerate(own):
            self._outside[index] = False
            self.own[index] = new
            self._set(index, groups[index], new)
        self._forget_others()

    def _set(self, index: int, group: dict[str, Any], value: float) -> None:
        """Write one rate, a tensor in place, and remember what can be read there afterwards."""
        rate = group["lr"]
        if isinstance(rate, Tensor):
            rate.fill_(value)
            self.wrote[index] = float(rate) if rate.device.type == "cpu" else value
        else:
            group["lr"] = self.wrote[index] = value

    def state(self, groups: Groups) -> dict[str, list[Any]]:
        """Return the groups' rates and our part of them, as plain data.

        A rate that others have changed since our last write is theirs from here on: what is
        restored has no other way to know.
        """
        rates = [float(group["lr"]) for group in groups]
        seen = zip(self._outside, self.current(groups), self.wrote, strict=True)
        outside = [flag or now != wrote for flag, now, wrote in seen]
        return {"rates": rates, "own": list(self.own), "outside": outside}

    def restore(self, groups: Groups, state: dict[str, list[Any]]) -> None:
        """Take over what `state()` returned and write the rates into the groups."""
        self.own, self._outside = list(map(float, state["own"])), list(state["outside"])
        self.wrote = list(map(float, state["rates"]))
        for index, group in enumerate(groups):
            self._set(index, group, self.wrote[index])
        self._forget_others()

    def _forget_others(self) -> None:
        """Begin to watch anew, from the rates that were written last."""
        self._watches = list(map(RateWatch, self.wrote))
        self._before, self._calm, self.looking = None, False, LOOKS


class DeviceRates:
    """The same on tensors: one vector of [groups] on the rates' device, no value read.

    What `RateWatch` is to see stays there, too, until the device is read anyway.
    """

    looking = 0  #: `look_back` has it

    def untouched(self, groups: Groups) -> bool:
        """Return False: to know would be to read."""
        return False

    def __init__(self, host: HostRates, groups: Groups, device: torch.device) -> None:
        self._device = device
        self._dtype = accumulator(device)
        state = host.state(groups)
        self.own = torch.tensor(state["own"], dtype=self._dtype, device=device)
        self.wrote = torch.tensor(host.wrote, dtype=self._dtype, device=device)
        self._outside = torch.tensor(state["outside"], device=device)
        self._rate_dtypes = [group["lr"].dtype for group in groups]
        self.watches = host.watches
        # [steps, 2, groups] the last steps' rates as they were found and as they were written
        self._seen = torch.zeros(KEPT, 2, len(groups), dtype=self._dtype, device=device)
        self._count = self._read = 0

    def write(self, groups: Groups, own: Sequence[Tensor]) -> Tensor:
        """Set each group's rate where our part of it has changed; leave the others' part.

        Returns what the rates were before, [groups].
        """
        current = self.current(groups)
        new = torch.stack(list(own))
        self._outside.logical_or_(current != self.wrote)
        outside = torch.where(self._outside & (self.own != 0), current / self.own, 1.0)
        rates = [group["lr"] for group in groups]
        self._fill(rates, torch.where(new != self.own, new * outside, current))
        self.own.copy_(new)
        if not capturing():  # no replay would come to the next row
            torch.stack([current, self.wrote], out=self._seen[self._count % KEPT])
            self._count += 1
        return current

    def look_back(self) -> None:
        """See whether rates contained what was written, in the last steps: waits for the device."""
        first, self._read = max(self._read, self._count - KEPT), self._count
        rows = self._seen.tolist() if first < self._count else []
        for step in range(first, self._count):
            for watch, found, wrote in zip(self.watches, *rows[step % KEPT], strict=True):
                watch.look(found)
                watch.note(found, wrote)

    def current(self, groups: Groups) -> Tensor:
        """Return the rates as they are, copied: [groups]."""
        rates = self._tensors(groups)
        return torch.stack([rate.detach().reshape(()).to(self._dtype) for rate in rates])

    def reset(self, groups: Groups, own: Sequence[Tensor]) -> None:
        """Set each group's rate to our part of it, and forget the others'."""
        new = torch.stack(list(own))
        self._outside.zero_()
        self._read = self._count
        self._fill(self._tensors(groups), new)
        self.own.copy_(new)

    def _fill(self, rates: list[Tensor], values: Tensor) -> None:
        for index, rate in enumerate(rates):
            rate.copy_(values[index].expand(rate.shape))
            self.wrote[index].copy_(rate.reshape(()))

    def _tensors(self, groups: Groups) -> list[Tensor]:
        """Return the rates; one that a checkpoint made a number becomes a tensor again."""
        for group, dtype in zip(groups, self._rate_dtypes, strict=True):
            rate = group["lr"]
            if not isinstance(rate, Tensor):
                group["lr"] = torch.full((), rate, dtype=dtype, device=self._device)
            elif rate.device != self._device:
                group["lr"] = rate.to(self._device)
        return [group["lr"] for group in groups]

    def state(self, groups: Groups) -> dict[str, list[Any]]:
        """Return the groups' rates and our part of them, as plain data: waits for the device."""
        rates = [float(group["lr"]) for group in groups]
        outside = self._outside | (self.current(groups) != self.wrote)
        return {"rates": rates, "own": self.own.tolist(), "outside": outside.tolist()}


def own_tensors(scheduled: Groups, everything: Groups) -> None:
    """Give each group a rate tensor of its own, where torch has put one tensor into several.

    A group that is scheduled keeps the tensor; the others get copies.
    """
    seen: set[int] = set()
    rest = (group for group in everything if all(group is not other for other in scheduled))
    for group in (*scheduled, *rest):
        rate = group["lr"]
        if isinstance(rate, Tensor):
            if id(rate) in seen:
                group["lr"] = rate = rate.clone()
            seen.add(id(rate))


def initial(group: dict[str, Any]) -> float | Tensor:
    """Return a group's base rate; one that is not scheduled may have only its rate."""
    return copied(group.get("initial_lr", group["lr"]))


def copied(rate: float | Tensor) -> float | Tensor:
    """Return a copy of a rate that is a tensor."""
    return rate.clone() if isinstance(rate, Tensor) else rate


def accumulator(device: torch.device) -> torch.dtype:
    """Return the widest float of a device; decisions in float64 are those of Python floats."""
    return torch.float32 if device.type == "mps" else torch.float64
