"""SGD and Adam whose rate follows its hypergradient, without a schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import invalid
from ratewise.optimizers.hypergradient_base import Hypergradient, Part
from ratewise.optimizers.hypergradient_rate import widened
from ratewise.rules.checks import check_amount, check_betas, is_number


class HypergradientSGD(Hypergradient):
    r"""SGD whose rate follows the gradient of the loss with respect to the rate.

    With :math:`d_t` the direction of `torch.optim.SGD` (the gradient, or the buffer of momentum,
    or Nesterov's sum of both) a step is :math:`\theta_t = \theta_{t-1} - \alpha_t d_t`. How the
    loss after it depends on the rate is the next gradient's inner product with it, summed over the
    tensors that share the rate,

    .. math:: -\frac{\partial f(\theta_t)}{\partial \alpha_t} = g_{t+1} \cdot d_t = h_{t+1},

    and before the next step the rate moves along it: with the form "additive"
    :math:`\alpha \leftarrow \alpha + \beta h`, with "multiplicative"
    :math:`\alpha \leftarrow \alpha (1 + \beta h / (\|g\| \|d\|))`, :math:`\beta` being `hyper_lr`;
    then it is clamped to its bounds. On a quadratic of curvature L, h is positive below 1/L and
    negative above it. The first step has no last direction, and leaves the rate.

    **Which beta.** In the additive form it has units: h grows with the square of the gradients, so
    that the same beta is too small for one model and too large for another. In the multiplicative
    form it has none, and moves the rate by at most a share of `hyper_lr` a step: try 0.02 to 0.1;
    a rate of 0 stays 0.

    **What to expect.** h looks one step ahead. It raises a rate that is too low; with noisy
    gradients, or across a narrow valley, it also lowers one that is right for the long run:
    on examples/hypergradient_digits.py's task SGD at its best fixed rate ends at a lower loss.
    `min_lr` limits how far it falls.

    **What counts as the gradient.** All that the step is made of: negated under `maximize`, and
    with the penalty's under `weight_decay`, which is an L2 penalty as in `torch.optim.SGD`. So h
    is the derivative of the penalized loss. Gradients must be true ones: a GradScaler unscales
    them before it calls ``step()``, which is right. h pairs consecutive steps: where a parameter
    has no gradient in a step, its direction is forgotten, and it counts again from the second
    step on in which it has one. Where h is not finite the rate stays as it is; what a NaN does to
    the weights is not prevented.

    **Where the rate is.** For ``per="group"`` and ``"model"`` it is ``group["lr"]``, a float64
    tensor on the parameters' device that is moved in place; for ``"tensor"`` and ``"element"``
    ``group["lr"]`` is where new tensors start, and the rates are in the state. No step reads from
    a device. What is written into ``group["lr"]`` is where the rate goes on from: a schedule that
    sets it at each step, as LambdaLR does, undoes the hypergradient's moves. Besides the base
    optimizer's memory the last directions are kept; plain momentum's are its own buffers. All
    ranks of DistributedDataParallel find the same rates; shards of tensors are refused.

    Args:
        params: parameters, or groups of them; all settings but `per` may differ by group.
        lr: the rate to start with, in [min_lr, max_lr].
        hyper_lr: beta, >= 0; 0 is `torch.optim.SGD`.
        per: what has a rate of its own: ``"model"`` (one for all groups), ``"group"``,
            ``"tensor"``, or ``"element"`` (one a weight).
        form: ``"additive"`` or ``"multiplicative"``.
        normalize: whether h is divided by the norms of both its sides, which makes it a cosine in
            [-1, 1], and a sign for ``per="element"``; None is as in the paper: not in the additive
            form, and in the multiplicative one. 0/0 is 0.
        min_lr: lower bound of the rate, finite and >= 0.
        max_lr: upper bound, >= `min_lr`.
        momentum: >= 0.
        dampening: of momentum, in [0, 1].
        nesterov: with momentum and no dampening.
        weight_decay: of an L2 penalty, >= 0.
        maximize: go up instead of down.
        foreach: step all tensors of a kind at once; None does so away from the CPU.

    Raises:
        InvalidArgument, UnknownName, WrongType: a setting outside its range; groups of different
            rates, or moves of the rate, under ``per="model"``; parameters that are complex, sparse
            or shards; in ``step()``, sparse gradients. Nothing has changed then.

    Sources: Baydin, Cornish, Martinez Rubio, Schmidt, Wood 2018, "Online learning rate adaptation
    with hypergradient descent" (arXiv 1703.04782), equations 2 to 4 and algorithms 4 and 5, and
    equation 8 for the multiplicative form. There all parameters share one rate; one a group, a
    tensor or an element are the same derivative taken with respect to more rates.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(()))
    >>> optimizer = HypergradientSGD([weight], lr=0.01, form="multiplicative", hyper_lr=0.2)
    >>> for _ in range(60):
    ...     optimizer.zero_grad()
    ...     (5 * weight.square()).backward()  # of curvature 10: the best rate is 0.1
    ...     optimizer.step()
    >>> 0.08 < optimizer.rates()[0].item() < 0.12
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        hyper_lr: float = 1e-3,
        per: str = "group",
        form: str = "additive",
        normalize: bool | None = None,
        min_lr: float = 0.0,
        max_lr: float = math.inf,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "hyper_lr": hyper_lr,
            "form": form,
            "normalize": normalize,
            "min_lr": min_lr,
            "max_lr": max_lr,
            "momentum": momentum,
            "dampening": dampening,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
        }
        super().__init__(params, defaults, per)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_amount("momentum", group["momentum"])
        dampening = group["dampening"]
        if not (is_number(dampening) and 0.0 <= dampening <= 1.0):
            raise invalid("dampening", "a number in [0, 1]", dampening, "pass 0 to turn it off")
        if group["nesterov"] and not (group["momentum"] > 0 and dampening == 0):
            got = f"momentum={group['momentum']} and dampening={dampening}"
            raise invalid("nesterov", "with momentum > 0 and dampening 0", got, "pass momentum=0.9")

    def _step_one(
        self, group: dict[str, Any], p: Tensor, g: Tensor, state: dict[str, Any], rate: Tensor
    ) -> None:
        momentum = group["momentum"]
        direction = g
        if momentum:
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = g.clone()
            else:
                buffer.mul_(momentum).add_(g, alpha=1 - group["dampening"])
            direction = g.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        [wide] = widened([direction])
        p.addcmul_(wide, rate, value=-1)
        # The gradient's memory is the next one's too; a buffer moves on after h was taken from it.
        state["direction"] = direction.clone() if direction is p.grad else direction

    def _directions(self, part: Part) -> list[Tensor]:
        # As `_step_one`, with all tensors at once.
        momentum = part.group["momentum"]
        gradients = part.gradients
        if not momentum:
            # Times one: the only copy of a list that is a single kernel.
            return list(torch._foreach_mul(gradients, 1.0))
        buffers, late, old = [], [], []
        for g, state in zip(gradients, part.states, strict=True):
            buffer = state.get("momentum_buffer")
            if buffer is None:
                state["momentum_buffer"] = g.clone()
            else:
                old.append(buffer)
                late.append(g)
            buffers.append(state["momentum_buffer"])
        if old:
            torch._foreach_mul_(old, momentum)
            torch._foreach_add_(old, late, alpha=1 - part.group["dampening"])
        if part.group["nesterov"]:
            return list(torch._foreach_add(gradients, buffers, alpha=momentum))
        return buffers


