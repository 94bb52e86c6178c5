"""The run-time linker's list of what it has loaded into a process, compared with what is mapped.

# Reference: sys/sys/link_elf.h (struct r_debug, struct link_map), libexec/rtld-elf/rtld.c (linkmap_add)
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..exceptions import AddressError, FormatError
from .auxv import AT_BASE, AT_PHDR, auxiliary_vector
from .backing import Backing
from .elf_header import PT_DYNAMIC, PT_INTERP, ElfHeader
from .elfs import Image, Images
from .kernel import Kernel
from .link_map import LinkMap, LinkMaps, debug_address
from .records import Absent, Problem, attempt
from .user import UserMemories
from .user_walk import UserProcess, user_processes

RT_STATES = {1: "RT_ADD", 2: "RT_DELETE"}
IN_SHARED_PAGE = "in the page that the kernel shares with processes"
"""Where the vdso is."""
NOT_LISTED = "suspicious: mapped, but not in rtld's list"


@dataclass(frozen=True)
class Library:
    """An object that rtld has loaded, or one that is mapped without its knowledge.

    Attributes:
        pid, command: the process.
        base: where it is mapped.
        name: as rtld has it: seen from the process's root.
        path: of the file that is mapped there, from the root of the whole system.
        size: bytes from its header to its end.
        link_map: address of its ``struct link_map``.
        notes: what is odd; of a record without an address, why there are no libraries.
    """

    pid: int | Absent
    command: str | Absent
    base: int | Absent = Absent.NOT_APPLICABLE
    name: str | Absent = Absent.NOT_APPLICABLE
    path: str | Absent = Absent.NOT_APPLICABLE
    size: int | Absent = Absent.NOT_APPLICABLE
    link_map: int | Absent = Absent.NOT_APPLICABLE
    notes: tuple[str, ...] = ()


def library_records(kernel: Kernel, pids: Iterable[int] = (), jails: Iterable[str] = ()) -> Iterator[Library | Problem]:
    """What is loaded into every process, or into those that `chosen` gives: first rtld's list, then what it lacks."""
    images = Images(kernel)
    for process in user_processes(UserMemories(kernel), pids, jails):
        if isinstance(process, Problem):
            yield process
        else:
            yield from _Libraries(kernel, process, images).records()


class _Libraries:
    """The libraries of a process."""

    def __init__(self, kernel: Kernel, process: UserProcess, images: Images) -> None:
        self.process = process
        self.memory = process.memory
        self.images = images
        self.found = [one for one in images.of(process) if isinstance(one, Image)]
        self.by_start = {one.start: one for one in self.found}
        self.by_dynamic = {_dynamic_address(one.header): one for one in self.found if one.header and one.executable}
        vector = attempt(lambda: auxiliary_vector(kernel, process.proc, process.memory))
        self.vector = {} if isinstance(vector, Absent) else vector

    def records(self) -> Iterator[Library | Problem]:
        main = self._main()
        if main is None or main.header is None:
            yield from self._without_list("no ELF header of its executable is in memory", main)
        elif main.header.first(PT_INTERP) is None:
            yield from self._without_list("linked statically: there is no run-time linker", main)
        else:
            try:
                first, state, base = debug_address(self.memory.read, main.header)
            except (AddressError, FormatError) as error:
                yield from self._without_list(f"rtld's list cannot be found: {error}", main)
                return
            if state:
                yield self._none(f"rtld was just changing its list ({RT_STATES.get(state, f'state {state}')})")
            yield from self._listed(main.header, first, {self.vector.get(AT_BASE, 0), base})

    def _without_list(self, why: str, main: Image | None) -> Iterator[Library]:
        """Why there is no list, and what is mapped besides the executable."""
        yield self._none(why)
        for image in self.found:
            if image is not main and image.executable:
                yield self._unlisted(image, "found by its mapping alone")

    def _none(self, note: str) -> Library:
        return Library(self.process.pid, self.process.command, notes=(note,))

    # The executable

    def _main(self) -> Image | None:
        """The image of the program headers that exec told rtld of; else that of the file that is executed."""
        phdr = self.vector.get(AT_PHDR, 0)
        text = attempt(lambda: int(self.process.proc.p_textvp))
        known = [one for one in self.found if one.header is not None and one.executable]
        ways = (
            lambda one: one.start <= phdr < one.start + self.memory.page_size,
            lambda one: bool(one.vnode) and one.vnode == text,
            lambda one: one.header.first(PT_INTERP) is not None,
        )
        return next((one for way in ways for one in known if way(one)), None)

    # rtld's list

    def _listed(self, header: ElfHeader, first: int, linkers: set[int]) -> Iterator[Library | Problem]:
        """The list, then the images that are not in it; rtld itself needs not be there."""
        walk = LinkMaps(self.memory.read, header)
        starts = set(linkers)
        for item in walk.of(first):
            image = self.by_start.get(item.base) or self.by_dynamic.get(item.dynamic)
            starts.add(image.start if image else item.base)
            yield self._library(item, image)
        yield from (Problem(f"rtld's list of process {self.process.pid}", text) for text in walk.problems)
        listed = "not found in rtld's list, which cannot be read to its end" if walk.problems else NOT_LISTED
        for image in self.found:
            if image.start not in starts and (image.executable or image.header is None):
                yield self._unlisted(image, listed)

    def _library(self, item: LinkMap, image: Image | None) -> Library:
        base = image.start if image else item.base
        entry = self.memory.entry_at(base)
        backing = self.images.backings.of(self.memory, entry) if entry else None
        path = backing.path if backing else ""
        notes = [*item.notes, *_remarks(item, image, backing)]
        if path and item.name and posixpath.basename(path) != posixpath.basename(item.name):
            notes.append("the file there has another name")
        return Library(
            pid=self.process.pid,
            command=self.process.command,
            base=base,
            name=Absent.UNREADABLE if item.name is None else item.name,
            path=path or Absent.NOT_APPLICABLE,
            size=image.end - image.start if image and image.header else Absent.NOT_APPLICABLE,
            link_map=item.address,
            notes=tuple(dict.fromkeys(notes)),
        )

    def _unlisted(self, image: Image, note: str) -> Library:
        return Library(
            pid=self.process.pid,
            command=self.process.command,
            base=image.start,
            path=image.path,
            size=image.end - image.start if image.header else Absent.NOT_APPLICABLE,
            notes=(note, *image.notes),
        )


def _remarks(item: LinkMap, image: Image | None, backing: Backing | None) -> Iterator[str]:
    """What is odd about what is mapped where an object should be."""
    if image is None:
        if backing is None:
            yield "nothing is mapped there"
        else:
            yield IN_SHARED_PAGE if backing.kind == "phys" else "there is no ELF image"
        return
    if image.start != item.base:
        yield f"rtld says that it is at {item.base:#x}"
    if image.header is not None and _dynamic_address(image.header) != item.dynamic:
        yield f"l_ld is {item.dynamic:#x}, its PT_DYNAMIC is at {_dynamic_address(image.header):#x}"
    yield from image.notes


def _dynamic_address(header: ElfHeader) -> int:
    """Where the dynamic section is; 0 if there is none."""
    segment = header.first(PT_DYNAMIC)
    return header.address(segment.vaddr) if segment else 0
