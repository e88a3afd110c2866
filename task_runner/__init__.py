"""Task Runner: runs tasks sent over HTTP, each in a process, a directory and a log of its own."""

__version__ = "0.1.0"
