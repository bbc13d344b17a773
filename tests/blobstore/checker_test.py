#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The checker of blobstore images (spdk_blobstore.py) against an image that SPDK wrote, against
# stores made here by the format's text, and against everything that is done to them below: for
# each change it says exactly what is expected, no more and no less.

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import spdk_blobstore  # noqa: E402
from blobstore_image import crc32c  # noqa: E402
from blobstore_store import store  # noqa: E402
from scratch_store import (extents, flags, fresh, internal, lvol, rle, scratch, table,  # noqa: E402
                           unload, xattr)

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE = os.path.join(HERE, "testdata", "lvstore-64m.img.gz")
TABLE = os.path.join(HERE, "testdata", "lvstore-64m.tsv")
with gzip.open(IMAGE, "rb") as packed:
    HEAD = packed.read(1 << 20)
# Metadata pages of the image.
STORE, LVOL_A, EXTENTS_SNAP, LVOL_B, SNAP, CLONE, EXTENTS_A, EXTENTS_CLONE, EXTENTS_B, FREE = \
    range(10)
ID = 1 << 32
FLAGS_AT, NAME_AT, EXTENT_AT = 16, 45, 25  # in a page: FLAGS, the first xattr, cluster_idx[0]


def real():
    return scratch(HEAD, 64 << 20)


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


def u64(value):
    return struct.pack("<Q", value)


def verdict(source):
    """Exit status, codes found, and the sentences: a warning's code has a ~ before it, what is only
    noted is left out."""
    status, findings = spdk_blobstore.check(source)
    codes = {("~" if one["level"] == "warning" else "") + one["code"] for one in findings
             if one["level"] != "note"}
    return status, codes, " | ".join(f"{one['where']}: {one['text']}" for one in findings)


# Each field of the super block, its checksum made right again:
# a name, the fields, exit status, what is found beside super-NAME.
SUPER = [
    ("signature", {"signature": b"SPDKBLOP"}, 2, ""),
    ("version", {"version": 0}, 2, ""),
    ("version", {"version": 4}, 2, ""),
    ("length", {"length": 4092}, 1, ""),
    ("clean", {"clean": 2}, 1, ""),
    ("super_blob", {"super_blob": ID | 7}, 1, ""),
    ("super_blob", {"super_blob": 1}, 1, ""),
    ("cluster_size", {"cluster_size": 0}, 2, ""),
    ("cluster_size", {"cluster_size": 2048}, 2, ""),
    ("cluster_size", {"cluster_size": (1 << 20) + 512}, 2, ""),
    ("used_page_mask_start", {"used_page_mask_start": 0}, 2, "super-used_cluster_mask_start"),
    ("used_page_mask_len", {"used_page_mask_len": 0}, 2, "super-used_cluster_mask_start"),
    ("used_cluster_mask_start", {"used_cluster_mask_start": 1}, 2, ""),
    ("used_cluster_mask_len", {"used_cluster_mask_len": 2}, 2, ""),
    ("used_blobid_mask_start", {"used_blobid_mask_start": 2}, 2, "super-md_start"),
    ("used_blobid_mask_len", {"used_blobid_mask_len": 9}, 2, "super-md_start"),
    ("used_blobid_mask_len", {"used_blobid_mask_len": 0}, 2, "super-md_start"),
    ("used_blobid_mask_len", {"used_blobid_mask_len": 0, "used_blobid_mask_start": 0}, 1,
     "mask-beyond"),
    ("md_start", {"md_start": 3}, 2, ""),
    ("md_start", {"md_start": 5}, 2, ""),
    ("md_len", {"md_len": 0}, 2, ""),
    ("md_len", {"md_len": 1 << 14}, 2, ""),
    ("bstype", {"bstype": b"LVOLSTORE\0\0\0\0\0\0x"}, 1, ""),
    ("size", {"size": (64 << 20) + 4096}, 2, ""),
    ("size", {"size": 4096}, 2, ""),
    ("size", {"size": (64 << 20) - 512}, 1, "~mask-length"),
    ("io_unit_size", {"io_unit_size": 4097}, 1, "super-size"),
    ("md_page_size", {"md_page_size": 512}, 2, ""),
    ("md_page_size", {"md_page_size": 4096 * 3}, 1, "~super-md_page_size ..."),
    ("reserved", {"reserved": b"\0" * 3995 + b"x"}, 1, ""),
    ("crc", {"crc": 0x2E636CAB ^ 1}, 2, ""),
]


def shift(image, kind):
    """The header of a mask with another type."""
    return image.poke((1 + kind) * 4096, bytes([kind + 1]))


