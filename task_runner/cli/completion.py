"""`task-runner completion`."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
\b
Once, for all shells to come:
  bash  task-runner completion bash > ~/.local/share/bash-completion/completions/task-runner
  zsh   task-runner completion zsh > DIR/_task-runner, where DIR is one of $fpath
  fish  task-runner completion fish > ~/.config/fish/completions/task-runner.fish

\b
For this shell only:
  bash  source <(task-runner completion bash)
  zsh   autoload -U compinit && compinit && source <(task-runner completion zsh)
  fish  task-runner completion fish | source
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes verbs, options, and the ids and names that the daemon knows."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "task-runner", "_TASK_RUNNER_COMPLETE").source())
