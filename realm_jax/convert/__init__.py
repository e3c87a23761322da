"""Published checkpoints in and out: Hugging Face's and TensorFlow's. A leaf: nothing else imports it."""