# What is done to the real image, exit status, what is found, words of the sentence.
CASES = {
    # Masks
    "a mask of another type": (lambda i: shift(i, 0), 1, "mask-type", "used-pages mask: type: 1"),
    "a mask shorter than the pages": (
        lambda i: i.poke(4097, u32(63)), 1, "mask-length", "length: 63 bits, not 64"),
    "a cluster mask longer than the clusters, as growing leaves it": (
        lambda i: i.poke(8193, u32(65)), 0, "~mask-length", "interrupted"),
    "a cluster mask longer than the clusters, and wrong": (
        lambda i: i.poke(8193, u32(65)).bits(1, [20]), 1, "~mask-length leaked-cluster",
        "cluster 20 is marked"),
    "a page marked that nobody uses": (
        lambda i: i.bits(0, [20]), 1, "leaked-page", "page 20 is marked"),
    "a page used but not marked": (
        lambda i: i.bits(0, [EXTENTS_B], False), 1, "unmarked-page", "page 8 is in use"),
    "clusters marked that nobody owns": (
        lambda i: i.bits(1, [20, 21, 40]), 1, "leaked-cluster", "cluster 20 to 21 is marked"),
    "a cluster owned but not marked": (
        lambda i: i.bits(1, [10], False), 1, "unmarked-cluster", "cluster 10 is in use"),
    "the metadata's cluster not marked": (
        lambda i: i.bits(1, [0], False), 1, "unmarked-cluster", "cluster 0 is in use"),
    "a blobid marked without a root": (
        lambda i: i.bits(2, [30]), 1, "leaked-blobid", "blobid 30 is marked, but: it is empty"),
    "an extent page marked as a blob": (
        lambda i: i.bits(2, [EXTENTS_A]), 1, "leaked-blobid chain-id", "its id is 0x100000001"),
    "a blob not marked": (
        lambda i: i.bits(2, [CLONE], False), 1, "unmarked-blobid", "blobid 5 is in use"),
    "a bit past the clusters": (
        lambda i: i.poke(8192 + 5 + 8, b"\1"), 1, "mask-beyond", "used-clusters mask: 1 bytes"),
    "a byte in a mask's last place": (
        lambda i: i.poke(4 * 4096 - 1, b"\x80"), 1, "mask-beyond", "used-blobids mask: 1 bytes"),
    # Pages and chains
    "a root whose bytes changed": (
        lambda i: i.poke(i.page_offset(LVOL_B) + NAME_AT + 9, b"L"), 1,
        "leaked-blobid leaked-page leaked-cluster stray-page",
        "blobid 3 is marked, but: its crc is 0x943b2f0c"),
    "an extent page whose bytes changed": (
        lambda i: i.poke(i.page_offset(EXTENTS_B) + 25, b"\1"), 1, "extent-page leaked-cluster",
        "extent page 0 (md page 8): crc"),
    "two roots swapped": (
        lambda i: swap(i, LVOL_B, CLONE), 1,
        "leaked-blobid leaked-page leaked-cluster chain-id stray-page", "blob 0x100000003: page 0"),
    "two extent pages swapped": (
        lambda i: swap(i, EXTENTS_A, EXTENTS_B), 1, "extent-page-length",
        "md page 6): 16 clusters, not 8"),
    "a root with a sequence number": (
        lambda i: i.page(LVOL_B, 8, u32(1)), 1,
        "leaked-blobid leaked-page leaked-cluster chain-sequence", "its sequence_num is 1"),
    "reserved0 of a page": (
        lambda i: i.page(SNAP, 12, u32(1)), 1, "page-reserved", "reserved0: 0x1"),
    "a chain that leaves the pages": (
        lambda i: i.page(LVOL_B, 4088, u32(64)), 1, "chain-range", "next: page 64"),
    "a chain that bites its tail": (
        lambda i: i.page(LVOL_B, 4088, u32(LVOL_B)), 1, "chain-loop", "stands in the chain"),
    "a chain into an empty page": (
        lambda i: i.page(LVOL_B, 4088, u32(FREE)), 1, "chain-crc",
        "page 1 of the chain (md page 9)"),
    "a chain into another blob's extent page": (
        lambda i: i.page(LVOL_B, 4088, u32(EXTENTS_A)), 1, "chain-sequence", "sequence_num 0"),
    "a chain's second page of another blob": (
        lambda i: i.page(LVOL_B, 4088, u32(FREE)).bits(0, [FREE]).put(
            FREE, owner=SNAP, sequence=1), 1, "chain-id leaked-page", "id 0x100000004"),
    "a chain of two pages": (
        lambda i: i.page(LVOL_B, 4088, u32(FREE)).bits(0, [FREE]).put(
            FREE, xattr(b"big", b"x" * 4060), owner=LVOL_B, sequence=1), 0, "", ""),
    "a descriptor in the last five bytes of a page": (
        lambda i: i.page(LVOL_B, 4088, u32(FREE)).bits(0, [FREE]).put(
            FREE, xattr(b"big", b"x" * 4055), b"\t\0\0\0\0", owner=LVOL_B, sequence=1), 1,
        "descriptor-type", "type 9"),
    "a stray byte after the descriptors": (
        lambda i: i.page(LVOL_B, 4087, b"x"), 1, "stray-bytes", "the first at byte 4087"),
    "a stray byte in a free page": (
        lambda i: i.poke(i.page_offset(50) + 100, b"x"), 1, "stray-page", "md page 50"),
    "a deleted blob's root left behind": (
        lambda i: i.put(FREE, flags(4), lvol(b"dead", 1), table(0)), 1,
        "unmarked-blobid unmarked-page", "blobid 9 is in use"),
    "an orphan of a chain, which replay passes by": (
        lambda i: i.put(FREE, xattr(b"a", b"b"), owner=LVOL_A, sequence=1), 0, "", ""),
    "an extent page that nobody uses any more": (
        lambda i: i.put(FREE, extents(0, []), owner=LVOL_A), 0, "", ""),
    "a free page of an unknown kind": (
        lambda i: i.put(FREE, xattr(b"a", b"b"), owner=LVOL_A), 1, "stray-page", "neither of a"),
    "an orphan that points nowhere": (
        lambda i: i.put(FREE, owner=LVOL_A, sequence=1, following=64), 1, "stray-page",
        "next: page 64"),
    "an orphan with an impossible id": (
        lambda i: i.put(FREE, owner=64, sequence=1), 1, "stray-page", "none of a blob"),
    "bytes after the metadata pages": (
        lambda i: i.poke((1 << 20) - 1, b"x"), 0, "~stray-bytes", "last metadata cluster"),
    # Descriptors
    "a descriptor longer than its page": (
        lambda i: i.page(LVOL_B, 46, u32(4072)), 1,
        "descriptor-length leaked-page leaked-cluster ~flag-table lvol-name ~lvol-uuid",
        "overruns the page"),
    "a descriptor of an unknown type": (
        lambda i: b_is(i, struct.pack("<BI", 9, 3) + b"abc"), 1, "descriptor-type",
        "type 9 is unknown"),
    "EXTENT_PAGE in a chain": (
        lambda i: b_is(i, extents(0, [1])), 1, "descriptor-type", "EXTENT_PAGE in a chain page"),
    "PADDING that is skipped": (
        lambda i: b_is(i, struct.pack("<BI", 0, 3) + bytes(3)), 0, "~padding",
        "which is skipped"),
    "PADDING that is not zero": (
        lambda i: b_is(i, struct.pack("<BI", 0, 3) + b"abc"), 1, "~padding stray-bytes",
        "PADDING that is not zero"),
    "an xattr of the wrong length": (
        lambda i: i.page(LVOL_B, NAME_AT + 5, b"\5"), 1, "xattr-length lvol-name", "name_length 5"),
    "an xattr without a name": (
        lambda i: b_is(i, xattr(b"", b"x")), 1, "xattr-name", "is empty or holds a zero"),
    "a name that stands twice": (
        lambda i: b_is(i, xattr(b"x", b"1") + xattr(b"x", b"2")), 1, "xattr-twice", "b'x'"),
    "FLAGS of the wrong length": (
        lambda i: i.put(LVOL_B, struct.pack("<BI", 3, 16) + bytes(16), lvol(b"b", 0xB),
                        table(16, (8, 1))), 1, "flags-length flag-table hole", "length 16, not 24"),
    "FLAGS that do not come first": (
        lambda i: i.put(LVOL_B, lvol(b"b", 0xB), flags(5), table(16, (8, 1))), 1,
        "flags-order flag-table hole", "not the first"),
    "an unknown bit of invalid_flags": (
        lambda i: i.page(LVOL_B, FLAGS_AT + 5, b"\x15"), 1, "flags-invalid", "unknown bits 0x10"),
    "an unknown bit of data_ro_flags": (
        lambda i: i.page(LVOL_B, FLAGS_AT + 13, b"\2"), 0, "~flags-data-ro", "unknown bits 0x2"),
    "an unknown bit of md_ro_flags": (
        lambda i: i.page(LVOL_B, FLAGS_AT + 21, b"\4"), 0, "~flags-md-ro", "unknown bits 0x4"),
    "a thin blob that says it is not": (
        lambda i: i.page(LVOL_B, FLAGS_AT + 5, b"\4"), 1, "hole", "not thin"),
    "an extent table without its flag": (
        lambda i: i.page(LVOL_B, FLAGS_AT + 5, b"\1"), 1, "flag-table", "bit 2"),
    "internal xattrs without their flag": (
        lambda i: i.page(CLONE, FLAGS_AT + 5, b"\5"), 1, "flag-internal", "bit 1 is not set"),
    "an external snapshot without its name": (
        lambda i: i.page(LVOL_B, FLAGS_AT + 5, b"\x0d"), 1, "flag-external",
        "bit 3 without EXTSNAP"),
    "an external snapshot without its flag": (
        lambda i: b_is(i, internal(b"EXTSNAP", ESNAP), invalid=7), 1, "flag-external", "bit 3"),
    "an external snapshot": (
        lambda i: b_is(i, internal(b"EXTSNAP", ESNAP), invalid=15), 0, "", ""),
    "an external snapshot that is no UUID": (
        lambda i: b_is(i, internal(b"EXTSNAP", b"disk"), invalid=15), 1, "lvol-external", "disk"),
    "two kinds of parents": (
        lambda i: b_is(i, internal(b"EXTSNAP", ESNAP) + internal(b"SNAP", ID | SNAP), invalid=15),
        1, "two-parents", "SNAP and EXTSNAP"),
    "an unknown internal xattr": (
        lambda i: b_is(i, internal(b"WHAT", b"x"), invalid=7), 0, "~xattr-unknown", "b'WHAT'"),
    # Extents
    "a blob of runs instead of a table": (
        lambda i: b_rle(i, (0, 3), (12, 1), (0, 6), (13, 1), (0, 5)), 0, "", ""),
    "a run that ends with the store": (
        lambda i: b_rle(i, (62, 2)).bits(1, [12, 13], False).bits(1, [62, 63]), 0, "", ""),
    "an empty run": (
        lambda i: b_rle(i, (0, 3), (12, 1), (0, 6), (13, 1), (14, 0)), 1, "rle-run", "is empty"),
    "a run past the end": (
        lambda i: b_rle(i, (12, 2), (63, 2)), 1, "cluster-range", "63 to 64"),
    "runs that are no multiple of 8": (
        lambda i: b_is(i, b"\1\4\0\0\0\0\0\0\0"), 1, "rle-length ...", "length 4, not a multiple"),
    "a table beside runs": (
        lambda i: b_is(i, rle((0, 1))), 1, "extents-mixed ...", "in one blob"),
    "a table of the wrong length": (
        lambda i: b_table(i, struct.pack("<BI", 5, 9) + bytes(9)), 1,
        "table-length leaked-page leaked-cluster", "length 9"),
    "a table of too few extent pages": (
        lambda i: b_table(i, table(16)), 1, "table-entries leaked-page leaked-cluster", "needs 1"),
    "a table that runs on": (
        lambda i: b_table(i, table(16, (8, 1), (0, 1 << 31))), 1, "table-entries", "needs 1"),
    "an extent page run of two": (
        lambda i: b_table(i, table(16, (8, 2))), 1, "table-run", "num_pages 2 with page_idx 8"),
    "an extent page out of range": (
        lambda i: b_table(i, table(16, (64, 1))), 1, "extent-page-range leaked-page leaked-cluster",
        "md page 64"),
    "tables that disagree": (
        lambda i: b_table(i, table(16, (8, 1)) + table(17)), 1, "table-clusters",
        "num_clusters 17, but 16"),
    "a table in two parts with absent extent pages": (
        lambda i: b_table(i, table(1300, (0, 1)) + table(1300, (8, 1), (0, 1))).put(
            EXTENTS_B, extents(512, [0] * 510 + [12, 13]), owner=LVOL_A), 0, "", ""),
    "a table whose last extent page is not full": (
        lambda i: b_table(i, table(1300, (0, 2), (8, 1))).put(
            EXTENTS_B, extents(1024, [0] * 274 + [12, 13]), owner=LVOL_B), 0, "", ""),
    "an extent page of more than 512": (
        lambda i: b_extents(b_table(i, table(600, (8, 1), (0, 1))), *[0] * 513), 1,
        "extent-page-length ...", "EXTENT_PAGE: length 2056"),
    "an extent page of half a number": (
        lambda i: i.page(EXTENTS_B, 17, u32(70)), 1, "extent-page-length ...",
        "EXTENT_PAGE: length 70"),
    "an extent page of a thick blob too long after a crash": (
        lambda i: b_extents(b_is(i.super(clean=0), invalid=4, clusters=2), 12, 13, 0), 0,
        "~extent-page-length", "the blob ends after 2"),
    "an extent page that starts elsewhere": (
        lambda i: i.page(EXTENTS_B, 21, u32(512)), 1, "extent-page-start",
        "start_cluster_idx 512, not 0"),
    "an extent page too short": (
        lambda i: b_extents(i, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 13), 1,
        "extent-page-length", "11 clusters, not 16"),
    "an extent page too long in a clean store": (
        lambda i: b_extents(i, 12, 13, *[0] * 14, 14).bits(1, [14]), 1,
        "extent-page-length", "17 clusters, not 16"),
    "an extent page too long after a crash": (
        lambda i: b_extents(i, 12, 13, *[0] * 14, 14).super(clean=0), 0,
        "~extent-page-length", "interrupted"),
    "an extent page in the middle of a chain": (
        lambda i: i.page(EXTENTS_B, 4088, u32(9)), 1, "extent-page leaked-cluster",
        "next 9, not the end"),
    "an extent page with a sequence number": (
        lambda i: i.page(EXTENTS_B, 8, u32(1)), 1, "extent-page leaked-cluster", "sequence_num 1"),
    "an extent page with the id of another blob, which snapshots leave": (
        lambda i: i.page(EXTENTS_B, 0, u64(ID | CLONE)), 0, "", ""),
    "an extent page with the id of no blob": (
        lambda i: i.page(EXTENTS_B, 4, u32(0)), 0, "~extent-page-id", "id 0x3 is none"),
    "a cluster that two blobs own": (
        lambda i: i.page(EXTENTS_B, EXTENT_AT, u32(9)), 1, "shared-cluster",
        "cluster 9: is used twice: as cluster 2 of blob 0x100000001 (lvolA) and as cluster 0 of"),
    "a cluster that one blob owns twice": (
        lambda i: i.page(EXTENTS_B, EXTENT_AT, u32(12)), 1, "shared-cluster",
        "cluster 0 of blob 0x100000003 (lvolB) and as cluster 3 of"),
    "a cluster past the end": (
        lambda i: i.page(EXTENTS_B, EXTENT_AT + 12, u32(64)), 1,
        "cluster-range leaked-cluster", "is cluster 64, not one of 1 to 63"),
    "an extent page that two blobs own": (
        lambda i: i.page(CLONE, 0xCE, u32(EXTENTS_A)), 1,
        "shared-page shared-cluster leaked-page leaked-cluster", "md page 6: is used twice"),
    # Parents
    "a parent that is not there": (
        lambda i: i.page(CLONE, 0xB9, u64(ID | 20)), 1, "parent-missing",
        "there is no blob 0x100000014"),
    "a parent that cannot be opened": (
        lambda i: i.page(SNAP, FLAGS_AT + 5, b"\x14"), 1, "flags-invalid parent-broken",
        "(snapA) cannot be opened"),
    "a parent that is writable": (
        lambda i: i.page(CLONE, 0xB9, u64(ID | LVOL_B)), 1, "parent-writable",
        "(lvolB) is not read-only"),
    "a blob that is its own parent": (
        lambda i: i.page(CLONE, 0xB9, u64(ID | CLONE)).page(CLONE, FLAGS_AT + 13, b"\1"), 1,
        "parent-loop", "its own ancestor"),
    "blobs that are each other's parent": (
        lambda i: i.page(CLONE, 0xB9, u64(ID | LVOL_A)).page(LVOL_A, 0xB9, u64(ID | CLONE)).page(
            LVOL_A, FLAGS_AT + 13, b"\1").page(CLONE, FLAGS_AT + 13, b"\1"), 1, "parent-loop",
        "(lvolA): SNAP: the blob is its own ancestor"),
    "a parent of the wrong length": (
        lambda i: b_is(i, internal(b"SNAP", b"abcd"), invalid=7), 1, "xattr-value",
        "b'SNAP' has a value of 4 bytes"),
    "a clone that is not thin": (
        lambda i: b_rle(i, (12, 2), more=internal(b"SNAP", ID | SNAP), invalid=2), 1, "flag-thin",
        "a clone that is not thin"),
    "a snapshot's deletion in a clean store": (
        lambda i: s_is(i, internal(b"SNAPRM", ID | CLONE)), 1, "unfinished unfinished-clones",
        "SNAPRM names blob 0x100000005 (cloneA)"),
    # Logical volumes
    "an lvolstore without a super blob": (
        lambda i: i.super(super_blob=(1 << 64) - 1), 1, "lvstore-super-blob", "none is set"),
    "an lvolstore whose UUID is none": (
        lambda i: i.page(STORE, 58, b"G"), 1, "lvstore-uuid", "uuid: b'G"),
    "an lvolstore's name without an end": (
        lambda i: i.page(STORE, 0x70, b"x"), 1, "lvstore-name", "does not end in a zero"),
    "an lvolstore's super blob that is thin": (
        lambda i: i.page(STORE, FLAGS_AT + 5, b"\5"), 0, "~lvstore-super-blob", "thick and empty"),
    "an lvol without a name": (
        lambda i: i.page(LVOL_B, NAME_AT + 9, b"n0me"), 1, "lvol-name", "name: missing"),
    "an lvol with an empty name": (
        lambda i: i.page(LVOL_B, NAME_AT + 13, bytes(5)), 1, "lvol-name", "name: empty"),
    "an lvol's name with something behind it": (
        lambda i: i.page(LVOL_B, NAME_AT + 76, b"x"), 1, "lvol-name", "goes on after a zero"),
    "an lvol whose UUID is none": (
        lambda i: i.page(LVOL_B, 0x87, b"X"), 1, "lvol-uuid", "uuid: b'Xc85"),
    "two lvols of one name": (
        lambda i: i.page(LVOL_B, NAME_AT + 17, b"A"), 1, "lvol-name-twice", "name: that of"),
}
ESNAP = b"00000000-0000-4000-8000-00000000e5a9\0"


