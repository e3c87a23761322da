"""One file per experiment; each defines `get_config()`. Copy and change them. Installed as realm_jax.experiments."""
