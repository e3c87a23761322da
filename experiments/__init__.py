"""One file per experiment; each defines `get_config()`, and may be copied and changed. Installed as realm_jax.experiments."""
