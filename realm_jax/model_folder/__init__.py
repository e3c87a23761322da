"""Folders of models that others made: weights, config.json and tokenizer, read in one place for every command."""

import numpy as np
from jaxtyping import Shaped

Tensors = dict[str, Shaped[np.ndarray, "..."]]
"""A model's tensors by name; each has a shape of its own."""
