"""UpdateRatioLR for torch: each tensor moves by a set share of its own size, from any rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import invalid, unknown, wrong_type
from ratewise.rules.fixed import FIXED
from ratewise.rules.ratio_law import Outlook, RatioLaw
from ratewise.rules.update_ratio import EVERY, UpdateRatioConfig
from ratewise.schedulers.parameters import PER
from ratewise.schedulers.ratio_control import RatioControl
from ratewise.schedulers.ratio_lr import RatioLR
from ratewise.schedulers.resume import Place, at

#: Arguments that are the rule's settings as they are.
_SETTINGS = ("start", "gain", "rise", "fall", "cap", "floor", "reach")


class UpdateRatioLR(RatioLR):
    r"""Let each tensor's ||dp|| / ||p|| follow ``ratio * schedule(progress)``, whatever the rate.

    An optimizer's step moves tensor i by :math:`d_i`; what is kept of it is

    .. math:: p_i \leftarrow p_i + f_i d_i, \qquad
              f_i \to \mathrm{ratio} \, s \, \max(\|p_i\|, \varepsilon_i) / \|d_i\|,

    with s the schedule and the floor :math:`\varepsilon_i` = `floor` times the rms of a typical
    weight times :math:`\sqrt{n_i}`. What a step moves is all that it does, AdamW's weight decay
    included, which is scaled with the rest. So the rate that the optimizer was given does not
    matter, and any torch optimizer will do. Parameter groups stay as they are: the work is done in
    the optimizer's step hooks, after unscaling and clipping, and a step that a GradScaler skips is
    none. ``get_last_lr()`` is base rate times schedule; `factors()` are the tensors' own.

    Call ``step()`` after each optimizer step, or once an epoch, or not at all: the schedule counts
    the optimizer's own steps, and the rate moves before each of them. (Once called, it goes on
    for as many steps as lay between two calls before, then waits for the next: in a
    `SequentialLR` its turn is over.) A loss is taken and ignored, so that loops written for other
    ratewise schedulers run as they are.

    Args:
        optimizer: any torch optimizer, all parameters on one device.
        ratio: the relative displacement of a step at the schedule's full height, in (0, 1]; None
            is `ratewise.rules.ratio_law.default_ratio(total_steps, steps_per_epoch, pretrained)`.
        per: what has a factor of its own: ``"tensor"``, ``"group"`` (a parameter group), or
            ``"model"``.
        schedule: how the ratio falls over `total_steps`: a name of `ratewise.rules.fixed.FIXED`.
        total_steps: length of the run in optimizer steps; None holds the ratio until `anneal`.
            Beyond it the final rate holds.
        steps_per_epoch: optimizer steps in a pass over the data; the ratio falls where rows are
            seen often. A number of `total_steps` or more says that no row is seen twice. None is
            not known: a ratio between the two, and the integrations fill it in.
        pretrained: the weights were trained before, on something else (fine-tuning): your word,
            nothing is looked at. The ratio that such runs want was found to be no other.
            Where they are to stay close to what they were, pass `ratio`.
        online: let each gradient correct all ratios by how it lies to the step before
            (`ratewise.rules.online`): up or down by at most 8. Under Adam and AdamW alone. It
            mends a ratio that is far too small, and follows the training loss: not for rows that
            are seen often. At the default ratio it gains nothing in the mean, so it is off. It
            needs no memory, and one reduction under FSDP2.
        measure_every: measure one step in so many; the first 50 are all measured. Factors are
            kept in between.
        warmup_steps: length of a linear ramp up to `ratio`; the schedule begins after it.
        start: share of the ratio at which a tensor begins, in (0, 1].
        gain: share of the difference, in logarithms, that one decision makes up, in (0, 1]; with 1
            each measured step has the wanted ratio, whatever its gradient.
        rise: most that a factor grows by in one optimizer step, > 1.
        fall: most that it is divided by, > 1.
        cap: no measured step moves a tensor by more than so many times its ratio, >= 1.
        floor: norms count as no smaller than that of so many typical weights, > 0: what begins at
            zero can move.
        reach: after the first 50 steps a factor grows to at most so many times what it was then,
            >= 1: where gradients vanish it would rise until the next large one.
        bounds: of a factor. Base rates outside 1e-6 to 1e3 are first brought to the nearer end of
            that range; the bounds are of the factor on top.
        keep_proportions: a group's ratio is `ratio` times its rate over the largest of all groups'
            rates, as they were at construction: layer-wise decay, or a backbone that is to move
            slowly, stay what they are. A group that is added later relates to the same rate, and
            gets at most `ratio`. With ``per="model"`` displacements have the proportion already.
            False gives all groups the same ratio. That is right where rates differ for another
            reason, such as muP's 1 / width, which is about absolute steps and not relative ones.
        groups: indices of the parameter groups to steer and schedule; None is all.

    Raises:
        InvalidArgument, UnknownName, WrongType: a setting outside its range; parameters that are
            sparse, on several devices, or flattened shards; a rate of 0, or outside 1e-30 to 1e30
            (below 1e-6 with an optimizer whose step is no multiple of its rate).

    Sources: You et al. 2017 (arXiv 1708.03888) and 2020 (1904.00962) for the ratio;
    `ratewise.rules.update_ratio` lists the variants.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.full((4, 4), 0.5))
    >>> optimizer = torch.optim.SGD([weight], lr=1000.0)
    >>> scheduler = UpdateRatioLR(optimizer, ratio=0.01, start=1.0)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     weight.square().sum().backward()
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr(), round(scheduler.ratios().item(), 3)
    ([1000.0], 0.01)

    A run that turns out too short can be resumed as a longer one. The length that the constructor
    is given holds against the saved one, and a warning says what that changes; where it is left
    out, the saved one holds. An annealing that was begun comes to its end as it was to.

    >>> import textwrap, warnings
    >>> short = UpdateRatioLR(torch.optim.SGD([weight], lr=1000.0), total_steps=100)
    >>> for _ in range(50):
    ...     short.optimizer.step()
    ...     short.step()
    >>> longer = UpdateRatioLR(torch.optim.SGD([weight], lr=1000.0), total_steps=400)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     longer.load_state_dict(short.state_dict())
    >>> print(textwrap.fill(str(caught[0].message), 80))
    arguments of the constructor hold against the saved state's: total_steps=400
    (saved: 100); at step 50 the schedule's height is 0.875 instead of 0.5, the
    ratio 0.01599 instead of 0.03673. To go on as saved, leave them out or pass what
    was saved
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        ratio: float | None = None,
        per: str = "tensor",
        schedule: str = "linear",
        total_steps: int | None = None,
        steps_per_epoch: int | None = None,
        pretrained: bool = False,
        online: bool = False,
        measure_every: int = EVERY,
        warmup_steps: int = 0,
        start: float = UpdateRatioConfig.start,
        gain: float = UpdateRatioConfig.gain,
        rise: float = UpdateRatioConfig.rise,
        fall: float = UpdateRatioConfig.fall,
        cap: float = UpdateRatioConfig.cap,
        floor: float = UpdateRatioConfig.floor,
        reach: float = UpdateRatioConfig.reach,
        bounds: tuple[float, float] = (UpdateRatioConfig.low, UpdateRatioConfig.high),
        keep_proportions: bool = True,
        groups: Sequence[int] | None = None,
    ) -> None:
        if schedule not in FIXED:
            raise unknown("schedule", schedule, FIXED)
        if per not in PER:
            raise unknown("per", per, PER)
        if not (isinstance(bounds, Sequence) and len(bounds) == 2):
            raise invalid("bounds", "two numbers", bounds, "pass e.g. (1e-8, 1e8)")
        if not isinstance(online, bool):
            raise wrong_type("online", "True or False", online, "pass True, or leave it out")
        config = UpdateRatioConfig(
            ratio=self._know(Outlook(total_steps, steps_per_epoch, pretrained), ratio),
            gain=gain,
            start=start,
            rise=rise,
            fall=fall,
            cap=cap,
            floor=floor,
            reach=reach,
            low=bounds[0],
            high=bounds[1],
        )
        self._control = RatioControl(
            optimizer,
            config,
            per=per,
            measure_every=measure_every,
            keep_proportions=keep_proportions,
            online=online,
        )
        super().__init__(
            optimizer,
            self._control,
            schedule=schedule,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            groups=groups,
            open_ended=True,
        )

    _places: ClassVar[Mapping[str, Place]] = {
        **RatioLR._places,
        **{name: at(f"rule.config.{name}") for name in _SETTINGS},
        "bounds": at("rule.config.low", "rule.config.high"),
        "measure_every": at("rule.displacement.measure_every"),
        "online": at("rule.displacement.online.on"),
    }

    def _ratio_of(self, run: Outlook) -> float:
        return RatioLaw().ratio(run)

    @property
    def online(self) -> bool:
        """Whether each gradient corrects the ratios by the step before."""
        return self._control.displacement.online.on

    def correction(self) -> Tensor:
        """Return what online corrections multiply the ratios by, (), a copy: nothing is read."""
        online = self._control.displacement.online
        return online.value.exp() if online.on else torch.ones_like(online.value)

    def observe(self, loss: Any) -> None:
        """Take a loss and ignore it: this schedule decides on displacements."""

    def step(self, loss: Any = None) -> None:
        """Advance the schedule to where the optimizer is; call it after each of its steps.

        A call is not counted where the optimizer has made no step since the last one.

        Args:
            loss: ignored.
        """
        self._prepare_to_write()
        self._meet_new_groups()
        since = self._advance()
        if since:
            self._write_if_due(since)
