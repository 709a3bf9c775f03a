"""Reading the pages, and running what is in them."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
SECONDS = 60
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block.  ``output``: the ``text`` block that follows a ``python`` block at once, if there is one."""

    language: str
    text: str
    line: int
    output: str | None = None


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    found: list[Block] = []
    end = -1
    for match in _BLOCK.finditer(text):
        block = Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)
        follows = found and not text[end:match.start()].strip()
        if block.language == "text" and follows and found[-1].language == "python":
            found[-1].output = block.text
        found.append(block)
        end = match.end()
    return found


def without_blocks(page: Path) -> str:
    return _BLOCK.sub("", page.read_text("utf-8"))


def environment(folder: Path) -> dict[str, str]:
    """With our package, and with a `runforrest` command, installed or not."""
    shim = folder / "bin" / "runforrest"
    if not shim.exists():               # what runs in the background may be reading it
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runforrest "$@"\n')
        shim.chmod(0o755)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100", "LC_ALL": "C"}


def run(command: list[str], folder: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=SECONDS)


def same(expected: str, got: str) -> bool:
    """Equal, where ``...`` stands for anything."""
    return doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def commands(block: Block) -> list[tuple[str, str]]:
    """(command, expected output) of a ``console`` block."""
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))
