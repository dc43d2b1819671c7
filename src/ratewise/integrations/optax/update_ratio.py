"""UpdateRatioLR for optax: each leaf of the parameters moves by a set share of its own size.

It runs `ratewise.rules.update_ratio` on jax arrays, under `jit`, inside `scan`, and under `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ratewise.errors import InvalidArgument, invalid, wrong_type
from ratewise.rules import online as corrections
from ratewise.rules import update_ratio as rules
from ratewise.rules.checks import check_count
from ratewise.rules.ratio_law import default_ratio
from ratewise.rules.update_ratio import EARLY, EVERY, QUIET, UpdateRatioConfig, UpdateRatioState


class UpdateRatioScaleState(NamedTuple):
    """What `update_ratio` remembers between updates: arrays alone."""

    count: Any  #: int, updates made
    decided: Any  #: int, of them, before the one that was measured last
    rule: UpdateRatioState  #: the rule's own memory, [leaves]
    correction: Any  #: float, c of `ratewise.rules.online`
    last: Any  #: the last update, as it was applied; () without `online`


def update_ratio(
    *,
    ratio: float | None = None,
    total_steps: int | None = None,
    steps_per_epoch: int | None = None,
    pretrained: bool = False,
    online: bool = False,
    schedule: Callable[[Any], Any] | None = None,
    measure_every: int = EVERY,
    config: UpdateRatioConfig | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Let each leaf's ||dp|| / ||p|| follow ``ratio * schedule(step)``, whatever the rate.

    With :math:`u_i` the incoming update of leaf i,

    .. math:: u'_i = f_i \, e^c \, s \, u_i, \qquad
              f_i \to \mathrm{ratio} \, \max(\|p_i\|, \varepsilon_i) / \|u_i\|,

    s the schedule, c the online correction and the floor :math:`\varepsilon_i` as under
    `ratewise.UpdateRatioLR`, whose factors these are. Put it last in the chain, after an optimizer
    with a constant rate, ``optax.chain(optax.adamw(1e-3), update_ratio(total_steps=10_000))``: a
    schedule of the chain would be made up for by the factors. On several devices pass the same
    updates everywhere.

    Args:
        ratio: the relative displacement of an update at the schedule's full height, in (0, 1];
            None is `ratewise.rules.ratio_law.default_ratio` of the next three.
        total_steps: length of the run in updates; None holds the ratio.
        steps_per_epoch: updates in a pass over the data; None is not known.
        pretrained: the weights were trained before, on something else.
        online: let each gradient correct all ratios by how it lies to the update before
            (`ratewise.rules.online`). Pass the gradients, ``update(..., grad=grads)``; after Adam,
            and where no row is seen much more than once. It keeps the last update: memory of the
            model's size.
        schedule: from the number of updates made to a height in [0, 1]; None falls linearly to 0
            over `total_steps`.
        measure_every: measure one update in so many; the first 50 are all measured.
        config: the rule's other settings; its own `ratio` gives way.

    Returns:
        A transformation with ``update(updates, state, params, *, grad=None)``.

    Raises:
        InvalidArgument, WrongType: a setting outside its range; at `update`, no `params`, or no
            `grad` under `online`.

    Source: `ratewise.rules.update_ratio`, which this runs.

    >>> import jax.numpy as jnp, optax
    >>> at_once = UpdateRatioConfig(start=1.0)
    >>> tx = optax.chain(optax.sgd(1000.0), update_ratio(ratio=0.01, config=at_once))
    >>> params = jnp.full((4, 4), 0.5)
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> round(float(jnp.linalg.norm(updates) / jnp.linalg.norm(params)), 4)
    0.01
    """
    if total_steps is not None:
        check_count("total_steps", total_steps, 1)
    if steps_per_epoch is not None:
        check_count("steps_per_epoch", steps_per_epoch, 1)
    check_count("measure_every", measure_every, 1)
    for name, value in (("pretrained", pretrained), ("online", online)):
        if not isinstance(value, bool):
            raise wrong_type(name, "True or False", value, f"pass {name}=True")
    if not (schedule is None or callable(schedule)):
        fix = "pass e.g. optax.cosine_decay_schedule(1.0, 10_000)"
        raise wrong_type("schedule", "a function of the step", schedule, fix)
    wanted = default_ratio(total_steps, steps_per_epoch, pretrained) if ratio is None else ratio
    settings = replace(config or UpdateRatioConfig(), ratio=wanted)
    height = schedule or _falling(total_steps)

    def init(params: optax.Params) -> UpdateRatioScaleState:
        zero, count = jnp.zeros(()), jnp.zeros((), dtype=jnp.int32)
        rule = rules.init(len(jax.tree.leaves(params)), zero=zero, xp=jnp)
        last = jax.tree.map(jnp.zeros_like, params) if online else ()
        state = UpdateRatioScaleState(count, count, rule, zero, last)
        # Every leaf a buffer of its own: one that is shared cannot be donated to a jitted step.
        return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=leaf.dtype, copy=True), state)

    def update(
        updates: optax.Updates,
        state: UpdateRatioScaleState,
        params: optax.Params | None = None,
        *,
        grad: Any = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, UpdateRatioScaleState]:
        if params is None:
            raise InvalidArgument(
                "update_ratio compares updates with parameters, got none: call "
                "tx.update(grads, state, params)"
            )
        if online and grad is None:
            fix = "call tx.update(grads, state, params, grad=grads)"
            raise invalid("grad", "the gradients under online=True", grad, fix)
        correction = _judged(state, grad) if online else state.correction
        scale = jnp.asarray(height(state.count), dtype=state.correction.dtype)
        early = state.count < EARLY
        measured = early | (state.count % measure_every == 0)

        def decide(rule: UpdateRatioState) -> tuple[Any, UpdateRatioState]:
            typical, unit = _unit(updates, params, rule, settings.floor, scale >= QUIET)
            return rules.update(
                rule._replace(typical=typical),
                unit=unit,
                config=settings,
                steps=jnp.maximum(1, state.count - state.decided),
                early=early,
                xp=jnp,
            )

        applied, rule = jax.lax.cond(measured, decide, lambda rule: (rule.factor, rule), state.rule)
        factors = applied * jnp.exp(correction) * scale
        leaves, tree = jax.tree.flatten(updates)
        scaled = [
            jnp.asarray(f * u, jnp.result_type(u)) for f, u in zip(factors, leaves, strict=True)
        ]
        updates = jax.tree.unflatten(tree, scaled)
        decided = jnp.where(measured, state.count, state.decided)
        last = updates if online else ()
        return updates, UpdateRatioScaleState(state.count + 1, decided, rule, correction, last)

    return optax.GradientTransformationExtraArgs(init, update)


