"""Physical pages as the kernel accounts for them: `vm_page_array`, its segments, page queues, swap devices."""

from __future__ import annotations

from collections.abc import Sequence

from tests.writers.objects import Object, link_tailq

from .model import SwapDevice
from .shapes import mtx_init, set_members, set_variable
from .world import World

NOT_FREE = 13
"""VM_NFREEORDER: the page is not in the buddy lists."""
UNBUSIED = 1
ACTIVE_QUEUE = 1
PAGEABLE = 0x3
"""PGA_WRITEABLE | PGA_REFERENCED."""
ENQUEUED = 0x8
OBJECT_REFERENCE = 0x80000000


class PageArray:
    """`vm_page_array`: a `struct vm_page` for each page from the start of memory to its end, holes included.

    So both ways to find a page give the same: by its number (VM_PHYSSEG_DENSE) and by its segment's first page.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        machine = world.memory.machine
        self.low, self.high = machine.ram
        self.page_size = machine.page_size
        self.size = world.memory.types.sizeof("struct vm_page")
        self.count = (self.high - self.low) // self.page_size
        self.base = world.memory.allocate(self.size * self.count, align=self.page_size)
        self._write()
        set_variable(world, "vm_page_array", self.base)
        set_variable(world, "vm_page_array_size", self.count)
        set_variable(world, "first_page", self.low // self.page_size)

    def _write(self) -> None:
        """All at once: there are some 16,000."""
        types = self.world.memory.types
        place = types.offsetof("vm_page", "phys_addr")
        size = types.size(types.member("vm_page", "phys_addr").type)
        order = "big" if types.byteorder == "big" else "little"
        content = bytearray(self.size * self.count)
        for segment, (start, end) in enumerate(self.world.memory.machine.dump_avail):
            template = bytearray(self._template(segment))
            for pa in range(start, end, self.page_size):
                template[place : place + size] = pa.to_bytes(size, order)
                at = (pa - self.low) // self.page_size * self.size
                content[at : at + self.size] = template
        self.world.memory.write(self.base, bytes(content))

    def _template(self, segment: int) -> bytes:
        types = self.world.memory.types
        reference = types.parse("struct vm_page")
        values = {"order": NOT_FREE, "segind": segment, "busy_lock": UNBUSIED}
        return types.encode(reference, values, bytes(self.size))

    def page(self, pa: int) -> Object:
        """PHYS_TO_VM_PAGE."""
        return self.world.memory.cast("struct vm_page", self.base + (pa - self.low) // self.page_size * self.size)

    def fill_segments(self) -> None:
        """`vm_phys_segs`, and the tables of physical ranges that they come from."""
        ranges = self.world.memory.machine.dump_avail
        segments = self.world.symbol("vm_phys_segs")
        for index, (start, end) in enumerate(ranges):
            set_members(self.world, segments[index], start=start, end=end, first_page=self.page(start), domain=0)
        set_variable(self.world, "vm_phys_nsegs", len(ranges))
        flat = [address for pair in ranges for address in pair]
        for name in ("phys_avail", "dump_avail"):
            set_variable(self.world, name, flat)


def use_page(world: World, page: Object, owner: Object, index: int, *, dirty: bool) -> None:
    """A resident page of an object, on the active queue (`vm_page_insert`, `vm_page_activate`)."""
    set_members(world, page, object=owner, pindex=index, valid=0xFF, dirty=0xFF if dirty else 0)
    if world.has("vm_page", "ref_count"):  # 13.0: references and state in words of their own
        page.ref_count = OBJECT_REFERENCE
        page.a.flags, page.a.queue, page.a.act_count = PAGEABLE | ENQUEUED, ACTIVE_QUEUE, 5
    else:
        page.aflags, page.queue, page.act_count = PAGEABLE, ACTIVE_QUEUE, 5


def queue_pages(world: World, pages: Sequence[Object]) -> None:
    """The active queue of domain 0."""
    if not world.has_symbol("vm_dom"):
        return
    queue = world.symbol("vm_dom")[0].vmd_pagequeues[ACTIVE_QUEUE]
    mtx_init(world, queue.pq_mutex, "vm active pagequeue")
    queue.pq_cnt = len(pages)
    # The links are in a union at the start of the page.
    link_tailq(queue.pq_pl, [page.plinks for page in pages], "q")


def create_swap(world: World, devices: Sequence[SwapDevice]) -> None:
    """`swaponsomething` of vm/swap_pager.c."""
    made = [
        world.put(
            "swdevt",
            device.device,
            world.new(
                "struct swdevt",
                where="kva",
                sw_nblks=device.blocks,
                sw_used=device.used,
                sw_first=device.first,
                sw_end=device.first + device.blocks,
                sw_dev=0x5D,
                sw_strategy=world.function("swapdev_strategy"),
                sw_close=world.function("swapdev_close"),
            ),
        )
        for device in devices
    ]
    if world.has_symbol("swtailq"):
        link_tailq(world.symbol("swtailq"), made, "sw_list")
    set_variable(world, "nswapdev", len(made))
    set_variable(world, "swdevhd", made[0] if made else 0)
    set_variable(world, "swap_pager_avail", sum(device.blocks - device.used for device in devices))
    set_variable(world, "swap_total", sum(device.blocks for device in devices) * world.memory.machine.page_size)
