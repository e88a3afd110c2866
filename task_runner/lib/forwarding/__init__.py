"""Forwarding of output: the runner's hold on a forwarder, that process, and where it sends lines to."""
