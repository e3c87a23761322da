"""What a trained run does for its users: it searches, fills blanks, answers questions and embeds texts."""
