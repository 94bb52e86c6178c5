"""Every form in which a dump of the scenario arrives.

A new form is one line of `FORMS`: how it is made of a plain dump, and what may differ from it.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.kvm.packed import AES, CHACHA, encrypt, gpt_disk, kernel_gzip, kernel_zstd, live_dump, mbr_disk
from tests.scenario.kernels import build_world, load
from tests.writers.headers import ByteOrder
from tests.writers.kerneldump import DumpHeader, partition
from tests.writers.memory import Mapping as Mapped
from tests.writers.memory import PhysicalMemory
from tests.writers.minidump import minidump

MACHINE_ARCH = {"arm64": "aarch64", "riscv": "riscv64", "arm": "armv7"}


class Sample(NamedTuple):
    """A plain dump of the scenario.

    Attributes:
        kernel: Its kernel's name in the scenario.
        data: The dump.
        arch: Its architecture.
        byteorder: Of the machine.
    """

    kernel: str
    data: bytes
    arch: str
    byteorder: ByteOrder


class Arrived(NamedTuple):
    """A dump in a container: what is to be opened, the key to it, and what its layers are called."""

    path: Path
    key: Path | None = None
    kinds: tuple[str, ...] = ()


@functools.cache
def sample_of(kernel: str) -> Sample:
    machine = load(kernel)[1]
    data = build_world(kernel).memory.minidump().data
    return Sample(kernel, data, machine.arch, machine.byteorder)


def header_of(sample: Sample) -> DumpHeader:
    machine = MACHINE_ARCH.get(sample.arch, sample.arch)
    return DumpHeader(architecture=machine, length=len(sample.data), extent=len(sample.data))


def save(directory: Path, name: str, data: bytes) -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


def small_dump() -> bytes:
    """A dump without a kernel, quickly made."""
    memory = PhysicalMemory()
    memory.fill_random(0x10_0000, 20 * 4096, seed=1)
    return minidump("amd64", 3, memory, [Mapped(0xFFFFFE00_00000000, 0x10_0000, 20 * 4096)], message_buffer=b"hello\n")


def encrypted(directory: Path, sample: Sample, pem: Path, cipher: int, data: bytes, suffix: str = "") -> Path:
    dump, key = encrypt(data, pem, cipher)
    save(directory, "key.7", key)
    return save(directory, f"vmcore_encrypted.7{suffix}", gzip.compress(dump, 1) if suffix else dump)


def device(sample: Sample, data: bytes | None = None, **options: Any) -> bytes:
    data = sample.data if data is None else data
    return partition(data, architecture=header_of(sample).architecture, **options)


@functools.cache
def packed(sample: Sample, how: str) -> bytes:
    """A compressed dump; made once, as most of the time goes into it."""
    makers: dict[str, Callable[[bytes], bytes]] = {
        "kernel gzip": lambda data: kernel_gzip(data, sample.byteorder),
        "kernel zstd": kernel_zstd,
        "gzip": lambda data: gzip.compress(data, 1),
        "bzip2": lambda data: bz2.compress(data, 1),
        "xz": lambda data: lzma.compress(data, preset=0),
    }
    return makers[how](sample.data)


Build = Callable[[Path, Sample, Path], Arrived]
CONTAINERS: dict[str, Build] = {
    "gzip by the kernel": lambda d, s, _: Arrived(
        save(d, "vmcore.0.gz", packed(s, "kernel gzip")), None, ("gzip",)
    ),
    "gzip by savecore": lambda d, s, _: Arrived(save(d, "vmcore.0.gz", packed(s, "gzip")), None, ("gzip",)),
    "zstd": lambda d, s, _: Arrived(save(d, "vmcore.0.zst", packed(s, "kernel zstd")), None, ("zstd",)),
    "bzip2": lambda d, s, _: Arrived(save(d, "vmcore.0.bz2", packed(s, "bzip2")), None, ("bzip2",)),
    "xz": lambda d, s, _: Arrived(save(d, "vmcore.0.xz", packed(s, "xz")), None, ("xz",)),
    "AES": lambda d, s, pem: Arrived(encrypted(d, s, pem, AES, s.data), pem, ("AES-256-CBC",)),
    "ChaCha20": lambda d, s, pem: Arrived(encrypted(d, s, pem, CHACHA, s.data), pem, ("ChaCha20",)),
    "ChaCha20 of gzip": lambda d, s, pem: Arrived(
        encrypted(d, s, pem, CHACHA, packed(s, "kernel gzip")), pem, ("ChaCha20", "gzip")
    ),
    "ChaCha20 of zstd": lambda d, s, pem: Arrived(
        encrypted(d, s, pem, CHACHA, packed(s, "kernel zstd")), pem, ("ChaCha20", "zstd")
    ),
    "gzip of AES": lambda d, s, pem: Arrived(
        encrypted(d, s, pem, AES, s.data, ".gz"), pem, ("gzip", "AES-256-CBC")
    ),
    **{
        f"device, version {version}": lambda d, s, _, version=version: Arrived(
            save(d, "ada0p2", device(s, version=version)), None, ("dump device",)
        )
        for version in (1, 2, 3, 4)
    },
    "device, cleared": lambda d, s, _: Arrived(save(d, "ada0p2", device(s, cleared=True)), None, ("dump device",)),
    "device of 4 KiB sectors": lambda d, s, _: Arrived(
        save(d, "nda0p2", device(s, sector=4096)), None, ("dump device",)
    ),
    "device, compressed by the kernel": lambda d, s, _: Arrived(
        save(d, "ada0p2", device(s, packed(s, "kernel gzip"), compression=1)),
        None,
        ("dump device", "gzip"),
    ),
    "device, encrypted": lambda d, s, pem: Arrived(
        save(d, "ada0p2", (lambda dump, key: device(s, dump, key=key))(*encrypt(s.data, pem, AES))),
        pem,
        ("dump device", "AES-256-CBC"),
    ),
    "compressed image of a device": lambda d, s, _: Arrived(
        save(d, "ada0p2.gz", gzip.compress(device(s), 1)), None, ("gzip", "dump device")
    ),
    "disk with a GPT": lambda d, s, _: Arrived(
        save(d, "ada0.img", gpt_disk(bytes(512 * 64), device(s))), None, ("dump device",)
    ),
    "disk with an MBR": lambda d, s, _: Arrived(save(d, "ada0.img", mbr_disk(device(s))), None, ("dump device",)),
    "behind its header": lambda d, s, _: Arrived(
        save(d, "fetched", header_of(s).pack() + s.data), None, ("leading dump header",)
    ),
    "live dump with its header": lambda d, s, _: Arrived(
        save(d, "livecore.tmp.Xy12Zw", live_dump(s.data, header=header_of(s))), None, ("live dump with its header",)
    ),
}  # fmt: skip


class Form(NamedTuple):
    """A form, and what plugins may show otherwise than of the plain minidump.

    Attributes:
        build: Makes it.
        differs: Columns that may differ, by plugin; `ALL` of them if also the number of rows may.
    """

    build: Build
    differs: Mapping[str, Collection[str]] = {}


ALL = ("*",)
FULL = {
    "freebsd.elfs.Elfs": ALL,
    "freebsd.envars.Envars": ALL,
    "freebsd.kvm.info.Info": ALL,
    "freebsd.kvm.layers.Layers": ALL,
    "freebsd.kvm.pages.Pages": ALL,
    "freebsd.library_list.LibraryList": ALL,
    "freebsd.malfind.Malfind": ALL,
    "freebsd.psaux.PsAux": ("Arguments", "Source", "Notes"),
}
"""Full dumps have user memory and all pages, and other headers."""


def full_dump(sample: Sample) -> bytes:
    return build_world(sample.kernel).memory.full_dump()


def raw_image(sample: Sample) -> bytes:
    return build_world(sample.kernel).memory.raw_image()


FORMS: dict[str, Form] = {
    **{name: Form(build) for name, build in CONTAINERS.items()},
    "full dump": Form(lambda d, s, _: Arrived(save(d, "vmcore.0", full_dump(s))), FULL),
    "gzip of a full dump": Form(lambda d, s, _: Arrived(save(d, "vmcore.0.gz", gzip.compress(full_dump(s), 1))), FULL),
    "raw image": Form(lambda d, s, _: Arrived(save(d, "memory.img", raw_image(s))), FULL),
    "zstd of a raw image": Form(lambda d, s, _: Arrived(save(d, "memory.img.zst", kernel_zstd(raw_image(s)))), FULL),
}
