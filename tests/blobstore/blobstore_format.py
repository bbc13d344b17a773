# SPDX-License-Identifier: BSD-3-Clause
#
# The structures of a blobstore as they lie on disk: super block, masks, metadata pages and their
# descriptors, each taken from bytes with a sentence about every rule that it breaks. Paragraphs (§)
# are those of the format's description, blobstore.md.

import re
import struct
from collections import namedtuple

from blobstore_image import crc32c, nonzero

STRUCTURE = 4096
AREA, AREA_END = 16, 4088  # of a page: its descriptors
NONE_PAGE = 0xFFFFFFFF
NONE_BLOB = 0xFFFFFFFFFFFFFFFF
EXTENTS_PER_PAGE = 512

PADDING, EXTENT_RLE, XATTR, FLAGS, XATTR_INTERNAL, EXTENT_TABLE, EXTENT_PAGE = range(7)
DESCRIPTORS = ["PADDING", "EXTENT_RLE", "XATTR", "FLAGS", "XATTR_INTERNAL", "EXTENT_TABLE",
               "EXTENT_PAGE"]

THIN, INTERNAL, TABLE, EXTERNAL = 1, 2, 4, 8  # invalid_flags
READ_ONLY = 1  # data_ro_flags
INVALID_KNOWN, DATA_RO_KNOWN, MD_RO_KNOWN = 15, 1, 3
CLEAR_METHODS = ["default", "none", "unmap", "write_zeroes"]
# The value's length where the format fixes it.
INTERNAL_NAMES = {b"SNAP": 8, b"SNAPTMP": 8, b"SNAPRM": 8, b"EXTSNAP": None}

# level: "fatal" (nothing can be read), "error" or "warning". code: one word for programs.
finding = namedtuple("finding", "level code where text offset")
descriptor = namedtuple("descriptor", "type at body")  # at: device byte of its header
mask = namedtuple("mask", "type length bits")


