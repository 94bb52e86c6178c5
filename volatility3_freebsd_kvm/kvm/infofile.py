"""What savecore(8) wrote into ``info.N`` beside a dump.

# Reference: sbin/savecore/savecore.c (printheader); libxo writes text, JSON or XML
"""

from __future__ import annotations

import datetime
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import FormatError
from .kerneldump import KernelDumpHeader, printable

MAX_SIZE = 1 << 16
_SAVED = re.compile(r"(?:vmcore|vmcore_encrypted|livecore|textdump\.tar)\.(\d+|last)((?:\.(?:gz|zst|bz2|xz))*)")
_ITEMS = {
    "Dump header from device": "dump_device",
    "Architecture": "architecture",
    "Architecture Version": "architecture_version",
    "Dump Length": "dump_length_bytes",
    "Blocksize": "blocksize",
    "Compression": "compression",
    "Dumptime": "dumptime",
    "Hostname": "hostname",
    "Magic": "magic",
    "Version String": "version_string",
    "Panic String": "panic_string",
    "Dump Parity": "dump_parity",
    "Bounds": "bounds",
    "Dump Status": "dump_status",
}
_LINE = re.compile(rf" *({'|'.join(_ITEMS)}): ?(.*)")
_ELEMENT = re.compile(r"<(\w+)>([^<]*)</\1>")
_TIME_WITH_ZONE = "%Y-%m-%d %H:%M:%S %z"
_SPARSE = 4096
"""savecore makes holes of blocks of zeros of this size."""
_ARCHITECTURES = {"aarch64": "arm64", "riscv": "riscv", "arm": "arm", "mips": "mips"}
"""By how MACHINE_ARCH begins; others are the same."""


@dataclass(frozen=True)
class InfoFile:
    """An info file; what it does not say is empty or None. Texts are printable, whatever the file says.

    Attributes:
        path: of the file.
        device: that the dump was on.
        length: of the dump as it was on the device, perhaps compressed; bytes.
        compression: by the kernel: none, gzip or zstd.
        time: of the dump, as written: with its zone since 14, before that in the local time of the machine.
        bounds: the dump's number.
        status: what savecore thought of the headers: good, bad or unknown.
    """

    path: Path
    device: str
    architecture: str
    length: int | None
    compression: str
    time: str
    hostname: str
    version_string: str
    panic_string: str
    bounds: str
    status: str

    @property
    def when(self) -> datetime.datetime | None:
        """When the dump was made, in UTC; None if the zone is not known."""
        try:
            return datetime.datetime.strptime(self.time, _TIME_WITH_ZONE).astimezone(datetime.timezone.utc)
        except (ValueError, OverflowError):
            return None


def dump_number(path: Path) -> str | None:
    """The N of a file that savecore saved, as in ``vmcore.N.gz``; None for other names."""
    matched = _SAVED.fullmatch(path.name)
    return matched[1] if matched else None


def beside(path: Path | None) -> InfoFile | None:
    """The info file of a saved dump, if there is one that can be read."""
    number = dump_number(path) if path else None
    if path is None or number is None or path.name.startswith("livecore"):
        return None
    place = path.with_name(f"info.{number}")
    try:
        # A pipe would wait for ever.
        if not place.is_file():
            return None
        with place.open("rb") as file:
            return parse(file.read(MAX_SIZE), place)
    except (OSError, FormatError):
        return None


def parse(data: bytes, path: Path) -> InfoFile:
    """Decode an info file.

    Raises:
        FormatError: it is none.
    """
    text = data.decode("utf-8", "backslashreplace")
    items = dict(_from_json(text) if text.lstrip().startswith("{") else _from_xml(text) or _from_text(text))
    if "architecture" not in items:
        msg = f"{path} is no info file of savecore"
        raise FormatError(msg)
    values = {name: printable(items.get(name, "").encode("utf-8", "backslashreplace")) for name in _ITEMS.values()}
    length = values["dump_length_bytes"]
    return InfoFile(
        path=path,
        device=values["dump_device"],
        architecture=values["architecture"],
        length=int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None,
        compression=values["compression"],
        time=values["dumptime"],
        hostname=values["hostname"],
        version_string=values["version_string"],
        panic_string=values["panic_string"],
        bounds=values["bounds"],
        status=values["dump_status"],
    )


def _from_text(text: str) -> Iterator[tuple[str, str]]:
    """Lines ``Label: value``; version and panic strings may go on over lines without a label."""
    label, value = "", ""
    for line in text.splitlines():
        matched = _LINE.fullmatch(line)
        if matched:
            yield label, value
            label, value = _ITEMS[matched[1]], matched[2]
        else:
            value += f" {line}"
    yield label, value


def _from_xml(text: str) -> list[tuple[str, str]]:
    return [(name, html.unescape(value)) for name, value in _ELEMENT.findall(text)]


def _from_json(text: str) -> Iterator[tuple[str, str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return
    inner = content.get("crashdump") if isinstance(content, dict) else None
    for name, value in inner.items() if isinstance(inner, dict) else ():
        yield str(name), str(value)


def differences(
    info: InfoFile, header: KernelDumpHeader | None, architecture: str, stored: int | None
) -> Iterator[str]:
    """What an info file says that is not so, one sentence each.

    Args:
        info: the info file.
        header: of the dump, if it came with one.
        architecture: of the dump, as this package calls it.
        stored: bytes that savecore must have written for it; None if that cannot be told any more.
    """
    name = info.path.name
    if info.status not in ("", "good"):
        yield f"{name} says that the dump headers were {info.status}"
    if architecture_of(info.architecture) != architecture:
        yield f"{name} tells of a dump of {info.architecture}, this one is of {architecture}"
    for what, here in (("hostname", "host"), ("panic_string", "panic string")):
        if header and getattr(header, what) != getattr(info, what):
            yield f"{name} and the dump header name another {here}"
    if stored is None or info.length is None or info.length == stored:
        return
    if stored > info.length:
        yield f"{name} tells of {info.length} bytes, the file has {stored - info.length} more"
        return
    missing = info.length - stored
    text = f"{name} tells of {info.length} bytes, the file lacks the last {missing}"
    sparse = not stored % _SPARSE and not missing % _SPARSE
    yield f"{text}, unless they are zeros, which savecore leaves out at the end" if sparse else text


def architecture_of(machine: str) -> str:
    """This package's name of an architecture that a header or info file names as MACHINE_ARCH."""
    for start, name in _ARCHITECTURES.items():
        if machine.startswith(start):
            return name
    return machine