def swap(image, one, other):
    a, b = image.page_offset(one), image.page_offset(other)
    first, second = image.bytes[a:a + 4096], image.bytes[b:b + 4096]
    return image.poke(a, second).poke(b, first)


def b_is(image, more=b"", invalid=5, clusters=16):
    """lvolB with another descriptor."""
    return image.put(LVOL_B, flags(invalid), lvol(b"b", 0xB), more,
                     table(clusters, (EXTENTS_B, 1)))


def b_table(image, extent_table):
    return image.put(LVOL_B, flags(5), lvol(b"b", 0xB), extent_table)


def b_extents(image, *clusters):
    return image.put(EXTENTS_B, extents(0, clusters), owner=LVOL_B)


def b_rle(image, *runs, more=b"", invalid=1):
    image.put(LVOL_B, flags(invalid), lvol(b"b", 0xB), more, rle(*runs))
    return image.wipe(EXTENTS_B).bits(0, [EXTENTS_B], False)


def s_is(image, more):
    return image.put(SNAP, flags(6, 1), lvol(b"s", 2), more, table(8, (EXTENTS_SNAP, 1)))


class checks(unittest.TestCase):
    def expect(self, image, status, codes, text=""):
        found, codes = verdict(image), set(codes.split())
        if "..." in codes:  # what follows from it does not matter
            self.assertLessEqual(codes - {"..."}, found[1], found[2])
        else:
            self.assertEqual(found[1], codes, found[2])
        self.assertEqual(found[0], status, found[2])
        self.assertIn(text, found[2])


