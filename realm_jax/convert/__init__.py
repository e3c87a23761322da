"""Converts published checkpoints of Hugging Face and TensorFlow to workdirs, and back."""
