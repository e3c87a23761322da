"""The parts of REALM by name, and the shapes of their parameters before any exist."""

import jax

from realm_jax.config import ModelConfig
from realm_jax.models import embedder, knowledge_encoder, reader
from realm_jax.models.names import Part

INITS = {"embedder": embedder.init, "encoder": knowledge_encoder.init, "reader": reader.init}


def shapes(part: Part, config: ModelConfig) -> dict:
    """The tree of a part's parameters as `jax.ShapeDtypeStruct`s; of all its towers in the case of the embedder."""
    return jax.eval_shape(lambda key: INITS[part](config, key), jax.random.key(0))