class super_block_fields(checks):
    def test_every_field_is_judged_though_the_checksum_is_right(self):
        for name, fields, status, more in SUPER:
            with self.subTest(name=name, value=fields[name]):
                own = "" if "super-" + name in more else "super-" + name
                self.expect(real().super(**fields), status, f"{own} {more}",
                            f"super block: {name}: ")

    def test_the_offset_is_that_of_the_field(self):
        _, findings = spdk_blobstore.check(real().super(size=(64 << 20) + 4096))
        self.assertEqual([one["offset"] for one in findings], [80])

    def test_a_changed_byte_is_the_checksum_s_affair(self):
        self.expect(real().poke(2000, b"x"), 2, "super-crc", "but the bytes have")

    def test_an_image_of_nothing_is_unusable(self):
        self.expect(scratch(b"", 0), 2, "image", "has 0 bytes")
        self.assertEqual(verdict(scratch(b"", 1 << 20))[0], 2)


class corruptions(checks):
    """Its tests are CASES."""


# The cases after which a load refuses a blob; after all others each opens.
REFUSED = {
    "an extent page marked as a blob", "two roots swapped", "a root with a sequence number",
    "a chain that leaves the pages", "a chain that bites its tail", "a chain into an empty page",
    "a chain into another blob's extent page", "a chain's second page of another blob",
    "an extent page whose bytes changed", "two extent pages swapped",
    "a descriptor longer than its page", "EXTENT_PAGE in a chain",
    "an xattr of the wrong length", "FLAGS of the wrong length", "FLAGS that do not come first",
    "an unknown bit of invalid_flags", "a thin blob that says it is not",
    "an external snapshot without its name", "a run past the end",
    "runs that are no multiple of 8", "a table beside runs", "a table of the wrong length",
    "a table of too few extent pages", "a table that runs on", "an extent page run of two",
    "an extent page out of range", "tables that disagree", "an extent page of more than 512",
    "an extent page of half a number", "an extent page that starts elsewhere",
    "an extent page too short", "an extent page too long in a clean store",
    "an extent page in the middle of a chain", "an extent page with a sequence number",
    "a cluster past the end", "a parent of the wrong length", "a parent that cannot be opened",
}