class super_block:
    FIELDS = [("signature", 0, "8s"), ("version", 8, "I"), ("length", 12, "I"), ("clean", 16, "I"),
              ("super_blob", 20, "Q"), ("cluster_size", 28, "I"), ("used_page_mask_start", 32, "I"),
              ("used_page_mask_len", 36, "I"), ("used_cluster_mask_start", 40, "I"),
              ("used_cluster_mask_len", 44, "I"), ("md_start", 48, "I"), ("md_len", 52, "I"),
              ("bstype", 56, "16s"), ("used_blobid_mask_start", 72, "I"),
              ("used_blobid_mask_len", 76, "I"), ("size", 80, "Q"), ("io_unit_size", 88, "I"),
              ("md_page_size", 92, "I"), ("reserved", 96, "3996s"), ("crc", 4092, "I")]

    def __init__(self, raw, device_size):
        for name, offset, kind in self.FIELDS:
            setattr(self, name, struct.unpack_from("<" + kind, raw, offset)[0])
        self.findings = []
        self.page_bytes = self.md_page_size or 4096
        self.io_unit_bytes = self.io_unit_size or 4096
        self.store_bytes = self.size or device_size
        self.identity(raw, device_size)
        if not self.fatal:
            self.units()
        if not self.fatal:
            self.total_clusters = self.store_bytes // self.cluster_size
            self.pages_per_cluster = self.cluster_size // self.page_bytes
            self.md_clusters = -(-(self.md_start + self.md_len) // self.pages_per_cluster)
            self.regions()
            self.rest()

    @property
    def fatal(self):
        return any(found.level == "fatal" for found in self.findings)

    def demand(self, holds, field, text, level="fatal"):
        offset = next(at for name, at, _ in self.FIELDS if name == field)
        if not holds:
            self.findings.append(
                finding(level, f"super-{field}", "super block", f"{field}: {text}", offset))
        return holds

    def identity(self, raw, device_size):
        """What a load refuses, in its order (§1.1)."""
        self.demand(1 <= self.version <= 3, "version", f"{self.version}, not 1 to 3")
        self.demand(self.signature == b"SPDKBLOB", "signature", f"{self.signature!r}")
        crc = crc32c(raw[:4092])
        self.demand(self.crc == crc, "crc", f"{self.crc:#010x}, but the bytes have {crc:#010x}")
        self.demand(self.size <= device_size, "size",
                    f"{self.size} bytes, but the device has {device_size}")

    def units(self):
        if self.demand(self.page_bytes >= 4096, "md_page_size", f"{self.page_bytes}, below 4096"):
            self.demand(self.page_bytes.bit_count() == 1, "md_page_size",
                        f"{self.page_bytes}, not a power of two", "warning")
        if not self.demand(self.cluster_size and self.cluster_size % 4096 == 0, "cluster_size",
                           f"{self.cluster_size}, not a multiple of 4096"):
            return
        self.demand(self.cluster_size >= self.page_bytes, "cluster_size",
                    f"{self.cluster_size}, smaller than md_page_size, {self.page_bytes}")
        self.demand(self.store_bytes >= self.cluster_size, "size",
                    f"{self.store_bytes}, less than one cluster of {self.cluster_size}")
        self.demand(self.cluster_size % self.page_bytes == 0, "md_page_size",
                    f"{self.page_bytes} does not divide cluster_size", "warning")
        self.demand(self.cluster_size % self.io_unit_bytes == 0, "io_unit_size",
                    f"{self.io_unit_bytes} does not divide cluster_size, {self.cluster_size}",
                    "error")
        self.demand(self.store_bytes % self.io_unit_bytes == 0, "size",
                    f"{self.store_bytes}, not whole io units of {self.io_unit_bytes}", "error")

    def mask_pages(self, bits):
        return -(-(5 + -(-bits // 8)) // self.page_bytes)

    @property
    def cluster_mask_end(self):
        """The page where the room of the used-clusters mask, with that for growth, ends."""
        return self.used_blobid_mask_start if self.used_blobid_mask_len else self.md_start

    def regions(self):
        """§1 and §1.2: what lies where, each after the one before it."""
        demand, pages = self.demand, self.mask_pages(self.md_len)
        demand(self.md_len, "md_len", "0: there is no metadata page")
        demand(self.used_page_mask_start == 1, "used_page_mask_start",
               f"{self.used_page_mask_start}, not 1")
        demand(self.used_page_mask_len == pages, "used_page_mask_len",
               f"{self.used_page_mask_len}, but {self.md_len} pages need {pages}")
        after = self.used_page_mask_start + self.used_page_mask_len
        demand(self.used_cluster_mask_start == after, "used_cluster_mask_start",
               f"{self.used_cluster_mask_start}, but the mask before it ends at {after}")
        need = self.mask_pages(self.total_clusters)
        demand(self.used_cluster_mask_len == need, "used_cluster_mask_len",
               f"{self.used_cluster_mask_len}, but {self.total_clusters} clusters need {need}")
        room = self.used_cluster_mask_start + max(need, pages)
        if self.used_blobid_mask_len or self.used_blobid_mask_start:
            demand(self.used_blobid_mask_start >= room, "used_blobid_mask_start",
                   f"{self.used_blobid_mask_start}, but the mask before it has room to {room}")
            demand(self.used_blobid_mask_len == pages, "used_blobid_mask_len",
                   f"{self.used_blobid_mask_len}, but {self.md_len} pages need {pages}")
            room = self.used_blobid_mask_start + self.used_blobid_mask_len
            demand(self.md_start == room, "md_start",
                   f"{self.md_start}, but the mask before it ends at {room}")
        else:
            room = self.used_cluster_mask_start + need
            demand(self.md_start >= room, "md_start",
                   f"{self.md_start}, but the mask before it ends at {room}")
        demand(self.md_clusters <= self.total_clusters, "md_len",
               f"{self.md_len}: metadata takes {self.md_clusters} clusters, the store has "
               f"{self.total_clusters}")

    def rest(self):
        demand = self.demand
        demand(self.length == STRUCTURE, "length", f"{self.length}, not 4096", "error")
        demand(self.clean in (0, 1), "clean", f"{self.clean}, neither 0 nor 1", "error")
        text = self.bstype.rstrip(b"\0")
        demand(b"\0" not in text, "bstype", f"{self.bstype!r} goes on after a zero", "error")
        if self.version == 3:
            demand(self.used_blobid_mask_len, "used_blobid_mask_len",
                   "0 in version 3: every load would be a recovery", "error")
        else:
            demand(self.used_blobid_mask_len == 0, "used_blobid_mask_len",
                   f"{self.used_blobid_mask_len}, but version {self.version} has no such mask",
                   "error")
        count = len(self.reserved) - self.reserved.count(0)
        demand(not count, "reserved", f"{count} bytes are not zero", "error")

    def blob_id(self, page):
        return 1 << 32 | page

    def is_blob_id(self, value):
        return value >> 32 == 1 and value & 0xFFFFFFFF < self.md_len

    def page_offset(self, page):
        return page * self.page_bytes

    def md_offset(self, index):
        return (self.md_start + index) * self.page_bytes


def read_mask(source, start, end, limit):
    """The mask in bytes [start, end): its bits below `limit`, and (offset, count) of non-zero bytes
    that are none of its bits."""
    kind, length = struct.unpack("<BI", source.read(start, 5))
    limit = min(limit, length)
    bits, stray, first = set(), 0, None
    for at, part in source.data(start + 5, end):
        base = (at - start - 5) * 8
        for held in re.finditer(rb"[^\0]", part):
            index, byte = held.start(), held[0][0]
            here = {base + index * 8 + bit for bit in range(8) if byte >> bit & 1}
            beyond = {bit for bit in here if bit >= limit}
            if beyond:
                first = at + index if first is None else first
                stray += 1
            bits |= here - beyond
    return mask(kind, length, bits), (first, stray)


class md_page:
    """One metadata page, as far as a page can be judged by itself (§4, §5)."""

    def __init__(self, raw, index, offset):
        self.index, self.offset = index, offset
        self.id, self.sequence, self.reserved0 = struct.unpack_from("<QII", raw)
        self.next, self.crc = struct.unpack_from("<II", raw, AREA_END)
        self.right_crc = crc32c(raw[:4092])
        self.crc_ok = self.crc == self.right_crc
        self.zero = raw.count(0) == len(raw)
        self.descriptors, self.problems = [], []
        if self.crc_ok:
            self.parse(raw)

    def problem(self, code, at, text, level="error"):
        self.problems.append(
            finding(level, code, f"md page {self.index}", text, self.offset + at))

    def parse(self, raw):
        if self.reserved0:
            self.problem("page-reserved", 12, f"reserved0: {self.reserved0:#x}, not 0")
        at = AREA
        while at + 5 <= AREA_END:
            kind, length = struct.unpack_from("<BI", raw, at)
            if kind == PADDING and length == 0:
                break
            if at + 5 + length > AREA_END:
                self.problem("descriptor-length", at, f"a descriptor of type {kind} and length "
                             f"{length} at byte {at} overruns the page")
                return
            body = raw[at + 5:at + 5 + length]
            if kind == PADDING:
                self.problem("padding", at, f"PADDING of {length} bytes, which is skipped, but "
                             "which nobody writes", "warning")
                if body.count(0) != length:
                    self.problem("stray-bytes", at + 5, "PADDING that is not zero")
            self.descriptors.append(descriptor(kind, self.offset + at, body))
            at += 5 + length
        rest = raw[at:AREA_END]
        if rest.count(0) != len(rest):
            first = at + len(rest) - len(rest.lstrip(b"\0"))
            self.problem("stray-bytes", first, f"{len(rest) - rest.count(0)} bytes after the last "
                         f"descriptor are not zero, the first at byte {first} of the page")

    def why_not_a_root(self, blob_id):
        if not self.crc_ok:
            return "it is empty" if self.zero else (
                f"its crc is {self.crc:#010x}, but the bytes have {self.right_crc:#010x}")
        if self.sequence:
            return f"its sequence_num is {self.sequence}, not 0"
        return None if self.id == blob_id else f"its id is {self.id:#x}"


def stray_finding(source, start, end, level, code, where, text):
    first, count = nonzero(source, start, end)
    if count:
        yield finding(level, code, where, f"{count} non-zero bytes {text}", first)
