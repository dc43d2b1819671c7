"""The base class of the optimizers whose rate follows its hypergradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import InvalidState, RatewiseError, invalid, unknown, wrong_type
from ratewise.optimizers.hypergradient_parts import Part, check_parameter, filled, sent
from ratewise.optimizers.hypergradient_rate import (
    PER,
    SHARED,
    check_lr,
    check_settings,
    elementwise,
    hypergradient,
    moved,
    normalizes,
    rate_dtype,
    terms,
    widened,
)
from ratewise.optimizers.saved_state import check_state


class Hypergradient(Optimizer):
    """An optimizer whose rate follows the gradient of the loss with respect to it; abstract.

    A step is two passes. The first takes the inner product of the new gradients with the last
    directions over all of a rate's tensors, and moves the rate once; the second steps all tensors.
    Moving the rate within the loop over tensors would give each of them another one.

    Args:
        params: as for any torch optimizer.
        defaults: of a group, with those of `hypergradient_rate`.
        per: what has a rate of its own.
    """

    #: While the first groups are added; a copied or unpickled optimizer keeps no other attributes.
    _building = False
    #: What a parameter that was stepped has in its state.
    _together: tuple[str, ...] = ()

    def __init__(self, params: Any, defaults: dict[str, Any], per: str) -> None:
        if per not in PER:
            raise unknown("per", per, PER)
        self._check({**defaults, "per": per})
        check_lr(defaults)
        self._building = True
        super().__init__(params, {**defaults, "per": per})
        self._building = False
        for group in self.param_groups:
            self._own(group)

    # -- what a kind of optimizer adds ----------------------------------------------------------

    def _check(self, group: dict[str, Any]) -> None:
        """Raise unless a group's settings are in their ranges; the rate is checked elsewhere."""
        check_settings(group)

    def _step_one(
        self, group: dict[str, Any], p: Tensor, g: Tensor, state: dict[str, Any], rate: Tensor
    ) -> None:
        """Step one tensor against a direction, and leave that in its state."""
        raise NotImplementedError

    def _directions(self, part: Part) -> list[Tensor]:
        """Return the directions of all tensors of a part; the next step reads that memory again."""
        raise NotImplementedError

    # -- the step -------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the rates by this step's gradients, then the parameters by the new rates.

        Args:
            closure: recomputes the loss and its gradients, and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            InvalidArgument: a sparse gradient; nothing has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for p in self._parameters():
            if p.grad is not None and p.grad.layout != torch.strided:
                fix = "make the layer dense, e.g. nn.Embedding(..., sparse=False)"
                raise invalid("gradients", "dense", str(p.grad.layout), fix)
        parts = self._parts()
        self._move_rates(parts)
        for part in parts:
            self._step_part(part)
        return loss

    def _parameters(self) -> Iterator[Tensor]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    def _parts(self) -> list[Part]:
        parts: dict[Any, Part] = {}
        for index, group in enumerate(self.param_groups):
            self._own(group)
            for p in group["params"]:
                if p.grad is None:
                    # h pairs consecutive steps: the direction of an earlier one says nothing.
                    self.state.get(p, {}).pop("direction", None)
                    continue
                state = self.state[p]
                if self.per in ("tensor", "element") and "lr" not in state:
                    state["lr"] = self._starting_rate(group, p)
                foreach = group["foreach"]
                if foreach is None:  # as torch chooses: on a CPU it saves nothing
                    foreach = p.device.type != "cpu" and type(p) in (Tensor, torch.nn.Parameter)
                key = (index, p.device, p.dtype, foreach)
                part = parts.setdefault(key, Part(index, group, foreach))
                part.parameters.append(p)
                part.gradients.append(p.grad)
                part.states.append(state)
                part.previous.append(state.pop("direction", None))
        for part in parts.values():
            part.penalize()
        return list(parts.values())

    def _move_rates(self, parts: list[Part]) -> None:
        paired = [part for part in parts if part.paired()]
        if self.per == "element":
            for part in paired:
                normalize = normalizes(part.group)
                for g, d, state in zip(*part.pairs(), strict=True):
                    h = elementwise(g, d, normalize).to(state["lr"].dtype)
                    state["lr"].copy_(moved(state["lr"], h, part.group))
        elif self.per == "tensor":
            for part in paired:
                gradients, directions, states = part.pairs()
                rates = [state["lr"] for state in states]
                rows = terms(gradients, directions, normalizes(part.group), part.foreach)
                h = hypergradient(rows.to(rates[0].dtype))
                new = moved(torch.stack(rates), h, part.group)
                torch._foreach_copy_(rates, list(new.unbind()))
        else:
            every = range(len(self.param_groups))
            for scope in [list(every)] if self.per == "model" else [[index] for index in every]:
                self._move_shared(scope, [part for part in paired if part.index in scope])

    def _move_shared(self, scope: list[int], paired: list[Part]) -> None:
        """Move the one rate of some groups, once, by all their tensors."""
        if not paired:
            return
        first = self.param_groups[scope[0]]
        rate = first["lr"]
        sums = []
        for part in paired:
            gradients, directions, _ = part.pairs()
            rows = terms(gradients, directions, normalizes(first), part.foreach)
            sums.append(sent(rows.to(rate.dtype).sum(1), rate.device))
        new = moved(rate, hypergradient(torch.stack(sums).sum(0)), first)
        for index in scope:
            # In place: whoever holds the group's tensor, as a schedule may, sees the rate.
            own = self.param_groups[index]["lr"]
            own.copy_(sent(new, own.device))

    def _step_part(self, part: Part) -> None:
        if self.per in ("tensor", "element"):
            rates = [state["lr"] for state in part.states]
        else:
            rates = [sent(part.group["lr"], part.parameters[0].device)] * len(part.states)
        if not part.foreach:
            rows = zip(part.parameters, part.gradients, part.states, rates, strict=True)
            for p, g, state, rate in rows:
                self._step_one(part.group, p, g, state, rate)
            return
        directions = self._directions(part)
        wide = widened(directions)
        # A scalar of another dtype would take the slow path of a kernel for each tensor.
        if self.per in ("tensor", "element"):
            scaled = torch._foreach_mul(wide, [rate.to(wide[0].dtype) for rate in rates])
        else:
            scaled = torch._foreach_mul(wide, rates[0].to(wide[0].dtype))
        torch._foreach_sub_(part.parameters, scaled)
        for state, direction in zip(part.states, directions, strict=True):
            state["direction"] = direction

    # -- rates ----------------------------------------------------------------------------------

    @property
    def per(self) -> str:
        """What has a rate of its own: one of `hypergradient_rate.PER`."""
        return str(self.defaults["per"])

    def rates(self) -> list[Tensor]:
        """Return the rates as they are now, copies on their devices: nothing is read.

        One number in all for ``per="model"``, one a group or one a tensor; for ``"element"`` a
        tensor of each parameter's shape. Parameters that have had no gradient are at the start.
        """
        for group in self.param_groups:
            self._own(group)
        if self.per == "model":
            return [self.param_groups[0]["lr"].clone()]
        if self.per == "group":
            return [group["lr"].clone() for group in self.param_groups]
        return [
            self.state[p]["lr"].clone()
            if "lr" in self.state.get(p, {})
            else self._starting_rate(group, p)
            for group in self.param_groups
            for p in group["params"]
        ]

    def _own(self, group: dict[str, Any]) -> None:
        """Make a group's rate a tensor where its parameters are, whatever was written into it."""
        if self.per in ("tensor", "element"):
            return
        like = next(iter(group["params"]), None)
        dtype = rate_dtype(self.per, like)
        device = torch.device("cpu") if like is None else like.device
        rate = group["lr"]
        if isinstance(rate, Tensor) and (rate.device, rate.dtype, rate.dim()) == (device, dtype, 0):
            return
        group["lr"] = filled(torch.empty((), dtype=dtype, device=device), rate)

    def _starting_rate(self, group: dict[str, Any], p: Tensor) -> Tensor:
        dtype = rate_dtype(self.per, p)
        if self.per == "element":
            return filled(torch.empty_like(p, dtype=dtype, requires_grad=False), group["lr"])
        return filled(torch.empty((), dtype=dtype, device=p.device), group["lr"])

    # -- groups and states ----------------------------------------------------------------------

    @torch.no_grad()
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; with ``per="model"`` one that is added later takes the model's rate.

        Args:
            param_group: parameters, and settings where they are not the optimizer's.

        Raises:
            InvalidArgument, UnknownName, WrongType: a setting outside its range; parameters that
                are complex, sparse or shards; a rate of its own under ``per="model"``.
        """
        if not isinstance(param_group, dict):
            raise wrong_type("param_group", "a dict", param_group, "pass {'params': [...]}")
        if "params" not in param_group:
            fix = "pass {'params': [...]}"
            raise invalid("param_group", "a dict with 'params'", sorted(param_group), fix)
        params = param_group["params"]
        params = params if isinstance(params, Tensor | set) else list(params)
        for named in [params] if isinstance(params, Tensor) else params:
            check_parameter(named[1] if isinstance(named, tuple) else named)
        group = {**param_group, "params": params}
        full = {**self.defaults, **group}
        self._check(full)
        if full["per"] != self.per:
            fix = "pass per to the optimizer, and not to a group"
            raise invalid("per", f"{self.per!r} in every group", full["per"], fix)
        first = self.param_groups[0] if self.per == "model" and self.param_groups else None
        if first is not None and not self._building:
            if "lr" in group:
                fix = "leave lr out, for the model's rate, or use per='group'"
                raise invalid("lr", "one for all groups with per='model'", group["lr"], fix)
            full["lr"] = first["lr"]
            group["lr"] = first["lr"].clone()
        else:
            check_lr(full)
        if first is not None:
            _check_shared(full, first)
        super().add_param_group(group)
        if not self._building:
            self._own(self.param_groups[-1])

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; the run then continues bit for bit as the one that was saved.

        Args:
            state_dict: of the same class, `per` and parameters; nothing in it is shared.

        Raises:
            InvalidState: it is of another `per`, of an optimizer that has none, or damaged.
        """
        saved = check_state(
            state_dict,
            self.param_groups,
            together=self._together,
            elementwise=self.per == "element",
        )
        for index, group in enumerate(saved):
            if group.get("per") != self.per:
                raise InvalidState(
                    f"state_dict is of per={group.get('per')!r}, this optimizer of "
                    f"per={self.per!r}: construct it with the same"
                )
            try:
                self._check(group)
            except (KeyError, RatewiseError) as error:
                raise InvalidState(
                    f"state_dict['param_groups'][{index}] is damaged: {error}"
                ) from error
        super().load_state_dict(state_dict)
        # torch casts states to their parameters' dtype, which would round the rates of 16-bit
        # ones, and shares what needs no cast, which two optimizers would then both write to.
        keys = chain.from_iterable(group["params"] for group in saved)
        for key, p in zip(keys, self._parameters(), strict=True):
            for name, value in state_dict["state"].get(key, {}).items():
                if isinstance(value, Tensor):
                    dtype = rate_dtype(self.per, p) if name == "lr" else p.dtype
                    self.state[p][name] = value.detach().to(p.device, dtype, copy=True)
        for group in self.param_groups:
            self._own(group)


def _check_shared(group: dict[str, Any], first: dict[str, Any]) -> None:
    """Raise unless a group starts and moves its rate as the first one, with which it shares it."""
    for name in SHARED:
        if group[name] is not first[name] and group[name] != first[name]:
            allowed = f"the same in all groups with per='model', as {first[name]!r}"
            fix = "use per='group' for rates of their own"
            raise invalid(name, allowed, group[name], fix)
