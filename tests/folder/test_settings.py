"""``runforrest.json``, and who may write into a list."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runforrest.errors import FormatVersionError, InvalidArgument, NotATaskList, UntrustedFolder
from runforrest.folder import layout, settings
from runforrest.folder.fsio import FileOps

from .support import Recording, ls, make


def rewrite(root: Path, text: str) -> FileOps:
    fs = FileOps(root)
    settings.create(fs)
    Path(root, layout.SETTINGS).write_text(text)
    return fs


def test_made_once_and_kept(tasklist_dir: Path) -> None:
    made = settings.create(FileOps(tasklist_dir), "full")
    assert made.durability == "full" and made.force_folders and made.force_results and made.force_calls
    assert settings.create(FileOps(tasklist_dir), "none") == made == settings.open_list(FileOps(tasklist_dir))
    assert ls(tasklist_dir, ".") == [".runforrest", "doing", "done", "fail", layout.SETTINGS, "todo"]
    assert ls(tasklist_dir, ".runforrest/tmp") == []
    for path in (tasklist_dir, *tasklist_dir.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"


@pytest.mark.parametrize(("durability", "calls", "results", "folders"), [
    ("none", False, False, False), ("calls", True, False, False), ("normal", True, True, False),
    ("full", True, True, True)])
def test_what_the_levels_force(tasklist_dir: Path, durability: str, calls: bool, results: bool,
                               folders: bool) -> None:
    fs = Recording(tasklist_dir)
    made = settings.create(fs, durability)
    assert (made.force_calls, made.force_results, made.force_folders) == (calls, results, folders)
    assert bool(fs.count("fsync")) == calls


def test_durability_is_checked(tasklist_dir: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settings.create(FileOps(tasklist_dir), "fast")
    assert "none, calls, normal, full" in str(caught.value)
    assert caught.value.__dict__["argument"] == "durability"


@pytest.mark.parametrize("text", [
    "", "{", "[]", "3", "null", '"x"', "{}", '{"format": 1, "beat": 0}', '{"format": 1, "beat": "x"}',
    '{"format": 1, "beat": NaN}', '{"format": 1, "lease": 0}', '{"format": 1, "lease": null}',
    '{"format": 1, "durability": "fast"}', '{"format": 1, "durability": []}', "\0" * 100])
def test_damaged_settings_say_what_to_do(tasklist_dir: Path, text: str) -> None:
    fs = rewrite(tasklist_dir, text)
    for call in (lambda: settings.open_list(fs), lambda: settings.create(fs)):
        with pytest.raises(NotATaskList) as caught:
            call()
        assert "damaged" in str(caught.value) and "remove it" in str(caught.value)
        assert caught.value.__dict__["directory"] == str(tasklist_dir)


@pytest.mark.parametrize(("field", "value", "least"), [
    ("lease", 2, "at least 3"), ("lease", 1, "at least 3"), ("lease", -1, "at least 3"), ("beat", 0, "more than 0"),
    ("beat", 1e9, "less than 1e+06 seconds")])
def test_a_lease_too_short_for_a_runner_to_end_its_tasks(tasklist_dir: Path, field: str, value: float,
                                                         least: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be") as caught:
        settings.Settings(**{field: value})
    assert least in str(caught.value) and str(value) in str(caught.value)
    fs = rewrite(tasklist_dir, json.dumps({"format": 1, field: value}))
    with pytest.raises(NotATaskList, match=f"damaged .{field} must be"):
        settings.open_list(fs)
    assert settings.Settings(lease=settings.LEAST_LEASE).lease == 3


def test_bytes_that_are_no_text(tasklist_dir: Path) -> None:
    fs = rewrite(tasklist_dir, "")
    Path(tasklist_dir, layout.SETTINGS).write_bytes(b"\xff\xfe")
    with pytest.raises(NotATaskList):
        settings.open_list(fs)


def test_a_format_from_the_future(tasklist_dir: Path) -> None:
    fs = rewrite(tasklist_dir, json.dumps({"format": settings.FORMAT + 1, "anything": "else"}))
    with pytest.raises(FormatVersionError) as caught:
        settings.open_list(fs)
    assert caught.value.__dict__["version"] == settings.FORMAT + 1
    assert "upgrade" in str(caught.value)


def test_fields_of_a_later_minor_version_are_ignored(tasklist_dir: Path) -> None:
    fs = rewrite(tasklist_dir, json.dumps({"format": settings.FORMAT, "lease": 5, "new": 1}))
    assert settings.open_list(fs).lease == 5


def test_what_is_no_task_list(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("x")
    for name in ("missing", "file", "folder"):
        with pytest.raises(NotATaskList) as caught:
            settings.open_list(FileOps(tmp_path / name))
        assert name in str(caught.value)
    assert ls(tmp_path, "folder") == ["thesis.tex"] and not (tmp_path / "missing").exists()


def test_a_list_of_runforrest_or_made_by_hand(tmp_path: Path) -> None:
    (tmp_path / "todo").mkdir()
    assert settings.open_list(FileOps(tmp_path)).format == settings.FORMAT


def test_a_folder_that_was_removed_is_made_again(tasklist_dir: Path) -> None:
    fs = FileOps(tasklist_dir)
    made = settings.create(fs)
    (tasklist_dir / "done").rmdir()
    assert settings.create(fs) == made
    assert (tasklist_dir / "done").is_dir()


def test_two_that_make_a_list_at_once(tasklist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two containers, with one pid: neither takes the other's half-written file for its own."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    entered = []

    class Slow(FileOps):
        def after(self, operation: str, *args: object) -> None:
            if operation == "create" and not entered:
                entered.append(1)
                settings.create(FileOps(tasklist_dir))

    made = settings.create(Slow(tasklist_dir))
    assert made.durability == settings.open_list(FileOps(tasklist_dir)).durability
    assert ls(tasklist_dir, ".runforrest/tmp") == []


# -- trust ---------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "todo", "doing", "done", "fail", ".runforrest"])
@pytest.mark.parametrize(("mode", "who"), [
    (0o770, "its group"), (0o702, "everybody"), (0o777, "its group and everybody")])
def test_a_folder_that_others_may_write_to_is_refused(tasklist_dir: Path, folder: str, mode: int, who: str) -> None:
    make(tasklist_dir)
    path = tasklist_dir / folder
    path.chmod(mode)
    fs = FileOps(tasklist_dir)
    with pytest.raises(UntrustedFolder) as caught:
        settings.open_list(fs, trust=False)
    text = str(caught.value)
    assert "\n" not in text and f"can be written by {who}, and" in text
    assert f"`chmod go-w {path}`" in text and "--trust" in text and "trust=True" in text
    assert isinstance(caught.value, PermissionError)
    settings.open_list(fs, trust=True)
    settings.open_list(fs)
    path.chmod(mode & ~0o022)
    settings.open_list(fs, trust=False)


def test_readable_for_others_is_fine(tasklist_dir: Path) -> None:
    make(tasklist_dir)
    for path in (tasklist_dir, *tasklist_dir.iterdir()):
        path.chmod(0o755)
    settings.open_list(FileOps(tasklist_dir), trust=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tasklist_dir: Path) -> None:
    make(tasklist_dir)
    os.chown(tasklist_dir / "todo", 54321, -1)
    with pytest.raises(UntrustedFolder) as caught:
        settings.open_list(FileOps(tasklist_dir), trust=False)
    assert "can be written by its owner (user 54321), and tasks are code" in str(caught.value)
    settings.open_list(FileOps(tasklist_dir), trust=True)


def test_a_link_to_a_folder_that_others_may_write_to(tasklist_dir: Path, tmp_path: Path) -> None:
    make(tasklist_dir)
    (tasklist_dir / "todo").rmdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tasklist_dir / "todo").symlink_to(tmp_path / "open")
    with pytest.raises(UntrustedFolder):
        settings.open_list(FileOps(tasklist_dir), trust=False)
