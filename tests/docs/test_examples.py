"""The examples of the pages, run as programs in a folder of their own, from the first to the last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, Block, blocks, commands, environment, run, same


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    private = tmp_path / "private"
    private.mkdir()
    private.chmod(0o700)
    return private


def run_page(page: Path, tmp_path: Path, folder: Path) -> list[str]:
    """Run the blocks of a page in their order; returns the outputs of its Python programs."""
    outputs = []
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.language == "python":
            outputs.append(run_program(block, where, tmp_path, folder))
        elif block.language == "console":
            run_commands(block, where, tmp_path, folder)
    assert outputs, f"{page} has no example"
    return outputs


def run_program(block: Block, where: str, tmp_path: Path, folder: Path) -> str:
    program = tmp_path / f"line_{block.line}.py"
    program.write_text(block.text, "utf-8")
    ended = run([sys.executable, str(program)], tmp_path, folder)
    assert ended.returncode == 0, f"{where}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    if block.output is not None:
        assert same(block.output, ended.stdout), f"{where} should print\n{block.output}\nbut printed\n{ended.stdout}"
    return ended.stdout


def run_commands(block: Block, where: str, tmp_path: Path, folder: Path) -> None:
    for command, expected in commands(block):
        ended = run(["sh", "-c", command], tmp_path, folder)
        assert same(expected, ended.stdout), \
            f"{where}: {command}\nshould print\n{expected}\nbut printed\n{ended.stdout}\n{ended.stderr}"


def test_readme(tmp_path: Path, folder: Path) -> None:
    before, after = run_page(ROOT / "README.md", tmp_path, folder)
    assert before == after != ""


@pytest.mark.parametrize("name", ["tutorial.md", "coming-from-runforrest.md", "batch.md", "resources.md", "futures.md",
                                  "scikit-learn.md", "engines-executors.md"])
def test_page(name: str, tmp_path: Path, folder: Path) -> None:
    run_page(DOCS / name, tmp_path, folder)


PREPARE = """
import os, sys
from runforrest import TaskList, defer
tasks = TaskList("tasks")
tasks.schedule(defer(abs, -1), name="fine", metadata=1, priority=1, env={"A": "b"}, timeout=9, cwd=".")
tasks.schedule(defer(divmod, 1, 0), name="raises")
tasks.schedule(defer(os._exit, 3), name="crashes", crash_limit=1)
tasks.schedule(defer(print, "x" * 50_000), name="talks")
print(len(list(tasks.run(2, print_output=False))))
"""


def test_reading_a_list_with_plain_python(tmp_path: Path, folder: Path) -> None:
    assert run([sys.executable, "-c", PREPARE], tmp_path, folder).stdout == "4\n"
    [block] = [b for b in blocks(DOCS / "folder-format.md") if b.language == "python"]
    program = tmp_path / "plain.py"
    program.write_text(block.text)
    for file, outcome in (("done/*fine*.pkl", "returned"), ("fail/*raises*.pkl", "raised"),
                          ("fail/*crashes*.pkl", "crashed")):
        [path] = (folder / "tasks").glob(file)
        junk = folder / "junk.pkl"
        junk.write_bytes(path.read_bytes() + b"rfFrame1 and then torn" * 3)
        for each in (path, junk):           # without our package: -I leaves PYTHONPATH out
            ended = run([sys.executable, "-I", str(program), str(each)], tmp_path, folder)
            first, second = ended.stdout.splitlines()
            assert first.startswith(f"attempt {outcome} ") and second.startswith("envelope "), ended.stderr


def test_records_have_only_fields_that_are_documented(tmp_path: Path, folder: Path) -> None:
    from runforrest.folder.fsio import FileOps
    from runforrest.folder.stored import StoredTask
    from runforrest.model.names import Name
    from runforrest.model.records import Attempt, Envelope
    assert run([sys.executable, "-c", PREPARE], tmp_path, folder).stdout == "4\n"
    fs, fields = FileOps(folder / "tasks"), {*Attempt().to_json(), *Envelope().to_json()}
    for path in (folder / "tasks").glob("*/*.pkl"):
        name = Name.parse(path.name)
        assert name is not None
        task = StoredTask.open(fs, f"{path.parent.name}/{path.name}", name)
        fields.update(task.envelope, *task.attempts)
    text = (DOCS / "folder-format.md").read_text("utf-8")
    assert [field for field in sorted(fields) if f"`{field}`" not in text] == []


def test_quickstart(tmp_path: Path, folder: Path) -> None:
    """With a folder of its own and from anywhere: what it says is what the README promises."""
    command = [sys.executable, str(ROOT / "examples" / "quickstart.py"), str(folder / "quick")]
    ended = subprocess.run(command, cwd=folder, env=environment(tmp_path), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout
    for text in ("kill -9", "crashed (SIGSEGV), crashed (SIGSEGV)", "timed_out (SIGTERM)", "fails_at_first",
                 "I ran in process", "each exactly once"):
        assert text in ended.stdout, ended.stdout
    after = run(["runforrest", "status", str(folder / "quick" / "tasks")], tmp_path, folder).stdout
    assert "todo 0  doing 0" in after and "fail 4" in after, after
