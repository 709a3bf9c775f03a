"""What can go wrong with keys.  Each is a `RunforrestError`, and survives pickling."""

from __future__ import annotations

from runforrest.errors import InvalidArgument, RunforrestError


class KeyStoreError(RunforrestError):
    """The place where keys live can't be used.  Attribute: ``store``, the folder or the address."""


class UnfitKeys(InvalidArgument, AssertionError):
    """These keys can't be iterated over, or this key is too long, empty, or not ASCII (run-once's AssertionError)."""


class UnknownKey(KeyStoreError, AssertionError):
    """Success was reported for a key that nobody has ever claimed.  Attribute: ``key``."""


class AlreadyDone(RunforrestError, ValueError):
    """Success was reported for a key that is done already.  Attributes: ``key``, ``owner`` (who did it)."""


class ClaimLost(RunforrestError, ValueError):
    """A claim had expired, and somebody else has the key, or has done it: what this owner reports is not recorded.

    Attributes: ``key``, ``token`` (of the lost claim), ``owner`` (who has the key now, or ''), ``owner_token``.
    """


class InProgress(RunforrestError, RuntimeError):
    """Another process is at work on the key, and this one did not wait for it.  Attributes: ``key``, ``owner``."""


class RetryTimeoutError(KeyStoreError, TimeoutError):
    """The place where keys live could not be reached, again and again."""
