"""What the reports of slots mean: a guard's line of JSON becomes an event for the brain."""

from __future__ import annotations

from runforrest.model import events as ev
from runforrest.model import outcomes
from runforrest.model.limits import Limits
from runforrest.model.names import Name
from runforrest.process.pool import Message


def event_of(slot: int, message: Message, running: Name | None, limits: Limits) -> ev.Event:
    """The event.

    slot     below 0: the fork server's own
    running  the task that the slot was given
    limits   the runner's, for tasks that have none
    """
    if slot < 0:
        return ev.ServerGone()
    if "ready" in message:
        return ev.SlotReady(slot)
    if "guard_died" in message:
        return ev.GuardDied(slot, reported=True)
    if "emptied" in message:                # its child was told to end while it had nothing to do, or hardly
        return ev.Released(slot, running) if running else ev.Tick()
    name = Name.parse(message.pop("name"))
    assert name is not None
    if "waits" in message:
        return ev.ResultWaits(slot, message["waits"])
    if message.get("gone"):
        return ev.Vanished(slot, name)
    if "fault" in message:
        return ev.SlotFault(slot, name, message["fault"], message["damaged"])
    if message.get("released"):
        return ev.Released(slot, name)
    return ended(slot, name, message, limits)


def ended(slot: int, name: Name, report: Message, limits: Limits) -> ev.Ended:
    """An attempt has ended: whether there may be another.

    report  the attempt's record, and of the task: ``earlier``, how often it has ended how, and its ``limits``
    """
    outcome, counts = report["outcome"], report.pop("earlier")
    if outcome == outcomes.RETURNED:
        return ev.Ended(slot, name, outcome, False, 0, report)
    counts[outcome] = counts.get(outcome, 0) + 1
    limits = Limits.from_json(report.get("limits")).or_else(limits)
    report["limits"] = limits.to_json()
    failures = sum(n for o, n in counts.items() if o != outcomes.RETURNED)
    return ev.Ended(slot, name, outcome, limits.allows_another(outcome, counts), failures, report)
