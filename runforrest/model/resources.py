"""What a runner has, and what tasks need of it: cores, GPUs, memory, tokens.

A token stands for whatever there is only so many of: licences, connections, disk bandwidth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runforrest.errors import InvalidArgument


def check_tokens(tokens: object, argument: str = "tokens") -> dict[str, int]:
    """Tokens as ``{"license": 1}``.  Raises InvalidArgument."""
    if not isinstance(tokens, Mapping):
        raise InvalidArgument(f"{argument} must be a dict of names and whole numbers, not {tokens!r}",
                              argument=argument)
    for token, count in tokens.items():
        if not isinstance(token, str) or not token or not all(c.isalnum() or c in "-_." for c in token) \
                or token.startswith("."):
            raise InvalidArgument(f"a token's name must be made of letters, digits, '-', '_' and '.', not {token!r}",
                                  argument=argument)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidArgument(f"{argument}[{token!r}] must be a whole number, zero or more, not {count!r}",
                                  argument=argument)
    return dict(tokens)


@dataclass(frozen=True)
class Needs:
    """What one attempt uses up while it runs.

    cores    CPU cores; a fraction for what mostly waits; 0 for a service, which needs none
    gpus     whole GPUs
    memory   bytes
    tokens   how many of each
    service  it serves the list and is no work of its own: whoever leaves ends it and puts it back
    """

    cores: float = 1.0
    gpus: int = 0
    memory: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    service: bool = False

    def __post_init__(self) -> None:
        cores = self.cores
        if isinstance(cores, bool) or not isinstance(cores, (int, float)) or not 0 <= cores < 1e6:
            raise InvalidArgument(f"cores must be a number, zero or more, not {cores!r}", argument="cores")
        if isinstance(self.gpus, bool) or not isinstance(self.gpus, int) or self.gpus < 0:
            raise InvalidArgument(f"gpus must be a whole number, zero or more, not {self.gpus!r}", argument="gpus")
        check_tokens(self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Only what differs from an ordinary task's; memory stands among the limits."""
        found = {"cores": self.cores if self.cores != 1 else None, "gpus": self.gpus, "tokens": dict(self.tokens),
                 "service": self.service}
        return {key: value for key, value in found.items() if value or (key == "cores" and value == 0)}

    @classmethod
    def from_json(cls, found: object, memory: int | None = None) -> Needs:
        """Needs out of an envelope; what is unknown or malformed there counts as not said."""
        needs: dict[str, Any] = {"memory": memory or 0}
        if isinstance(found, dict):
            for key in ("cores", "gpus", "tokens", "service"):
                try:
                    cls(**{key: found[key]})
                    needs[key] = found[key]
                except (KeyError, TypeError, InvalidArgument):
                    continue
        return cls(**needs)


ORDINARY = Needs()


@dataclass(frozen=True)
class Capacity:
    """What a runner may use up.

    cores   how many CPU cores its tasks may occupy together
    cpus    the numbers of the CPUs that it may use; () if that can't be told
    gpus    the names of its GPUs: numbers, UUIDs or MIG names
    memory  bytes; None: not counted
    tokens  how many of each
    """

    cores: float
    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    memory: int | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Grant:
    """What an attempt got: the CPUs that it should keep to (() for any), and its GPUs (None: as they are).

    It has CPUs of its own only if it needs several: who says nothing needs one, and may use what is idle.
    """

    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        return bool(self.cpus) or self.gpus is not None


