"""Tasks that wait for others: gates, and who opens them, whatever happens at the same time."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runforrest.doctor.repair import plan
from runforrest.doctor.survey import survey
from runforrest.errors import InvalidArgument, NoSuchTask, UntrustedFolder
from runforrest.folder import cleaning, layout
from runforrest.folder.cancelling import Canceller
from runforrest.folder.fsio import FileOps
from runforrest.folder.gate import ANYHOW, SHOWN, gate_of, is_gate
from runforrest.folder.gates import MARK, Gates
from runforrest.folder.groups import Groups, check_group
from runforrest.folder.journal import tidy
from runforrest.folder.stored import StoredTask
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.waiting import Waiting
from runforrest.model.names import Name
from runforrest.status import list_tasks

from .support import Recording, call_of, claim, finish, make, places, runner, schedule, schedule_after, tree

Tried = Callable[[str, int], None]
CHANGES = ("create", "write", "append", "rename", "unlink", "mkdir", "rmdir", "fsync", "syncfs", "truncate")


class Interrupted(FileOps):
    """Something else happens before the n-th operation."""

    def __init__(self, root: Path, number: int, what: Callable[[], object]) -> None:
        super().__init__(root)
        self.number, self.what, self.count = number, what, 0

    def before(self, operation: str, *args: object) -> None:
        self.count += 1
        if self.count == self.number:
            self.what()


def where(folder: TaskFolder, id: str) -> str:
    """The state of a task: it is in one place."""
    (place,) = places(folder.fs.root)[id]
    return place.partition("/")[0]


def end(folder: TaskFolder, id: str, state: str = layout.DONE, tell: bool = True) -> None:
    """Run a task of todo/ to its end, and tell who waits for it, unless its runner dies before."""
    if f"E{id}" not in folder.claims():
        runner(folder, f"E{id}")
    mine = claim(folder, Name(id), f"E{id}")
    finish(folder, mine, f"E{id}", "returned" if state == layout.DONE else "raised")
    assert folder.commit(mine, f"E{id}", state)
    if tell:
        Gates(folder).ended((id, state))


def outcome(folder: TaskFolder, id: str) -> tuple[str, str]:
    (name,) = [name for name in folder.names(layout.FAIL) if name.id == id]
    result = StoredTask.open(folder.fs, f"{layout.FAIL}/{name}", name).result() or {}
    return str(result.get("outcome")), str(result.get("message"))


def internals(folder: TaskFolder) -> list[str]:
    """What is known of gates."""
    return sorted(f"{above}/{each}" for above in layout.GATED for each in folder.fs.entries(above))


# -- names ---------------------------------------------------------------------------------------


def test_the_same_set_is_the_same_gate() -> None:
    gate = gate_of(["b", "a", "b"])
    assert gate == gate_of(("a", "b")) and gate.ids == ("a", "b") and is_gate(gate.name)
    assert gate_of(["a", "b"], True).name == gate.name + ANYHOW
    assert len({gate_of(ids).name for ids in (["a"], ["b"], ["a", "b"], ["ab"], [])}) == 5


@pytest.mark.parametrize("id", ["../x", "a/b", "/etc/passwd", "..", ".x", "", "x" * 300, "a\nb", "a\0", MARK, "~x",
                                "x.t1-abcd", "x.lost1"])
def test_what_can_not_be_an_id(tasklist_dir: Path, id: str) -> None:
    with pytest.raises(InvalidArgument, match="can't be a task's id"):
        gate_of([id])
    folder = make(tasklist_dir)
    before = tree(tasklist_dir)
    Gates(folder).ended((id, layout.DONE), (id, layout.FAIL))
    assert tree(tasklist_dir) == before


@pytest.mark.parametrize("group", ["", "x" * 201, 5, None, "500-20261121T223931493660-axmp-simulate"])
def test_what_can_not_be_a_group(group: object) -> None:
    with pytest.raises(InvalidArgument, match="group must be"):
        check_group(group)


def test_nothing_is_listed_for_a_predecessor_that_waits_or_runs(tasklist_dir: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each task of a long chain would cost a listing of all that has ended."""
    folder = make(tasklist_dir)
    schedule(folder, "a")
    schedule(folder, "b")
    os.mkdir(tasklist_dir / "doing/R")
    claim = folder.claim(Name("a"), "R")
    assert claim is not None
    listed: list[str] = []
    scan = folder.scan
    monkeypatch.setattr(folder, "scan", lambda state: (listed.append(state), scan(state))[1])
    assert Waiting(folder).locate(["a", "b"]) == {"a": "doing", "b": "todo"}
    assert not {layout.DONE, layout.FAIL} & set(listed)
    assert folder.commit(claim, "R", layout.DONE)
    assert Waiting(folder).locate(["a", "b"]) == {"a": "done", "b": "todo"}


