"""The logger of run-once: its name, its form of lines, and its level."""

from __future__ import annotations

import logging
import sys

NAME = "run_once"
_LETTERS = {logging.DEBUG: "D", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class GlogFormatter(logging.Formatter):
    """``I20261122 08:01:50.123456 4711 tasks.py:12] text``."""

    def __init__(self) -> None:
        super().__init__("%(letter)s%(asctime)s.%(micros)06d %(process)d %(filename)s:%(lineno)d] %(message)s",
                         "%Y%m%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.letter = _LETTERS.get(record.levelno, "?")
        record.micros = int(record.created % 1 * 1e6)
        return super().format(record)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is standard error at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> object:
        return sys.stderr

    @stream.setter
    def stream(self, value: object) -> None:
        pass


def make_logger(name: str, level: int | str) -> logging.Logger:
    """A logger that writes lines in glog's form to standard error, and passes nothing on."""
    logger = logging.getLogger(name)
    logger.setLevel(level)
    logger.propagate = False
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        handler = _Stderr()
        handler.setFormatter(GlogFormatter())
        logger.addHandler(handler)
    return logger


def set_logger_level(level: int | str, logger: logging.Logger | None = None) -> None:
    """Set from which level on messages are written: of this module's logger, or of another."""
    (logger or log).setLevel(level)


log = make_logger(NAME, logging.INFO)
