"""The documentation as a site: it is built without a warning, reads offline, and says what is so."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import PATIENCE, ROOT

from task_runner.cli import reference

#: what makes a browser fetch something, and not only a link to follow
LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("form", "action"), ("source", "src")}
#: names of formats and of licences, which nobody asks for
NAMES = ("http://www.w3.org/", "https://fontawesome.com", "https://clipboardjs.com/", "http://lunrjs.com", "https://bit.ly/", "http://tartarus.org")
#: asked for where the site names a repository; it names none
UNUSED = ("https://api.github.com/", "https://gitlab.com/")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it; a warning is an error."""
    directory = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.blocks = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        canonical = tag == "link" and given.get("rel") in ("canonical", "prev", "next")
        self.loads += [value or "" for name, value in attrs if (tag, name) in LOADS and not canonical]
        self.blocks += tag == "pre"


def test_nothing_is_loaded_from_other_hosts(site: Path):
    for page in site.rglob("*.html"):
        foreign = [each for each in Page(page.read_text()).loads if re.match(r"(?:\w+:)?//", each)]
        assert not foreign, page
    for file in [*site.rglob("*.css"), *(site / "assets").rglob("*.js")]:
        named = set(re.findall(r"(?:https?:)?//[\w-]+(?:\.[\w-]+)+[\w./@-]*", re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)))
        foreign = {each for each in named if each.startswith("http") and not each.startswith((*NAMES, *UNUSED))}
        assert not foreign, file


def test_every_page_is_in_it_and_no_block_is_shown_as_text(site: Path):
    for page in (ROOT / "doc").rglob("*.md"):
        shown = site / page.relative_to(ROOT / "doc").with_suffix(".html")
        shown = shown.with_name("index.html") if page.name == "README.md" else shown
        text = shown.read_text()
        assert "```" not in re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "", text, flags=re.DOTALL), page
        source = page.read_text()
        shown_blocks = len(re.findall(r"^ *```\w", source, re.MULTILINE)) - source.count("```mermaid")
        assert Page(text).blocks >= shown_blocks, page
        assert "<!-- sh" not in text, page


def test_its_search_works_without_a_server(site: Path):
    index = (site / "search/search_index.js").read_text()
    assert "receipt" in index
    assert "assets/iframe-worker.js" in (site / "index.html").read_text()
    assert (site / "assets/iframe-worker.js").exists()


def test_the_page_of_the_command_line_is_up_to_date():
    assert (ROOT / "doc/reference/cli.md").read_text() == reference.page() + "\n", f"see the head of {reference.__name__}"


def test_every_test_that_the_threat_model_names_exists():
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", (ROOT / "doc/explanation/threat-model.md").read_text())
    assert len(named) > 40
    for file, name in named:
        path = ROOT / "tests" / file
        assert path.exists(), file
        assert not name or re.search(rf"^\s*(?:async )?def {name}\(", path.read_text(), re.MULTILINE), f"{file}::{name}"


def test_what_is_vendored_is_what_its_list_says():
    directory = ROOT / "scripts/site/assets"
    rows = re.findall(r"^\| (\S+\.js) \|.*`(\S+\.LICENSE)`.*\| (\w{64}) \|$", (directory / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _licence, _sum in rows} == {each.name for each in directory.glob("*.js")}
    for name, licence, digest in rows:
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
        assert (directory / licence).exists()
