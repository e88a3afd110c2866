"""The wire formats of other systems, over the same tasks. Each knows nothing of the others."""
