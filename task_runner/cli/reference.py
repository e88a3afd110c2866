"""doc/reference/cli.md: every verb with its options, from the commands themselves.

WARNING: that page is generated from here: `python -m task_runner.cli.reference > doc/reference/cli.md`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from task_runner.cli.exitcode import HELP
from task_runner.cli.main import cli

_HEAD = """\
# The command line

Generated from the commands by `python -m task_runner.cli.reference > doc/reference/cli.md`; do not edit.
`task-runner VERB --help` says the same.

Options that stand before the verb:
"""


def page() -> str:
    """The whole page."""
    context = click.Context(cli, info_name="task-runner")
    parts = [_HEAD, *_options(cli, context), "", *_exit_codes(), *_verbs(cli, context)]
    return "\n".join(parts).rstrip("\n")


def _verbs(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        yield from _verb(command, inner)
        if isinstance(command, click.Group):
            yield from _verbs(command, inner)


def _verb(command: click.Command, context: click.Context) -> Iterator[str]:
    words = context.command_path.split()[1:]
    yield from (f"{'#' * (len(words) + 1)} {' '.join(words)}", "")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from ("```text", usage, "```", "")
    for text in filter(None, (command.help, command.epilog)):
        yield from (_prose(text), "")
    options = list(_options(command, context))
    if options:
        yield from (*options, "")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [each.get_help_record(context) for each in command.get_params(context) if isinstance(each, click.Option)]
    shown = [each for each in records if each and not each[0].endswith("--help")]
    if shown:
        yield from ("| option | |", "| --- | --- |")
        yield from (f"| `{_cell(names)}` | {_words(_cell(meaning))} |" for names, meaning in shown)


def _exit_codes() -> Iterator[str]:
    yield from ("## Exit codes", "")
    yield from ("```text", inspect.cleandoc(HELP.replace("\b\n", "")), "```", "")


def _prose(text: str) -> str:
    """What the terminal shows as it stands (behind a backspace sign) is a block here; the rest are paragraphs."""
    parts = re.split(r"\n{2,}", inspect.cleandoc(text).replace("\f", ""))
    return "\n\n".join(
        f"```text\n{each.removeprefix(chr(8)).strip(chr(10))}\n```" if each.startswith("\b") else _words(each)
        for each in parts
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _words(text: str) -> str:
    """Nothing in a sentence of a help is a sign of Markdown."""
    return re.sub(r"(`[^`]*`)|([*_<\[])", lambda sign: sign[1] or "\\" + sign[2], text)


if __name__ == "__main__":
    print(page())