class HypergradientAdam(Hypergradient):
    r"""Adam whose rate follows the gradient of the loss with respect to the rate.

    As `HypergradientSGD`, whose notes hold here too, with the direction of `torch.optim.Adam`,

    .. math:: d_t = \hat m_t / (\sqrt{\hat v_t} + \epsilon), \qquad h_{t+1} = g_{t+1} \cdot d_t,

    where :math:`\hat m, \hat v` are the moving averages of g and of its square, each over one
    minus its beta to the power of t. The gradient in h is the raw one: h is the derivative of the
    loss, and not that of an average.

    Args:
        params: parameters, or groups of them; all settings but `per` may differ by group.
        hyper_lr: beta, >= 0; 0 is `torch.optim.Adam`. The additive form needs a smaller one than
            SGD's: the norm of a direction is about the root of the number of weights, however
            small the gradients are.
        betas: of the two averages, each in [0, 1).
        eps: added to the root, finite and >= 0.
        lr, per, form, normalize, min_lr, max_lr, weight_decay, maximize, foreach: as for
            `HypergradientSGD`.

    Raises:
        InvalidArgument, UnknownName, WrongType: as `HypergradientSGD`.

    Sources: Baydin, Cornish, Martinez Rubio, Schmidt, Wood 2018, "Online learning rate adaptation
    with hypergradient descent" (arXiv 1703.04782), algorithm 6, whose `hyper_lr` is 1e-7.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(3))
    >>> optimizer = HypergradientAdam([weight], lr=1e-3, hyper_lr=1e-5)
    >>> for _ in range(20):
    ...     optimizer.zero_grad()
    ...     weight.square().sum().backward()
    ...     optimizer.step()
    >>> optimizer.rates()[0].item() > 1e-3
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        hyper_lr: float = 1e-7,
        per: str = "group",
        form: str = "additive",
        normalize: bool | None = None,
        min_lr: float = 0.0,
        max_lr: float = math.inf,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "hyper_lr": hyper_lr,
            "form": form,
            "normalize": normalize,
            "min_lr": min_lr,
            "max_lr": max_lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
        }
        super().__init__(params, defaults, per)

    _together = ("step", "exp_avg", "exp_avg_sq")

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_betas(group["betas"], example=(0.9, 0.999))
        if not (is_number(group["eps"]) and 0.0 <= group["eps"] < math.inf):
            raise invalid("eps", "a finite number >= 0", group["eps"], "pass e.g. 1e-8")

    def _step_one(
        self, group: dict[str, Any], p: Tensor, g: Tensor, state: dict[str, Any], rate: Tensor
    ) -> None:
        beta1, beta2 = group["betas"]
        unbias1, unbias2 = self._advance(group, p, state)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(g, 1 - beta1)
        square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        root = (square.sqrt() / unbias2**0.5).add_(group["eps"])
        state["direction"] = (mean / root).div_(unbias1)
        # Not rate times direction: in this order torch's own Adam rounds.
        wide_mean, wide_root = widened([mean, root])
        p.addcdiv_(wide_mean * (-rate / unbias1), wide_root)

    def _directions(self, part: Part) -> list[Tensor]:
        beta1, beta2 = part.group["betas"]
        both = zip(part.parameters, part.states, strict=True)
        unbiases = [self._advance(part.group, p, state) for p, state in both]
        means = [state["exp_avg"] for state in part.states]
        squares = [state["exp_avg_sq"] for state in part.states]
        torch._foreach_lerp_(means, part.gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, part.gradients, part.gradients, value=1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [unbias2**0.5 for _, unbias2 in unbiases])
        torch._foreach_add_(roots, part.group["eps"])
        directions = torch._foreach_div(means, roots)
        torch._foreach_div_(directions, [unbias1 for unbias1, _ in unbiases])
        return list(directions)

    @staticmethod
    def _advance(group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> tuple[float, float]:
        """Count a tensor's step, and return what its two averages are divided by."""
        if "step" not in state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        # A Python number: torch's is a tensor on the host, which has to be read.
        state["step"] += 1
        beta1, beta2 = group["betas"]
        return 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