class Budget:
    """Who uses what of a runner's capacity.

    others  names of tokens that are counted elsewhere, for the whole list: any number of these fits here
    """

    def __init__(self, capacity: Capacity, others: frozenset[str] = frozenset()) -> None:
        self.capacity, self.others = capacity, others
        self.free_cores = float(capacity.cores)
        self.free_memory = capacity.memory or 0
        self.free_tokens = dict(capacity.tokens)
        self._free_cpus = list(capacity.cpus)
        self._free_gpus = list(capacity.gpus)
        self._taken: dict[int, tuple[Needs, Grant]] = {}

    @property
    def busy(self) -> bool:
        """Whether a task runs, and be it one that needs nothing; but for services."""
        return any(not needs.service for needs, _ in self._taken.values())

    def never(self, needs: Needs) -> str:
        """Why this can't run here even when nothing else does; '' if it can."""
        capacity = self.capacity
        if needs.cores > capacity.cores:
            return f"{needs.cores:g} cores, and this runner has {capacity.cores:g}"
        if needs.gpus > len(capacity.gpus):
            return f"{needs.gpus} GPU{'s' * (needs.gpus != 1)}, and this runner has {len(capacity.gpus) or 'none'}"
        if capacity.memory is not None and needs.memory > capacity.memory:
            return f"{needs.memory} bytes of memory, and this runner has {capacity.memory}"
        for token, count in needs.tokens.items():
            if token not in self.others and count > capacity.tokens.get(token, 0):
                return f"{count} of the token {token}, and this runner has {capacity.tokens.get(token, 0) or 'none'}"
        return ""

    def fits(self, needs: Needs) -> bool:
        """Whether there is enough now."""
        return (needs.cores <= self.free_cores + 1e-9 and needs.gpus <= len(self._free_gpus)
                and (self.capacity.memory is None or needs.memory <= self.free_memory)
                and all(token in self.others or count <= self.free_tokens.get(token, 0)
                        for token, count in needs.tokens.items()))

    def lacks_only_tokens(self, needs: Needs) -> bool:
        """Whether it would fit if there were more tokens."""
        return self.fits(Needs(needs.cores, needs.gpus, needs.memory))

    def take(self, slot: int, needs: Needs) -> Grant:
        """Use it up for the task in this slot, which fits."""
        self.give_back(slot)
        self.free_cores -= needs.cores
        self.free_memory -= needs.memory
        for token, count in needs.tokens.items():
            if token in self.free_tokens:
                self.free_tokens[token] -= count
        own = needs.cores > 1 and needs.cores == int(needs.cores)
        cpus = tuple(self._free_cpus[:int(needs.cores)]) if own and len(self._free_cpus) >= needs.cores else ()
        del self._free_cpus[:len(cpus)]
        gpus = tuple(self._free_gpus[:needs.gpus]) if needs.gpus else None
        del self._free_gpus[:needs.gpus]
        grant = Grant(cpus, gpus)
        self._taken[slot] = needs, grant
        return grant

    def give_back(self, slot: int) -> Needs | None:
        """The slot is free again; returns what its task had needed, None if there was none."""
        if slot not in self._taken:
            return None
        needs, grant = self._taken.pop(slot)
        self.free_cores += needs.cores
        self.free_memory += needs.memory
        for token, count in needs.tokens.items():
            if token in self.free_tokens:
                self.free_tokens[token] += count
        self._free_cpus += grant.cpus
        self._free_cpus.sort()
        self._free_gpus += grant.gpus or ()
        self._free_gpus.sort(key=self.capacity.gpus.index)
        return needs


@dataclass(frozen=True)
class Share:
    """What a slot keeps for all its tasks: the CPUs to which they keep (() for any), and variables."""

    cpus: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def values_of(text: str) -> list[str]:
    """The values of a variable that lists them with commas."""
    return [value.strip() for value in text.split(",") if value.strip()]


def shares(slots: int, cpus: tuple[int, ...], cores: float, split: Mapping[str, str]) -> list[Share]:
    """Deal a host's CPUs and GPUs out to slots, once for all tasks.

    slots  how many there should be; there are fewer if one of the variables has fewer values
    cpus   the host's CPUs
    cores  how many of them each slot gets, () if there are too few or it is no whole number
    split  variables with comma-separated values, as ``{"CUDA_VISIBLE_DEVICES": "0,1,2,3"}``: each slot gets as many
           of the values as all the others, one at least

    Source: disBatch's ``-g`` and ``-E``, which gave each slot one value.
    """
    values = {name: values_of(text) for name, text in split.items()}
    slots = min([slots, *(len(found) for found in values.values())])
    whole = int(cores) if cores >= 1 and cores == int(cores) and cores * slots <= len(cpus) else 0
    dealt = []
    for slot in range(slots):
        env = {name: ",".join(found[slot * (len(found) // slots):(slot + 1) * (len(found) // slots)])
               for name, found in values.items()}
        dealt.append(Share(cpus[slot * whole:(slot + 1) * whole], env))
    return dealt
