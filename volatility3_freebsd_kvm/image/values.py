"""The value of a variable as one line of text, by its type where that is known and by its size where it is not."""

from __future__ import annotations

from ..text import printable
from .structs import Structs
from .types import TypeReference

_SHOWN_BYTES, _SHOWN_MEMBERS, _SHOWN_TEXT = 16, 6, 256
_SCALARS = ("base", "pointer", "enum", "bitfield")
_CHARACTERS = ("char", "unsigned char", "signed char")


def value_text(structs: Structs, address: int, size: int, reference: TypeReference | None) -> str:
    """What is at an address.

    Args:
        structs: memory and types.
        address: of the variable.
        size: its size as the symbol table has it, 0 if not known.
        reference: its type, if known.

    Returns:
        A number, ``"text"``, ``{member = value, …}`` or bytes in hexadecimal; of an untyped integer both forms.

    Raises:
        AddressError: it cannot be read.
    """
    if reference is None:
        return _untyped(structs, address, size)
    kind = reference["kind"]
    if kind in _SCALARS and not _is_float(structs, reference):
        return _scalar(structs, address, reference)
    if kind == "array" and reference["subtype"].get("name") in _CHARACTERS:
        return _characters(structs, address, reference["count"] or size or 1, reference["subtype"]["name"])
    if kind in ("struct", "union") and reference["name"] in structs.types.user_types:
        return _members(structs, address, reference["name"])
    return _bytes(structs, address, structs.size_of(reference) or size)


def _is_float(structs: Structs, reference: TypeReference) -> bool:
    return bool(structs.types.base_types.get(reference.get("name", ""), {}).get("kind") == "float")


def _scalar(structs: Structs, address: int, reference: TypeReference) -> str:
    value = structs.decode(reference, address)
    if reference["kind"] == "pointer":
        return f"{value:#x}"
    if reference["kind"] == "enum":
        constants = structs.types.enums.get(reference["name"], {}).get("constants", {})
        return next((f"{name} ({value})" for name, number in constants.items() if number == value), str(value))
    return str(value)


def _members(structs: Structs, address: int, name: str) -> str:
    members = [
        (member, place)
        for member, place in structs.types.user_types[name]["fields"].items()
        if place["type"]["kind"] in _SCALARS and not _is_float(structs, place["type"])
    ]
    shown = [
        f"{member} = {_scalar(structs, address + place['offset'], place['type'])}"
        for member, place in members[:_SHOWN_MEMBERS]
    ]
    shown += ["…"] if len(members) > _SHOWN_MEMBERS else []
    return f"{{{', '.join(shown)}}}" if shown else _bytes(structs, address, structs.size(name))


def _untyped(structs: Structs, address: int, size: int) -> str:
    size = size or structs.word_size
    if size in (1, 2, 4, 8):
        value = structs.uint(address, size)
        return f"{value:#x} ({value})"
    return _bytes(structs, address, size)


def _bytes(structs: Structs, address: int, size: int) -> str:
    data = structs.read(address, min(size, _SHOWN_BYTES))
    return data.hex(" ") + (" …" if size > len(data) else "")


def _characters(structs: Structs, address: int, count: int, element: str) -> str:
    """Text; numbers that are none, as in a hardware address, as bytes."""
    if element != "char" and not _is_text(structs.read(address, min(count, _SHOWN_TEXT))):
        return _bytes(structs, address, count)
    data = structs.string(address, min(count, _SHOWN_TEXT))
    return f'"{printable(data.decode("utf-8", "replace"))}"' + (" …" if len(data) == _SHOWN_TEXT < count else "")


def _is_text(data: bytes) -> bool:
    text = data.rstrip(b"\0")
    return text.isascii() and text.decode("ascii").isprintable()
