"""What the kernel tells of groups of processes, in its own files. The standard library alone."""