class offsets(unittest.TestCase):
    def test_a_finding_says_which_byte_is_wrong(self):
        for sentence, code, at in (
                ("a mask shorter than the pages", "mask-length", 0x1001),
                ("a cluster mask longer than the clusters, and wrong", "mask-length", 0x2001),
                ("a cluster mask longer than the clusters, and wrong", "leaked-cluster", 0x2007),
                ("a stray byte after the descriptors", "stray-bytes", 0x7FF7),
                ("FLAGS of the wrong length", "flags-length", 0x7011),
                ("an xattr of the wrong length", "xattr-length", 0x702E),
                ("an extent page too short", "extent-page-length", 0xC011),
                ("an extent page too long after a crash", "extent-page-length", 0xC011),
                ("a cluster past the end", "cluster-range", 0xC025),
                ("an extent page that two blobs own", "shared-page", 0xA000),
                ("a cluster that two blobs own", "shared-cluster", 9 << 20)):
            with self.subTest(sentence):
                _, findings = spdk_blobstore.check(CASES[sentence][0](real()))
                self.assertIn((code, at), [(one["code"], one["offset"]) for one in findings])


class refusals(unittest.TestCase):
    def test_blobs_that_a_load_refuses_are_told_from_those_that_are_only_wrong(self):
        for sentence, (change, *_) in CASES.items():
            with self.subTest(sentence):
                blobs = store(change(real())).blobs.values()
                self.assertEqual(all(blob.opens for blob in blobs), sentence not in REFUSED)


