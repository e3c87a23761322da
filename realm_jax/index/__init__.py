"""Maximum inner product search over block embeddings, and the versioned store that keeps them (§3.3)."""
