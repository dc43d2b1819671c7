"""StochasticLineSearch: a rate for every batch, from trial steps on that batch's own loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ratewise.errors import InvalidState, RatewiseError, invalid, wrong_type
from ratewise.optimizers.line_search_direction import adam_direction, check_adam, dot
from ratewise.optimizers.line_search_outcome import LineSearchStep, warn_of
from ratewise.optimizers.line_search_rate import LineSearchConfig, first_trial, search
from ratewise.optimizers.line_search_trials import Trials
from ratewise.optimizers.saved_state import check_state
from ratewise.rules import schema

#: Where the numbers that are the whole model's lie in the optimizer's state, as plain data.
KEY = "search"
#: What they must look like.
NUMBERS = schema.record(
    {
        "rate": schema.optional(schema.above(0.0)),
        "forward_passes": schema.count(),
        "checked": schema.flag,
        "config": schema.settings(LineSearchConfig),
    }
)


class StochasticLineSearch(Optimizer):
    r"""SGD or Adam with a rate per batch, found by trial forward passes on that batch's own loss.

    With g the gradient of the batch's loss f at w, a step tries rates :math:`\eta` from large to
    small and takes the first one that meets Armijo's condition

    .. math:: f(w - \eta d) \le f(w) - c \, \eta \, \langle g, d \rangle, \qquad
              d = g \quad \text{or} \quad d = A^{-1} m.

    For ``"sgd"`` the product is :math:`\|g\|^2`. For ``"adam"``, A is Adam's
    :math:`\sqrt{\hat v} + \varepsilon` and m its mean of gradients; with the first of `betas` 0,
    as in the paper, m = g and the product is :math:`\|g\|^2_{A^{-1}}`. ``"goldstein"`` asks besides
    for :math:`f(w - \eta d) \ge f(w) - (1 - c) \eta \langle g, d \rangle`: a rate that is too
    small grows, up to `lr`. Where one model fits all batches exactly, SGD with Armijo and c = 1/2
    converges linearly on strongly convex losses, as if it knew their curvature; where none does,
    it stalls at a distance, as any rate that does not fall.

    ``step(closure)`` takes a function that returns the loss of **one** batch and does not call
    ``backward()``: the optimizer does, once, and zeroes gradients itself. Trials run under
    ``torch.no_grad()`` and see the same dropout: torch's generators, the CPU's and those of the
    parameters' devices, are set back for each. With `model`, so are its buffers, such as
    BatchNorm's running statistics, and after the step generators and buffers are as one training
    pass leaves them. Batches have to be drawn outside of the closure; the first step, and any that
    finds no rate, evaluates twice at the same point and refuses a loss that differs.

    Where no trial meets the condition, the step is made with `min_lr`, if the loss there is finite,
    or not at all; `last` says so, a warning does once a run, and the next step begins at `lr`. The
    same holds for a direction along which the loss does not fall, except that the rate is kept.
    Where the loss or its gradient is not finite nothing is changed, averages included.

    ``group["lr"]`` is the rate of the last step, a Python float, one for all groups: what a
    scheduler writes there is not used. Each trial is a forward pass and a read from the device, so
    a step cannot be captured in a CUDA graph. Memory: a copy of the parameters (`functional`: of
    the trial point), and for ``"adam"`` the direction and one or two averages. There is no weight
    decay, since the condition is about one function: add it to the loss. Gradients must be whole:
    no sharded parameters; with data parallelism every rank has to see the mean loss, e.g.
    ``loss + (mean - loss).detach()``, or the ranks part. What else a forward pass changes (Python
    attributes, generators of one's own) changes with every trial.

    Args:
        params: as for any torch optimizer; a group may have its own `betas` and `eps`.
        lr: the largest rate, and the first that is tried, > 0.
        model: the module whose buffers the loss changes; needed with BatchNorm in training.
        direction: ``"sgd"`` or ``"adam"``.
        condition: ``"armijo"`` or ``"goldstein"``.
        c: how much of the first-order decrease is asked for, in (0, 1); Goldstein: in (0, 1/2).
        backtrack: what a rate that is too large is multiplied by, in (0, 1). In the second half of
            the trials the factor is smaller, if it has to be for the last to be at `min_lr`.
        growth: by how much the rate may grow in an epoch, >= 1, under ``"grow"``; and what
            Goldstein multiplies a rate by that is too small, > 1.
        reset: where a step's search begins: ``"previous"``, at the last accepted rate, which so
            never grows under Armijo; ``"max"``, at `lr`; ``"grow"``, at the last times
            ``growth ** (1 / steps_per_epoch)``, at most `lr`.
        steps_per_epoch: optimizer steps an epoch, >= 1; needed for ``"grow"``.
        min_lr: the floor, in (0, lr].
        max_trials: most trials a step, >= 1; there are at most three forward passes more.
        betas: for ``"adam"``: of the mean of gradients and of their squares, in [0, 1). With the
            first above 0 the direction may be none of descent.
        eps: for ``"adam"``: added to the root of the squares' mean, > 0.

    Raises:
        InvalidArgument, UnknownName, WrongType: a setting outside its range; a complex parameter.

    Sources: Vaswani et al. 2019 (arXiv 1905.09997), eq. (1) and Algorithms 1 and 2, whose options
    0, 1 and 2 are `reset`; Vaswani et al. 2020 (2006.06835) for ``"adam"``.

    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    >>> optimizer = StochasticLineSearch([weight], backtrack=0.5)
    >>> optimizer.step(lambda: (torch.tensor([1.0, 8.0]) * weight.square()).sum())
    tensor(17.)
    >>> optimizer.last.rate, optimizer.last.new_loss, optimizer.last.reason
    (0.125, 13.0625, 'armijo')
    >>> optimizer.forward_passes  # one with gradients, one to see that the batch stays, four trials
    6
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = LineSearchConfig.lr,
        *,
        model: nn.Module | None = None,
        direction: str = LineSearchConfig.direction,
        condition: str = LineSearchConfig.condition,
        c: float = LineSearchConfig.c,
        backtrack: float = LineSearchConfig.backtrack,
        growth: float = LineSearchConfig.growth,
        reset: str = LineSearchConfig.reset,
        steps_per_epoch: int | None = None,
        min_lr: float = LineSearchConfig.min_lr,
        max_trials: int = LineSearchConfig.max_trials,
        betas: tuple[float, float] = (0.0, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if model is not None and not isinstance(model, nn.Module):
            fix = "pass the module that the closure calls"
            raise wrong_type("model", "a torch.nn.Module or None", model, fix)
        self._model = model
        self._config = LineSearchConfig(
            lr=lr,
            direction=direction,
            condition=condition,
            c=c,
            backtrack=backtrack,
            growth=growth,
            reset=reset,
            steps_per_epoch=steps_per_epoch,
            min_lr=min_lr,
            max_trials=max_trials,
        )
        #: What the last step did, a `LineSearchStep`; None before the first, and after a restore.
        self.last: LineSearchStep | None = None
        self._warned = False
        super().__init__(params, {"lr": float(lr), "betas": betas, "eps": eps})
        self._remember(rate=None, forward_passes=0, checked=False)

    # -- a step ------------------------------------------------------------------------------------

    def step(  # type: ignore[override]
        self,
        closure: Callable[[], Tensor] | None = None,
        *,
        functional: Callable[[tuple[Tensor, ...]], Tensor] | None = None,
    ) -> Tensor:
        """Make a step on one batch, and return its loss before the step, without graph.

        Args:
            closure: returns the batch's loss, a scalar with a graph, and leaves ``backward()`` to
                the optimizer.
            functional: instead of it, a function of the parameters' values, a tuple in the groups'
                order: trials are tensors of their own, and the module changes only at the end.

        Raises:
            InvalidArgument, WrongType: no such function; a closure that calls ``backward()``, draws
                a new batch each time, or returns no scalar tensor with a graph; sparse gradients.
                Parameters, buffers and generators are then as before the step, as after any error
                of the closure's own.

        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = StochasticLineSearch(model.parameters())
        >>> x, y, names = torch.eye(2), torch.ones(2, 1), ["weight", "bias"]
        >>> def loss_at(values):
        ...     values = dict(zip(names, values, strict=True))
        ...     return (torch.func.functional_call(model, values, x) - y).square().mean()
        >>> loss = optimizer.step(functional=loss_at)
        >>> bool(loss_at(tuple(model.parameters())) < loss)
        True
        """
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        trials = Trials(closure, functional, parameters, self._model)
        try:
            loss = trials.first()
            last = self._search(trials, loss)
            trials.settle(last.rate)
        except BaseException:
            trials.undo()
            raise
        self._record(last)
        return loss

    def _search(self, trials: Trials, loss: Tensor) -> LineSearchStep:
        """Search for the rate, and return how the step is to be made."""
        gradients = [gradient for gradient in trials.gradients if gradient is not None]
        # Two reads in one. A gradient whose square overflows counts as infinite.
        squared_norm = dot(gradients, gradients)
        both = torch.stack([loss.reshape(()).to(squared_norm.device), squared_norm])
        value, squared = both.tolist()

        def ended(rate: float, new: float, accepted: bool, reason: str) -> LineSearchStep:
            return LineSearchStep(value, new, rate, slope, trials.passes, accepted, reason)

        slope = squared
        if not (math.isfinite(value) and math.isfinite(squared)):
            return ended(0.0, value, False, "non-finite")
        if not self._numbers["checked"]:
            trials.check_batch(value)
        direction = gradients
        if self._config.direction == "adam":
            direction = adam_direction(self.param_groups, trials.gradients, self.state)
            slope = dot(gradients, direction).item()
        if squared == 0.0:
            return ended(0.0, value, False, "stationary")
        trials.along(direction)
        if not 0.0 < slope < math.inf:
            floor = self._config.min_lr
            new = trials.at(floor)
            kept = math.isfinite(new)
            rate = floor if kept else 0.0
            return ended(rate, new if kept else value, False, "not a descent direction")
        found = search(
            trials.at,
            loss=value,
            slope=slope,
            start=first_trial(self._config, self._numbers["rate"]),
            config=self._config,
            resolution=torch.finfo(loss.dtype).eps / 2,
        )
        if not found.accepted:  # the batch's own doing, or of a closure that draws another one?
            trials.check_batch(value)
        return ended(*found[:4])

    def _record(self, last: LineSearchStep) -> None:
        """Record how a step went, for the next one and for the user."""
        self.last = last
        numbers = self._numbers
        rate = numbers["rate"]
        if last.accepted:
            rate = last.rate
        elif last.reason == "floor":
            rate = None  # to begin at lr again: under "previous" a rate that sank never rises
        self._remember(
            rate=rate,
            forward_passes=numbers["forward_passes"] + last.forward_passes,
            checked=numbers["checked"] or last.reason != "non-finite",
        )
        for group in self.param_groups:
            group["lr"] = last.rate
        self._warned = self._warned or warn_of(last, stacklevel=4)

    # -- what it remembers -------------------------------------------------------------------------

    @property
    def forward_passes(self) -> int:
        """Forward passes of all steps so far; a checkpoint keeps the count."""
        return self._numbers["forward_passes"]

    @property
    def _numbers(self) -> dict[str, Any]:
        states: dict[Any, Any] = self.state
        return states[KEY]

    def _remember(self, **numbers: Any) -> None:
        # A new dict each time: a state dict that was taken before keeps the old one.
        states: dict[Any, Any] = self.state
        states[KEY] = {**numbers, "config": dict(vars(self._config))}

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the settings, too, and a model that is copied along."""
        own = {name: getattr(self, name) for name in ("_model", "_config", "last", "_warned")}
        return {**super().__getstate__(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the optimizer that `state_dict` is of would have, to the last bit.

        Args:
            state_dict: of another `StochasticLineSearch`, whose settings are taken over; the model
                and its generators are the caller's to restore.

        Raises:
            InvalidState: it is of another optimizer, or damaged.
        """
        states: Any = state_dict.get("state") if isinstance(state_dict, dict) else None
        numbers: Any = states.get(KEY) if isinstance(states, dict) else None
        try:
            NUMBERS(f"state[{KEY!r}]", numbers)
        except InvalidState as error:
            raise InvalidState(
                f"state_dict must be of a StochasticLineSearch, got one whose state[{KEY!r}] is "
                f"missing or damaged ({error}): load it into an optimizer of its own kind"
            ) from error
        config = LineSearchConfig(**numbers["config"])
        rate = numbers["rate"]
        legal = rate is None or rate <= config.lr
        schema.require(legal, f"state[{KEY!r}]['rate']", f"at most lr = {config.lr:g}", rate)
        entries = {**state_dict, "state": {k: x for k, x in states.items() if k != KEY}}
        for group in check_state(entries, self.param_groups, together=("step", "exp_avg_sq")):
            try:
                check_adam(group["betas"], group["eps"])
            except (KeyError, RatewiseError) as error:
                raise InvalidState(f"state_dict['param_groups'] is damaged: {error}") from error
        super().load_state_dict(state_dict)
        self._config, self.last = config, None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; the next step moves them with the others' rate.

        Args:
            param_group: "params", and "betas" and "eps" where they are the group's own.

        Raises:
            InvalidArgument, WrongType: a rate of the group's own, a complex parameter, a setting
                outside its range.
        """
        rate = self.param_groups[0]["lr"] if self.param_groups else self._config.lr
        if isinstance(param_group, dict):
            own = param_group.get("lr", rate)
            if own not in (rate, self._config.lr):
                fix = "leave it out: one search finds one rate for all groups"
                raise invalid("lr", f"{self._config.lr:g} in every group", own, fix)
            param_group["lr"] = rate
            check_adam(*(param_group.get(name, self.defaults[name]) for name in ("betas", "eps")))
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if not parameter.dtype.is_floating_point:
                self.param_groups.pop()
                fix = "optimize the real and the imaginary part as two real tensors"
                raise invalid("params", "of a real dtype", parameter.dtype, fix)