def case(change, *expected):
    return lambda self: self.expect(change(real()), *expected)


for sentence, (change, *expected) in CASES.items():
    setattr(corruptions, "test_" + sentence.replace(" ", "_"), case(change, *expected))


class explained_bytes(checks):
    def test_no_byte_of_the_metadata_changes_unnoticed(self):
        """Each fifth is tried, with its page's checksum made right; only names are free."""
        for index in range(10):
            free = range(108, 112) if index == STORE else range(58, 65)
            for at in set(range(index % 5, 216, 5)) | {1000, 4087}:
                image = real()
                byte = image.bytes[image.page_offset(index) + at] ^ 0x80
                _, found, _ = verdict(image.page(index, at, bytes([byte])))
                if not found and at not in free:
                    self.fail(f"md page {index}, byte {at}: {byte:#x}")


class spoiled_at_random(unittest.TestCase):
    def test_nothing_but_a_verdict_comes_of_it(self):
        for seed in range(300):
            dice, image = random.Random(seed), real()
            for _ in range(dice.choice((1, 2, 8))):
                value = bytes([dice.choice((0, 1, 0xFF, 0x80))]) * dice.choice((1, 2, 4, 8))
                start = 4096 * dice.choice((0, *range(4, 15)))
                image.poke(start + dice.randrange(100 if start == 0 else 220), value).seal(start)
            with self.subTest(seed):
                status, codes, _ = verdict(image)
                self.assertIn(status, (0, 1, 2))
                self.assertEqual(bool(status), any(code[0] != "~" for code in codes))


class versions(checks):
    def old(self, version, **more):
        """The real store as an older SPDK would have it."""
        return real().poke(3 * 4096, bytes(4096)).super(
            version=version, used_blobid_mask_start=0, used_blobid_mask_len=0, size=0,
            io_unit_size=0, md_page_size=0, **more)

    def test_stores_of_versions_1_and_2_are_clean(self):
        self.expect(self.old(2), 0, "")
        self.expect(self.old(1, bstype=bytes(16)), 0, "")

    def test_their_masks_are_still_compared(self):
        self.expect(self.old(2).bits(1, [30]), 1, "leaked-cluster")

    def test_a_blobid_mask_is_refused_before_version_3(self):
        self.expect(real().super(version=2), 1, "super-used_blobid_mask_len")


class dirty_stores(checks):
    def dirty(self):
        return real().super(clean=0)

    def test_masks_are_not_trusted_and_it_says_so(self):
        image = self.dirty().bits(0, [40]).bits(1, range(30)).bits(2, [0], False)
        self.expect(image, 0, "", "the masks are not trusted")

    def test_empty_masks_are_those_of_a_store_never_unloaded(self):
        self.expect(self.dirty().poke(4096, bytes(3 * 4096)), 0, "")

    def test_alien_masks_are_a_warning(self):
        self.expect(shift(self.dirty(), 1), 0, "~mask-type")

    def test_a_snapshot_that_was_being_made_shares_clusters_with_its_original(self):
        image = self.dirty().put(9, flags(5), lvol(b"new", 1), internal(b"SNAPTMP", ID | LVOL_B),
                                 table(16, (EXTENTS_B, 1)))
        self.expect(image, 0, "~unfinished ~shared-in-window", "the blob is deleted")
        unload(image, range(10), range(14), [0, 1, 3, 4, 5, 9])
        self.expect(image, 1, "unfinished shared-page shared-cluster")

    def test_a_snapshot_whose_original_points_to_it_already_stays(self):
        image = self.dirty().put(9, flags(5), lvol(b"new", 1), internal(b"SNAPTMP", ID | LVOL_B),
                                 table(16, (EXTENTS_B, 1)))
        b_table(image, internal(b"SNAP", ID | 9) + table(16, (0, 1))).page(
            LVOL_B, FLAGS_AT + 5, b"\7")
        self.expect(image, 0, "~unfinished", "the mark is removed, the blob stays")

    def deletion(self, parent):
        """snapA is being deleted, cloneA its only clone, and cloneA has some of its clusters."""
        image = self.dirty()
        image.put(LVOL_A, flags(5), lvol(b"a", 3), table(8, (EXTENTS_A, 1)))
        image.put(EXTENTS_CLONE, extents(0, [1, 2, 3, 4, 5, 11, 7, 8]), owner=CLONE)
        s_is(image, internal(b"SNAPRM", ID | CLONE))
        return image.put(CLONE, flags(7 if parent else 5), lvol(b"c", 4), parent,
                         table(8, (EXTENTS_CLONE, 1)))

    def test_a_snapshot_that_is_being_deleted_shares_clusters_with_its_clone(self):
        self.expect(self.deletion(b""), 0, "~unfinished ~shared-in-window")

    def test_but_not_while_the_clone_still_points_to_it(self):
        self.expect(self.deletion(internal(b"SNAP", ID | SNAP)), 1, "~unfinished shared-cluster",
                    "cluster 1: is used twice")

    def test_a_mark_that_names_no_blob_is_left_alone(self):
        image = s_is(self.dirty(), internal(b"SNAPTMP", ID | 60))
        self.expect(image, 0, "~unfinished", "cannot be opened")


