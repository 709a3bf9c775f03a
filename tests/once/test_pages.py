"""The pages on keys are true: their examples run, and the tests that they name are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, environment, run
from tests.docs.test_examples import run_page

PAGES = ["once.md", "coming-from-run-once.md"]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    private = tmp_path / "private"
    private.mkdir(0o700)
    return private


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RUNFORREST_KEYS", raising=False)
    run_page(DOCS / name, tmp_path, folder)


def test_tests_that_the_page_names_are_there() -> None:
    named = TEST.findall((DOCS / "once.md").read_text("utf-8"))
    assert len(named) > 8
    for file, test in named:
        assert re.search(rf"^def {test}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE) if test else (
            ROOT / file).exists(), f"{file}::{test}"


def test_every_name_of_run_once_is_on_the_page() -> None:
    from tests.once.test_run_once import NAMES
    text = (DOCS / "coming-from-run-once.md").read_text("utf-8")
    assert [name for name in NAMES if f"`{name}" not in text] == []


def test_every_option_of_the_key_server_is_on_the_page() -> None:
    from runforrest.cli.keyserver import keyserver
    text = (DOCS / "keyserver.md").read_text("utf-8")
    assert [p.name for p in keyserver.params if not any(option in text for option in p.opts)] == []


@pytest.mark.parametrize("name", ["once_pictures.py", "once_functions.py"])
def test_example(name: str, tmp_path: Path, folder: Path) -> None:
    ended = subprocess.run([sys.executable, str(ROOT / "examples" / name), str(folder / "keys")], cwd=folder,
                           env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "exactly once" in ended.stdout, ended.stdout
    assert run(["ls", str(folder / "keys" / "keys")], tmp_path, folder).stdout
