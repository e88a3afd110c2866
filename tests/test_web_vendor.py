"""The files of the web page: what others have made is as they have made it, and what we have made keeps the rules."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from task_runner.api.web import assets

VENDOR = assets.STATIC / "vendor"
LISTED: list[dict[str, Any]] = json.loads((VENDOR / "VENDORED.json").read_text())
#: ours
SCRIPTS = sorted(path for path in assets.STATIC.rglob("*.js") if VENDOR not in path.parents)
#: what would run text as a program, or take text for HTML
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\s*\(|new\s+Function|\bFunction\s*\(|DOMParser"
    r"|createContextualFragment|srcdoc|javascript:|set(?:Timeout|Interval)\(\s*['\"`]|setAttribute\(\s*['\"`](?:on|style)"
)


def test_what_is_vendored_is_what_the_list_says():
    for entry in LISTED:
        for name, file in entry["files"].items():
            assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == file["sha256"], name
            assert file["from"]
        assert entry["source"] == f"npm:{entry['name']}@{entry['version']}"
        assert entry["integrity"].startswith("sha512-")


def test_every_vendored_file_is_in_the_list_with_a_licence_that_lies_beside_it():
    listed = {name for entry in LISTED for name in entry["files"]}
    assert {path.name for path in VENDOR.iterdir() if path.is_file()} == listed | {"VENDORED.json"}
    parts = [part for entry in LISTED for part in (entry, *entry.get("contains", ()))]
    for part in parts:
        assert part["licence"] in ("MIT", "Apache-2.0")
        text = (VENDOR / part["licenceFile"]).read_text()
        assert ("Apache License" if part["licence"] == "Apache-2.0" else "Permission is hereby granted") in text
    assert {part["licenceFile"] for part in parts} == {f"licences/{path.name}" for path in (VENDOR / "licences").iterdir()}


def test_every_file_of_the_page_has_a_kind_that_is_served():
    unserved = [path.name for path in assets.STATIC.rglob("*") if path.is_file() and path.suffix not in assets.KINDS]
    assert unserved == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(assets.STATIC).as_posix())
def test_no_script_of_ours_takes_text_for_a_program_or_for_html(path: Path):
    found = [line for line in path.read_text().splitlines() if FORBIDDEN.search(line)]
    assert found == []
    # a handler in a template is a function, never text; a style is an object
    assert re.findall(r"""\s(?:on\w+|style)=["'][^"'$]""", path.read_text()) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(assets.STATIC).as_posix())
def test_what_a_script_imports_is_there(path: Path):
    pattern = r"""(?:\bfrom\s+|\bimport\s*\(?\s*)["']([^"']+)["']"""
    for name in re.findall(pattern, path.read_text()):
        if name.startswith("/ui/static/"):
            found = assets.STATIC / name.removeprefix("/ui/static/")
        else:
            assert name.startswith("."), f"{name}: neither a path of ours nor a relative one"
            found = path.parent / name
        assert found.is_file(), name


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.linked: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.faults += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given) or tag == "base":
            self.faults.append(tag)
        self.linked += [value for name, value in attrs if name in ("src", "href") and value and tag != "a"]


def test_the_page_has_nothing_inline_and_links_to_files_of_ours():
    page = _Page()
    page.feed((assets.STATIC / "index.html").read_text())
    assert page.faults == []
    assert page.linked
    for link in page.linked:
        assert link.startswith("/ui/static/")
        assert (assets.STATIC / link.removeprefix("/ui/static/")).is_file(), link


def test_nothing_is_fetched_from_elsewhere():
    for path in assets.STATIC.rglob("*"):
        if path.suffix in (".css", ".html", ".svg") or path in SCRIPTS:
            text = path.read_text().replace("http://www.w3.org/", "")
            assert not re.search(r"""(?:src|href|url|import|fetch)\W{0,4}https?://|@import""", text), path


def test_an_installed_package_has_every_file_of_the_page(tmp_path: Path):
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "task_runner", source / "task_runner", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        prefix = "task_runner/api/web/static/"
        packed = {name.removeprefix(prefix): archive.read(name) for name in archive.namelist() if name.startswith(prefix)}
    there = {path.relative_to(assets.STATIC).as_posix(): path.read_bytes() for path in assets.STATIC.rglob("*") if path.is_file()}
    assert packed == there