class made_stores(checks):
    def test_what_is_found_a_hundred_times_is_told_fifty_times(self):
        image = unload(fresh(200), [*range(0, 200, 2)], range(13), [])
        status, findings = spdk_blobstore.check(image)
        self.assertEqual((status, len(findings)), (1, 51))
        self.assertEqual(findings[-1]["text"], "and 50 more")
        self.assertEqual(findings[0]["offset"], 4096 + 5)
        image = unload(fresh(100), [*range(0, 100, 2)], range(7), [])
        self.assertEqual(len(spdk_blobstore.check(image)[1]), 50)

    def test_a_fresh_store_has_nothing_to_say(self):
        for page in (4096, 8192, 65536):
            with self.subTest(page):
                image = fresh(40, cluster_size=1 << 20, md_page_size=page)
                self.expect(image, 0, "", "not unloaded cleanly")

    def test_the_smallest_stores(self):
        self.expect(fresh(1), 0, "")
        self.expect(fresh(20, cluster_size=4096, md_len=16), 0, "")
        self.expect(fresh(20, cluster_size=4096, md_len=17), 2, "super-md_len")

    def big_pages(self):
        image = fresh(40, md_page_size=8192).put(0, flags(4), xattr(b"a", b""), table(2, (1, 1)))
        return unload(image.put(1, extents(0, [30, 31]), owner=0), [0, 1], [*range(6), 30, 31], [0])

    def test_pages_of_8_kib_hold_structures_of_4(self):
        image = self.big_pages()
        self.expect(image, 0, "")
        image.poke(image.page_offset(1) + 5000, b"spilled")
        self.expect(image, 0, "")
        self.expect(image.poke(5000, b"x"), 1, "stray-bytes", "behind it in its page")

    def test_the_room_of_a_growing_mask_is_empty(self):
        image = fresh(20, md_len=40000)
        start = image.field("used_cluster_mask_start")
        self.assertEqual(image.field("used_blobid_mask_start"), start + 2)
        image.poke((start + 2) * 4096 - 1, b"x")
        self.expect(unload(image, [], range(41), []), 2, "super-md_len")

    def test_clusters_of_the_metadata_belong_to_no_blob(self):
        self.expect(fresh(40).put(0, flags(0), rle((2, 1))), 1, "cluster-range",
                    "is cluster 2, not one of 3 to 39")
        self.expect(fresh(40).put(0, flags(0), rle((3, 1))), 0, "")

    def test_runs_that_claim_more_than_the_store_has_end(self):
        image = fresh(20).put(0, flags(0), rle((5, 15), (5, 15), (5, 0xFFFFFFFF)))
        status, codes, _ = verdict(image)
        self.assertEqual((status, codes), (1, {"cluster-range"}))


class commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.image = os.path.join(cls.folder.name, "lvstore.img")
        with gzip.open(IMAGE, "rb") as whole, open(cls.image, "wb") as out:
            shutil.copyfileobj(whole, out)

    def run_command(self, *arguments):
        out, errors = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = spdk_blobstore.main(list(arguments))
        out.flush()
        return status, out.buffer.getvalue(), errors.getvalue()

    def json(self, *arguments):
        status, out, _ = self.run_command(*arguments, "--json")
        return status, json.loads(out)

    def file(self, image, length=None):
        handle, path = tempfile.mkstemp(dir=self.folder.name)
        with open(handle, "wb") as out:
            out.write(image.bytes)
            out.truncate(length or image.size)
        return path

    def test_the_real_image_is_clean_to_the_last_byte(self):
        self.assertEqual(self.json("check", IMAGE, "--strict"),
                         (0, {"image": IMAGE, "status": 0, "findings": []}))
        status, out, _ = self.run_command("check", IMAGE)
        self.assertEqual((status, out), (0, f"{IMAGE}: clean\n".encode()))

    def test_every_volume_of_the_real_image_reads_back(self):
        with open(TABLE, encoding="utf-8") as lines:
            rows = [line.rstrip("\n").split("\t") for line in lines if not line.startswith("#")]
        blobs = {blob["name"]: blob for blob in self.json("list", self.image)[1]}
        self.assertEqual(set(blobs), {row[0] for row in rows[1:]} | {"lvs0"})
        for name, uuid, kind, parent, allocated, size, total in rows[1:]:
            with self.subTest(name):
                blob = blobs[name]
                self.assertEqual((blob["uuid"], blob["allocated"], blob["bytes"]),
                                 (uuid, int(allocated), int(size)))
                self.assertEqual((blob["read_only"], blob["thin"]),
                                 (kind == "snapshot", kind == "thin"))
                self.assertEqual(blob["parent"],
                                 None if parent == "-" else blobs[parent]["id"])
                for called in (name, uuid, blob["id"]):
                    self.assertEqual(self.run_command("read", self.image, called, "--sha256")[1],
                                     total.encode("ascii") + b"\n")
        data = self.run_command("read", self.image, "lvolA")[1]
        self.assertEqual(hashlib.sha256(data).hexdigest(), rows[1][6])

    def test_info_and_dump_say_what_is_there(self):
        _, info = self.json("info", self.image)
        self.assertEqual(info["lvstore"], {"name": "lvs0",
                                           "uuid": "8b2fd60a-df72-4cd8-ae9d-eb9c706f9e53"})
        self.assertEqual((info["data_clusters"], info["free_clusters"]), (63, 50))
        _, dump = self.json("dump", self.image, "cloneA")
        self.assertEqual(dump["cluster_runs"], [{"first": 5, "count": 1, "device_cluster": 11}])
        self.assertEqual([item[0] for item in dump["descriptors"]],
                         ["FLAGS", "XATTR", "XATTR", "XATTR_INTERNAL", "EXTENT_TABLE"])

    def test_status_1_and_2_and_strict(self):
        path = self.file(real().bits(1, [20]))
        status, out, _ = self.run_command("check", path)
        self.assertEqual((status, out.splitlines()[-1]), (1, f"{path}: inconsistent".encode()))
        self.assertIn(b"[0x2007] (leaked-cluster)", out)
        path = self.file(real().poke((1 << 20) - 1, b"x"))
        self.assertEqual(self.run_command("check", path)[0], 0)
        self.assertEqual(self.run_command("check", path, "--strict")[0], 1)
        status, _, errors = self.run_command("list", self.file(real().poke(0, b"x")))
        self.assertEqual(status, 2)
        self.assertIn("super block: signature: ", errors)
        self.assertEqual(self.run_command("check", "/does/not/exist")[0], 2)
        self.assertEqual(self.run_command("read", self.image, "nobody")[0], 2)

    def test_a_truncated_archive_is_unusable(self):
        with open(IMAGE, "rb") as whole:
            head = scratch(whole.read(1000), 1000)
        path = self.file(head)
        os.rename(path, path + ".gz")
        self.assertEqual(self.run_command("check", path + ".gz")[0], 2)

    def test_a_clone_of_a_file_reads_through_it(self):
        image = fresh(20).put(0, flags(15), internal(b"EXTSNAP", b"base\0"), table(3, (1, 1)))
        image.put(1, extents(0, [0, 10, 0]), owner=0)
        image.bytes = image.bytes.ljust(20 * 65536, b"\0")
        image.poke(10 * 65536, b"own")
        path = self.file(image)
        outside = self.file(scratch(b"first" + bytes(131067) + b"third", 3 * 65536))
        for esnap in (outside, "base=" + outside):
            data = self.run_command("read", path, "0x100000000", "--esnap", esnap)[1]
            self.assertEqual([data[at:at + 5] for at in (0, 65536, 131072)],
                             [b"first", b"own\0\0", b"third"])
        status, _, errors = self.run_command("read", path, "0x100000000")
        self.assertEqual(status, 2)
        self.assertIn("external snapshot base", errors)
        short = self.file(scratch(b"first", 2 * 65536))
        self.assertEqual(self.run_command("read", path, "0x100000000", "--esnap", short)[0], 2)

    def test_a_child_that_outgrew_its_parent_reads_zeroes_there(self):
        image = fresh(20).put(0, flags(4, 1), table(1, (1, 1))).put(1, extents(0, [10]), owner=0)
        image.put(2, flags(7), internal(b"SNAP", ID), table(2, (0, 1)))
        image.bytes = image.bytes.ljust(20 * 65536, b"\0")
        path = self.file(image.poke(10 * 65536, b"p" * 65536))
        self.assertEqual(self.run_command("check", path)[0], 0)
        data = self.run_command("read", path, "0x100000002")[1]
        self.assertEqual(data, b"p" * 65536 + bytes(65536))

    def test_what_a_parent_ended_before_does_not_come_from_further_up(self):
        image = fresh(20).put(0, flags(4, 1), rle((10, 2)))
        image.put(1, flags(3, 1), internal(b"SNAP", ID), rle((0, 1)))
        image.put(2, flags(3), internal(b"SNAP", ID | 1), rle((0, 3), (12, 1)))
        image.put(3, flags(3), internal(b"SNAP", ID | 9), rle((0, 1)))
        image.bytes = image.bytes.ljust(20 * 65536, b"\0")
        path = self.file(image.poke(10 * 65536, b"p" * 131072).poke(12 * 65536, b"own"))
        data = self.run_command("read", path, "0x100000002")[1]
        self.assertEqual(data, b"p" * 65536 + bytes(131072) + b"own" + bytes(65533))
        self.assertEqual(self.json("list", path)[1][2]["allocated"], 1)
        status, _, errors = self.run_command("read", path, "0x100000003")
        self.assertEqual(status, 2)
        self.assertIn("its parent 0x100000009 cannot be opened", errors)

    def test_a_sparse_tebibyte_is_checked_without_reading_it(self):
        image = fresh(1 << 18, cluster_size=4 << 20)
        image.bytes = image.bytes[:4 << 20]
        image.put(0, flags(5), table(1 << 18, (0, 512)))
        self.assertEqual(self.run_command("check", self.file(image, 1 << 40))[0], 0)


class checksum(unittest.TestCase):
    def test_it_is_that_of_the_text(self):
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(crc32c(bytes(4092)), 0xA732586E)


if __name__ == "__main__":
    unittest.main()
