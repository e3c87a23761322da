"""Evaluation of a run: held-out masked sentences, and retrieval for question sets."""
