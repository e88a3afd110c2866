"""doc/howto/client.md: each Python example is run, and prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import PATIENCE, ROOT, Daemon

PAGE = (ROOT / "doc/howto/client.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n+```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_example_says_what_it_prints():
    assert len(EXAMPLES) == PAGE.count("```python") >= 6


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_the_examples_do_what_they_say(shared: Daemon, code: str, printed: str):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**shared.env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", printed)
