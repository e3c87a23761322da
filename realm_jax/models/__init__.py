"""Pure-functional Flax (Linen) modules."""
