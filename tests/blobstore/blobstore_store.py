# SPDX-License-Identifier: BSD-3-Clause
#
# A blobstore as a whole: its blobs found by the mask of a clean store or by replay (§8), their
# chains followed, their clusters and relations known, their data readable. Nothing is ever written.
# What is wrong inside of one blob is noted with the blob; blobstore_check.py adds what only the
# whole can tell.

import struct

from blobstore_format import (DATA_RO_KNOWN, DESCRIPTORS, EXTENT_PAGE, EXTENT_RLE, EXTENT_TABLE,
                              EXTENTS_PER_PAGE, EXTERNAL, FLAGS, INTERNAL, INTERNAL_NAMES,
                              INVALID_KNOWN, MD_RO_KNOWN, NONE_PAGE, PADDING, READ_ONLY, STRUCTURE,
                              TABLE, THIN, XATTR, XATTR_INTERNAL, finding, md_page, read_mask,
                              super_block)
from blobstore_image import unusable


class blob:
    def __init__(self, store, root):
        self.store, self.root = store, root
        self.id = store.super.blob_id(root)
        self.findings = []
        self.pages = []  # md_page, the chain
        self.extent_pages = {}  # extent page number -> md page index
        self.flags = (0, 0, 0)
        self.xattrs, self.internal = {}, {}
        self.num_clusters, self.mode = 0, None  # mode: EXTENT_RLE or EXTENT_TABLE
        self.table_end = None  # extent pages in the tables so far
        self.clusters = {}  # cluster of the blob -> cluster of the device
        self.overlong = set()  # clusters of the device past the blob's end
        self.opens = True  # false: a load would refuse this blob
        self.whole = self.follow_chain()
        if self.pages:  # of a torn chain what can be read, as a recovery does
            self.parse()

    @property
    def thin(self):
        return bool(self.flags[0] & THIN)

    @property
    def read_only(self):
        return bool(self.flags[1] & READ_ONLY)

    @property
    def parent(self):
        return self.internal_id(b"SNAP")

    def internal_id(self, name):
        value = self.internal.get(name, b"")
        return struct.unpack("<Q", value)[0] if len(value) == 8 else None

    @property
    def name(self):
        return self.xattrs.get(b"name", b"").split(b"\0")[0].decode("utf-8", "replace")

    @property
    def uuid(self):
        return self.xattrs.get(b"uuid", b"").split(b"\0")[0].decode("utf-8", "replace")

    def __str__(self):
        return f"blob {self.id:#x}" + (f" ({self.name})" if self.name else "")

    def wrong(self, code, text, offset=None, level="error"):
        self.findings.append(finding(level, code, str(self), text, offset))

    def refuse(self, code, text, offset=None):
        self.opens = False
        self.wrong(code, text, offset)

    def adopt(self, page):
        self.findings += page.problems
        if any(found.code == "descriptor-length" for found in page.problems):
            self.opens = False

    def follow_chain(self):
        index, seen = self.root, set()
        while index != NONE_PAGE:
            where = self.pages[-1].offset + 4088 if self.pages else None
            if index >= self.store.super.md_len:
                self.refuse("chain-range", f"next: page {index}, but there are "
                            f"{self.store.super.md_len}", where)
                return False
            if index in seen:
                self.refuse("chain-loop", f"next: page {index} stands in the chain already", where)
                return False
            page = self.store.page(index)
            at = f"page {len(self.pages)} of the chain (md page {index})"
            if not page.crc_ok:
                self.refuse("chain-crc", f"{at}: crc {page.crc:#010x}, but the bytes have "
                            f"{page.right_crc:#010x}", page.offset)
                return False
            if page.sequence != len(self.pages):
                self.refuse("chain-sequence", f"{at}: sequence_num {page.sequence}", page.offset)
                return False
            if page.id != self.id:
                self.refuse("chain-id", f"{at}: id {page.id:#x}", page.offset)
                return False
            seen.add(index)
            self.pages.append(page)
            self.adopt(page)
            index = page.next
        return True

    def parse(self):
        parsers = {FLAGS: self.parse_flags, XATTR: self.parse_xattr,
                   XATTR_INTERNAL: self.parse_xattr, EXTENT_RLE: self.parse_rle,
                   EXTENT_TABLE: self.parse_table}
        every = [item for page in self.pages for item in page.descriptors if item.type != PADDING]
        for number, item in enumerate(every):
            if item.type == FLAGS and number:
                self.refuse("flags-order", "FLAGS: not the first descriptor", item.at)
            elif item.type in parsers:
                parsers[item.type](item)
            elif item.type == EXTENT_PAGE:
                self.refuse("descriptor-type", "EXTENT_PAGE in a chain page", item.at)
            else:
                self.wrong("descriptor-type", f"type {item.type} is unknown: a recovery of the "
                           "store fails", item.at)
        if self.table_end is not None:
            self.read_extent_pages()
        if self.whole:
            self.judge_flags()

    def parse_flags(self, item):
        if len(item.body) != 24:
            self.refuse("flags-length", f"FLAGS: length {len(item.body)}, not 24", item.at + 1)
            return
        self.flags = struct.unpack("<QQQ", item.body)
        unknown = [word & ~known for word, known in zip(
            self.flags, (INVALID_KNOWN, DATA_RO_KNOWN, MD_RO_KNOWN))]
        if unknown[0]:
            self.refuse("flags-invalid", f"invalid_flags: unknown bits {unknown[0]:#x}: the blob "
                        "cannot be opened", item.at + 5)
        if unknown[1]:
            self.wrong("flags-data-ro", f"data_ro_flags: unknown bits {unknown[1]:#x}: the blob is "
                       "read-only", item.at + 13, "warning")
        if unknown[2]:
            self.wrong("flags-md-ro", f"md_ro_flags: unknown bits {unknown[2]:#x}: the blob's "
                       "metadata are read-only", item.at + 21, "warning")

    def parse_xattr(self, item):
        kind = DESCRIPTORS[item.type]
        sizes = struct.unpack_from("<HH", item.body) if len(item.body) >= 4 else (0, 0)
        if len(item.body) != 4 + sum(sizes):
            self.refuse("xattr-length", f"{kind}: length {len(item.body)}, but name_length "
                        f"{sizes[0]} and value_length {sizes[1]}", item.at + 1)
            return
        name, value = item.body[4:4 + sizes[0]], item.body[4 + sizes[0]:]
        held = self.internal if item.type == XATTR_INTERNAL else self.xattrs
        if not name or b"\0" in name:
            self.wrong("xattr-name", f"{kind}: name {name!r} is empty or holds a zero", item.at + 5)
        if name in held:
            self.wrong("xattr-twice", f"{kind}: {name!r} stands twice", item.at)
        held[name] = value
        if item.type == XATTR_INTERNAL:
            if name not in INTERNAL_NAMES:
                self.wrong("xattr-unknown", f"{kind}: {name!r} is unknown", item.at, "warning")
            elif len(value) != (INTERNAL_NAMES[name] or max(len(value), 1)):
                self.refuse("xattr-value", f"{kind}: {name!r} has a value of {len(value)} bytes",
                            item.at + 7)

    def set_mode(self, item):
        if self.mode not in (None, item.type):
            self.refuse("extents-mixed", "EXTENT_RLE and EXTENT_TABLE in one blob", item.at)
            return False
        self.mode = item.type
        return True

    def parse_rle(self, item):
        if not self.set_mode(item):
            return
        if not item.body or len(item.body) % 8:
            self.refuse("rle-length", f"EXTENT_RLE: length {len(item.body)}, not a multiple of 8 "
                        "from 8 up", item.at + 1)
            return
        for number, (cluster, length) in enumerate(struct.iter_unpack("<II", item.body)):
            at = item.at + 5 + 8 * number
            if not length:
                self.wrong("rle-run", f"EXTENT_RLE: run {number} is empty", at + 4)
            if cluster and cluster + length > self.store.super.total_clusters:
                self.refuse("cluster-range", f"EXTENT_RLE: run {number}: clusters {cluster} to "
                            f"{cluster + length - 1} lie past the store's end", at)
            elif cluster and len(self.clusters) + length > self.store.super.total_clusters:
                self.refuse("cluster-range", f"EXTENT_RLE: run {number}: more clusters than the "
                            "store has", at)
            elif cluster:
                for step in range(length):
                    self.take(self.num_clusters + step, cluster + step, at)
            elif length:
                self.hole(length, at)
            self.num_clusters += length

    def parse_table(self, item):
        if not self.set_mode(item):
            return
        if len(item.body) < 8 or len(item.body) % 8:
            self.refuse("table-length", f"EXTENT_TABLE: length {len(item.body)}, not a multiple of "
                        "8 from 8 up", item.at + 1)
            return
        count, = struct.unpack_from("<Q", item.body)
        if self.table_end is None:
            self.num_clusters, self.table_end = count, 0
        elif count != self.num_clusters:
            self.refuse("table-clusters", f"EXTENT_TABLE: num_clusters {count}, but "
                        f"{self.num_clusters} in the one before it", item.at + 5)
        for number, (index, run) in enumerate(struct.iter_unpack("<II", item.body[8:])):
            at = item.at + 13 + 8 * number
            if run == 0 or (index and run != 1):
                self.refuse("table-run", f"EXTENT_TABLE: entry {number}: num_pages {run} with "
                            f"page_idx {index}", at + 4)
            if index:
                self.extent_pages[self.table_end] = index
            else:
                self.hole(run * EXTENTS_PER_PAGE, at)
            self.table_end += 1 if index else run

    def read_extent_pages(self):
        need = -(-self.num_clusters // EXTENTS_PER_PAGE)
        if self.table_end != need and self.whole:
            self.refuse("table-entries", f"EXTENT_TABLE: {self.table_end} extent pages, but "
                        f"num_clusters {self.num_clusters} needs {need}", self.pages[-1].offset)
        for number, index in self.extent_pages.items():
            self.read_extent_page(number, index)

    def read_extent_page(self, number, index):
        where = f"extent page {number} (md page {index})"
        if index >= self.store.super.md_len:
            self.refuse("extent-page-range", f"{where}: there are {self.store.super.md_len} md "
                        "pages", self.pages[-1].offset)
            return
        page = self.store.page(index)
        self.adopt(page)
        kinds = [item.type for item in page.descriptors]
        reason = (f"crc {page.crc:#010x}, but the bytes have {page.right_crc:#010x}"
                  if not page.crc_ok else f"sequence_num {page.sequence}, not 0" if page.sequence
                  else f"descriptors {kinds}, not one EXTENT_PAGE" if kinds != [EXTENT_PAGE]
                  else f"next {page.next}, not the end" if page.next != NONE_PAGE else None)
        if reason:
            fate = "" if self.store.clean else ": a recovery of the store fails"
            self.refuse("extent-page", f"{where}: {reason}{fate}", page.offset)
            return
        if not self.store.super.is_blob_id(page.id):
            self.wrong("extent-page-id", f"{where}: id {page.id:#x} is none of a blob", page.offset,
                       "warning")
        item = page.descriptors[0]
        if len(item.body) % 4 or not 8 <= len(item.body) <= 4 + 4 * EXTENTS_PER_PAGE:
            self.refuse("extent-page-length", f"{where}: EXTENT_PAGE: length {len(item.body)}",
                        item.at + 1)
            return
        start, *clusters = struct.unpack(f"<{len(item.body) // 4}I", item.body)
        if start != number * EXTENTS_PER_PAGE:
            self.refuse("extent-page-start", f"{where}: start_cluster_idx {start}, not "
                        f"{number * EXTENTS_PER_PAGE}", item.at + 5)
        need = max(0, min(EXTENTS_PER_PAGE, self.num_clusters - number * EXTENTS_PER_PAGE))
        if len(clusters) > need and not self.store.clean:
            self.wrong("extent-page-length", f"{where}: {len(clusters)} clusters, but the blob ends"
                       f" after {need}: resizing it was interrupted", item.at + 1, "warning")
        elif len(clusters) != need:
            self.refuse("extent-page-length", f"{where}: {len(clusters)} clusters, not {need}",
                        item.at + 1)
        for step, cluster in enumerate(clusters):
            at = item.at + 9 + 4 * step
            if cluster:
                self.take(number * EXTENTS_PER_PAGE + step, cluster, at)
            elif step < need:
                self.hole(1, at)

    def take(self, logical, cluster, at):
        if not self.store.super.md_clusters <= cluster < self.store.super.total_clusters:
            self.refuse("cluster-range", f"cluster {logical} of the blob is cluster {cluster}, not "
                        f"one of {self.store.super.md_clusters} to "
                        f"{self.store.super.total_clusters - 1}", at)
        elif self.mode == EXTENT_TABLE and logical >= self.num_clusters:
            self.overlong.add(cluster)
        else:
            self.clusters[logical] = cluster

    def hole(self, count, at):
        if not self.thin and count and not any(f.code == "hole" for f in self.findings):
            self.refuse("hole", f"{count} clusters are not allocated, but the blob is not thin", at)

    def judge_flags(self):
        """§5.3: flags, xattrs and extents agree."""
        at = self.pages[0].offset + 21
        invalid, have = self.flags[0], set(self.internal)
        if have - {b"SNAPTMP"} and not invalid & INTERNAL:
            self.wrong("flag-internal", "invalid_flags: bit 1 is not set, but there are internal "
                       "xattrs", at)
        if not have and invalid & INTERNAL:
            self.wrong("flag-internal", "invalid_flags: bit 1 without internal xattrs", at,
                       "warning")
        if self.mode == EXTENT_TABLE and not invalid & TABLE:
            self.wrong("flag-table", "invalid_flags: bit 2 is not set, but there is an extent "
                       "table", at)
        if invalid & TABLE and self.mode != EXTENT_TABLE:
            level = "error" if self.mode else "warning"
            self.wrong("flag-table", "invalid_flags: bit 2 without an extent table", at, level)
        if invalid & EXTERNAL and b"EXTSNAP" not in have:
            self.refuse("flag-external", "invalid_flags: bit 3 without EXTSNAP", at)
        if b"EXTSNAP" in have and not invalid & EXTERNAL:
            self.wrong("flag-external", "EXTSNAP, but bit 3 of invalid_flags is not set", at)
        if have >= {b"SNAP", b"EXTSNAP"}:
            self.wrong("two-parents", "SNAP and EXTSNAP in one blob", at)
        if have & {b"SNAP", b"EXTSNAP"} and not self.thin:
            self.wrong("flag-thin", "a clone that is not thin", at)


class store:
    """Raises unusable if the super block is."""

    def __init__(self, image):
        self.image = image
        if image.size < STRUCTURE:
            raise unusable(f"super block: the image has {image.size} bytes")
        self.super = super_block(image.read(0, STRUCTURE), image.size)
        if self.super.fatal:
            fatal = [found for found in self.super.findings if found.level == "fatal"]
            raise unusable("\n".join(f"{found.where}: {found.text}" for found in fatal), fatal)
        self.pages = {}
        self.clean = self.super.clean == 1
        self.masks, self.mask_strays = {}, {}
        self.read_masks()
        self.present = self.pages_that_hold_something()
        self.roots = {index for index in self.present if self.is_root(index)}
        found = self.roots | (self.masks[2].bits if self.trusted(2) else set())
        self.blobs = {}
        for index in sorted(found):
            if index in self.roots or self.page(index).crc_ok:
                one = blob(self, index)
                self.blobs[one.id] = one

    def read_masks(self):
        block = self.super
        ends = [(block.used_page_mask_start, block.used_cluster_mask_start, block.md_len),
                (block.used_cluster_mask_start, block.cluster_mask_end, block.total_clusters),
                (block.used_blobid_mask_start, block.md_start, block.md_len)]
        for kind, (start, end, limit) in enumerate(ends):
            if kind < 2 or block.used_blobid_mask_len:
                self.masks[kind], self.mask_strays[kind] = read_mask(
                    self.image, block.page_offset(start), block.page_offset(end), limit)

    def trusted(self, kind):
        """Whether the mask of that type tells the truth: the store is clean, the mask is one."""
        if not self.clean or kind not in self.masks or self.masks[kind].type != kind:
            return False
        length, block = self.masks[kind].length, self.super
        return length >= block.total_clusters if kind == 1 else length == block.md_len

    def page(self, index):
        if index not in self.pages:
            offset = self.super.md_offset(index)
            self.pages[index] = md_page(self.image.read(offset, STRUCTURE), index, offset)
        return self.pages[index]

    def pages_that_hold_something(self):
        size, found = self.super.page_bytes, set()
        start = self.super.md_offset(0)
        for at, part in self.image.data(start, self.super.md_offset(self.super.md_len)):
            if part.count(0) == len(part):
                continue
            for index in range((at - start) // size, (at + len(part) - 1 - start) // size + 1):
                slot = start + index * size - at
                body = part[max(0, slot):max(0, slot + STRUCTURE)]
                if body.count(0) != len(body):
                    found.add(index)
        return sorted(found)

    def is_root(self, index):
        page = self.page(index)
        return page.crc_ok and page.sequence == 0 and page.id == self.super.blob_id(index)

    @property
    def is_lvolstore(self):
        return self.super.bstype == b"LVOLSTORE".ljust(16, b"\0")

    def find(self, what):
        """The blob of an id, a UUID, or a name; None if there is none, or several of the name."""
        try:
            if one := self.blobs.get(int(what, 0)):
                return one
        except ValueError:
            pass
        found = [one for one in self.blobs.values() if what in (one.uuid, one.name)]
        return found[0] if len(found) == 1 else None

    def children(self, one):
        return [other for other in self.blobs.values() if other.parent == one.id]

    def data(self, one, externals):
        """The blob's bytes, cluster by cluster, through its parents (§6). `externals` gives the
        image of an external snapshot by its id (EXTSNAP)."""
        for logical in range(one.num_clusters):
            yield self.cluster(one, logical, externals)

    def cluster(self, one, logical, externals):
        size, passed = self.super.cluster_size, set()
        while True:
            if not one.opens:
                raise unusable(f"{one} cannot be opened")
            if logical >= one.num_clusters:
                return bytes(size)  # a child that was grown past its parent
            if logical in one.clusters:
                return self.image.read(one.clusters[logical] * size, size)
            if one.flags[0] & EXTERNAL:
                return externals(one.internal[b"EXTSNAP"]).read(logical * size, size)
            passed.add(one.id)
            if one.parent is None:
                return bytes(size)
            if one.parent not in self.blobs or one.parent in passed:
                raise unusable(f"{one}: its parent {one.parent:#x} cannot be opened")
            one = self.blobs[one.parent]
