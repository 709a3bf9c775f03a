"""What pickles by value call when they are loaded.  They are written by name: keep them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def set_function_state(fun: Any, attributes: dict[str, Any], details: dict[str, Any]) -> None:
    fun.__dict__.update(attributes)
    for name, value in details.items():
        setattr(fun, name, value)


def make_enum(
    meta: Any,
    name: str,
    bases: tuple[type, ...],
    own: dict[str, Any],
    members: dict[str, Any],
    qualname: str,
    module: str,
) -> Any:
    body = meta.__prepare__(name, bases)
    body["__module__"] = module
    body["__qualname__"] = qualname
    for key, value in [*own.items(), *members.items()]:
        body[key] = value
    return meta(name, bases, body)


def make_typevar(
    name: str, constraints: tuple[Any, ...], bound: Any, covariant: bool, contravariant: bool
) -> Any:
    from typing import TypeVar

    return TypeVar(name, *constraints, bound=bound, covariant=covariant, contravariant=contravariant)
