"""Claim-once keys: of many processes, on many machines, one does the work of each key.

All names of run-once are here, and the safer ways beside them: `take`, keys as context managers, heartbeats,
`run_once`, values that are stored with keys.
"""

from __future__ import annotations

from runforrest.once.errors import (
    AlreadyDone,
    ClaimLost,
    InProgress,
    KeyStoreError,
    RetryTimeoutError,
    UnfitKeys,
    UnknownKey,
)
from runforrest.once.iterator import DistributedIterator
from runforrest.once.keys import (
    Key,
    conditions_of,
    count_keys_by_prefix,
    forget,
    make_versioned_key,
    notify_failure,
    notify_success,
    search_keys_by_prefix,
    take,
    value_of,
    worker_name,
)
from runforrest.once.locks import (
    Duration,
    Lock,
    force_lock_async,
    lock_service_client,
    make_duration,
    make_lock,
    release_lock_async,
    try_lock,
)
from runforrest.once.log import GlogFormatter, log, make_logger, set_logger_level
from runforrest.once.model import Claim, Condition, Entry, KeyStore, Status, is_ascii
from runforrest.once.stores import open_store, store
from runforrest.once.tasks import at_most_every, distributed_task, run_once

__all__ = [
    "DistributedIterator", "notify_success", "notify_failure", "distributed_task", "Status", "search_keys_by_prefix",
    "count_keys_by_prefix", "at_most_every", "make_versioned_key", "worker_name", "try_lock", "make_lock",
    "force_lock_async", "release_lock_async", "make_duration", "lock_service_client", "set_logger_level", "make_logger",
    "RetryTimeoutError", "run_once", "take", "Key", "value_of", "forget", "store", "open_store", "KeyStore", "Claim",
    "Entry", "Condition", "Lock", "Duration", "KeyStoreError", "ClaimLost", "AlreadyDone", "UnknownKey", "InProgress",
    "UnfitKeys", "log", "GlogFormatter",
    "is_ascii", "conditions_of",
]
