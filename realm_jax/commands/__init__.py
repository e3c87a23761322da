"""`realm COMMAND`: flags, one call of the library, and the words that are printed. `--help` imports no JAX."""
