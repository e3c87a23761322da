"""realm_jax: retrieval-augmented language model pre-training (Guu et al. 2020) in JAX and Flax."""

__version__ = "0.1.0"
