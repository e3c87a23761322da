"""Open-domain questions: their tokens, where their answers stand in blocks, and answering them (Lee et al. 2019)."""
