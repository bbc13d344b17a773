# SPDX-License-Identifier: BSD-3-Clause
#
# Is the store in one piece? Every rule of blobstore.md that needs more than one page to judge, and
# those of lvol.md: masks against chains in both directions, one owner for each cluster and each
# metadata page, parents, unfinished operations, names; and that no byte of the metadata is there
# without a rule that explains it.

import re
from collections import defaultdict

from blobstore_format import EXTENT_PAGE, NONE_BLOB, NONE_PAGE, STRUCTURE, finding, stray_finding

MASKS = ["used-pages mask", "used-clusters mask", "used-blobids mask"]
SHOWN_MAX = 50  # findings of one code
UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\0")


def runs(numbers):
    """Sorted (first, last) of consecutive numbers."""
    found = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


class checker:
    def __init__(self, store):
        self.store, self.super = store, store.super
        self.findings = list(store.super.findings)
        self.page_owners = defaultdict(list)
        self.cluster_owners = defaultdict(list)
        self.dead_pages = []

    def add(self, code, where, text, offset=None, level="error"):
        self.findings.append(finding(level, code, where, text, offset))

    def run(self):
        if not self.store.clean:
            self.add("dirty", "super block", "the store was not unloaded cleanly: the masks are "
                     "not trusted, blobs were found by replay", 16, "note")
        for blob in self.store.blobs.values():
            self.findings += blob.findings
            self.claim(blob)
        self.owners()
        self.mask_bytes()
        self.mask_contents()
        self.relations()
        self.free_pages()
        self.gaps()
        self.super_blob()
        if self.store.is_lvolstore:
            self.lvols()
        return self.sifted()

    def sifted(self):
        """Each once, and of each kind no more than can be read."""
        unique, counts, result = set(), defaultdict(int), []
        for found in self.findings:
            if found in unique:
                continue
            unique.add(found)
            counts[found.level, found.code] += 1
            if counts[found.level, found.code] <= SHOWN_MAX:
                result.append(found)
        result += [finding(*kind, "store", f"and {count - SHOWN_MAX} more", None)
                   for kind, count in counts.items() if count > SHOWN_MAX]
        return result

    def claim(self, blob):
        for page in blob.pages:
            self.page_owners[page.index].append((blob, "chain"))
        for number, index in blob.extent_pages.items():
            if index < self.super.md_len:
                self.page_owners[index].append((blob, f"extent page {number}"))
        for logical, cluster in blob.clusters.items():
            self.cluster_owners[cluster].append((blob, f"cluster {logical}"))
        for cluster in blob.overlong:
            self.cluster_owners[cluster].append((blob, "a cluster past its end"))

    def owners(self):
        """One owner each; but in a dirty store the two blobs of an unfinished snapshot creation or
        deletion may share what they have, if a recovery will delete one of them (§7.6, §7.9)."""
        windows = set()
        for code, what, owners in (("shared-page", "md page", self.page_owners),
                                   ("shared-cluster", "cluster", self.cluster_owners)):
            for number, held in sorted(owners.items()):
                if len(held) < 2:
                    continue
                pair = self.window([blob for blob, _ in held])
                if pair and "chain" not in [role for _, role in held]:
                    windows.add(pair)
                    continue
                by = " and as ".join(f"{role} of {blob}" for blob, role in held)
                offset = (self.super.md_offset(number) if code == "shared-page"
                          else number * self.super.cluster_size)
                self.add(code, f"{what} {number}", f"is used twice: as {by}", offset)
        for marked, other in sorted(windows):
            self.add("shared-in-window", f"blob {marked:#x}", "shares clusters with blob "
                     f"{other:#x}: a recovery deletes the former", None, "warning")

    def window(self, blobs):
        if self.store.clean or len(blobs) != 2:
            return None
        for marked, other in (blobs, reversed(blobs)):
            if self.partner(marked) == other.id and other.parent != marked.id:
                return marked.id, other.id
        return None

    def partner(self, blob):
        """The other blob of an operation on a snapshot that did not finish."""
        first = blob.internal_id(b"SNAPRM")
        return blob.internal_id(b"SNAPTMP") if first is None else first

    def mask_bytes(self):
        """Headers, and bytes that are no bits, of whatever masks there are."""
        block, store = self.super, self.store
        starts = [block.used_page_mask_start, block.used_cluster_mask_start,
                  block.used_blobid_mask_start]
        level = "error" if store.clean else "warning"
        for kind, found in store.masks.items():
            at = block.page_offset(starts[kind])
            if not store.clean and found == (0, 0, set()) and not store.mask_strays[kind][1]:
                continue  # as they are before the first unload
            if found.type != kind:
                self.add("mask-type", MASKS[kind], f"type: {found.type}, not {kind}", at, level)
            bits = block.total_clusters if kind == 1 else block.md_len
            if store.clean and (found.length < bits if kind == 1 else found.length != bits):
                self.add("mask-length", MASKS[kind], f"length: {found.length} bits, not {bits}",
                         at + 1)
            if store.clean and kind == 1 and found.length > bits:
                self.add("mask-length", MASKS[kind], f"length: {found.length} bits for {bits} "
                         "clusters: growing the store was interrupted", at + 1, "warning")
            first, count = store.mask_strays[kind]
            if count:
                self.add("mask-beyond", MASKS[kind], f"{count} bytes past its "
                         f"{min(found.length, bits)} bits are not zero", first, level)

    def mask_contents(self):
        """§3: in a clean store each bit is set if, and only if, a chain says so."""
        block, store = self.super, self.store
        truths = [set(self.page_owners), set(range(block.md_clusters)) | set(self.cluster_owners),
                  set(store.roots)]
        for kind, truth in enumerate(truths):
            if not store.trusted(kind):
                continue
            noun = ["page", "cluster", "blobid"][kind]
            torn = "" if all(one.whole for one in store.blobs.values()) else (
                " (or by a blob whose chain is torn)")
            for first, last in runs(store.masks[kind].bits - truth):
                what = [f"used by no blob{torn}", f"used by no blob{torn}",
                        store.page(first).why_not_a_root(block.blob_id(first))][kind]
                self.add(f"leaked-{noun}", MASKS[kind], f"{noun} {self.span(first, last)} is "
                         f"marked, but: {what}", self.bit_offset(kind, first))
            for first, last in runs(truth - store.masks[kind].bits):
                self.add(f"unmarked-{noun}", MASKS[kind], f"{noun} {self.span(first, last)} is in "
                         "use, but not marked", self.bit_offset(kind, first))

    @staticmethod
    def span(first, last):
        return f"{first}" if first == last else f"{first} to {last}"

    def bit_offset(self, kind, bit):
        start = [self.super.used_page_mask_start, self.super.used_cluster_mask_start,
                 self.super.used_blobid_mask_start][kind]
        return self.super.page_offset(start) + 5 + bit // 8

    def relations(self):
        for blob in self.store.blobs.values():
            self.parent_of(blob)
            self.unfinished(blob)

    def parent_of(self, blob):
        if blob.parent is None:
            return
        parent = self.store.blobs.get(blob.parent)
        if parent is None:
            self.add("parent-missing", str(blob), f"SNAP: there is no blob {blob.parent:#x}")
            return
        if not parent.opens:
            self.add("parent-broken", str(blob), f"SNAP: {parent} cannot be opened")
        if not parent.read_only and b"SNAPTMP" not in parent.internal:
            self.add("parent-writable", str(blob), f"SNAP: {parent} is not read-only")
        seen, above = {blob.id}, parent
        while above is not None and above.id not in seen:
            seen.add(above.id)
            above = self.store.blobs.get(above.parent)
        if above is blob:
            self.add("parent-loop", str(blob), "SNAP: the blob is its own ancestor")

    def unfinished(self, blob):
        """§8: what an iteration would do about SNAPTMP and SNAPRM; a clean store has neither."""
        marks = [name for name in (b"SNAPRM", b"SNAPTMP") if name in blob.internal]
        if not marks:
            return
        mark, partner = marks[0].decode(), self.store.blobs.get(self.partner(blob))
        if len(marks) == 2:
            self.add("unfinished", str(blob), "SNAPRM and SNAPTMP in one blob")
        if partner is None or not partner.opens:
            self.add("unfinished", str(blob), f"{mark}: the blob that it names cannot be opened",
                     None, "warning")
            return
        others = [other for other in self.store.children(blob) if other is not partner]
        if others:
            self.add("unfinished-clones", str(blob), f"{mark} names {partner}, but {others[0]} is "
                     "a clone of it, too")
        fate = ("the mark is removed, the blob stays" if partner.parent == blob.id
                else "the blob is deleted")
        self.add("unfinished", str(blob), f"{mark} names {partner}: at the next load {fate}",
                 None, "error" if self.store.clean else "warning")

    def free_pages(self):
        """Pages that no blob uses: empty, or left by an operation so that a recovery passes by."""
        for index in self.store.present:
            if index in self.page_owners:
                continue
            page = self.store.page(index)
            if not page.crc_ok:
                self.add("stray-page", f"md page {index}", "is used by no blob, neither zero nor "
                         "a page with a good crc", page.offset)
                continue
            self.findings += page.problems
            self.dead_pages.append(index)
            extent_page = [item.type for item in page.descriptors] == [EXTENT_PAGE]
            reason = (f"its id {page.id:#x} is none of a blob"
                      if not self.super.is_blob_id(page.id)
                      else "neither of a chain nor an extent page"
                      if not page.sequence and not extent_page
                      else f"next: page {page.next}" if page.next != NONE_PAGE and (
                          extent_page or page.next >= self.super.md_len) else None)
            if reason:
                self.add("stray-page", f"md page {index}", f"is used by no blob, and {reason}",
                         page.offset)

    def gaps(self):
        """Bytes between the structures."""
        block, image = self.super, self.store.image
        if block.page_bytes > STRUCTURE:
            self.findings += stray_finding(image, STRUCTURE, block.page_bytes, "error",
                                           "stray-bytes", "super block", "behind it in its page")
        end = block.md_clusters * block.cluster_size
        self.findings += stray_finding(image, block.md_offset(block.md_len), end, "warning",
                                       "stray-bytes", "last metadata cluster",
                                       "after the metadata pages")

    def super_blob(self):
        named = self.super.super_blob
        if named != NONE_BLOB and named not in self.store.blobs:
            self.add("super-super_blob", "super block", f"super_blob: there is no blob {named:#x}",
                     20)

    def lvols(self):
        block = self.super
        if block.super_blob == NONE_BLOB:
            self.add("lvstore-super-blob", "lvolstore", "super_blob: none is set", 20)
        names, uuids = defaultdict(list), defaultdict(list)
        for blob in self.store.blobs.values():
            is_store = blob.id == block.super_blob
            if not blob.whole:
                continue  # said already; a load passes by
            self.lvol_name(blob, "lvstore" if is_store else "lvol")
            uuid = blob.xattrs.get(b"uuid")
            if uuid is None or not UUID.fullmatch(uuid):
                self.add("lvstore-uuid" if is_store else "lvol-uuid", str(blob),
                         f"uuid: {uuid!r}" if uuid else "uuid: missing", None,
                         "error" if is_store or uuid else "warning")
            if is_store and (blob.num_clusters or blob.thin):
                self.add("lvstore-super-blob", str(blob), "the super blob is to be thick and empty",
                         None, "warning")
            esnap = blob.internal.get(b"EXTSNAP")
            if esnap is not None and not UUID.fullmatch(esnap):
                self.add("lvol-external", str(blob), f"EXTSNAP: {esnap!r} is no UUID")
            if not is_store:
                names[blob.name].append(blob)
                uuids[uuid].append(blob)
        for what, held in (("name", names), ("uuid", uuids)):
            for value, blobs in held.items():
                if value and len(blobs) > 1:
                    self.add(f"lvol-{what}-twice", str(blobs[1]), f"{what}: that of {blobs[0]}")

    def lvol_name(self, blob, kind):
        value = blob.xattrs.get(b"name")
        reason = ("missing" if value is None else f"{len(value)} bytes, more than 64"
                  if len(value) > 64 else "does not end in a zero" if b"\0" not in value
                  else "empty" if value[0] == 0
                  else "goes on after a zero" if value.rstrip(b"\0").count(0) else None)
        if reason:
            self.add(f"{kind}-name", str(blob), f"name: {reason}")
