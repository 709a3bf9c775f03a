"""Which task a runner takes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from runforrest.folder import layout, tokens
from runforrest.folder.transitions import TaskFolder
from runforrest.folder.window import TodoWindow
from runforrest.model.limits import Limits
from runforrest.model.names import Name
from runforrest.model.resources import ORDINARY, Budget, Needs
from runforrest.runner.options import Options
from runforrest.runner.preflight import envelope_of

RELIST_SECONDS, RELIST_SHARE = 2.0, 20.0   # look anew this often, but spend at most 1/20 of the time on it
PATIENCE_SECONDS = 30.0            # so long may others pass a task that waits for cores, GPUs or memory to be free
MOST_KNOWN = 100_000               # tasks of which the needs are remembered, and at which a look for one that fits ends
MOST_PASSED = 256                  # tasks that are tried again before any other, without looking at ``todo/`` for them


class Claims:
    """Takes tasks out of ``todo/`` for one runner, the most urgent and oldest first.

    budget   what the runner has free
    foreign  is told each name once that can't be a task's
    wanted   chooses the tasks that this runner takes; None for all
    until    when its tasks must end, on the monotonic clock: what would take longer is left; None: never
    """

    def __init__(self, folder: TaskFolder, runner: str, options: Options, budget: Budget,
                 foreign: Callable[[str], None], wanted: Callable[[Name], bool] | None, until: float | None) -> None:
        self.folder, self.runner, self.options, self.budget = folder, runner, options, budget
        self.wanted, self.until = wanted, until
        self.unfit = ""                         # why a task in todo/ can never run here
        self._window = TodoWindow(folder.fs, options.nprocesses, foreign, self._is_for_us)
        self._too_long: set[int] = set()        # hashes of the ids of tasks for which there is no time any more
        self._known: dict[int, Needs] = {}
        self._seen: set[int] = set()            # hashes of the ids of tasks that `next` has looked at
        self._short: list[dict[str, int]] = []  # tokens of the list that it could not get
        self._further = False                   # the listing is one of what lies behind that
        self._passed: dict[int, float] = {}     # since when others have passed a task
        self.tokens: dict[str, list[str]] = {}  # what was taken of the list's tokens, by the task's id
        self._totals: dict[str, int] | None = None  # how many there are of them
        self._listed_at = self._listing_took = 0.0
        self._unsure: set[str] = set()          # ids of tasks that it may have, though it was told of an error

    @property
    def listed(self) -> int:
        """Tasks in ``todo/`` at the last look."""
        return self._window.listed

    @property
    def too_long(self) -> int:
        """How many of them are left for a runner with more time."""
        return min(len(self._too_long), self._window.listed)

    def forget(self) -> None:
        """Something was put back, and may be more urgent than what was seen."""
        self._window.forget()

    def next(self, crowded: bool, service: bool = False) -> tuple[Name, Needs] | None:
        """Claim a task that fits; None if a fresh listing had nothing for this runner now.

        crowded  other runners claim here as well
        service  for the slot of services, and no other

        Raises OSError if the folder is in trouble.
        """
        found = self._next(crowded, service)
        if found is None and self.put_back_unsure():
            found = self._next(crowded, service)
        return found

    def put_back_unsure(self) -> bool:
        """Put back what this runner has claimed without knowing, as the reply was lost and nobody could be asked.

        Returns whether there was something.  Raises OSError.
        """
        if not self._unsure:
            return False
        mine = [name for name in self.folder.claims_of(self.runner) if name.id in self._unsure]
        for name in mine:
            self.folder.release(name, self.runner)
            self._unsure.discard(name.id)
        return bool(mine)

    def _next(self, crowded: bool, service: bool) -> tuple[Name, Needs] | None:
        self._seen.clear()
        self._short.clear()
        self.unfit = ""
        due = self._is_due()
        if due:
            self._window.forget()
        listed = False
        first: list[Name] = []                  # what the next look must begin with
        try:
            while True:
                candidate = self._window.pop(crowded and not service)
                if candidate is None:
                    if not self._may_list(due, listed, service, bool(first)) or not self._list(further=listed):
                        return None
                    listed = True
                    continue
                self._seen.add(hash(candidate.id))
                needs = self._needs_of(candidate)
                if needs is None:
                    continue
                if needs.service != service:
                    first.append(candidate)
                    if service and not candidate.demanding:
                        return None             # services come first
                    continue
                if not self._fits(needs):
                    held_up = self._holds_up(candidate, needs)
                    if held_up or len(first) < MOST_PASSED:
                        first.append(candidate)
                    if held_up:
                        return None
                    continue
                mine = self._claim(candidate, needs)
                if mine is not None:
                    self._passed.pop(hash(candidate.id), None)
                    return mine, needs
        finally:
            self._window.put_back(first)

    def _is_due(self) -> bool:
        """Whether there may be more urgent tasks by now than those in the window."""
        return time.monotonic() - self._listed_at >= max(RELIST_SECONDS, RELIST_SHARE * self._listing_took)

    def _may_list(self, due: bool, listed: bool, service: bool, passed: bool) -> bool:
        """Whether to look for more.  Where what comes first can't be started now, that is not done all the time, unless
        nothing runs here: then the answer says whether there is anything to stay for.
        """
        if len(self._seen) >= MOST_KNOWN or (service and listed):
            return False
        return due or listed or not passed or not self.budget.busy

    def _claim(self, name: Name, needs: Needs) -> Name | None:
        """Claim it, with the tokens of the list that it needs; None if one or the other is not to be had."""
        shared = {token: count for token, count in needs.tokens.items() if token in self.budget.others}
        if not shared:
            return self._move(name)
        taken = tokens.take(self.folder.fs, self.runner, shared)
        if taken is None:
            self._short.append(shared)
            return None
        self.tokens[name.id] = taken            # from now on `give_back` sees to them
        mine = self._move(name)
        if mine is None:
            self.give_back(self.tokens.keys() - {name.id})
        return mine

    def _move(self, name: Name) -> Name | None:
        try:
            mine = self.folder.claim(name, self.runner)
        except OSError:
            self._unsure.add(name.id)
            raise
        if self._unsure and mine is not None:
            self._unsure.discard(name.id)
        return mine

    def give_back(self, running: Set[str]) -> None:
        """Give back the tokens of tasks that don't run any more; what can't be given back now is tried again."""
        for id in [id for id in self.tokens if id not in running]:
            try:
                tokens.give_back(self.folder.fs, self.tokens[id])
                del self.tokens[id]
            except OSError:
                continue

    def _list(self, further: bool) -> bool:
        """Look at ``todo/`` anew; False if there is nothing for us.  If it is not there, we don't make it.

        further  without what is known not to fit now: the front of the list has been looked at
        """
        begun = time.monotonic()
        self._totals, self._further = None, further
        try:
            found = self._window.refill()
        except FileNotFoundError:
            return False
        self._listed_at = time.monotonic()
        self._listing_took = self._listed_at - begun + (self._listing_took if further else 0.0)
        return found

    def of_others(self) -> bool:
        """Whether other runners hold tasks of interest: they may come back, so it is worth staying."""
        return any(self.wanted is None or self.wanted(name)
                   for runner, names in self.folder.claims().items() if runner != self.runner for name in names)

    def is_service(self, runner: str, name: Name) -> bool:
        """Whether this task, which another runner holds, is one."""
        if not name.demanding:
            return False
        return Needs.from_json(envelope_of(self.folder, name, f"{layout.DOING}/{runner}").get("needs")).service

    # -- what fits ---------------------------------------------------------------------------

    def _is_for_us(self, name: Name) -> bool:
        """Whether a listing should show it: not what `next` has seen, or can never run here, as that may be much.

        What others have passed for too long is shown, so that it holds them up.
        """
        if self.wanted is not None and not self.wanted(name):
            return False
        hashed = hash(name.id)
        if hashed in self._too_long or hashed in self._seen:
            return False
        needs = self._known.get(hashed) if name.demanding else None
        return needs is None or (self._can_ever(name, needs)
                                 and (not self._further or self._fits(needs) or self._is_overdue(hashed)))

    def _needs_of(self, name: Name) -> Needs | None:
        """What it takes; None if it can't run here at all, or not in the time that is left."""
        if self.until is None and not name.demanding:
            return ORDINARY
        hashed = hash(name.id)
        needs = self._known.get(hashed)
        if needs is None or self.until is not None:
            envelope = envelope_of(self.folder, name)
            limits = Limits.from_json(envelope.get("limits")).or_else(self.options.limits)
            if self.until is not None and limits.needed is not None and time.monotonic() + limits.needed > self.until:
                self._too_long.add(hashed)      # time only gets shorter
                return None
            needs = Needs.from_json(envelope.get("needs"), limits.memory) if name.demanding else ORDINARY
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[hashed] = needs
        return needs if self._can_ever(name, needs) else None

    def _can_ever(self, name: Name, needs: Needs) -> bool:
        why = (needs.tokens and self._too_many(needs)) or self.budget.never(needs)
        if why and not self.unfit:
            self.unfit = f"{name.label} needs {why}"
        return not why

    def _fits(self, needs: Needs) -> bool:
        return self.budget.fits(needs) and not any(
            all(needs.tokens.get(token, 0) >= count for token, count in short.items()) for short in self._short)

    def _too_many(self, needs: Needs) -> str:
        """More of a token than the list has; which those are is looked up with each listing of ``todo/``."""
        if self._totals is None:
            self._totals = {name: token.total for name, token in tokens.look(self.folder.fs).items()}
            self.budget.others = frozenset(self._totals)
        return next((f"{count} of the token {name}, of which this list has {self._totals[name]}"
                     for name, count in needs.tokens.items() if count > self._totals.get(name, count)), "")

    def _holds_up(self, name: Name, needs: Needs) -> bool:
        """Whether nothing behind this one may be taken, either."""
        if not name.demanding and self.budget.free_cores <= 0:
            return True
        if self.budget.lacks_only_tokens(needs):        # others may hold them for long
            return False
        hashed = hash(name.id)
        self._passed.setdefault(hashed, time.monotonic())
        return self._is_overdue(hashed)

    def _is_overdue(self, hashed: int) -> bool:
        return hashed in self._passed and time.monotonic() - self._passed[hashed] > PATIENCE_SECONDS
