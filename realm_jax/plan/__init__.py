"""What a run needs and what it costs, before it begins: memory, FLOPs, hours, disk."""
