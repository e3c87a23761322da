"""From a Wikipedia dump or another large source to a corpus, shard by shard."""
