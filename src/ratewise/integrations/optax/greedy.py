"""GreedyLR for optax: a transformation that scales the updates.

It runs `ratewise.rules.greedy` on jax arrays, under `jit`, inside `scan`, and under `vmap`.
"""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ratewise.errors import MissingLoss, invalid, wrong_type
from ratewise.rules import greedy as rules
from ratewise.rules.checks import check_count
from ratewise.rules.criterion import decide
from ratewise.rules.greedy_config import (
    END,
    END_SHARE,
    RELATIVE_BOUNDS,
    GreedyConfig,
    GreedyLimits,
    merged,
)

logger = logging.getLogger("ratewise")


class GreedyScaleState(NamedTuple):
    """What `greedy` remembers between updates: arrays alone, each of the runs' shape."""

    multiplier: Any  #: float, what the next update is multiplied by: height * rule.scale[0]
    rule: rules.GreedyState  #: the rule's own memory
    step: Any  #: int, updates so far, counted as long as ramp or end depend on it
    seen: Any  #: int, values of this period so far, at most `decide_every`
    finite: Any  #: int, how many of them were finite
    total: Any  #: float, the sum of the finite ones


def greedy(
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
    decide_every: int = 1,
    warmup_steps: int = 0,
    total_steps: int | None = None,
    min_scale: float = RELATIVE_BOUNDS[0],
    max_scale: float = RELATIVE_BOUNDS[1],
) -> optax.GradientTransformationExtraArgs:
    r"""Scale the updates up while the loss improves and down while it does not.

    With :math:`u_t` the incoming update of step t = 0, 1, ..., :math:`v_t` its `value`, W =
    `warmup_steps` and :math:`s_0 = 1`,

    .. math:: u'_t = u_t \, s_t \, \min\Big(1, \frac{t + 1}{W + 1}\Big), \qquad
              s_{t+1} = \mathrm{rule}(s_t, v_t) \in [s_{\min}, s_{\max}].

    The loss of step t changes the scale from step t + 1 on, as in torch, where ``step(loss)`` of
    `ratewise.GreedyLR` follows ``optimizer.step()``; the rates are the same. (Not so
    `optax.contrib.reduce_on_plateau`: it scales the very update that brought the value.)

    Put it last in the chain, ``optax.chain(optax.adam(1e-3), greedy())``: before Adam, which
    divides by the size of what it gets, a scale would have next to no effect. The base rate is
    the chain's own and may be a schedule. State is float64 if `jax_enable_x64` is set, else
    float32; updates keep their type. On several devices pass the same, averaged loss everywhere.

    Where `total_steps` is given, a run under ``criterion="significance"`` ends annealed: the scale
    is multiplied by a fall to 0 over the last 70% of the updates after the ramp.

    Args:
        criterion, factor, patience, window, threshold, warmup, cooldown, mode: as for
            `ratewise.GreedyLR`, counted in decisions (see `decide_every`). A criterion that is
            not named is ``"significance"`` where `total_steps` leaves at least 300 decisions,
            else ``"count"``; logger ``"ratewise"`` says which, and why.
        on_nonfinite: a NaN or an infinity is a bad step (``"bad"``) or passed over (``"skip"``);
            there is no ``"raise"``, compiled code cannot.
        config: all settings of the rule. ``eps_mode="abs"`` is refused: the base rate is the
            chain's, and not known here.
        decide_every: updates a decision, which is on the mean of their values; one that is not
            finite spoils them all under ``"bad"``, under ``"skip"`` the others count.
        warmup_steps: W, updates of a linear ramp up to the base rate, before the rule begins.
        total_steps: the run's length in updates, above W; None is not known.
        min_scale, max_scale: bounds of the scale, multiples of the base rate around 1.

    Returns:
        A transformation with ``update(updates, state, params=None, *, value)``, `value` being
        this step's loss, one number; ``optax.chain`` passes it on.

    Raises:
        InvalidArgument, UnknownName: a setting outside its range.
        MissingLoss, WrongType, InvalidArgument: at `update`, also while tracing: no `value`, one
            that is no real number, or one of several elements.

    Source: `ratewise.rules.greedy`, which this runs.

    >>> import jax.numpy as jnp, optax
    >>> rule = greedy(factor=0.5, patience=1, window=1)
    >>> tx, params = optax.chain(optax.sgd(0.5), rule), jnp.array(1.0)
    >>> state = tx.init(params)
    >>> for loss in (4.0, 3.0, 2.0, 1.0):
    ...     updates, state = tx.update(jnp.array(1.0), state, params, value=loss)
    ...     print(float(updates), float(current_scale(state)), last_reason(state))
    -0.5 1.0 none
    -0.5 1.0 none
    -0.5 2.0 increase
    -1.0 2.0 none
    """
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
    if config.on_nonfinite == "raise":
        fix = "compiled code cannot raise; pass 'bad' and look at last_reason(opt_state)"
        raise invalid("on_nonfinite", "'bad' or 'skip'", config.on_nonfinite, fix)
    if config.eps_mode == "abs":
        fix = "the base rate is the chain's; pass eps relative to it"
        raise invalid("eps_mode", "'rel'", config.eps_mode, fix)
    _check(decide_every, warmup_steps, total_steps, min_scale, max_scale)
    length = None if total_steps is None else total_steps - warmup_steps
    if config.criterion is None:
        config, _, why = decide(config, None if length is None else length / decide_every)
        logger.info("criterion: %s, as %s", config.criterion, why)
    falls = length if config.criterion in END else None
    counted = warmup_steps + (falls or 0)
    limits = GreedyLimits((float(min_scale),), (float(max_scale),), (0.0,))

    def init(params: optax.Params) -> GreedyScaleState:
        zero = jnp.zeros(())
        count = jnp.zeros((), dtype=jnp.int32)
        rule = rules.init(config, zero=zero, xp=jnp)
        state = GreedyScaleState(zero + 1.0 / (warmup_steps + 1), rule, count, count, count, zero)
        # Every leaf a buffer of its own: one that is shared cannot be donated to a jitted step.
        # And of its type for good, not weakly: else the second step would compile once more.
        return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=leaf.dtype, copy=True), state)

    def update(
        updates: optax.Updates,
        state: GreedyScaleState,
        params: optax.Params | None = None,
        *,
        value: Any = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, GreedyScaleState]:
        loss = _as_scalar(value, state.total.dtype)
        scale = state.multiplier  # from the decisions before this step's
        updates = jax.tree.map(lambda u: jnp.asarray(scale * u, jnp.result_type(u)), updates)

        # Gather this period's values; those of the ramp are not looked at.
        counts = state.step >= warmup_steps
        usable = counts & jnp.isfinite(loss)
        seen, finite = state.seen + counts, state.finite + usable
        total = state.total + jnp.where(usable, loss, 0.0)
        due = seen == decide_every
        lost = finite == 0 if config.on_nonfinite == "skip" else finite < seen
        metric = jnp.where(due & lost, jnp.nan, total / jnp.maximum(finite, 1))

        # Decide, and let it stand where a period has ended.
        decided = rules.update(state.rule, loss=metric, config=config, limits=limits, xp=jnp)
        rule = jax.tree.map(lambda new, old: jnp.where(due, new, old), decided, state.rule)
        seen, finite, total = (jnp.where(due, 0, each) for each in (seen, finite, total))
        step = jnp.minimum(state.step + 1, counted)
        # At its end exactly 1, which n * (1 / n), as XLA divides by constants, need not be.
        height = jnp.where(step < warmup_steps, (step + 1.0) / (warmup_steps + 1.0), 1.0)
        if falls is not None:
            height *= jnp.minimum(1.0, (counted - step) / (falls * END_SHARE))
        multiplier = rule.scale[0] * height
        return updates, GreedyScaleState(multiplier, rule, step, seen, finite, total)

    return optax.GradientTransformationExtraArgs(init, update)


