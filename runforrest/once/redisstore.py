"""Keys in a Redis or Valkey server, for machines that share no filesystem.

Every change is one script on the server, so nothing comes between its parts; each names the claim that it is about
(lineage, token and tag), so that one that comes too late changes nothing.  A report that is sent again, as the reply
was lost, is known by its tag.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from runforrest.folder.attempts import new_tag
from runforrest.once import lua, names
from runforrest.once.errors import KeyStoreError
from runforrest.once.folder import refusal
from runforrest.once.hearts import SWEPT, Hearts, is_old
from runforrest.once.model import Claim, Condition, Entry, Unreachable

BEAT, LEASE = 5.0, 6               # seconds; beats
TIMEOUT = 10.0                     # seconds for one request
PAGE = 1000                        # keys of one request
TAG_LENGTH = 8
SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")


class RedisStore:
    """The `KeyStore` of a server.

    url     redis://[:password@]host[:port][/number], rediss:// for TLS, unix:///path; with ?prefix=NAME the keys are
            apart from those with another prefix
    trust   values may be unpickled though the server has no password
    """

    def __init__(self, url: str, trust: bool = False, beat: float = BEAT, lease: int = LEASE) -> None:
        redis = _package()
        try:
            parts = urlsplit(url)
        except ValueError as error:
            shown = url.rpartition("@")[2]              # without the password
            raise KeyStoreError(f"{shown!r} is no address of a Redis server: {error}", store=shown) from None
        query = parse_qs(parts.query, keep_blank_values=True)
        query.pop("decode_responses", None)             # of another program's URL: bytes are wanted here
        self.given = url, trust, False
        self.prefix = (query.pop("prefix", ["runforrest"])[0]) + ":"
        scheme = parts.scheme.replace("valkey", "redis")
        bare = _url(scheme, parts.netloc, parts.path, urlencode(query, doseq=True))
        self.url = _url(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query)
        if ":" in self.prefix[:-1] or not self.prefix[:-1]:
            raise KeyStoreError(f"{self.url}: a prefix must have a letter, and no colon, which would make some of its "
                                f"keys those of another prefix", store=self.url)
        self._trusted = trust or bool(parts.password) or parts.scheme == "unix"
        self._errors = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError,
                        redis.exceptions.BusyLoadingError)
        self._full = redis.exceptions.OutOfMemoryError
        self._server_error = redis.exceptions.RedisError
        self._unwelcome = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)
        try:
            if "://" not in url:
                raise ValueError("there must be two slashes behind the colon")
            if parts.scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
                raise ValueError(f"{parts.path!r} must be the number of a database, as /0")
            self._redis: Any = redis.Redis.from_url(bare, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT,
                                                    health_check_interval=30,
                                                    encoding_errors="surrogatepass")
            pool = self._redis.connection_pool
            pool.connection_class(**pool.connection_kwargs)     # does not connect: for the options of the URL
        except (ValueError, TypeError) as error:
            raise KeyStoreError(f"{self.url} is no address of a Redis server: {error}", store=self.url) from None
        self._scripts = {name: self._redis.register_script(getattr(lua, name))
                         for name in ("CLAIM", "END", "LOOK", "FORGET", "BEAT")}
        # tags of claims that may have been made, as the reply was lost, by the first key: threads have different ones
        self._unsure: dict[str, str] = {}
        self._answered = False
        self.hearts = Hearts(RedisHearts(self), beat, lease, local=False)

    # -- claiming ------------------------------------------------------------------------

    def claim(self, key: str, timeout: float | None, owner: str, force: bool = False) -> tuple[Claim | None,
                                                                                                Entry | None]:
        claim, _, before = self._claim([key], timeout, owner, force)
        return claim, before

    def claim_any(self, keys: Sequence[str], timeout: float | None, owner: str) -> tuple[Claim | None, int, bool]:
        claim, position, last = self._claim(keys, timeout, owner)
        return claim, position, not claim and last is not None and last.condition is Condition.IN_PROGRESS

    def _claim(self, keys: Sequence[str], timeout: float | None, owner: str,
               force: bool = False) -> tuple[Claim | None, int, Entry | None]:
        """(the claim or None, how many keys were passed over, the entry before, or the one that is there)."""
        mine, state = "", names.PERMANENT
        if timeout is None:
            mine, state = self.hearts.owner(), names.HEARTBEAT
        elif timeout > 0:
            state = names.LEASED
        milliseconds = max(1, round(timeout * 1000)) if timeout else 0
        tag = self._unsure.pop(keys[0], "") or new_tag(TAG_LENGTH)
        for last in (False, True):
            try:
                position, before, met, token, lineage = self.run(
                    "CLAIM", [self._index, self._hearts],
                    [self.prefix, state, milliseconds, owner, mine, int(force), tag, *keys])
            except Unreachable:
                self._unsure[keys[0]] = tag
                raise
            stopped = [heart for heart in set(met) if self.hearts.is_dead(heart.decode())]
            if position or last or not stopped:
                break
        found = self._entry(before) if before else None
        if not position:
            return None, len(keys), found
        ref = f"{lineage.decode()}~{tag}"
        if timeout is None:
            self.hearts.holds(ref)
        return Claim(keys[position - 1], int(token), ref, timeout), position - 1, found

    # -- ending a claim ------------------------------------------------------------------

    def confirm(self, claim: Claim, value: bytes | None = None, report: str = "") -> None:
        now = self._end(claim, report or new_tag(TAG_LENGTH), names.DONE if value is None else names.VALUE, value)
        if now != 1:
            raise refusal(claim, self._entry(now) if now else None)

    def release(self, claim: Claim) -> bool:
        return bool(self._end(claim, new_tag(TAG_LENGTH), names.FREE) == 1)

    def _end(self, claim: Claim, report: str, state: str, value: bytes | None = None) -> Any:
        lineage, _, tag = claim.ref.partition("~")
        if not tag or "~" in tag:
            raise KeyStoreError(f"this claim of {claim.key!r} was not made in {self.url}", store=self.url)
        now = self.run("END", [self._hearts], [self.prefix, claim.key, lineage, claim.token, tag, report, state,
                                               int(value is not None), value or b""])
        self.hearts.drops(claim.ref)
        return now

    def forget(self, key: str) -> None:
        self.run("FORGET", [self.prefix + key], [new_tag(TAG_LENGTH)])

    # -- looking -------------------------------------------------------------------------

    def look(self, key: str) -> Entry | None:
        found = self._look([key])
        return found[0] if found else None

    def _look(self, keys: Sequence[str | bytes]) -> list[Entry]:
        found = (self._entry(each) for each in self.run("LOOK", [self._hearts], [self.prefix, *keys]))
        return [entry for entry in found if entry]

    def value(self, key: str) -> bytes | None:
        found: bytes | None = self._ask("hget", self.prefix + key, "v")
        return found

    def entries_of(self, keys: Sequence[str]) -> Iterator[Entry]:
        for at in range(0, len(keys), PAGE):
            yield from self._look(keys[at:at + PAGE])

    def entries(self, prefix: str) -> Iterator[Entry]:
        data = prefix.encode("utf-8", "surrogatepass")
        start = b"[" + data
        while True:
            keys = self._ask("zrangebylex", self._index, start, b"[" + data + b"\xff" * 8, 0, PAGE)
            if not keys:
                return
            yield from self._look(keys)
            start = b"(" + keys[-1]

    def refresh(self) -> None:
        pass                            # nothing is remembered

    def pickles(self) -> str:
        return "" if self._trusted else (
            f"{self.url} has no password, so that every user who reaches it could have written this, and it would run "
            f"their code: start `runforrest keyserver --password`, or say trust=True if you trust them")

    def close(self) -> None:
        """Leave: what this process holds by its heartbeat is free for others."""
        self.hearts.close()
        self._redis.close()

    def _entry(self, found: Any) -> Entry | None:
        key, state, token, lineage, tag, owner, heart, timeout, since, value, over = found
        code = state.decode()
        if code == names.FREE:
            return None
        condition = Condition.PERMANENT if code == names.PERMANENT else Condition.DONE
        if code in names.HELD:
            condition = Condition.EXPIRED if over else Condition.IN_PROGRESS
        held = None if code == names.HEARTBEAT else int(timeout) / 1000 if code == names.LEASED else 0.0
        return Entry(key.decode("utf-8", "surrogatepass"), condition, int(token), f"{lineage.decode()}~{tag.decode()}",
                     held, (owner or heart).decode("utf-8", "replace"), int(since) / 1000, bool(value))

    # -- the server ----------------------------------------------------------------------

    @property
    def _index(self) -> str:
        return self.prefix.rstrip(":") + "-index"

    @property
    def _hearts(self) -> str:
        return self.prefix.rstrip(":") + "-hearts"

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Have a script of `lua` run."""
        return self._guard(lambda: self._scripts[script](keys=keys, args=arguments))

    def _ask(self, command: str, *arguments: Any) -> Any:
        return self._guard(lambda: getattr(self._redis, command)(*arguments))

    def hearts_of(self, command: str, *arguments: Any) -> Any:
        """A command on the hash of hearts."""
        return self._ask(command, self._hearts, *arguments)

    def time(self) -> float:
        """Seconds of the Unix epoch, by the server's clock."""
        seconds, micros = self._ask("time")
        return float(seconds + micros / 1e6)

    def beat(self, owner: str, number: object, to: object) -> bool:
        return bool(self.run("BEAT", [self._hearts], [owner, str(number), str(to)]))

    def _guard(self, call: Any) -> Any:
        try:
            answer = call()
            self._answered = True
            return answer
        except self._unwelcome as error:
            raise KeyStoreError(f"{self.url} does not let us in ({error}): put the password into the URL, as "
                                f"redis://:PASSWORD@host:port/0", store=self.url) from None
        except self._errors as error:
            hint = "" if self._answered else "; is there a Redis server?  run-once's own, distlock, is none"
            raise Unreachable(f"{self.url}: {error}{hint}") from error
        except self._server_error as error:
            if isinstance(error, self._full) or "OOM" in str(error):
                raise KeyStoreError(f"{self.url} is full: start it with more memory (`runforrest keyserver "
                                    f"--cache_size MB`); nothing was recorded", store=self.url) from None
            raise KeyStoreError(f"{self.url}: {error}", store=self.url) from error


