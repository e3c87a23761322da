"""Losses as pure functions that return a sum and a count."""