def current_factors(opt_state: Any) -> Any:
    """Return what `update_ratio` multiplies each leaf's update by, beside schedule, [leaves].

    Args:
        opt_state: the state of the chain that `update_ratio` is in, however deep; inside jit or
            out. 0 before the first update.

    Raises:
        InvalidArgument: no state of `update_ratio` in there, or several.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, UpdateRatioScaleState))
    found = [leaf for leaf in leaves if isinstance(leaf, UpdateRatioScaleState)]
    if len(found) != 1:
        fix = "chain update_ratio() in" if not found else "pass the part that holds the one"
        raise invalid("opt_state", "a state with one update_ratio()", f"{len(found)} of them", fix)
    return found[0].rule.factor * jnp.exp(found[0].correction)


def _falling(total_steps: int | None) -> Callable[[Any], Any]:
    if total_steps is None:
        return lambda count: 1.0
    return lambda count: jnp.maximum(0.0, 1.0 - count / total_steps)


def _unit(updates: Any, params: Any, rule: UpdateRatioState, floor: float, loud: Any) -> Any:
    """Return the typical weight's size, and each leaf's displacement over its own, [leaves]."""
    leaves = jax.tree.leaves(params)
    dtype = rule.factor.dtype
    before, moved = (_norms(tree, dtype) for tree in (leaves, jax.tree.leaves(updates)))
    sizes = jnp.array([float(leaf.size) for leaf in leaves], dtype=dtype)
    matrices = jnp.array([leaf.ndim > 1 for leaf in leaves])
    typical = rules.typical_rms(before, sizes, matrices, xp=jnp).astype(dtype)
    typical = jnp.where(rule.typical > 0, rule.typical, typical)
    against = rules.floored(before, sizes, typical, floor=floor, xp=jnp)
    taking_part = loud & ((before > 0) | (moved > 0)) & (against > 0)
    return typical, jnp.where(taking_part, moved / jnp.where(against > 0, against, 1.0), 0.0)


def _norms(leaves: list[Any], dtype: Any) -> Any:
    """Return the leaves' norms, formed in float32 or wider, [leaves]."""
    norms = [jnp.sqrt(jnp.sum(jnp.square(jnp.abs(x).astype(dtype)))) for x in leaves]
    return jnp.stack(norms) if norms else jnp.zeros((0,), dtype=dtype)


def _judged(state: UpdateRatioScaleState, grad: Any) -> Any:
    """Return c, corrected by the gradients at the end of the last update."""
    pairs = zip(jax.tree.leaves(grad), jax.tree.leaves(state.last), strict=True)
    both = [(g.astype(state.correction.dtype), u.astype(state.correction.dtype)) for g, u in pairs]
    along = sum(jnp.vdot(g, u) for g, u in both)
    lengths = sum(jnp.vdot(g, g) for g, _ in both), sum(jnp.vdot(u, u) for _, u in both)
    cosine = -along / jnp.sqrt(lengths[0]) / jnp.sqrt(lengths[1])
    every = corrections.EVERY
    new = corrections.corrected(state.correction, cosine, every=every, xp=jnp)
    due = (state.count >= corrections.FIRST) & (state.count % every == 0)
    return jnp.where(due, new, state.correction)
