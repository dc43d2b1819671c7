"""An optimizer's step measured and scaled, between its two step hooks.

What a step moves is multiplied by a factor a tensor: ``p = p_old + f (p_new - p_old)``. As much of
the factor as possible goes into the rate beforehand (`ratewise.schedulers.prescale`), the rest is
applied afterwards. Where one factor holds for a whole group, nothing is left for afterwards, and a
step that is not measured needs no copy of the weights.

Nothing is read from a device: factors are a vector there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import InvalidState
from ratewise.rules import update_ratio as rule
from ratewise.rules.update_ratio import UpdateRatioConfig, UpdateRatioState
from ratewise.schedulers.online_correction import KINDS, OnlineCorrection, check_online
from ratewise.schedulers.parameters import Groups, Parameters
from ratewise.schedulers.policy_state import PolicyState
from ratewise.schedulers.prescale import Prescale, Scale
from ratewise.schedulers.shards import local

#: Bytes of differences that exist at one time: as many as a cache holds, or plenty on a device.
CHUNK_CPU, CHUNK_DEVICE = 1 << 20, 1 << 26
#: Where nothing moves at the given rate, up to so many times that rate is tried.
PROBE = 1e4


class Displacement:
    """The factors of an optimizer's tensors, and what is done before and after a step.

    Args:
        optimizer: whose steps they are; only its kind is looked at.
        config: the rule's settings.
        per: one of `ratewise.schedulers.parameters.PER`.
        measure_every: measure one step in so many, after the first `rule.EARLY`.
        policy: corrects the wanted ratio, and sees what is measured; None is none.
        online: let each gradient correct the ratios by the step before.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        config: UpdateRatioConfig,
        per: str,
        measure_every: int,
        policy: PolicyState | None = None,
        online: bool = False,
    ) -> None:
        if online:
            check_online(optimizer)
        self._may_be_online = type(optimizer) in KINDS
        self.online = OnlineCorrection(online)
        self.config, self.measure_every, self.policy = config, measure_every, policy
        self.steps = 0  #: steps of the optimizer that were seen
        self._decided = 0  # which of them was measured last
        self._typical_known = False  # what the state's `typical` says, without reading it
        self.parameters = Parameters([], per)
        self._prescale = Prescale(optimizer)
        self._range_factors: list[float] = []  # [groups], see `relate`
        self._proportions: list[float] = []
        self._set(rule.init(self.parameters.count, zero=self.parameters.zero, xp=torch))
        self._probe = torch.ones(0)  # [groups] the rates' factors where nothing has moved yet
        #: [tensors] ||dp|| / ||p|| as applied on the last measured step.
        self.ratios = torch.zeros(0)
        self._active: list[int] = []
        self._groups: Groups = []
        self._memory: Mapping[Tensor, Any] = {}
        self._copies: list[Tensor] = []
        self._measuring = False

    def meet(self, groups: Groups) -> None:
        """Take in the groups' tensors as they are now; those that were known keep their factor."""
        if self.parameters.unchanged(groups):
            return
        new = Parameters(groups, self.parameters.per)
        factor, settled = (new.carry(self.parameters, units) for units in self.state[:2])
        typical = self.state.typical.to(new.device)
        self.online.meet(new, self.parameters)
        self.parameters = new
        self.ratios = new.zero.expand(len(new.params)).clone()
        old = self._probe.to(new.device)
        self._probe = torch.cat([old, torch.ones(len(groups), device=new.device)])[: len(groups)]
        self._set(UpdateRatioState(factor, settled, typical))
        if self.policy is not None:
            self.policy.to(new.zero)

    def relate(self, range_factors: Sequence[float], proportions: Sequence[float]) -> None:
        """Take in how the groups' base rates relate to usual ones, and to each other.

        Args:
            range_factors: what brings each group's rate into the usual range
                (`ratewise.schedulers.base_lrs`). The rule's factors are of steps at that rate.
            proportions: each group's share of the ratio.
        """
        self._range_factors = [] if set(range_factors) <= {1.0} else list(range_factors)
        self._proportions = [] if set(proportions) <= {1.0} else list(proportions)
        if len(self.parameters.counts) == len(range_factors):
            self._set(self.state)

    def _set(self, state: UpdateRatioState) -> None:
        self.state = state
        self._highest = self.parameters.largest(self._spread(state.factor))

    def _spread(self, units: Tensor) -> Tensor:
        """Return the rule's factors as what the tensors' displacements are multiplied by."""
        factors = self.parameters.spread(units)
        return (
            factors * self.parameters.by_group(self._range_factors)
            if self._range_factors
            else factors
        )

    def factors(self) -> Tensor:
        """Return each tensor's factor, [tensors], where they lie; 0 if it was not measured yet."""
        return self._spread(self.state.factor) * self.online.multiplier()

    def rescale(self, times: Sequence[float]) -> None:
        """Multiply the factors, where other full rates take the old ones' place.

        Args:
            times: one a group. Where one factor is for all, it takes their geometric mean.
        """
        if self.parameters.per == "model":
            times = [math.exp(sum(map(math.log, times)) / len(times))]
        groups = self.state.factor.new_tensor(times)
        both = self.parameters.by_group(times) if self.parameters.per == "tensor" else groups
        factor, settled, typical = self.state
        self._set(UpdateRatioState(factor * both, settled * both, typical))

    # -- a step -------------------------------------------------------------------------------

    def before(
        self,
        groups: Groups,
        scales: Sequence[Scale],
        closure: bool,
        memory: Mapping[Tensor, Any],
    ) -> None:
        """Prepare for a step of the optimizer, after `meet`.

        Args:
            groups: the steered parameter groups.
            scales: each group's rate over its rate at the schedule's full height.
            closure: gradients come during the step.
            memory: the optimizer's state.
        """
        self._active = [
            index
            for index, p in enumerate(self.parameters.params)
            if p.requires_grad and (closure or p.grad is not None)
        ]
        self._copies = []
        if not self._active:
            return
        self._measuring = rule.measures(self.steps, self.measure_every)
        self._scales = list(scales)
        # What was not measured yet stands still on a step that is not measured either.
        probe = self._probe if self._measuring else torch.zeros_like(self._probe)
        factors = self._range_factors or [1.0] * len(groups)
        self._groups, self._memory = groups, memory
        if not closure:  # which brings gradients of its own
            self._judge()
        probes = probe.unbind()
        if self._range_factors:
            probes = tuple(x * times for x, times in zip(probes, factors, strict=True))
        self._prescale.apply(groups, self._corrected(), probes, factors)
        whole = all(share is not None for share in self._prescale.applied)
        if self._measuring or self.parameters.per == "tensor" or not whole:
            self._copy()

    def _copy(self) -> None:
        now = [local(self.parameters.params[index]) for index in self._active]
        self._copies = [torch.empty_like(new) for new in now]
        torch._foreach_copy_(self._copies, now)

    def _judge(self) -> None:
        """Let the gradients, which are there now, correct the ratios."""
        step = (self.steps, self._active, self.parameters, self._groups, self._memory)
        self.online.judge(*step)

    def _corrected(self) -> list[Tensor]:
        """Return the groups' largest factors under the online correction."""
        times = self.online.multiplier()
        return [x * times for x in self._highest] if self.online.on else self._highest

    def around(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return what a step that was begun calls in the closure's place."""
        if not self._active:
            return closure

        def judged() -> Any:
            loss = closure()
            self._judge()
            self._prescale.take(self._corrected())
            return loss

        return self._prescale.around(judged if self.online.on else closure)

    def undo_unfinished(self) -> None:
        """Put the groups' rates back, if a step was begun and never ended."""
        self._prescale.undo()
        self.online.undo()

    def after(self) -> bool:
        """Scale what the step has moved, and return whether it was measured."""
        self._prescale.undo()
        active, measuring = bool(self._active), self._measuring
        rest = None
        now = [local(self.parameters.params[i]) for i in self._active] if self._copies else []
        if active and measuring:
            self._apply(rest := self._decide(now), now)
        elif active and self._copies:
            self._apply(rest := self._rest(self.state.factor), now)
        if active and self.online.on:
            self._remember(self._rest(self.state.factor) if rest is None else rest)
        self._copies, self._active = [], []
        self.steps += active
        return active and measuring

    def _decide(self, now: list[Tensor]) -> Tensor:
        """Measure this step; return what is left to apply of it, and keep the new factors."""
        parameters, state = self.parameters, self.state
        before = parameters.norms(self._active, _norms(self._copies))
        gradients = self._gradients() if self.policy is not None else {}
        moved, along = self._displacements(now, gradients)
        typical = state.typical
        if not self._typical_known:
            typical = rule.typical_rms(before, parameters.sizes, parameters.matrices, xp=torch)
            self._typical_known = True
        norms = rule.floored(before, parameters.sizes, typical, floor=self.config.floor, xp=torch)
        taking_part = torch.where((before > 0) | (moved > 0), norms, 0.0)
        whole = moved * parameters.by_group(self._prescale.whole(self._scales))
        if self._range_factors:
            whole = whole * parameters.by_group(self._range_factors)
        against = parameters.together(taking_part)
        unit = torch.where(against > 0, parameters.together(whole) / against, 0.0)
        if self._proportions:  # the rule wants ratio / unit
            unit = unit / parameters.by_unit(self._proportions)
        applied, state = rule.update(
            state._replace(typical=typical),
            unit=unit if self.policy is None else unit / self.policy.value,
            config=self.config,
            steps=max(1, self.steps - self._decided),
            early=self.steps < rule.EARLY,
            xp=torch,
        )
        self._decided = self.steps
        if self._highest:  # a rate too low for the weights' precision is raised until they move
            known = torch.stack(self._highest) + torch.stack(parameters.largest(moved))
            more = torch.clamp(10.0 * self._probe, max=PROBE)
            self._probe = torch.where(known > 0, self._probe, more)
        rest = self._rest(applied)
        self.ratios = rest * moved / norms
        self._set(state)
        if self.policy is not None and gradients:
            slopes = parameters.norms(list(gradients), _norms(list(gradients.values())))
            self.policy.look(gradient=slopes, along=along, moved=moved, before=before, applied=rest)
        return rest

    def _remember(self, rest: Tensor) -> None:
        """Tell the online correction what this step's directions were multiplied by."""
        shares = self.parameters.by_group(self._prescale.shares())
        rates = self.parameters.by_group([group["lr"] for group in self._groups])
        moved = [i for i in self._active if self.parameters.params[i].grad is not None]
        self.online.remember(rest * shares * rates, moved)

    def _displacements(
        self, now: list[Tensor], gradients: dict[int, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return ||d_i||, and <g_i, d_i> where there is a gradient, both [tensors]."""
        norms: list[Tensor] = []
        along: dict[int, Tensor] = {}
        for part, differences in _differences(now, self._copies):
            norms += _norms(differences)
            for index, difference in zip(self._active[part], differences, strict=True):
                if index in gradients:
                    along[index] = (difference * gradients[index]).sum()
        sums = self.parameters.sums(list(along), list(along.values()))
        return self.parameters.norms(self._active, norms), sums

    def _gradients(self) -> dict[int, Tensor]:
        """Return the local parts of the dense gradients, by their tensors' positions."""
        found = ((index, self.parameters.params[index].grad) for index in self._active)
        return {i: local(g) for i, g in found if g is not None and g.layout == torch.strided}

    def _rest(self, factor: Tensor) -> Tensor:
        """Return what is left of the units' factors beside what the rates had, [tensors]."""
        shares = self.parameters.by_group(self._prescale.shares())
        return torch.where(
            shares > 0, self._spread(factor) * self.online.multiplier() / shares, 0.0
        )

    def _apply(self, rest: Tensor, now: list[Tensor]) -> None:
        weights: dict[torch.dtype, Sequence[Any]] = {}
        for index, old, new in zip(self._active, self._copies, now, strict=True):
            if new.dtype not in weights:  # numbers where that waits for nothing: they are quicker
                each = rest.to(new.dtype)
                weights[new.dtype] = each.tolist() if each.device.type == "cpu" else each.unbind()
            torch.lerp(old, new, weights[new.dtype][index], out=new)

    def words(self, last: int) -> list[str]:
        """Return a line a tensor, those whose factors lie furthest from 1 first; reads a device."""
        of = self.parameters
        values = zip(
            self.factors().tolist(), self.ratios.tolist(), of.names, of.shapes(), strict=True
        )
        rows = sorted(values, key=lambda row: -abs(math.log(row[0] or 1.0)))
        return [
            f"  {name} {tuple(shape)}: "
            + (f"factor {factor:.4g}, moved by {ratio:.4g}" if factor else "not measured yet")
            for factor, ratio, name, shape in rows[:last]
        ]

    # -- copies and checkpoints -----------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Copies of weights belong to a step, and to no copy of this object."""
        return self.__dict__ | {"_copies": [], "_active": [], "_groups": [], "_memory": {}}

    def to_state(self) -> dict[str, Any]:
        """Return plain data: waits for a device."""
        return {
            "factor": self.state.factor.tolist(),
            "settled": self.state.settled.tolist(),
            "typical": float(self.state.typical),
            "probe": self._probe.tolist(),
            "ratios": self.ratios.tolist(),
            "measure_every": self.measure_every,
            "steps": self.steps,
            "decided": self._decided,
            "shapes": self.parameters.shapes(),
            "policy": None if self.policy is None else self.policy.to_state(),
            "online": self.online.to_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `to_state` returned, for the same tensors in the same order.

        Raises:
            InvalidState: it is of other tensors, or of another `per`.
        """
        self.parameters.check_shapes(state["shapes"])
        zero = self.parameters.zero
        names = ("factor", "settled", "ratios", "probe")
        factor, settled, ratios, probe = (zero.new_tensor(state[name]) for name in names)
        here = (self.state.factor, self.state.settled, self.ratios, self._probe)
        if [x.shape for x in (factor, settled, ratios, probe)] != [x.shape for x in here]:
            raise InvalidState("state_dict['ratewise'] is damaged: numbers of factors do not match")
        if len(state["online"]["last"]) != len(self.ratios):
            raise InvalidState("state_dict['ratewise'] is damaged: numbers of tensors do not match")
        if state["online"]["on"] and not self._may_be_online:
            known = " or ".join(kind.__name__ for kind in KINDS)
            raise InvalidState(
                f"state_dict is of a scheduler that corrects online, which {known} allows: "
                "construct this one with online=False, or give it such an optimizer"
            )
        if (state["policy"] is None) != (self.policy is None):
            raise InvalidState("state_dict is of a scheduler with a policy, or this one has one")
        if self.policy is not None:
            self.policy.restore(state["policy"])
        self.measure_every = int(state["measure_every"])
        self.online.restore(state["online"], zero)
        self.steps, self._decided = int(state["steps"]), int(state["decided"])
        self.ratios, self._probe = ratios, probe
        self._typical_known = state["typical"] > 0
        self._set(UpdateRatioState(factor, settled, zero.new_tensor(state["typical"])))


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    """Return norms that are formed in float32, or in float64 where a tensor is of it."""
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    kind = torch.float64 if double else torch.float32
    return list(torch._foreach_norm(tensors, 2, dtype=kind))


def _differences(new: list[Tensor], old: list[Tensor]) -> Iterator[tuple[slice, list[Tensor]]]:
    """Yield new - old, part by part: few of the differences are in memory at a time."""
    begin, size = 0, 0
    limit = CHUNK_CPU if new[0].device.type == "cpu" else CHUNK_DEVICE
    for end, tensor in enumerate(new, start=1):
        size += tensor.nbytes
        if size >= limit or end == len(new):
            part = slice(begin, end)
            yield part, list(torch._foreach_sub(new[part], old[part]))
            begin, size = end, 0
