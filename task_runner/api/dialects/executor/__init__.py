"""The interface of OpenSandbox's task-executor."""
