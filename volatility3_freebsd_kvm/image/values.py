"""The value of a variable as one line of text, by its type where that is known and by its size where it is not."""

from __future__ import annotations

from .structs import Structs
from .types import TypeReference

_SHOWN_BYTES, _SHOWN_MEMBERS, _SHOWN_TEXT = 16, 6, 256
_SCALARS = ("base", "pointer", "enum", "bitfield")


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
    if kind == "array" and reference["subtype"].get("name") in ("char", "unsigned char", "signed char"):
        return _text(structs.string(address, min(reference["count"] or size or 1, _SHOWN_TEXT)))
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
    shown = []
    for member, place in structs.types.user_types[name]["fields"].items():
        if place["type"]["kind"] in _SCALARS and not _is_float(structs, place["type"]):
            shown.append(f"{member} = {_scalar(structs, address + place['offset'], place['type'])}")
        if len(shown) == _SHOWN_MEMBERS:
            shown.append("…")
            break
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


def _text(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return '"' + "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text) + '"'
