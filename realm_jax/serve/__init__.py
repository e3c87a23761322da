"""The demo page: a run fills blanks and answers questions in a browser."""
