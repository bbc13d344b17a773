#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# A zoned bdev as a zoned disk of a real kernel, by ublk. Runs in the guest (tests/guest/run).
#
#   zoned_test.py [URI]    of a device of 16 zones of 4 MiB, 3 MiB of them to write; else those here

import mmap
import os
import re
import sys
import unittest

from guest import PATIENCE_S, main, run, signal, subprocess, sysfs

LAYOUT = "size=64MiB&zone_size=4MiB&zone_capacity=3MiB&max_open_zones=6"
SERVER = os.path.join(os.environ["NACRE_BUILD_DIR"], "example_ublk_disk")
ZONE_SECTORS = 8192
CAPACITY_SECTORS = 6144
MIB = 1 << 20


class zoned_disk:
    uri = ""

    def setUp(self):
        self.start()
        self.addCleanup(self.stop)
        run("blkzone", "reset", self.disk)

    def start(self):
        self.server = subprocess.Popen([SERVER, self.uri, "1"], stdout=subprocess.PIPE, text=True)
        self.disk = self.server.stdout.readline().strip()
        self.assertEqual(self.disk, "/dev/ublkb1")

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        self.assertEqual(self.server.wait(PATIENCE_S), 0)
        self.server.stdout.close()

    def zones(self):
        """(start, capacity, write pointer within the zone, condition), in sectors."""
        found = re.findall(r"start: (0x\w+), len 0x\w+, cap (0x\w+), wptr (0x\w+) .*"
                           r"zcond:[ \d]+\((\w+)\)", run("blkzone", "report", self.disk))
        return [tuple(int(n, 16) for n in zone[:3]) + (zone[3],) for zone in found]

    def write(self, offset, length=65536):
        """The error of a direct write there, or None."""
        descriptor = os.open(self.disk, os.O_WRONLY | os.O_DIRECT)
        try:
            memory = mmap.mmap(-1, length)
            memory.write(b"z" * length)
            os.pwritev(descriptor, [memory], offset)
            return None
        except OSError as error:
            return error.errno
        finally:
            os.close(descriptor)

    def test_shows_the_zones_of_its_bdev(self):
        self.assertEqual(sysfs(self.disk, "queue/zoned"), "host-managed")
        self.assertEqual(sysfs(self.disk, "queue/chunk_sectors"), str(ZONE_SECTORS))
        self.assertEqual(sysfs(self.disk, "queue/nr_zones"), "16")
        self.assertEqual(sysfs(self.disk, "queue/max_open_zones"), "6")
        self.assertGreater(int(sysfs(self.disk, "queue/zone_append_max_bytes")), 0)
        self.assertEqual(self.zones(), [(n * ZONE_SECTORS, CAPACITY_SECTORS, 0, "em")
                                        for n in range(16)])
        part = run("blkzone", "report", "--offset", str(3 * ZONE_SECTORS), "--count", "2",
                   self.disk)
        self.assertEqual(len(part.splitlines()), 2)

    def test_takes_zones_through_their_states(self):
        def zone(number, command):
            run("blkzone", command, "--offset", str(number * ZONE_SECTORS), "--count", "1",
                self.disk)
            return self.zones()[number][2:]

        self.assertEqual(zone(2, "open"), (0, "oe"))
        self.assertIsNone(self.write(2 * ZONE_SECTORS * 512))
        self.assertEqual(self.zones()[2][2:], (128, "oe"))
        self.assertEqual(zone(2, "close"), (128, "cl"))
        self.assertIsNone(self.write(2 * ZONE_SECTORS * 512 + 65536))
        self.assertEqual(self.zones()[2][2:], (256, "oi"))
        self.assertEqual(zone(2, "finish")[1], "fu")
        self.assertEqual(zone(2, "reset"), (0, "em"))

    def test_refuses_writes_out_of_order(self):
        self.assertIsNone(self.write(0))
        self.assertIsNotNone(self.write(131072))
        self.assertIsNotNone(self.write(0))
        # After an error Linux does not write to a zone before it has seen a report of it.
        self.assertEqual(self.zones()[0][2:], (128, "oi"))
        self.assertIsNone(self.write(65536))
        self.assertIsNotNone(self.write(5 * ZONE_SECTORS * 512 + 4096))
        self.assertIsNotNone(self.write(CAPACITY_SECTORS * 512))
        self.assertEqual(self.zones()[0][2:], (256, "oi"))

    def test_gives_back_what_fio_wrote_in_zones(self):
        run("fio", "--name=job", f"--filename={self.disk}", "--direct=1", "--zonemode=zbd",
            "--ioengine=libaio", "--iodepth=8", "--rw=write", "--bs=64k", "--size=32m",
            "--verify=crc32c", "--do_verify=1")
        self.assertEqual([zone[3] for zone in self.zones()], 8 * ["fu"] + 8 * ["em"])
        run("blkzone", "reset", self.disk)
        run("fio", "--name=job", f"--filename={self.disk}", "--direct=1", "--zonemode=zbd",
            "--ioengine=libaio", "--iodepth=8", "--rw=randwrite", "--bs=16k", "--io_size=12m",
            "--size=32m", "--max_open_zones=6", "--verify=crc32c", "--do_verify=1",
            "--randseed=7")


class in_memory(zoned_disk, unittest.TestCase):
    uri = f"zoned+malloc:///z0?{LAYOUT}"

    def test_carries_a_file_system_that_appends(self):
        place = "/run/btrfs"
        run("mkfs.btrfs", "-q", "-f", "-O", "zoned", "-d", "single", "-m", "single", self.disk)
        os.makedirs(place, exist_ok=True)
        run("mount", self.disk, place)
        try:
            data = os.urandom(MIB)
            with open(os.path.join(place, "file"), "wb") as f:
                f.write(data)
            run("sync")
        finally:
            run("umount", place)
        run("mount", "-o", "ro", self.disk, place)
        try:
            with open(os.path.join(place, "file"), "rb") as f:
                self.assertEqual(f.read(), data)
        finally:
            run("umount", place)


class in_a_file(zoned_disk, unittest.TestCase):
    uri = f"zoned+file:///tmp/zoned.img?{LAYOUT}"

    def test_has_its_zones_after_a_restart(self):
        self.assertIsNone(self.write(3 * ZONE_SECTORS * 512))
        run("blkzone", "finish", "--offset", str(5 * ZONE_SECTORS), "--count", "1", self.disk)
        before = self.zones()
        self.assertEqual(before[3][2:], (128, "oi"))
        self.stop()
        self.start()
        after = self.zones()
        self.assertEqual([zone[:3] for zone in after], [zone[:3] for zone in before])
        self.assertEqual((after[3][3], after[5][3]), ("cl", "fu"))
        self.assertIsNone(self.write(3 * ZONE_SECTORS * 512 + 65536))


if __name__ == "__main__":
    if len(sys.argv) > 1 and "://" in sys.argv[1]:
        in_memory.uri = sys.argv.pop(1)
        del in_a_file
    run("modprobe", "ublk_drv")
    main()
