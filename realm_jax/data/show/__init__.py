"""A corpus for people to look at: its blocks, what was counted, and a page of it all."""
