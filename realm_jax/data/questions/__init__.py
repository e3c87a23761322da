"""Questions with their answers: published sets, files in everybody's forms, and the run's own sentences."""
