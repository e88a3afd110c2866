"""``python -m task_runner`` is the command ``task-runner``."""

from task_runner.cli.entry import main

main()