def current_scale(opt_state: Any) -> Any:
    """Return what `greedy` will multiply the next update by, ramp included, as an array.

    Args:
        opt_state: the state of the chain that `greedy` is in, however deep; inside jit or out.
            The shape is ``()``, or that of the runs under `jax.vmap`.

    Raises:
        InvalidArgument: no state of `greedy` in there, or several.
    """
    return _find(opt_state).multiplier


def last_reason(opt_state: Any) -> str:
    """Return why the last decision did what it did: one of `ratewise.rules.greedy.REASONS`.

    Args:
        opt_state: as for `current_scale`, but of one run and outside jit.

    Raises:
        InvalidArgument, WrongType: no state of `greedy` in there, several, a batch, inside jit.
    """
    code = _find(opt_state).rule.reason
    if isinstance(code, jax.core.Tracer):
        fix = "call last_reason on what the compiled step returned"
        raise wrong_type("opt_state", "a state outside jit", code, fix)
    if code.shape:
        fix = "pick one, e.g. jax.tree.map(lambda leaf: leaf[0], opt_state)"
        raise invalid("opt_state", "the state of one run", f"runs of shape {code.shape}", fix)
    return rules.REASONS[int(code)]


def _find(opt_state: Any) -> GreedyScaleState:
    """Return the one state of `greedy` within `opt_state`."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, GreedyScaleState))
    found = [leaf for leaf in leaves if isinstance(leaf, GreedyScaleState)]
    if len(found) != 1:
        fix = "chain greedy() in" if not found else "pass the part that holds the one you mean"
        raise invalid("opt_state", "a state with one greedy() in it", f"{len(found)} of them", fix)
    return found[0]


def _as_scalar(value: Any, dtype: Any) -> Any:
    """Return `value` as an array of shape () and of this type, or raise a named error."""
    if value is None:
        raise MissingLoss("greedy got no loss: call tx.update(grads, state, params, value=loss)")
    try:
        kind = jnp.result_type(value)
        real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
    except TypeError:
        real = False
    if not real:
        raise wrong_type("value", "a real number", value, "pass this step's loss, value=loss")
    if jnp.size(value) != 1:
        fix = "pass value=loss.mean() or another scalar; many runs go through jax.vmap"
        raise invalid("value", "one number", f"shape {jnp.shape(value)}", fix)
    return jnp.asarray(value, dtype=dtype).reshape(())


def _check(
    decide_every: int,
    warmup_steps: int,
    total_steps: int | None,
    min_scale: float,
    max_scale: float,
) -> None:
    """Raise unless the settings that are not the rule's own are in their ranges."""
    check_count("decide_every", decide_every, 1)
    check_count("warmup_steps", warmup_steps, 0)
    if total_steps is not None:
        check_count("total_steps", total_steps, warmup_steps + 1)
    if not (isinstance(min_scale, int | float) and 0.0 <= min_scale <= 1.0):
        raise invalid("min_scale", "a number in [0, 1]", min_scale, "pass e.g. 0.1")
    if not (isinstance(max_scale, int | float) and 1.0 <= max_scale < math.inf):
        raise invalid("max_scale", "a finite number >= 1", max_scale, "pass e.g. 10.0")
