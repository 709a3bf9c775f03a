"""The page names a test for each attack, and the tests are there."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, ROOT
from tests.docs.test_pages import TEST

PAGE = DOCS / "security.md"


def test_each_attack_has_a_test() -> None:
    attacks = PAGE.read_text("utf-8").partition("## Attacks")[2].partition("## What is not")[0]
    rows = re.findall(r"^\| (?!attack|---)(.*) \|$", attacks, re.MULTILINE)
    assert len(rows) > 30
    assert [row for row in rows if not TEST.search(row.split(" | ")[-1])] == []


def test_tests_that_it_names_are_there() -> None:
    named = TEST.findall(PAGE.read_text("utf-8"))
    missing = [f"{file}::{test}" for file, test in named
               if not re.search(rf"^def {test}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE)]
    assert missing == []
