#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre blob check` against the checker that was written from the format's text: for every image
# that the checker's own tests spoil, for some spoiled at random, and for stores of nacre's, both
# come to the same verdict, and nacre writes nothing. Then each is repaired, and the checker says
# what of it is left.

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import checker_test as base  # noqa: E402
import spdk_blobstore  # noqa: E402
from blobstore_image import image as open_image  # noqa: E402
from blobstore_store import store  # noqa: E402

NACRE = os.environ["NACRE_BINARY"]
FOLDER = tempfile.TemporaryDirectory()
PATH = os.path.join(FOLDER.name, "image")
URI = f"file://{PATH}?block_size=512"
VERDICTS = ["clean", "inconsistent", "unusable"]

# What the checker says of an image, what nacre says, and why that is right.
DIFFER = {
    "io_unit_size 4097": ("inconsistent", "unusable",
                          "io units that are no power of two, or of no whole blocks, cannot be "
                          "addressed"),
    "md_page_size 12288": ("inconsistent", "unusable",
                           "metadata pages of a size that is no power of two are refused"),
}
# After --repair --remove-damaged the checker still finds these.
LEFT = {
    # Fields that nothing uses, and whose meaning nobody knows.
    "super: reserved", "super: bstype",
    # Stands in a page of a blob that opens; the page is made anew when the blob is changed.
    "reserved0 of a page", "a stray byte after the descriptors", "PADDING that is not zero",
    "an xattr without a name", "a name that stands twice", "an extent table without its flag",
    "internal xattrs without their flag", "an external snapshot without its flag",
    "an external snapshot that is no UUID", "two kinds of parents", "an empty run",
    "a clone that is not thin",
    # Whose it is, nobody can tell.
    "a cluster that two blobs own", "a cluster that one blob owns twice",
    "an extent page that two blobs own", "a parent that is writable",
    # An lvolstore's own affairs.
    "an lvolstore without a super blob", "an lvolstore whose UUID is none",
    "an lvolstore's name without an end", "an lvol without a name", "an lvol with an empty name",
    "an lvol's name with something behind it", "an lvol whose UUID is none",
    "two lvols of one name", "super: super_blob",
    # A recovery would have to guess what it means.
    "a descriptor of an unknown type", "a descriptor in the last five bytes of a page",
}


def write(image):
    with open(PATH, "wb") as out:
        out.write(image.bytes)
        out.truncate(image.size)


def check(*arguments):
    """What it printed, and "unusable" where there is not even that."""
    done = subprocess.run([NACRE, "blob", "check", URI, "--json", *arguments],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout) if done.stdout else {"verdict": "unusable", "findings": []}
    assert (done.returncode == 0) == (report["verdict"] == "clean"), done.stderr
    return report


def told(report):
    return " | ".join(f"{one['level']} {one['code']}: {one['text']}" for one in report["findings"])


class same_verdict:
    def expect(self, image, *_):
        status, found = spdk_blobstore.check(image)
        write(image)
        before = os.stat(PATH)
        report = check()
        after = os.stat(PATH)
        self.assertEqual((before.st_mtime_ns, before.st_blocks),
                         (after.st_mtime_ns, after.st_blocks))
        expected = VERDICTS[status]
        for name, (theirs, ours, _) in DIFFER.items():
            field, value = name.split()
            if image.size and image.field(field) == int(value):
                self.assertEqual(theirs, expected)
                expected = ours
        self.assertEqual(report["verdict"], expected,
                         f"{told(report)}\nthe checker: {[one['text'] for one in found]}")


class super_block_fields(same_verdict, base.super_block_fields):
    pass


class corruptions(same_verdict, base.corruptions):
    pass


class versions(same_verdict, base.versions):
    pass


class dirty_stores(same_verdict, base.dirty_stores):
    pass


class made_stores(same_verdict, base.made_stores):
    pass


class spoiled_at_random(same_verdict, unittest.TestCase):
    def test_both_say_the_same(self):
        for seed in range(150):
            dice, image = random.Random(seed), base.real()
            for _ in range(dice.choice((1, 2, 8))):
                value = bytes([dice.choice((0, 1, 0xFF, 0x80))]) * dice.choice((1, 2, 4, 8))
                start = 4096 * dice.choice(range(4, 15))
                image.poke(start + dice.randrange(220), value).seal(start)
            with self.subTest(seed):
                self.expect(image)


