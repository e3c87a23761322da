"""Evaluation scores: pure functions."""