@pytest.mark.parametrize("group", ["prep", "../../up", "..", "a/b", ".hidden", "å b", "%2E", "x" * 200])
def test_groups_are_folders_of_their_own(tasklist_dir: Path, group: str) -> None:
    groups = Groups(make(tasklist_dir).fs)
    assert groups.members(group) is None and not groups.is_group(group)
    groups.join(group, "a")
    assert groups.members(group) == ["a"] and groups.is_group(group)
    (path,) = (tasklist_dir / layout.GROUPS).iterdir()
    assert os.listdir(path) == ["a"]
    groups.leave(group, "a")
    assert groups.members(group) == []


# -- opening -------------------------------------------------------------------------------------


def test_what_waits_is_let_go_when_all_is_done(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    for id in "ab":
        schedule(folder, id)
    schedule_after(folder, "x", "a", "b")
    schedule_after(folder, "y", "a", "b")
    schedule_after(folder, "z", "x")
    assert [where(folder, id) for id in "xyz"] == ["waiting"] * 3
    assert len(os.listdir(tasklist_dir / "waiting")) == 2, "the same set has one gate"
    end(folder, "a")
    assert where(folder, "x") == "waiting" and Waiting(folder).left(gate_of("ab").name) == ["b"]
    end(folder, "b")
    assert [where(folder, id) for id in "xyz"] == ["todo", "todo", "waiting"]
    end(folder, "x")
    assert where(folder, "z") == "todo"
    assert internals(folder) == [] and os.listdir(tasklist_dir / "waiting") == []
    tidy(folder.fs)
    assert not (tasklist_dir / "waiting").exists()


def test_what_is_done_already_is_not_waited_for(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    schedule(folder, "a")
    end(folder, "a")
    schedule_after(folder, "x", "a")
    assert where(folder, "x") == "todo" and not (tasklist_dir / "waiting").exists()


def test_unknown_tasks_are_named(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    schedule(folder, "a")
    before = tree(tasklist_dir)
    with pytest.raises(NoSuchTask, match=r"no task and no group 'nobody' in .*\(nor 1 more\)"):
        schedule_after(folder, "x", "a", "nobody", "nowhere")
    assert tree(tasklist_dir) == before


def test_a_failure_goes_down_the_chain(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    schedule(folder, "a")
    schedule(folder, "b")
    schedule_after(folder, "x", "a", "b")
    schedule_after(folder, "y", "x")
    schedule_after(folder, "clean-up", "y", "b", even_if_failed=True)
    end(folder, "a", layout.FAIL)
    assert [where(folder, id) for id in ("x", "y", "clean-up")] == ["fail", "fail", "waiting"]
    assert outcome(folder, "x") == ("dependency_failed", "not run, as a, which it waited for, has failed")
    assert outcome(folder, "y") == ("dependency_failed", "not run, as x, which it waited for, has failed")
    schedule_after(folder, "late", "b", "a")
    assert where(folder, "late") == "fail", "it comes when that is known"
    end(folder, "b")
    assert where(folder, "clean-up") == "todo" and where(folder, "x") == "fail"


def test_a_chain_of_thousands_fails_without_recursion(quick_folder: Path) -> None:
    folder = make(quick_folder / "list")
    schedule(folder, "t0")
    gates = Gates(folder)
    for number in range(1, 3000):
        gate = gate_of([f"t{number - 1}"])
        assert gates.close(gate)
        gates.publish(gate, f"t{number}", b"", {"frame": "envelope", "id": f"t{number}"})
    end(folder, "t0", layout.FAIL)
    assert folder.count(layout.FAIL) == 3000 and outcome(folder, "t2999")[0] == "dependency_failed"


def test_by_hand(tasklist_dir: Path) -> None:
    """`mv waiting/…/x todo/` runs it at once; the others wait on."""
    folder = make(tasklist_dir)
    schedule(folder, "a")
    for id in "xy":
        schedule_after(folder, id, "a")
    (gate,) = (tasklist_dir / "waiting").iterdir()
    (gate / "x.pkl").rename(tasklist_dir / "todo" / "x.pkl")
    end(folder, "x")
    end(folder, "a")
    assert where(folder, "y") == "todo" and internals(folder) == []


# -- at the same time ----------------------------------------------------------------------------


@pytest.mark.parametrize("anyhow", [False, True])
@pytest.mark.parametrize("state", [layout.DONE, layout.FAIL])
def test_it_ends_while_somebody_is_scheduled_after_it(quick_folder: Path, state: str, anyhow: bool,
                                                      tried: Tried) -> None:
    """At every operation of the scheduling: the one or the other sees to it, and nobody has to sweep."""
    number = points = 0
    while True:
        number += 1
        root = quick_folder / f"list{number}"
        folder = make(root)
        schedule(folder, "a")
        fs = Interrupted(root, number, lambda folder=folder: end(folder, "a", state))   # type: ignore[misc]
        schedule_after(TaskFolder(fs, folder.settings), "x", "a", even_if_failed=anyhow)
        if fs.count < number:
            break
        assert where(folder, "x") == ("todo" if anyhow or state == layout.DONE else "fail"), f"at operation {number}"
        assert places(root)["x"] == [where(folder, "x")]
        points += 1
    assert points > 10
    tried("ends of a task while another is scheduled after it", points)


@pytest.mark.parametrize("state", [layout.DONE, layout.FAIL])
def test_somebody_is_scheduled_while_the_gate_is_opened(quick_folder: Path, state: str, tried: Tried) -> None:
    """At every operation of the opening, another one comes to the same gate."""
    number = points = 0
    while True:
        number += 1
        root = quick_folder / f"list{number}"
        folder = make(root)
        schedule(folder, "a")
        schedule_after(folder, "x", "a")
        end(folder, "a", state, tell=False)
        known, gate = Gates(folder), gate_of(["a"])     # it has made the gate before, and does not look anew
        envelope: dict[str, object] = {"frame": "envelope", "id": "y", "after": gate.to_json()}
        fs = Interrupted(root, number,
                         lambda k=known, g=gate, e=envelope: k.publish(g, "y", call_of("y"), e))  # type: ignore[misc]
        Gates(TaskFolder(fs, folder.settings)).ended(("a", state))
        if fs.count < number:
            break
        expected = "todo" if state == layout.DONE else "fail"
        assert [where(folder, id) for id in "xy"] == [expected] * 2, f"at operation {number}"
        points += 1
    assert points > 5
    tried("tasks scheduled at a gate while it is opened", points)


@pytest.mark.parametrize("states", [(layout.DONE, layout.DONE), (layout.DONE, layout.FAIL),
                                    (layout.FAIL, layout.DONE), (layout.FAIL, layout.FAIL)])
def test_two_end_at_the_same_time(quick_folder: Path, states: tuple[str, str], tried: Tried) -> None:
    number = points = 0
    while True:
        number += 1
        root = quick_folder / f"list{number}"
        folder = make(root)
        for id in "ab":
            schedule(folder, id)
        schedule_after(folder, "x", "a", "b")
        end(folder, "a", states[0], tell=False)
        fs = Interrupted(root, number, lambda folder=folder: end(folder, "b", states[1]))    # type: ignore[misc]
        Gates(TaskFolder(fs, folder.settings)).ended(("a", states[0]))
        if fs.count < number:
            break
        assert where(folder, "x") == ("fail" if layout.FAIL in states else "todo"), f"at operation {number}"
        points += 1
    assert points > 3
    tried("ends of two tasks for which one waits", points)


class Paused(Interrupted):
    """Waits before the n-th operation, until it is told to go on."""

    def __init__(self, root: Path, number: int) -> None:
        super().__init__(root, number, self.wait)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.go_on.wait(30)


def test_a_gate_that_is_just_being_made_is_opened(quick_folder: Path, tried: Tried) -> None:
    """Half of it is there, and that half has ended: the opener, at each of its operations, waits until it is whole."""
    points, number, more = 0, 0, True
    while more:
        number += 1
        for then in range(1, 12):
            root = quick_folder / f"list{number}-{then}"
            folder = make(root)
            for id in "ab":
                schedule(folder, id)
            end(folder, "a", tell=False)
            (name,) = folder.names(layout.DONE)
            folder.move(f"done/{name}", "todo/a.pkl")               # not ended when it is first looked for
            fs = Paused(root, number)
            thread = threading.Thread(target=schedule_after, args=(TaskFolder(fs, folder.settings), "x", "a", "b"))
            thread.start()
            while not fs.reached.wait(0.001) and thread.is_alive():
                pass
            if not fs.reached.is_set():
                more = False
            if (root / "todo" / "a.pkl").exists():
                folder.move("todo/a.pkl", f"done/{name}")
            opener = Interrupted(root, then, lambda fs=fs, t=thread: (fs.go_on.set(), t.join()))  # type: ignore[misc]
            Gates(TaskFolder(opener, folder.settings)).ended(("a", layout.DONE))
            fs.go_on.set()
            thread.join()
            assert where(folder, "x") == "waiting", f"at operation {number} of the one, {then} of the other"
            end(folder, "b")
            assert where(folder, "x") == "todo", f"at operation {number} of the one, {then} of the other"
            points += 1
            shutil.rmtree(root)
    assert points > 200
    tried("gates opened while they are made", points)


def test_two_do_the_same(quick_folder: Path, tried: Tried) -> None:
    """A runner ends a task, and another, which sweeps, finds it ended: at every operation."""
    number = points = 0
    while True:
        number += 1
        root = quick_folder / f"list{number}"
        folder = make(root)
        for id in "ab":
            schedule(folder, id)
        for id in "xyz":
            schedule_after(folder, id, "a")
        schedule_after(folder, "w", "b")
        end(folder, "a", tell=False)
        end(folder, "b", layout.FAIL, tell=False)
        fs = Interrupted(root, number, Gates(folder).sweep)
        Gates(TaskFolder(fs, folder.settings)).ended(("a", layout.DONE), ("b", layout.FAIL))
        if fs.count < number:
            break
        assert [where(folder, id) for id in "xyzw"] == ["todo"] * 3 + ["fail"], f"at operation {number}"
        assert outcome(folder, "w")[0] == "dependency_failed"
        points += 1
    assert points > 10
    tried("sweeps while a gate is opened", points)


# -- what it costs -------------------------------------------------------------------------------


def changes(fs: Recording) -> int:
    return len(fs.of(*CHANGES))


def test_without_dependencies_it_costs_nothing(tasklist_dir: Path) -> None:
    """Scheduling is what it was, also in a list in which others wait."""
    make(tasklist_dir)
    fs = Recording(tasklist_dir)
    folder = TaskFolder(fs, make(tasklist_dir).settings)
    schedule(folder, "a")
    assert [call[0] for call in fs.calls] == ["create", "write", "rename"]
    schedule_after(make(tasklist_dir), "x", "a")
    fs.calls.clear()
    schedule(folder, "b")
    assert [call[0] for call in fs.calls] == ["create", "write", "rename"]


@pytest.mark.parametrize("kind", ["dependents", "predecessors", "pairs"])
def test_the_cost_is_linear(quick_folder: Path, kind: str, tried: Tried) -> None:
    """Ten thousand of them: operations, counted, of scheduling and of letting go; seconds are printed only."""
    each: list[float] = []
    for count in (1000, 10_000):
        root = quick_folder / f"list{count}"
        fs = Recording(root)
        folder = make(root, fs=fs)
        gates, begun = Gates(folder), time.monotonic()
        ids = [str(schedule(folder, f"p{n}"))[:-4] for n in range(1 if kind == "dependents" else count)]
        if kind == "dependents":
            gate = gate_of(ids)
            assert gates.close(gate)
            for number in range(count):
                gates.publish(gate, f"x{number}", b"", {"frame": "envelope", "id": f"x{number}"})
        elif kind == "predecessors":
            schedule_after(folder, "x", *ids)
        else:
            for id in ids:
                schedule_after(folder, f"x-{id}", id)
        for id in ids:
            folder.fs.rename(f"todo/{id}.pkl", f"done/{id}.pkl")
            gates.ended((id, layout.DONE))
        assert gates.opened == (1 if kind == "predecessors" else count) == folder.count(layout.TODO)
        each.append(len(fs.calls) / count)
        print(f"{count} {kind}: {each[-1]:.2f} operations each, {time.monotonic() - begun:.2f} s")
        fs.calls.clear()
    assert each[1] < 1.1 * each[0]
    tried(f"{kind} let go, operations counted", 11_000)


def test_a_sweep_of_nothing_is_two_listings(tasklist_dir: Path) -> None:
    make(tasklist_dir)
    fs = Recording(tasklist_dir)
    Gates(TaskFolder(fs, make(tasklist_dir).settings)).sweep()
    assert [call[0] for call in fs.calls] == ["listdir", "listdir"]


# -- by others than runners ----------------------------------------------------------------------


def test_cancel_what_waits(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    schedule(folder, "a")
    schedule_after(folder, "x", "a")
    schedule_after(folder, "y", "x")
    canceller = Canceller(folder, ["x"])
    assert canceller.look() == [] and canceller.cancelled == ["x"]
    assert outcome(folder, "x") == ("cancelled", "cancelled while it waited for others")
    assert outcome(folder, "y")[0] == "dependency_failed" and where(folder, "a") == "todo"


def test_cancel_what_is_waited_for(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    schedule(folder, "a")
    schedule_after(folder, "x", "a")
    Canceller(folder, ["a"]).look()
    assert outcome(folder, "a")[0] == "cancelled" and outcome(folder, "x")[0] == "dependency_failed"


def test_try_again(tasklist_dir: Path) -> None:
    """A failed task together with what waited for it: they wait again."""
    folder = make(tasklist_dir)
    schedule(folder, "a")
    schedule_after(folder, "x", "a")
    schedule_after(folder, "y", "x")
    end(folder, "a", layout.FAIL)
    names = {name.id: name for name in folder.names(layout.FAIL)}
    assert Gates(folder).requeue([names["x"]]) == [("waiting", names["x"])]
    assert where(folder, "x") == "fail", "what it waits for has failed still"
    names = {name.id: name for name in folder.names(layout.FAIL)}
    moved = Gates(folder).requeue([names["y"], names["x"], names["a"]])
    assert sorted(state for state, _ in moved) == ["todo", "waiting", "waiting"]
    assert [where(folder, id) for id in "axy"] == ["todo", "waiting", "waiting"]
    for id in "axy":
        (name,) = [name for name in folder.names("todo") if name.id == id]
        member = runner(folder, f"R{id}")
        mine = claim(folder, name, member.runner)
        finish(folder, mine, member.runner)
        folder.commit(mine, member.runner, layout.DONE)
        Gates(folder).ended((id, layout.DONE))
    assert [where(folder, id) for id in "axy"] == ["done"] * 3 and internals(folder) == []


def test_many_that_fail_again_and_again(tasklist_dir: Path) -> None:
    """Each has a record beside it of each time: looking at one does not list those of all."""
    listed: list[str] = []
    made = make(tasklist_dir)
    fs = FileOps(tasklist_dir, lambda operation, args: listed.append(str(args[0])) if operation == "listdir" else None)
    folder = TaskFolder(fs, made.settings)
    schedule(folder, "a")
    for number in range(20):
        schedule_after(folder, f"x{number}", "a")
    end(folder, "a", layout.FAIL)
    for _ in range(3):
        Gates(folder).requeue([name for name in folder.names(layout.FAIL) if name.id != "a"])
    assert {name.tries for name in folder.names(layout.FAIL) if name.id != "a"} == {4}
    assert [row.outcome for row in list_tasks(fs, ["fail"])] == ["raised"] + ["dependency_failed"] * 20
    assert len(survey(fs).copies) == 21
    assert listed.count(layout.TRIES) <= 2, "the survey looks at all of them, once or twice"


def test_try_again_when_what_it_waits_for_is_done(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    for number in range(SHOWN + 1):                     # more than the envelope names
        schedule(folder, f"p{number}")
    schedule_after(folder, "x", *(f"p{number}" for number in range(SHOWN + 1)))
    end(folder, "p0", layout.FAIL)
    for name in [*folder.names(layout.TODO), *folder.names(layout.FAIL)]:
        if name.id != "x":
            state = next(s for s in ("todo", "fail") if (tasklist_dir / s / str(name)).exists())
            folder.move(f"{state}/{name}", f"done/{name}")
    Gates(folder).requeue(folder.names(layout.FAIL))
    assert where(folder, "x") == "todo"


def test_a_set_that_was_changed_is_not_believed(tasklist_dir: Path) -> None:
    """The envelope, which is signed, has a checksum of what the task waits for."""
    folder = make(tasklist_dir)
    ids = [str(schedule(folder, f"p{number}"))[:-4] for number in range(SHOWN + 1)]
    name = schedule_after(folder, "x", *ids)
    gates, gate = Gates(folder), gate_of(ids)
    envelope = StoredTask.open(folder.fs, f"waiting/{gate.name}/{name}", name).envelope
    assert "ids" not in envelope["after"] and gates.gate_in(envelope) == gate
    (tasklist_dir / layout.SETS / gate.name).write_text("p0\n")
    assert gates.gate_in(envelope) is None
    for wrong in ("../../x", "", 5, None, ["p0"], "z" * 20, gate.name + "x"):
        assert gates.gate_in({"after": {**envelope["after"], "gate": wrong}}) is None
    assert gates.gate_in({"after": {"gate": gate.name, "ids": ["../x"]}}) is None


def test_what_can_not_be_let_go_any_more(tasklist_dir: Path) -> None:
    """Somebody has removed what it waits for: that is said, and `doctor --repair` ends it, and what waits for it."""
    folder = make(tasklist_dir)
    for id in "ab":
        schedule(folder, id)
    schedule_after(folder, "x", "a")
    schedule_after(folder, "y", "x")
    schedule_after(folder, "z", "b")
    gates = Gates(folder)
    assert gates.waiting.outlook() == (True, "") and gates.waiting.hopeless() == {}
    (tasklist_dir / "todo" / "a.pkl").unlink()
    assert gates.waiting.outlook() == (True, ""), "z may be let go"
    stay, why = gates.waiting.outlook(lambda name: name.id in "xy")
    assert not stay and why.startswith("2 tasks in waiting/ wait for what is not in the list any more, as a;")
    assert set(gates.waiting.hopeless().values()) == {"a"} and len(gates.waiting.hopeless()) == 2
    found = plan(survey(FileOps(tasklist_dir)))
    assert [finding.action for finding in found] == ["end", "end"]
    assert "1 task waits for a, which is nowhere in the list" in found[0].what


def test_clean(tasklist_dir: Path) -> None:
    folder = make(tasklist_dir)
    schedule(folder, "a")
    Groups(folder.fs).join("prep", "a")
    schedule_after(folder, "x", "a")
    cleaning.clean(folder.fs, [layout.TODO], keep_folders=True)
    assert not (tasklist_dir / "waiting").exists()
    assert internals(folder) == [f"{layout.GROUPS}/prep"]
    cleaning.clean(folder.fs)
    assert not tasklist_dir.exists()


@pytest.mark.parametrize("planted", ["waiting/{gate}", ".runforrest/gates/{gate}", ".runforrest/after/a"])
def test_links_are_refused(tasklist_dir: Path, tmp_path: Path, planted: str) -> None:
    folder, elsewhere = make(tasklist_dir), tmp_path / "elsewhere"
    elsewhere.mkdir()
    schedule(folder, "a")
    path = tasklist_dir / planted.format(gate=gate_of(["a"]).name)
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    with pytest.raises(UntrustedFolder, match="is not a folder but a link"):
        schedule_after(folder, "x", "a")
    assert list(elsewhere.iterdir()) == [] and "x" not in places(tasklist_dir)