class what_it_says(unittest.TestCase):
    def test_it_names_the_blob_the_structure_and_the_byte(self):
        for sentence, code, offset, words in (
                ("a cluster that two blobs own", "shared-cluster", 9 << 20,
                 "cluster 2 of blob 0x100000001 (lvolA)"),
                ("a page marked that nobody uses", "leaked-page", 0x1007, "page 20"),
                ("a parent that is not there", "parent-missing", None, "0x100000014"),
                ("a root with a sequence number", "leaked-blobid", 0x3005, "blobid 3"),
                ("an extent page whose bytes changed", "extent-page", 0xC000, "crc")):
            with self.subTest(sentence):
                write(base.CASES[sentence][0](base.real()))
                found = [one for one in check()["findings"] if one["code"] == code]
                self.assertIn(words, found[0]["text"])
                self.assertEqual(found[0].get("offset"), offset)

    def test_for_people_it_ends_with_the_verdict(self):
        write(base.real().bits(1, [20]))
        done = subprocess.run([NACRE, "blob", "check", URI], capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("error: used-clusters mask: cluster 20 is marked, but no blob uses it "
                      "[byte 0x2007]", done.stdout)
        self.assertIn("image: inconsistent; 5 blobs, 14 of 64 clusters", done.stdout)
        self.assertIn("--repair", done.stdout)


def resident_kib(pid):
    """The most it has had; rusage has that of Python before the exec, too."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        found = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    with open(f"/proc/{pid}/cmdline", "rb") as words:
        return int(found[0]) if found and words.read().startswith(NACRE.encode()) else 0


class large_stores(unittest.TestCase):
    def test_a_sparse_tebibyte_of_10000_blobs_takes_seconds_and_little_memory(self):
        image = base.fresh(1 << 18, cluster_size=4 << 20)
        image.bytes = image.bytes[:100 << 20]
        first = -(-(image.field("md_start") + image.field("md_len")) * 4096 // (4 << 20))
        for number in range(10000):
            image.put(2 * number, base.flags(5), base.table(1, (2 * number + 1, 1)))
            image.put(2 * number + 1, base.extents(0, [first + number]), owner=2 * number)
        write(image)
        with open(os.path.join(FOLDER.name, "report"), "w+", encoding="utf-8") as out:
            began = time.monotonic()
            child = subprocess.Popen([NACRE, "blob", "check", URI, "--json"], stdout=out)
            resident = 0
            while child.poll() is None:
                resident = max(resident, resident_kib(child.pid))
                time.sleep(0.001)
            took = time.monotonic() - began
            out.seek(0)
            report = json.load(out)
        self.assertEqual((report["verdict"], report["blobs"], report["used_clusters"]),
                         ("clean", 10000, first + 10000))
        self.assertLess(took, 60)
        if not os.environ.get("NACRE_SANITIZE"):
            self.assertLess(took, 5)
            self.assertLess(resident, 64 << 10)


class repairs(unittest.TestCase):
    def blobs(self):
        with open_image(PATH) as source:
            return {one.id for one in store(source).blobs.values() if one.opens}

    def left_after(self, image, *options):
        write(image)
        report = check("--repair", *options)
        with open_image(PATH) as source:
            status, found = spdk_blobstore.check(source)
        return report, status, [one["text"] for one in found]

    def test_what_can_be_repaired_is_clean_afterwards(self):
        spoiled = {sentence: change for sentence, (change, *_) in base.CASES.items()}
        for name, fields, status, _ in base.SUPER:
            if status == 1 and name not in ("io_unit_size", "md_page_size", "size",
                                            "used_blobid_mask_len"):
                spoiled["super: " + name] = lambda image, fields=fields: image.super(**fields)
        for sentence, change in spoiled.items():
            with self.subTest(sentence):
                report, status, found = self.left_after(change(base.real()), "--remove-damaged")
                self.assertEqual(VERDICTS[status], report["verdict"], found)
                self.assertEqual(status != 0, sentence in LEFT, (found, report))

    def test_no_blob_that_opens_is_lost(self):
        for sentence, (change, *_) in base.CASES.items():
            with self.subTest(sentence):
                image = change(base.real())
                opening = {one.id for one in store(image).blobs.values() if one.opens}
                self.left_after(image)
                self.assertLessEqual(opening, self.blobs())

    def test_masks_of_a_clean_store_with_a_damaged_blob_stay_without_remove_damaged(self):
        image = base.CASES["an extent page whose bytes changed"][0](base.real())
        before = bytes(image.bytes)
        report, status, _ = self.left_after(image)
        self.assertEqual((status, len(report["damaged"])), (1, 1))
        self.assertIn("--remove-damaged", report["repaired"][0])
        with open(PATH, "rb") as spoiled:
            self.assertEqual(spoiled.read(len(before)), before)
        report, status, _ = self.left_after(image, "--remove-damaged")
        self.assertEqual((status, report["blobs"]), (0, 4))
        self.assertIn("blob 0x100000003 is removed", report["repaired"])

    def test_clones_of_a_damaged_snapshot_go_with_it(self):
        image = base.CASES["a parent that cannot be opened"][0](base.real())
        report, status, _ = self.left_after(image, "--remove-damaged")
        self.assertEqual((status, report["blobs"]), (0, 2))

    def test_a_shrink_that_spdk_was_cut_off_in_is_finished(self):
        image = base.b_extents(base.real(), 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 13).super(clean=0)
        report, status, found = self.left_after(image)
        self.assertEqual(status, 0, found)
        self.assertIn("shrink", " ".join(report["repaired"]))

    def test_a_growth_that_spdk_was_cut_off_in_is_undone(self):
        image = base.b_extents(base.real(), 12, 13, *[0] * 14, 14).super(clean=0)
        report, status, found = self.left_after(image)
        self.assertEqual(status, 0, found)
        self.assertIn(0x100000003, self.blobs())

    def test_unfinished_operations_are_finished_or_undone(self):
        image = base.real().super(clean=0).put(
            9, base.flags(5), base.lvol(b"new", 1),
            base.internal(b"SNAPTMP", base.ID | base.LVOL_B), base.table(16, (base.EXTENTS_B, 1)))
        report, status, found = self.left_after(image)
        self.assertEqual((status, report["blobs"]), (0, 5), found)
        self.assertIn("undone", " ".join(report["repaired"]))

    def test_a_clean_store_is_not_written_to(self):
        write(base.real())
        before = os.stat(PATH).st_mtime_ns
        self.assertEqual(check("--repair")["repaired"], [])
        self.assertEqual(os.stat(PATH).st_mtime_ns, before)

    def test_remove_damaged_alone_is_wrong_usage(self):
        done = subprocess.run([NACRE, "blob", "check", URI, "--remove-damaged"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
