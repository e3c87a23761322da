"""BERT's AdamW and its learning rate, which are not optax's.

No bias correction, epsilon outside the root, decoupled weight decay on matrices only, global-norm clipping first; a
linear decay over the whole run that a linear warm-up overrides in its first steps (google-research/bert,
optimization.py).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-6
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0
RETRIEVER = "embedder"


def schedule(peak: float, steps: int, every: int = 1, first: int = 0) -> optax.Schedule:
    """Learning rate at a count of updates, each of which stands for `every` steps; the first come from step `first`.

    The warm-up takes min(10000, max(100, steps / 10)) steps, and never more than a tenth of a short run.
    """
    warmup = warmup_steps(steps)

    def rate(count):
        since = (count + 1) * every - 1  # steps from `first` to the one at which the update is applied
        decayed = peak * jnp.maximum(0.0, 1.0 - (first + since) / steps)
        return jnp.where(since < warmup, peak * since / warmup, decayed)

    return rate


def warmup_steps(steps: int) -> int:
    """The released rule, min(10000, max(100, steps / 10)), except that runs under 1000 steps warm up for a tenth."""
    return max(1, min(10_000, steps // 10 if steps < 1000 else max(100, steps // 10)))


def bert_adamw(rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW as BERT defines it, without the clipping."""
    return optax.chain(
        _moments(),
        optax.add_decayed_weights(WEIGHT_DECAY, mask=_is_matrix),
        optax.scale_by_learning_rate(rate),
    )


def _moments() -> optax.GradientTransformation:
    def init(params):
        return {"m": jax.tree.map(jnp.zeros_like, params), "v": jax.tree.map(jnp.zeros_like, params)}

    def update(grads, state, params=None):
        del params
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state["m"], grads)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state["v"], grads)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + EPSILON), m, v), {"m": m, "v": v}

    return optax.GradientTransformation(init, update)


def _is_matrix(params: Any) -> Any:
    """True for what weight decay applies to: all but LayerNorm parameters and biases."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("scale", "bias"), params)


def joint(encoder_rate: float, retriever: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    """One clipping over all gradients, as for one optimizer, then the encoder's update and the retriever's.

    Args:
        encoder_rate: peak learning rate of everything that is not the retriever.
        retriever: made by `retriever_optimizer`.
    """

    def owner(params):
        return {name: "retriever" if name == RETRIEVER else "encoder" for name in params}

    encoder = bert_adamw(schedule(encoder_rate, steps))
    return optax.chain(
        optax.clip_by_global_norm(MAX_GRADIENT_NORM),
        optax.multi_transform({"encoder": encoder, "retriever": retriever}, owner),
    )


def retriever_optimizer(
    rate: float, steps: int, *, update_every: int, off_steps: int, train: bool
) -> optax.GradientTransformation:
    """The retriever's update: frozen, or each step, or the mean of `update_every` steps' gradients at once.

    Args:
        off_steps: first steps in which nothing is applied nor remembered.
    """
    if not train:
        return optax.set_to_zero()
    inner = bert_adamw(schedule(rate, steps, update_every, off_steps))
    if update_every > 1:
        inner = optax.MultiSteps(inner, update_every).gradient_transformation()
    if off_steps:
        inner = optax.transforms.conditionally_mask(inner, lambda step: step >= off_steps)
    return inner
