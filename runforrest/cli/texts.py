"""Numbers and foreign text as people read them."""

from __future__ import annotations

from datetime import datetime, timezone

# What tasks print may hold sequences that take over a terminal.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: object) -> str:
    """Foreign text for the terminal: control characters are spelled out."""
    safe = str(text).encode("utf-8", "backslashreplace").decode()
    return safe.replace("\r\n", "\n").translate(_CONTROL)


def one_line(text: object, length: int = 100) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= length else line[:length - 1] + "…"


def duration(seconds: float) -> str:
    """``250 ms``, ``12.3 s``, ``5:02``, ``3:05:02``, ``2 d 03:05``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, of_day = divmod(hours, 24)
    if days:
        return f"{days} d {of_day:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(count: float) -> str:
    """``120 bytes``, ``3.4 MiB``."""
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.3g} {unit}"
    return f"{count / 1024:.3g} TiB"


def rate(per_second: float) -> str:
    """``12/s``, ``3.2/min``, ``1.5/h``."""
    for factor, unit in ((1, "s"), (60, "min")):
        if per_second * factor >= 1:
            return f"{per_second * factor:.3g}/{unit}"
    return f"{per_second * 3600:.2g}/h"


def ago(iso: str) -> str:
    """How long ago a time on disk was, in words; '' if it is none."""
    try:
        then = datetime.fromisoformat(iso.replace("Z", "+00:00"))
        return duration(max(0.0, (datetime.now(timezone.utc) - then).total_seconds())) + " ago"
    except (ValueError, TypeError):
        return ""


def count(number: int, what: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number} {what}{'s' * (number != 1)}"
