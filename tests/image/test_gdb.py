"""gdb sees the same structures in a kernel's DWARF as our readers do in its DWARF and in its CTF."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.minikernel.kernels import dwarf_of, kernel_file
from tests.scenario.kernels import ARCHITECTURES
from tests.writers.ctf import add_ctf
from volatility3_freebsd_kvm.image.ctf import from_elf
from volatility3_freebsd_kvm.image.types import Types

NAMED = ("proc", "thread", "ucred", "vnode", "tcpcb", "linker_file", "inpcb", "mbuf", "vm_map_entry", "prison")
SCRIPT = """
import json
import gdb

found = {}
for name in %r:
    for prefix in ("struct ", "union ", ""):
        try:
            kind = gdb.lookup_type(prefix + name).strip_typedefs()
            break
        except gdb.error:
            pass
    found[name] = [kind.sizeof, [[field.name, field.bitpos, field.bitsize] for field in kind.fields()]]
print("FOUND " + json.dumps(found))
"""

Layout = dict[str, tuple[int, list[tuple[str | None, int, int]]]]
"""Size in bytes and members: name, nothing for anonymous ones; first bit; width of bit fields, otherwise 0."""


def gdb_layout(kernel: Path, names: list[str], directory: Path) -> Layout:
    gdb = shutil.which("gdb-multiarch") or shutil.which("gdb")
    if gdb is None:
        pytest.skip("there is no gdb")
    script = directory / "layout.py"
    script.write_text(SCRIPT % (names,))
    done = subprocess.run(
        [gdb, "-batch", "-nx", "-x", str(script), str(kernel)], capture_output=True, text=True, timeout=300, check=False
    )
    line = next((one for one in done.stdout.splitlines() if one.startswith("FOUND ")), "")
    if not line:
        pytest.skip(f"gdb cannot read the kernel: {done.stderr.strip().splitlines()[-1:]}")
    return {
        name: (size, [(one, bit, width) for one, bit, width in members])
        for name, (size, members) in json.loads(line.removeprefix("FOUND ")).items()
    }


def layout(types: Types, names: list[str]) -> Layout:
    """The same of our types."""
    return {name: (types.user_types[name]["size"], list(members(types, name))) for name in names}


def members(types: Types, name: str) -> Iterator[tuple[str | None, int, int]]:
    for key, field in types.user_types[name]["fields"].items():
        first, width = 8 * field["offset"], 0
        if field["type"]["kind"] == "bitfield":
            width = field["type"]["bit_length"]
            first += first_bit(types, field["type"])
        yield None if field.get("anonymous") else key, first, width


def first_bit(types: Types, reference: dict[str, Any]) -> int:
    """Where a bit field starts within its unit, counted as the processor does."""
    position: int = reference["bit_position"]
    if types.base_types["pointer"]["endian"] == "little":
        return position
    table = types.enums if reference["type"]["kind"] == "enum" else types.base_types
    return int(8 * table[reference["type"]["name"]]["size"] - position - reference["bit_length"])


def without_whole_units(found: Layout) -> Layout:
    """CTF does not tell a bit field of 8, 16, 32 or 64 bits from an integer, if it is at the place of one."""
    return {
        name: (
            size,
            [(one, bit, 0 if width in (8, 16, 32, 64) and not bit % 8 else width) for one, bit, width in entries],
        )
        for name, (size, entries) in found.items()
    }


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("release", ["14", "15"])
def test_gdb_sees_the_same_structures(release: str, arch: str, tmp_path: Path) -> None:
    path = kernel_file(release, arch)
    types, variables = dwarf_of(path)
    doubles = {name.rpartition("__")[0] for name in types.user_types} & types.user_types.keys()
    names = [
        name
        for name in types.user_types
        if not name.startswith("unnamed_") and name not in doubles and name.rpartition("__")[0] not in doubles
    ]
    assert set(NAMED) <= set(names)
    found = gdb_layout(path, names, tmp_path)
    assert len(found) > 2000
    assert layout(types, names) == found
    assert {"t_state", "m_type", "rib_dying"} <= {
        member[0] for _, entries in found.values() for member in entries if member[2]
    }
    ctf = from_elf(ELFFile(io.BytesIO(add_ctf(path, types=(types, variables)))), path.name)
    assert without_whole_units(layout(ctf.types, names)) == without_whole_units(found)
