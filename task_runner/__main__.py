"""``python -m task_runner`` is the command ``task-runner``."""

from task_runner.cli.main import main

main()
