"""What GCC writes, in all versions and with the options that change its form, is read alike."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.writers.ctype import TypeTable
from volatility3_freebsd_kvm.image.dwarf import DwarfTypes

HEADER = """
struct link { struct link *next; };
typedef struct { int x; union { long whole; struct { short low, high; }; }; } mixed_t;
enum state { BAD = -1, GOOD = 200 };
struct bits { unsigned a:3, b:12; int c:5; unsigned long long d:33; };
struct large { char pad[70000]; mixed_t mixed; struct link links[2][3]; enum state state; int (*call)(struct bits *);
    struct bits bits; const volatile char *text; struct opaque *opaque; char rest[]; };
#define FACT(type, member) __builtin_offsetof(type, member)
"""
SOURCES = {
    "first.c": HEADER
    + """
struct softc { int unit; struct link link; };
struct large large; struct softc softc; char version[] = "FreeBSD"; static struct { int hidden; } only_here;
__attribute__((used)) unsigned facts[] = { FACT(struct large, mixed), FACT(struct large, mixed.high),
    FACT(struct large, links), FACT(struct large, state), FACT(struct large, bits), FACT(struct large, rest),
    sizeof(struct large) };
static inline int inner(struct softc *sc, int n) {
    int local = sc->unit; { int deeper = n; local += deeper; } return local;
}
int outer(struct softc *sc) { struct softc_local { int n; } l = { 3 }; return inner(sc, l.n) + only_here.hidden; }
""",
    "second.c": HEADER
    + """
struct opaque { long inside; };
struct softc { long other; };
struct softc softc2; struct large *more; struct opaque opaque; mixed_t mixed; extern char version[];
int user(void) { return version[1] + (more != 0); }
""",
}
PLACES = ("mixed", "mixed.high", "links", "state", "bits", "rest")
OPTIONS = {
    "DWARF 2": "-gdwarf-2 -gstrict-dwarf",
    "DWARF 3": "-gdwarf-3",
    "DWARF 4": "-gdwarf-4 -O2",
    "DWARF 5": "-gdwarf-5 -O2",
    "64-bit DWARF 4": "-gdwarf-4 -gdwarf64",
    "64-bit DWARF 5": "-gdwarf-5 -gdwarf64",
    "type units of DWARF 4": "-gdwarf-4 -fdebug-types-section",
    "type units of DWARF 5": "-gdwarf-5 -fdebug-types-section",
    "compressed": "-gdwarf-5 -gz=zlib",
    "compressed as it once was": "-gdwarf-4 -gz=zlib-gnu",
    "optimised at link time": "-gdwarf-5 -O1 -flto",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gcc")
    for name, text in SOURCES.items():
        (directory / name).write_text(text)
    return directory


def compiled(directory: Path, options: str) -> Path:
    """Both files, linked; skips the test where that cannot be done."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    output = directory / f"{options.replace(' ', '')}.elf"
    flags = [*options.split(), "-w", "-ffreestanding", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-e,outer"]
    command = [compiler, *flags, "-o", output, *SOURCES]
    done = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True)
    if done.returncode or not output.read_bytes().startswith(b"\x7fELF"):
        pytest.skip(f"gcc cannot do {options}: {(done.stderr.strip() or 'no ELF').splitlines()[-1]}")
    return output


def read(path: Path) -> DwarfTypes:
    with path.open("rb") as stream:
        reader = DwarfTypes(ELFFile(stream), path.name)
        reader.add_all()
    return reader


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_gcc_says(sources: Path, options: str) -> None:
    path = compiled(sources, options)
    reader = read(path)
    with path.open("rb") as stream:
        file = ELFFile(stream)
        (symbol,) = file.get_section_by_name(".symtab").get_symbol_by_name("facts")
        section = file.get_section(symbol["st_shndx"])
        at = symbol["st_value"] - section["sh_addr"]
        order = "<" if file.little_endian else ">"
        facts = struct.unpack(f"{order}7I", section.data()[at : at + 28])
    types = TypeTable(reader.types)
    assert facts[-1] == types.sizeof("struct large") > 70_000
    assert [types.offsetof("large", member) for member in PLACES] == list(facts[:-1])
    bits = reader.types.user_types["bits"]["fields"]
    assert [bits[name]["type"]["bit_length"] for name in "abcd"] == [3, 12, 5, 33]
    assert reader.types.enums["state"]["constants"] == {"BAD": -1, "GOOD": 200}
    assert {"x", "unnamed_field_8"} == reader.types.user_types["mixed_t"]["fields"].keys()
    assert list(reader.types.user_types["opaque"]["fields"]) == ["inside"]
    assert {name for name in reader.types.user_types if name.startswith("softc")} == {"softc", "softc__second"}
    assert reader.variables["softc2"] == {"kind": "struct", "name": "softc__second"}
    assert reader.variables["version"] == {"kind": "array", "count": 8, "subtype": {"kind": "base", "name": "char"}}
    assert reader.variables["only_here"] == {"kind": "struct", "name": "unnamed_only_here"}


@pytest.mark.parametrize("options", list(OPTIONS.values())[1:], ids=list(OPTIONS)[1:])
def test_all_say_the_same(sources: Path, options: str) -> None:
    """All but strict DWARF 2, which does not tell what an enum is made of."""
    plain, other = read(compiled(sources, OPTIONS["DWARF 3"])), read(compiled(sources, options))
    assert other.types.user_types == plain.types.user_types
    assert other.types.enums == plain.types.enums
    assert other.variables == plain.variables
