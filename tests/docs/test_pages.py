"""What the pages name is there, and what should be on them is."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import runforrest.mapping.failures
import runforrest.once.errors
from runforrest import errors
from runforrest.model.outcomes import OUTCOMES
from tests.docs.pages import DOCS, PAGES, ROOT, without_blocks

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::([\w:]+))?`")


def anchor(title: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(title) for title in re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(without_blocks(page)):
        if "://" in link:
            continue
        file, _, fragment = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), f"{page.name}: {link}"
        assert not fragment or fragment in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index() -> None:
    linked = set(LINK.findall((DOCS / "README.md").read_text("utf-8")))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} == linked


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text("utf-8").count("\n") < 150


def error_classes() -> dict[str, type[BaseException]]:
    return {name: value for module in (errors, runforrest.once.errors, runforrest.mapping.failures)
            for name, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == module.__name__}


def test_every_error_is_listed() -> None:
    text = (DOCS / "errors.md").read_text("utf-8")
    classes = list(error_classes())
    assert len(classes) > 10
    assert [name for name in classes if not re.search(rf"^\| `{name}` \|", text, re.MULTILINE)] == []
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(classes)


def test_what_errors_are_besides() -> None:
    """The column 'also a' is true."""
    for name, also in re.findall(r"^\| `(\w+)` \| `(\w+)` \|", (DOCS / "errors.md").read_text("utf-8"), re.MULTILINE):
        builtin = getattr(importlib.import_module("builtins"), also)
        assert issubclass(error_classes()[name], builtin), name


def test_commands_are_up_to_date() -> None:
    ended = subprocess.run([sys.executable, str(DOCS / "generate_commands.py"), "--check"])
    assert ended.returncode == 0, "run `python docs/generate_commands.py`"


def test_every_command_has_its_section() -> None:
    from runforrest.cli import main
    assert {f"runforrest-{name}" for name in main.commands} <= anchors(DOCS / "commands.md")


def test_tests_that_guarantees_name_are_there() -> None:
    named = TEST.findall((DOCS / "guarantees.md").read_text("utf-8"))
    assert len(named) > 30
    for file, test in named:
        path = ROOT / file
        assert path.exists(), file
        text = path.read_text("utf-8")
        for part in filter(None, test.split("::")):
            assert re.search(rf"^\s*(?:class|def) {part}\b", text, re.MULTILINE), f"{file}::{test}"


@pytest.mark.parametrize("name", ["folder-format.md", "glossary.md"])
def test_every_outcome_is_named(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    assert [outcome for outcome in OUTCOMES if outcome not in text] == []


def test_messages_of_troubleshooting_are_in_the_code() -> None:
    """Each heading is the beginning of a message; its fixed parts are found in the sources."""
    sources = " ".join(re.sub(r'"\s*\n?\s*f?"', "", p.read_text("utf-8"))
                       for p in sorted((ROOT / "runforrest").rglob("*.py")))
    missing = []
    for heading in re.findall(r"^\*\*`(.*?)`\*\*", (DOCS / "troubleshooting.md").read_text("utf-8"), re.MULTILINE):
        words = max(re.split(r"…|<.*?>", heading), key=len).strip(" :;,")
        if words not in sources:
            missing.append(words)
    assert missing == []


def test_no_dead_examples() -> None:
    """Programs in examples/ begin with a text that says how to start them."""
    for program in (ROOT / "examples").glob("*.py"):
        assert f"python examples/{program.name}" in program.read_text("utf-8").split('"""')[1]
