"""Classes behind the framework's objects of FreeBSD kernels, for other people's plugins.

They give the usual convenience methods and leave the walking to `bsd`, which is imported when one is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import constants, objects

from volatility3_freebsd_kvm.layers.process import add_process_layer
from volatility3_freebsd_kvm.symbols.table import FreeBSDKernelSymbols

if TYPE_CHECKING:
    from volatility3_freebsd_kvm.bsd.kernel import Kernel
    from volatility3_freebsd_kvm.bsd.objects import Object
    from volatility3_freebsd_kvm.bsd.records import Problem
    from volatility3_freebsd_kvm.bsd.vm import MapEntry

_HEADS = ("lh_first", "tqh_first", "stqh_first", "slh_first", "clh_first", "cstqh_first", "cslh_first")
"""First members of queue heads (sys/queue.h, ck_queue.h)."""


class KernelObject(objects.StructType):
    """A structure of the kernel."""

    def get_kernel(self) -> Kernel:
        """The kernel that the object belongs to, as this project's walkers take it.

        Raises:
            SymbolError: no module of the context has the object's symbol table.
        """
        from volatility3_freebsd_kvm.symbols.walkable import walkable_kernel

        name = self.get_symbol_table_name()
        table = self._context.symbol_space[name]
        return walkable_kernel(self._context, table.layer_name, name)

    def get_address(self) -> int:
        """The object's address with its sign extension, as the kernel has it."""
        layer = self._context.layers[self.vol.layer_name]
        canonicalize = getattr(layer, "canonicalize", int)
        return int(canonicalize(self.vol.offset))

    def _walkable(self) -> tuple[Kernel, Object]:
        kernel = self.get_kernel()
        name = self.vol.type_name.split(constants.BANG)[-1]
        return kernel, kernel.object(name, self.get_address())

    def _framework_object(self, type_name: str, address: int) -> Any:
        mask = self._context.layers[self.vol.layer_name].address_mask
        return self._context.object(
            self.get_symbol_table_name() + constants.BANG + type_name,
            layer_name=self.vol.layer_name,
            offset=address & mask,
            native_layer_name=self.vol.native_layer_name,
        )


class QueueHead(KernelObject):
    """The head of a LIST, TAILQ, STAILQ or SLIST, or of one of their CK_ forms."""

    def to_list(self, symbol_type: str, member: str) -> Iterator[Any]:
        """The elements.

        Args:
            symbol_type: their type, ``proc``; a table's name in front of it does not matter.
            member: the member that links them, ``p_list``.
        """
        from volatility3_freebsd_kvm.bsd.lists import Queue

        name = symbol_type.split(constants.BANG)[-1]
        for address in Queue(self.get_kernel().structs, self.get_address(), name, member).addresses():
            yield self._framework_object(name, address)


class Proc(KernelObject):
    """``struct proc``."""

    def get_name(self) -> str:
        """The command's name, ``p_comm``."""
        return str(self._walkable()[1].p_comm)

    def get_parent_pid(self) -> int:
        """The parent's process id, 0 where there is none."""
        from volatility3_freebsd_kvm.bsd.process import parent_pid

        return parent_pid(self._walkable()[1])

    def get_threads(self) -> Iterator[Any]:
        """The threads, as objects."""
        from volatility3_freebsd_kvm.bsd.records import Problem
        from volatility3_freebsd_kvm.bsd.thread import threads

        for found in threads(*self._walkable()):
            if not isinstance(found, Problem):
                yield self._framework_object("thread", found.address_)

    def get_arguments(self) -> tuple[str, ...]:
        """The command line as the kernel keeps it, empty where it does not."""
        from volatility3_freebsd_kvm.bsd.arguments import kernel_copy

        kernel, proc = self._walkable()
        return kernel_copy(kernel, proc, lambda _: None) or ()

    def get_map_entries(self) -> Iterator[MapEntry | Problem]:
        """Records of the process's memory map; see `bsd.vm`."""
        from volatility3_freebsd_kvm.bsd.vm import process_maps

        return process_maps(self.get_kernel(), [int(self.p_pid)])

    def add_process_layer(self, config_prefix: str | None = None, preferred_name: str | None = None) -> str | None:
        """The name of a layer with the process's memory, made if there is none yet.

        Args:
            config_prefix: where in the configuration a new layer has its own.
            preferred_name: of a new layer; a free one like it is taken.

        Returns:
            None if the process has no memory of its own, or the dump has none of it.
        """
        from volatility3_freebsd_kvm.bsd.user import UserMemories

        kernel, proc = self._walkable()
        if UserMemories(kernel).why_none(proc):
            return None
        name = preferred_name or f"{self.vol.layer_name}_Process{int(self.p_pid)}"
        table = self.get_symbol_table_name()
        return add_process_layer(self._context, str(self.vol.layer_name), table, proc.address_, name, config_prefix)

    def get_process_memory_sections(self, heap_only: bool = False) -> Iterator[tuple[int, int]]:
        """``(address, length)`` of what is mapped, whether or not it is in memory.

        Args:
            heap_only: only anonymous memory that can be written, without stacks.
        """
        from volatility3_freebsd_kvm.bsd.vm import memory_sections

        return memory_sections(*self._walkable(), heap_only=heap_only)


class Thread(KernelObject):
    """``struct thread``."""

    def get_name(self) -> str:
        """The thread's name, ``td_name``."""
        return str(self._walkable()[1].td_name)


class Vnode(KernelObject):
    """``struct vnode``."""

    def full_path(self) -> str:
        """The path by the name cache, empty where it does not know the name."""
        from volatility3_freebsd_kvm.bsd.path import vnode_path

        kernel, vnode = self._walkable()
        return vnode_path(kernel, vnode.address_).path

    get_path = full_path


class MapEntryObject(KernelObject):
    """``struct vm_map_entry``."""

    def get_start(self) -> int:
        """The first address."""
        return int(self.start)

    def get_end(self) -> int:
        """The first address behind."""
        return int(self.end)

    def get_perms(self) -> str:
        """The protection, as ``r-x``."""
        from volatility3_freebsd_kvm.bsd.vm import protection_text

        return protection_text(int(self.protection))


FreeBSDKernelSymbols.type_classes = {"proc": Proc, "thread": Thread, "vnode": Vnode, "vm_map_entry": MapEntryObject}
FreeBSDKernelSymbols.head_class = QueueHead
FreeBSDKernelSymbols.head_members = frozenset(_HEADS)
