"""POSIX shared memory.

# Reference: sys/sys/mman.h (struct shmfd), sys/kern/uipc_shm.c (shm_dictionary)
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import KVMError
from .hashes import HashVariable
from .kernel import Kernel
from .records import Absent, attempt


@dataclass(frozen=True)
class SharedMemory:
    """A `struct shmfd`.

    Attributes:
        address: of the structure.
        path: its name; empty for anonymous memory and for what was unlinked.
        size: bytes.
        mode: permissions.
        uid: owner.
        gid: group.
        object: address of the VM object with its pages.
    """

    address: int
    path: str | Absent
    size: int | Absent
    mode: int | Absent
    uid: int | Absent
    gid: int | Absent
    object: int | Absent


def read_shared_memory(kernel: Kernel, address: int) -> SharedMemory:
    """The shared memory at an address; never raises: what cannot be had is `Absent`."""
    shmfd = kernel.object("shmfd", address)
    return SharedMemory(
        address,
        attempt(lambda: str(shmfd.shm_path.text_())),
        attempt(lambda: int(shmfd.shm_size)),
        attempt(lambda: int(shmfd.shm_mode)),
        attempt(lambda: int(shmfd.shm_uid)),
        attempt(lambda: int(shmfd.shm_gid)),
        attempt(lambda: int(shmfd.shm_object)),
    )


def named_objects(kernel: Kernel) -> dict[int, str]:
    """The names of shared memory by the addresses of its VM objects; what cannot be found is left out."""
    found: dict[int, str] = {}
    try:
        for mapping in HashVariable(kernel, "shm_dictionary", "shm_hash", "shm_mapping", "sm_link"):
            path = attempt(lambda mapping=mapping: mapping.sm_path.text_())  # type: ignore[misc]
            memory = attempt(lambda mapping=mapping: mapping.sm_shmfd.as_("shmfd").shm_object)  # type: ignore[misc]
            if isinstance(path, str) and isinstance(memory, int) and memory:
                found[int(memory)] = path
    except KVMError:
        pass
    return found
