"""GreedyLR for torch: the rate goes up while the loss improves and down while it does not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import invalid
from ratewise.rules.checks import check_count
from ratewise.rules.criterion import decide
from ratewise.rules.greedy import REASONS
from ratewise.rules.greedy_config import END, GreedyConfig, merged
from ratewise.rules.period import nonfinite
from ratewise.schedulers.arguments import check_capture
from ratewise.schedulers.clock import capturing
from ratewise.schedulers.events import logger
from ratewise.schedulers.greedy_rates import Bound, GreedyRates, check_bound, follow_bounds
from ratewise.schedulers.metric_lr import SYNC_EVERY, MetricLR
from ratewise.schedulers.resume import Place, annealing, at
from ratewise.schedulers.schedule import Schedule


class GreedyLR(MetricLR):
    r"""Raise the rate while the (smoothed) loss improves, lower it while it does not.

    With :math:`m_t` the mean of the last `window` finite losses, :math:`r` the reference (the
    best or the previous :math:`m`) and :math:`d` the threshold, after more than `patience`
    consecutive steps with

    .. math:: m_t < r - d: \; s \leftarrow s / F, \qquad m_t > r + d: \; s \leftarrow s F,

    and the rate of group g is ``clamp(base[g] * s, min_lr[g], max_lr[g]) * schedule(step)``.
    Call ``step(loss)`` after each optimizer step, with the training loss, or once an epoch
    with the validation loss. All counts below but `total_steps` are in such steps.

    Args:
        optimizer: any torch optimizer; its groups keep the ratios of their rates.
        criterion: what makes a good or a bad step. ``"count"``: each loss is one, as above.
            ``"significance"``: a step is good where the losses since the last such verdict show a
            falling trend of 2.5 standard errors, and bad where they show a rising one, or lie
            above the best stretch so far by 3 (then the rate is halved); noise alone changes
            little. Where `total_steps` is known the rate then falls to 0 over the last 70% of the
            run, by ``schedule="stable-decay:0.7"`` unless another is named. None, the default, is
            decided at the first loss, for good: ``"significance"`` with that fall where
            `total_steps` is known, given or told by a trainer, no `schedule` is named, and at
            least 300 losses are to come if they go on as the first came (one an epoch is seldom
            so many); else ``"count"``. `explain` says which, and why. To name `patience`,
            `window`, or in `config` `plateau`, `reference` or `first`, which say how to count, is
            to name ``"count"``; the other settings hold under both.
        factor: F in (0, 1), the change of one decision, 0.9.
        patience: consecutive good (bad) steps that must be exceeded before a decision; 3, and 0
            under significance.
        window: length of the rolling mean, 20; 1 is no smoothing. Under significance the most
            losses that are kept, 100.
        threshold: how much better than the reference counts as better; under significance the
            smallest change that matters.
        warmup: length of the stage after an increase, in which the rate goes on rising.
        cooldown: length of the stage after a decrease, in which it goes on falling.
        mode: ``"min"`` for losses, ``"max"`` for rewards and accuracies.
        on_nonfinite: a NaN or an infinity is a bad step (``"bad"``), is passed over
            (``"skip"``) or raises `NonFiniteLoss` (``"raise"``). It never enters a mean.
        config: all settings of the rule. The nine above are those that are set most often; the
            others choose between readings of the literature, as in
            ``config=GreedyConfig(reference="previous")``. An argument that is left out takes its
            value from `config`. When a state is loaded, settings of `config` count as given where
            they are not the default.
        min_lr: lower bound of the rate, a number or one a group; default 0.1 times the
            group's initial rate. What a schedule, another scheduler or a hand multiplies the
            rate by comes on top of the bounds.
        max_lr: upper bound, likewise; default 10 times the initial rate.
        missing: a bare ``step()`` before any loss raises (``"raise"``) or holds (``"hold"``).
        schedule: an open-loop shape that the rate is multiplied by: a name (``"cosine"``,
            ``"linear"``, ...) with `total_steps`, or a function from the step to a scale.
        total_steps: length of the run, for a `schedule` with a name, and for the criterion where
            none is named: in the optimizer's own steps, also where `step` is called once an epoch.
            Beyond it the schedule's end holds.
        decide_every: decide once in so many steps, on the mean of the losses in between.
        warmup_steps: length of a linear ramp up to the initial rate, in which nothing is decided;
            a `schedule` with a name begins after it.
        groups: indices of the parameter groups to schedule; None is all, later ones included.
        sync: how processes that train together agree on the loss: ``"mean"`` (every rank must
            bring a loss to the same steps, or the others wait for it), ``"rank0"`` (the first
            rank's; the others need none), or None, each on its own. Nothing is sent where there
            is one process.
        process_group: of `torch.distributed`; None is the default group.

    Raises:
        InvalidArgument, UnknownName, WrongType: a setting outside its range, or one that
            `config` has with another value that is not the default.

    Sources: Subramanian & Ganapathiraman, "Zeroth Order GreedyLR" (2023); arXiv 2512.14527,
    Algorithms 1-3 and appendix A.7.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([weight], lr=0.1)
    >>> scheduler = GreedyLR(optimizer, factor=0.5, patience=1, window=1)
    >>> for loss in (4.0, 3.0, 2.0):
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr(), scheduler.last_reason
    ([0.2], 'increase')
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        criterion: str | None = None,
        factor: float | None = None,
        patience: int | None = None,
        window: int | None = None,
        threshold: float | None = None,
        warmup: int | None = None,
        cooldown: int | None = None,
        mode: str | None = None,
        on_nonfinite: str | None = None,
        config: GreedyConfig | None = None,
        min_lr: Bound = None,
        max_lr: Bound = None,
        missing: str = "raise",
        schedule: Schedule = None,
        total_steps: int | None = None,
        decide_every: int = 1,
        warmup_steps: int = 0,
        groups: Sequence[int] | None = None,
        sync: str | None = "mean",
        process_group: Any = None,
        _outside_bounds: str = "raise",
    ) -> None:
        config = merged(
            config,
            criterion=criterion,
            factor=factor,
            patience=patience,
            window=window,
            threshold=threshold,
            warmup=warmup,
            cooldown=cooldown,
            mode=mode,
            on_nonfinite=on_nonfinite,
        )
        self._given |= config.stated().keys()
        if isinstance(optimizer, Optimizer):  # anything else is named by the base class
            count = len(groups if isinstance(groups, Sequence) else optimizer.param_groups)
            for name, bound in (("min_lr", min_lr), ("max_lr", max_lr)):
                check_bound(name, bound, count)
        if schedule is None and total_steps is not None:
            schedule = END.get(config.criterion or "")
        self._greedy = GreedyRates(config, (min_lr, max_lr), strict=_outside_bounds == "raise")
        super().__init__(
            optimizer,
            self._greedy,
            missing=missing,
            schedule=schedule,
            total_steps=total_steps,
            decide_every=decide_every,
            warmup_steps=warmup_steps,
            groups=groups,
            sync=sync,
            process_group=process_group,
        )
        self._open = config.criterion is None

    _why = ""  #: the criterion is what it is, if nobody has named it

    _places: ClassVar[Mapping[str, Place]] = {
        **MetricLR._places,
        **{f.name: at(f"rule.config.{f.name}") for f in dataclasses.fields(GreedyConfig)},
        "criterion": at("rule.config.criterion", memory="the losses are kept in another way"),
        "window": at("rule.config.window", memory="that many losses are kept"),
        "mode": at("rule.config.mode", memory="the best so far is one of that kind"),
        "min_lr": at("rule.bounds.min_lr"),
        "max_lr": at("rule.bounds.max_lr"),
    }

    @classmethod
    def like_transformers(
        cls,
        optimizer: Optimizer,
        *,
        mode: str = "min",
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: str = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float | Sequence[float] = 1e-3,
        max_lr: float | Sequence[float] = 1.0,
        eps: float = 1e-8,
        verbose: bool = False,
        smooth: bool = False,
        window_size: int = 50,
        reset_start: int = 500,
    ) -> GreedyLR:
        """Return a GreedyLR that gives the rates of `transformers.GreedyLR` (>= 5.4).

        The arguments are theirs, with their defaults; `verbose` is taken and does nothing. Not
        the same on purpose: a NaN (theirs never recovers when smoothing), a negative metric
        with a relative threshold (theirs compares the wrong way round), a smoothed metric
        within a rounding of its threshold (theirs is a running sum, which drifts), and a rate
        that comes to lie a rounding above `min_lr` (theirs may never reset then; here it is
        at its bound).
        """
        del verbose
        config = GreedyConfig(
            criterion="count",
            factor=factor,
            patience=patience,
            window=window_size if smooth else 1,
            threshold=threshold,
            threshold_mode=threshold_mode,
            reference="best",
            plateau="bad",
            warmup=warmup,
            cooldown=cooldown,
            stage="hold",
            mode=mode,
            reset_after=max(1, reset_start),
            eps=eps,
            eps_mode="abs",
            first="good",
        )
        return cls(optimizer, min_lr=min_lr, max_lr=max_lr, config=config, _outside_bounds="allow")

    @property
    def last_reason(self) -> str:
        """Why the last decision did what it did: one of `ratewise.rules.greedy.REASONS`.

        Reads the device, if the rates are on one.
        """
        return REASONS[int(self._greedy.rule.reason)]

    @property
    def criterion(self) -> str | None:
        """What makes a good or a bad step; None before the first loss, if none was named."""
        return self._greedy.rule.config.criterion

    @property
    def on_nonfinite(self) -> str:
        """What is done with a loss that is not finite: "bad", "skip" or "raise"."""
        return str(self._greedy.rule.config.on_nonfinite)

    def hear_length(self, steps: int) -> None:
        """Take the run's length from a trainer, where it ends the run or decides the criterion.

        What the constructor was given, a criterion that is decided already, and an annealing that
        has begun, hold.

        Args:
            steps: of the optimizer, in the whole run.
        """
        end = END.get(self.criterion or "")
        begun = self._begin or self.horizon != self._length
        waits = end is not None or self._open
        if not waits or begun or {"schedule", "total_steps"} & self._given:
            return
        self.schedule, self._length, self.horizon = end, steps, steps

    def anneal(self, steps: int) -> None:
        """Let the rate fall linearly to 0 from where it is, over so many optimizer steps.

        The rule goes on deciding; what it decides is multiplied by the fall. A `schedule` that was
        named is over then.

        Args:
            steps: optimizer steps from now on, >= 1; a ramp that is not over yet comes first.

        Raises:
            InvalidArgument: `steps` is no such number, or the schedule is a function, which
                nothing but itself can end.
        """
        check_count("steps", steps, 1)
        if callable(self.schedule):
            fix = "let it fall itself, or construct with e.g. schedule='cosine'"
            raise invalid("schedule", "None or a name", self.schedule, fix)
        now = self._clock.elapsed
        self._begin_annealing(now, now + steps, "linear")

    def _meet_first(self, every: int) -> None:
        """Decide by which criterion the run goes on, where none was named."""
        length = None if self.horizon is None else (self.horizon - self._ramp_end) / every
        decided = decide(self._greedy.rule.config, length, scheduled=self.schedule is not None)
        if capturing():
            check_capture(self.decide_every, 0, decided.end)
        self._greedy.decide_by(decided.config)
        self.schedule = decided.end or self.schedule
        self._why = decided.why
        logger.info(self._settled()[0])

    def _settled(self) -> list[str]:
        return [f"criterion: {self.criterion}, as {self._why}"] if self._why else []

    def _decide(self, metric: Any) -> None:
        if self._device is not None:
            self._decide_on_device(metric)
            return
        if self._raises and not math.isfinite(metric):
            raise nonfinite(metric, f"step {self.last_epoch}")
        rule, rates = self._greedy.rule, self._rates
        before = rule.before()
        rule.update(metric)
        if rule.changed():
            old = rates.current(self._groups())
            self._write()
            compared, reference, errors = rule.told(metric, before[0])
            why = (metric, compared, reference, *before[1:], self.last_reason)
            self._record.note(self.last_epoch, why, old, rates.current(self._groups()), errors)
        elif self.schedule is not None and (share := self.share()) != self._wrote:
            self._write(share)
        elif rates.looking:
            self._look()
        if self._record.trace.due():
            self._record.trace.add(self.last_epoch, metric, rates.current(self._groups())[0])

    def _decide_on_device(self, metric: Tensor) -> None:
        rule, record = self._greedy.rule, self._record
        before = rule.before()
        rule.update(metric)
        old = self._rates.write(self._groups(), self._own_rates())
        new = self._rates.wrote
        compared, reference, errors = rule.told(metric, before[0])
        fixed = [self._ticks, metric, compared, reference, *before[1:], rule.reason, errors]
        record.note_on_device(rule.changed(), fixed, old, new)
        if self._raises:
            self._spoilt.logical_or_(~torch.isfinite(metric))
        if capturing():
            return  # what follows is the host's, and no replay will do it
        if record.trace.due():
            record.trace.add(self.last_epoch, metric.clone(), new[0].clone())
        if self.last_epoch - self._synced_at >= SYNC_EVERY:
            self._synced_at = self.last_epoch
            if record.log.wanted:
                self.flush()
            elif self._device is not None and self._device.type == "cpu":
                self._look_back()
            if self._raises and bool(self._spoilt):
                self._spoilt.zero_()
                late = f"step {self.last_epoch} or up to {SYNC_EVERY} steps before"
                raise nonfinite(math.nan, late)

    def _restore(self, ours: dict[str, Any]) -> None:
        super()._restore(ours)
        self._open = self.criterion is None
        if "criterion" not in self._given:
            self._why = "" if self._open else "the state that was loaded has it"

    def _holding(self, saved: dict[str, Any]) -> Set[str]:
        names = super()._holding(saved)
        return names - {"schedule"} if annealing(saved) else names

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        super()._follow(ours, saved, changed)
        if "total_steps" in changed and ours["schedule"] is None:
            ours["schedule"] = END.get(ours["rule"]["config"]["criterion"] or "")
        if changed & {"min_lr", "max_lr"}:
            follow_bounds(ours["rule"])
