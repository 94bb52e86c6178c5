"""The dump in examples/ is what its maker makes, and shows what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from examples.make_vmcore import EXAMPLE, KERNEL_DATA, KERNEL_MEMORY, VERSION, build
from volatility3_freebsd_kvm import kvm

README = Path(__file__).parents[1] / "README.md"


def test_example_is_what_its_maker_makes() -> None:
    assert EXAMPLE.read_bytes() == build()


def test_example_reads_back() -> None:
    with kvm.open(EXAMPLE) as dump:
        assert dump.read(KERNEL_DATA, len(VERSION)) == VERSION
        assert dump.read(KERNEL_MEMORY + 4096, 23) == b"kernel memory, page 1\nk"
        assert dump.warnings == []


def test_readme_shows_the_real_output() -> None:
    """Every example command of the README, run in the checkout, prints exactly what stands below it."""
    shown = re.findall(
        r"^\$ vol (-q -f examples/vmcore\.0 .*)\n((?:(?!^\$|```).*\n)*)", README.read_text(), re.MULTILINE
    )
    assert len(shown) >= 2
    vol = Path(sys.executable).with_name("vol")
    for arguments, expected in shown:
        run = subprocess.run([vol, *arguments.split()], cwd=README.parent, capture_output=True, text=True, check=True)
        printed = "\n".join(line.rstrip() for line in run.stdout.splitlines() if line and "Framework" not in line)
        assert printed == "\n".join(line.rstrip() for line in expected.splitlines() if line.strip())
