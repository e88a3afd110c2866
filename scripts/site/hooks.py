"""What the site is built with beside MkDocs: pages stay as viewers of repositories show them, and are adapted here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
#: what the theme would load from elsewhere if a page asked for it; no page does
_ELSEWHERE = re.compile(r"https://unpkg\.com/[\w@./-]*")
_FENCE = re.compile(r"^([ ]*```)([\w-]+)[^\n]*$", re.MULTILINE)
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
_DIAGRAM = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ARROW = re.compile(r"^ *(\S+) --> (\S+?)(?:: (.*))?$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Without what stands behind the language of a block (it is for the tests) and without comments; a diagram of
    states becomes a table, for what draws it would have to be loaded."""
    markdown = _DIAGRAM.sub(lambda found: _steps(found[1]), markdown)
    return _FENCE.sub(r"\1\2", _COMMENT.sub("", markdown))


def _steps(diagram: str) -> str:
    ways: dict[str, list[str]] = {}
    for before, after, event in _ARROW.findall(diagram):
        if "[*]" not in (before, after):
            ways.setdefault(before, []).append(f"{event} → `{after}`")
    rows = [f"| `{state}` | {'; '.join(steps)} |" for state, steps in ways.items()]
    return "\n".join(["| from | by → to |", "| --- | --- |", *rows])


def on_post_build(config: Any, **_: Any) -> None:
    site = Path(config.site_dir)
    for each in ASSETS.glob("iframe-worker.*"):
        shutil.copy(each, site / "assets")
    shutil.rmtree(site / "assets/javascripts/lunr")  # for searching in other languages
    for script in (site / "assets/javascripts").rglob("*.js"):
        text = script.read_text()
        if _ELSEWHERE.search(text):
            script.write_text(_ELSEWHERE.sub("", text))
    for each in (site / "assets").rglob("*.map"):
        each.unlink()
