"""One attempt at a task by a runner alone, without daemon and launcher: the program that attempts.py starts."""

import json
import os
import sys
from collections.abc import Sequence

from task_runner.lib import signals
from task_runner.lib.equipment import Options
from task_runner.lib.runner import TaskRunner
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.codec import from_json
from task_runner.model.grant import Grant
from task_runner.model.spec import Spec


def main(arguments: Sequence[str]) -> None:
    task_id, path, attempt, spec, grant, options, take_up = arguments
    os.umask(0o077)
    signals.install()
    directory = AttemptDirectory(path, int(attempt))
    directory.create()
    runner = TaskRunner(task_id, from_json(Spec, json.loads(spec)), directory,
                        from_json(Options, json.loads(options)), grant=from_json(Grant, json.loads(grant)))
    runner.claim(take_up=take_up == "True")
    runner.run()


if __name__ == "__main__":
    main(sys.argv[1:])
