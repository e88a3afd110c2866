"""Both sides of the process boundary: the task's directory and what stands in it, processes, launcher, runner.

The standard library alone, without asyncio and multiprocessing.
"""
