"""What `test_floors.py` runs with the oldest versions: every module is imported, and both searches find the same.

python tests/at_the_floors.py FOLDER
"""

import importlib
import pkgutil
import sys

import numpy as np

import realm_jax
from realm_jax.config import IndexConfig
from realm_jax.index import scann as scann_search
from realm_jax.index.exact import ExactSearch
from realm_jax.index.scann import ScannSearch

OF_EXTRAS = {"apache_beam", "gradio", "mwparserfromhell", "mwxml", "pyarrow", "spacy", "starlette", "wandb", "gcsfs"}


def import_everything() -> int:
    """The number of modules; those that need an extra are left out."""
    number = 0
    for module in pkgutil.walk_packages(realm_jax.__path__, "realm_jax."):
        try:
            importlib.import_module(module.name)
            number += 1
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] not in OF_EXTRAS:
                raise
    return number


def search(folder: str) -> float:
    """Share of the exact results that ScaNN finds."""
    scann_search.BRUTE_FORCE_LIMIT = 300  # as if the corpus were large
    rng, config = np.random.default_rng(0), IndexConfig(builder_threads=1)
    embeddings = rng.standard_normal((1000, 16), np.float32)
    queries = rng.standard_normal((64, 16), np.float32)
    scann_search.build(embeddings, folder=folder, config=config)
    exact, _ = ExactSearch(embeddings).search(queries, 5)
    found, _ = ScannSearch(embeddings, folder=folder, config=config).search(queries, 5)
    return float(np.mean([len(set(a) & set(b)) / 5 for a, b in zip(exact.tolist(), found.tolist(), strict=True)]))


if __name__ == "__main__":
    print(f"modules: {import_everything()}, found: {search(sys.argv[1]):.3f}")
