"""Texts and questions: sources, the corpus store, and the batches made from it."""
