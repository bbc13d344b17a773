# SPDX-License-Identifier: BSD-3-Clause
#
# Images for the checker's tests: the metadata of a real one in memory, to be changed byte by byte
# with the checksums made right again, and small stores made from nothing by the format's text.

import struct

from blobstore_format import (EXTENT_PAGE, EXTENT_RLE, EXTENT_TABLE, FLAGS, NONE_BLOB, NONE_PAGE,
                              STRUCTURE, XATTR, XATTR_INTERNAL, super_block)
from blobstore_image import crc32c


class scratch:
    """An image whose first bytes are held; all behind them is zero."""

    def __init__(self, head, size):
        self.bytes, self.size = bytearray(head), size

    def read(self, offset, length):
        assert offset + length <= self.size, "a read past the end"
        return bytes(self.bytes[offset:offset + length]).ljust(length, b"\0")

    def data(self, start, end):
        end = min(end, len(self.bytes))
        if start < end:
            yield start, bytes(self.bytes[start:end])

    def field(self, name):
        at, kind = next((at, kind) for field, at, kind in super_block.FIELDS if field == name)
        return struct.unpack_from("<" + kind, self.bytes, at)[0]

    def super(self, **fields):
        for name, at, kind in super_block.FIELDS:
            if name in fields:
                struct.pack_into("<" + kind, self.bytes, at, fields[name])
        if "crc" not in fields:
            self.seal(0)
        return self

    def seal(self, offset):
        struct.pack_into("<I", self.bytes, offset + 4092, crc32c(self.bytes[offset:offset + 4092]))

    def poke(self, offset, data):
        self.bytes[offset:offset + len(data)] = data
        return self

    def page_offset(self, index):
        return (self.field("md_start") + index) * (self.field("md_page_size") or 4096)

    def page(self, index, at, data):
        """Changes bytes of a metadata page and makes its checksum right."""
        self.poke(self.page_offset(index) + at, data)
        self.seal(self.page_offset(index))
        return self

    def put(self, index, *descriptors, owner=None, sequence=0, following=NONE_PAGE):
        """Writes a whole metadata page."""
        raw = struct.pack("<QII", 1 << 32 | (index if owner is None else owner), sequence, 0)
        raw = (raw + b"".join(descriptors)).ljust(4088, b"\0") + struct.pack("<II", following, 0)
        assert len(raw) == STRUCTURE
        return self.page(index, 0, raw)

    def wipe(self, index):
        return self.poke(self.page_offset(index), bytes(STRUCTURE))

    def bits(self, kind, numbers, value=True):
        start = self.field(["used_page_mask_start", "used_cluster_mask_start",
                            "used_blobid_mask_start"][kind])
        for number in numbers:
            at = start * (self.field("md_page_size") or 4096) + 5 + number // 8
            if value:
                self.bytes[at] |= 1 << number % 8
            else:
                self.bytes[at] &= ~(1 << number % 8)
        return self


def flags(invalid=0, data_ro=0, md_ro=0):
    return struct.pack("<BIQQQ", FLAGS, 24, invalid, data_ro, md_ro)


def xattr(name, value, kind=XATTR):
    return struct.pack("<BIHH", kind, 4 + len(name) + len(value), len(name), len(value)) + \
        name + value


def internal(name, value):
    value = struct.pack("<Q", value) if isinstance(value, int) else value
    return xattr(name, value, XATTR_INTERNAL)


def lvol(name, last):
    """The two xattrs of an lvol, its UUID ending in `last`."""
    uuid = f"00000000-0000-4000-8000-{last:012x}".encode("ascii") + b"\0"
    return xattr(b"name", name.ljust(64, b"\0")) + xattr(b"uuid", uuid)


def pairs(values):
    return b"".join(struct.pack("<II", *pair) for pair in values)


def rle(*runs):
    return struct.pack("<BI", EXTENT_RLE, 8 * len(runs)) + pairs(runs)


def table(num_clusters, *entries):
    return struct.pack("<BIQ", EXTENT_TABLE, 8 + 8 * len(entries), num_clusters) + pairs(entries)


def extents(start, clusters):
    return struct.pack(f"<BII{len(clusters)}I", EXTENT_PAGE, 4 + 4 * len(clusters), start,
                       *clusters)


def fresh(clusters, cluster_size=65536, md_page_size=4096, md_len=None):
    """A store as it lies there right after its creation (§1.2)."""
    md_len = md_len or clusters

    def mask_pages(bits):
        return -(-(5 + -(-bits // 8)) // md_page_size)
    pages, need = mask_pages(md_len), mask_pages(clusters)
    blobids = 1 + pages + max(pages, need)
    head = min(2 * cluster_size + (blobids + pages + md_len) * md_page_size,
               clusters * cluster_size)
    return scratch(bytes(head), clusters * cluster_size).super(
        signature=b"SPDKBLOB", version=3, length=STRUCTURE, clean=0, super_blob=NONE_BLOB,
        cluster_size=cluster_size, used_page_mask_start=1, used_page_mask_len=pages,
        used_cluster_mask_start=1 + pages, used_cluster_mask_len=need, md_start=blobids + pages,
        md_len=md_len, used_blobid_mask_start=blobids, used_blobid_mask_len=pages,
        size=clusters * cluster_size, io_unit_size=512, md_page_size=md_page_size)


def unload(store, pages, clusters, blobids):
    """The masks of a clean unload."""
    size = store.field("md_page_size")
    total = store.field("size") // store.field("cluster_size")
    for kind, (name, bits) in enumerate((("page", store.field("md_len")), ("cluster", total),
                                         ("blobid", store.field("md_len")))):
        store.poke(store.field(f"used_{name}_mask_start") * size, struct.pack("<BI", kind, bits))
    return store.bits(0, pages).bits(1, clusters).bits(2, blobids).super(clean=1)
