#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Disks partitioned by sgdisk and by sfdisk, in a running daemon.

import os
import subprocess
import tempfile
import unittest

from daemon import Daemon

TYPE = "6527994E-2C5A-4EEC-9613-8F5944074E8B"
ENVIRONMENT = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")


def run(*command, **options):
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, **options)


class gpt(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="nacre-gpt-")
        self.image = os.path.join(self.folder.name, "disk.img")
        with open(self.image, "wb") as f:
            f.truncate(64 << 20)

    def tearDown(self):
        self.folder.cleanup()

    def bdevs(self, daemon):
        return {d["name"]: d for d in daemon.rpc("bdev_get_bdevs")}

    def plug(self, daemon):
        self.assertEqual(daemon.rpc("bdev_aio_create", "name=d", f"filename={self.image}",
                                    "block_size=512"), "d")
        return self.bdevs(daemon)

    def test_a_disk_of_sgdisk(self):
        run("sgdisk", "-n", "1:2048:+8M", "-t", f"1:{TYPE}", "-c", "1:first one", "-n", "2:0:+4M",
            "-n", "5:0:0", "-t", f"5:{TYPE}", "-u", "5:01234567-89ab-cdef-0123-456789abcdef",
            self.image)
        with Daemon() as daemon:
            shown = self.plug(daemon)
            self.assertEqual(sorted(shown), ["d", "dp1", "dp5"])
            one, five = shown["dp1"], shown["dp5"]
            self.assertEqual((one["product_name"], one["num_blocks"]), ("GPT Disk", 16384))
            self.assertTrue(shown["d"]["claimed"])
            about = one["driver_specific"]["gpt"]
            self.assertEqual((about["base_bdev"], about["offset_blocks"]), ("d", 2048))
            self.assertEqual(about["partition_type_guid"], TYPE.lower())
            self.assertEqual(about["partition_name"], "first one")
            self.assertEqual(five["uuid"], "01234567-89ab-cdef-0123-456789abcdef")
            self.assertTrue(daemon.rpc("bdev_aio_delete", "name=d"))
            self.assertEqual(self.bdevs(daemon), {})

    def test_a_disk_of_sgdisk_whose_primary_table_is_gone(self):
        run("sgdisk", "-n", "1:2048:+8M", "-t", f"1:{TYPE}", self.image)
        with open(self.image, "r+b") as f:
            f.seek(512)
            f.write(bytes(512))
        with Daemon() as daemon:
            self.assertEqual(sorted(self.plug(daemon)), ["d", "dp1"])

    def test_a_disk_of_sfdisk(self):
        run("sfdisk", self.image, text=True,
            input=f"label: gpt\nsize=10MiB, type={TYPE}, name=\"a\"\nsize=10MiB\n")
        with Daemon() as daemon:
            shown = self.plug(daemon)
            self.assertEqual(sorted(shown), ["d", "dp1"])
            self.assertEqual(shown["dp1"]["num_blocks"], 20480)
            self.assertEqual(shown["dp1"]["driver_specific"]["gpt"]["partition_name"], "a")


if __name__ == "__main__":
    unittest.main()
