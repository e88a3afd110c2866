"""Benchmarks: each figure beside its reference, measured in the same run. See doc/performance.md."""
