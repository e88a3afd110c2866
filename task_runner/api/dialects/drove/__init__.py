"""Drove's interface for tasks, below `/apis/v1`."""
