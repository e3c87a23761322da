"""Folders of models that others made: weights, config.json and tokenizer, read in one place for every command."""