class RedisHearts:
    """The `Heartbeats` of a server: a hash of '<number> <identity>' by owner."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store

    def begin(self, owner: str, text: dict[str, Any]) -> None:
        now = self.store.time()
        self.store.hearts_of("hset", owner, f"0 {json.dumps({**text, 'since': now})}")
        if random.random() * self.store.hearts_of("hlen") < SWEPT:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Remove hearts that stopped long ago."""
        for owner, beat in self.store.hearts_of("hgetall").items():
            number, _, text = beat.decode().partition(" ")
            try:
                age = now - json.loads(text)["since"]
            except (ValueError, TypeError, KeyError):
                continue
            if is_old(number, age, self.store.hearts.beat):
                self.bury(owner.decode(), number)

    def beat(self, owner: str, number: int) -> bool:
        return self.store.beat(owner, number, number + 1)

    def numbers(self) -> dict[str, str]:
        return {owner.decode(): beat.partition(b" ")[0].decode()
                for owner, beat in self.store.hearts_of("hgetall").items()}

    def identity(self, owner: str, number: str) -> dict[str, Any]:
        text = self.store.hearts_of("hget", owner)
        try:
            found = json.loads((text or b"").partition(b" ")[2])
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def bury(self, owner: str, number: str) -> bool:
        return self.store.beat(owner, number, "")

    def end(self, owner: str, number: int, holding: bool) -> None:
        """A heart that is not there is a dead one, so nothing needs to be kept."""
        self.store.hearts_of("hdel", owner)


def _url(scheme: str, place: str, path: str, query: str) -> str:
    """`urlunsplit` leaves the slashes out of ``unix:///path``."""
    return f"{scheme}://{place}{path}{f'?{query}' if query else ''}"


def _package() -> Any:
    try:
        import redis
    except ImportError:
        raise KeyStoreError("keys in a Redis server need the package redis: python -m pip install 'runforrest[redis]'",
                            store="redis") from None
    return redis
