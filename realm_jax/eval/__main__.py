"""`python -m realm_jax.eval` is `realm eval`."""

import sys

from realm_jax import huge_pages, signals
from realm_jax.__main__ import main

if __name__ == "__main__":
    huge_pages.ensure()
    with signals.ending():
        main(["eval", *sys.argv[1:]])
