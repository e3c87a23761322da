"""What `import realm_jax` offers: an opened run, and the stages of its making."""
