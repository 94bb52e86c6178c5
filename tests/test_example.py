"""What is in examples/ is what its maker makes, and shows what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from examples.make_vmcore import EXAMPLE, KERNEL, build, build_kernel
from tests.scenario.system import SYSTEM
from volatility3_freebsd_kvm import kvm
from volatility3_freebsd_kvm.image.kernel import symbol_values

README = Path(__file__).parents[1] / "README.md"


def test_example_is_what_its_maker_makes() -> None:
    assert EXAMPLE.read_bytes() == build()


def test_kernel_is_what_its_maker_makes() -> None:
    assert KERNEL.read_bytes() == build_kernel()


def test_example_and_kernel_belong_together() -> None:
    symbols = symbol_values(KERNEL, ["dumptid", "proc_off_p_pid", "allproc", "version"])
    with kvm.open(EXAMPLE) as dump:
        assert dump.warnings == []
        assert int.from_bytes(dump.read(symbols["dumptid"], 4), "little") == SYSTEM.dump_tid
        assert int.from_bytes(dump.read(symbols["proc_off_p_pid"], 4), "little") == 0xC4
        assert dump.read(symbols["version"], 13) == b"FreeBSD 15.0-"
        assert f"panic: {SYSTEM.panic}".encode() in dump.message_buffer  # type: ignore[attr-defined]


def test_readme_shows_the_real_output(tmp_path: Path) -> None:
    """Every example command of the README, run in the checkout, prints exactly what stands below it."""
    shown = re.findall(
        r"^\$ vol (-q -f examples/vmcore\.0 .*)\n((?:(?!^\$|```).*\n)*)", README.read_text(), re.MULTILINE
    )
    assert len(shown) >= 2
    vol = Path(sys.executable).with_name("vol")
    # Nothing is known from other tests.
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for arguments, expected in shown:
        command = [vol, *arguments.split()]
        run = subprocess.run(command, cwd=README.parent, env=environment, capture_output=True, text=True, check=True)
        # The README shows files as they are named in the checkout.
        output = run.stdout.replace(f"{README.parent}/", "")
        printed = "\n".join(line.rstrip() for line in output.splitlines() if line and "Framework" not in line)
        assert printed == "\n".join(line.rstrip() for line in expected.splitlines() if line.strip())
