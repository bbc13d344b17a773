#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Bdevs as disks of a real kernel, by ublk. Runs in the guest (tests/guest/run).

import json
import os
import shutil
import tempfile
import threading
import time
import unittest

from guest import (Daemon, PATIENCE_S, main, result, run, signal, subprocess, sysfs, wait_until)

MIB = 1 << 20
INTERNAL_ERROR = -32603
NOBODY = 65534


def fio(disk, *options, **how):
    return run("fio", "--name=job", f"--filename={disk}", "--direct=1", "--ioengine=libaio",
               "--randseed=7", *options, **how)


def writes_of(disk):
    """That the kernel has seen the end of."""
    return int(sysfs(disk, "stat").split()[4])


def start_fio(disk, *options):
    return subprocess.Popen(["fio", "--name=job", f"--filename={disk}", "--direct=1",
                             "--ioengine=libaio", *options], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


class Served(unittest.TestCase):
    """A daemon of two reactors with a ublk target."""

    target = {}

    def setUp(self):
        self.scratch = tempfile.mkdtemp(prefix="ublk-")
        self.addCleanup(shutil.rmtree, self.scratch, True)
        self.daemon = self.start_daemon()

    def start_daemon(self, **options):
        daemon = Daemon("--cores", "0,1", **options)
        self.addCleanup(daemon.__exit__)
        return daemon

    def call(self, method, **params):
        return result(self.daemon.call(method, **params))

    def refused(self, method, **params):
        response = self.daemon.call(method, **params)
        self.assertIn("error", response)
        return response["error"]["code"], response["error"]["message"]

    def malloc(self, name, mib, block_size=512):
        self.call("bdev_malloc_create", name=name, num_blocks=mib * MIB // block_size,
                  block_size=block_size)

    def create_target(self):
        self.call("ublk_create_target", **self.target)

    def start(self, bdev, number=1, **params):
        self.assertEqual(self.call("ublk_start_disk", bdev_name=bdev, ublk_id=number, **params),
                         number)
        return f"/dev/ublkb{number}"

    def stop(self, number=1):
        self.assertIs(self.call("ublk_stop_disk", ublk_id=number), True)
        self.assertFalse(os.path.exists(f"/dev/ublkb{number}"))


class a_disk(Served):
    def setUp(self):
        super().setUp()
        self.create_target()

    def test_looks_like_its_bdev(self):
        self.malloc("m0", 64, 4096)
        disk = self.start("m0", queue_depth=64, num_queues=2)
        self.assertEqual(run("blockdev", "--getsize64", disk).strip(), str(64 * MIB))
        self.assertEqual(sysfs(disk, "queue/logical_block_size"), "4096")
        self.assertEqual(len(os.listdir("/sys/block/ublkb1/mq")), 2)
        self.assertEqual(self.call("ublk_get_disks"),
                         [{"ublk_device": disk, "id": 1, "queue_depth": 64, "num_queues": 2,
                           "bdev_name": "m0"}])
        saved = self.call("framework_get_config", name="ublk")
        self.assertEqual([c["method"] for c in saved], ["ublk_create_target", "ublk_start_disk"])
        self.assertEqual(saved[1]["params"], {"bdev_name": "m0", "ublk_id": 1, "queue_depth": 64,
                                              "num_queues": 2})
        self.stop()
        self.assertEqual(self.call("ublk_get_disks"), [])
        self.assertEqual(self.daemon.stop(), 0)

    def test_carries_a_file_system(self):
        self.malloc("m0", 64)
        disk = self.start("m0", num_queues=2)
        source = os.path.join(os.environ["GUEST_TOP"], "docs")
        place = os.path.join(self.scratch, "mounted")
        os.mkdir(place)
        run("mkfs.ext4", "-q", disk)
        run("mount", disk, place)
        shutil.copytree(source, os.path.join(place, "copy"))
        run("umount", place)
        run("fsck.ext4", "-f", "-n", disk)
        run("blockdev", "--flushbufs", disk)
        run("mount", disk, place)
        run("diff", "-r", source, os.path.join(place, "copy"))
        run("fstrim", place)
        run("umount", place)
        run("fsck.ext4", "-f", "-n", disk)
        self.stop()

    def test_gives_back_what_was_written(self):
        self.malloc("m0", 48)
        disk = self.start("m0", num_queues=2)
        fio(disk, "--rw=randwrite", "--bsrange=512-256k", "--size=40m", "--iodepth=32",
            "--verify=crc32c", "--do_verify=1")
        fio(disk, "--rw=randrw", "--bs=1m", "--size=40m", "--iodepth=4", "--verify=crc32c")
        run("blkdiscard", "--zeroout", "--offset", str(MIB), "--length", str(2 * MIB), disk)
        with open(disk, "rb") as f:
            f.seek(MIB)
            self.assertEqual(f.read(2 * MIB), bytes(2 * MIB))
        run("blkdiscard", disk)
        self.stop()

    def test_ends_with_its_bdev_while_io_runs(self):
        self.malloc("m0", 32)
        disk = self.start("m0")
        load = start_fio(disk, "--rw=randrw", "--bs=4k", "--iodepth=32", "--time_based",
                         "--runtime=60")
        self.addCleanup(load.kill)
        self.assertTrue(wait_until(lambda: writes_of(disk) > 100, 30))
        self.assertIsNone(load.poll())
        began = time.monotonic()
        self.call("bdev_malloc_delete", name="m0")
        self.assertLess(time.monotonic() - began, 20)
        said, _ = load.communicate(timeout=20)
        self.assertNotEqual(load.returncode, 0)
        self.assertRegex(said, "Input/output error|No such device")
        self.assertEqual(self.call("ublk_get_disks"), [])
        self.assertTrue(wait_until(lambda: not os.path.exists(disk), 10))
        # The number is free again, and so is everything else.
        self.malloc("m0", 32)
        self.start("m0")
        fio(disk, "--rw=randwrite", "--bs=64k", "--size=8m", "--verify=crc32c")
        self.stop()

    def test_that_somebody_holds_open_ends_too(self):
        self.malloc("m0", 32)
        disk = self.start("m0")
        with open(disk, "rb") as held:
            self.call("ublk_stop_disk", ublk_id=1)
            # Nothing is left of it, not even its size.
            self.assertEqual(os.pread(held.fileno(), 4096, 16 * MIB), b"")
            self.assertEqual(os.pread(held.fileno(), 4096, 0), b"")
        self.start("m0")
        self.stop()

    def test_of_a_bdev_that_fails_says_so(self):
        self.malloc("m0", 16)
        self.call("bdev_error_create", base_name="m0")
        disk = self.start("EE_m0")
        self.call("bdev_error_inject_error", name="EE_m0", io_type="write", error_type="failure",
                  num=1)
        said = fio(disk, "--rw=write", "--bs=4k", "--size=4k", expect=1)
        self.assertIn("Input/output error", said)
        fio(disk, "--rw=write", "--bs=4k", "--size=4k")
        self.stop()

    def test_costs_nothing_while_nobody_uses_it(self):
        self.malloc("m0", 16)
        self.start("m0", num_queues=2)
        time.sleep(0.5)
        before = self.daemon.cpu_seconds()
        time.sleep(2)
        self.assertLess(self.daemon.cpu_seconds() - before, 0.05)
        self.stop()

    def test_ends_when_the_daemon_does(self):
        self.malloc("m0", 16)
        disk = self.start("m0")
        self.assertEqual(self.daemon.stop(), 0)
        self.assertFalse(os.path.exists(disk))
        self.assertFalse(os.path.exists("/dev/ublkc1"))


class without_user_copy(Served):
    target = {"disable_user_copy": True}

    def test_a_disk_gives_back_what_was_written(self):
        self.create_target()
        self.malloc("m0", 32, 4096)
        disk = self.start("m0", queue_depth=16, num_queues=2)
        fio(disk, "--rw=randwrite", "--bsrange=4k-256k", "--size=24m", "--iodepth=16",
            "--verify=crc32c", "--do_verify=1")
        self.assertIs(self.call("ublk_destroy_target"), True)
        self.assertFalse(os.path.exists(disk))


class methods(Served):
    def test_refuse_as_spdk_does(self):
        self.malloc("m0", 16)
        self.assertEqual(self.refused("ublk_destroy_target")[0], INTERNAL_ERROR)
        self.assertEqual(self.refused("ublk_start_disk", bdev_name="m0", ublk_id=1)[0], -19)
        self.assertEqual(self.refused("ublk_create_target", cpumask="[9]")[0], INTERNAL_ERROR)
        self.create_target()
        self.assertEqual(self.refused("ublk_create_target")[0], INTERNAL_ERROR)
        self.assertEqual(self.refused("ublk_start_disk", bdev_name="none", ublk_id=1)[0], -19)
        self.assertEqual(self.refused("ublk_stop_disk", ublk_id=1)[0], -19)
        self.assertEqual(self.refused("ublk_get_disks", ublk_id=1)[0], -19)
        self.assertEqual(self.refused("ublk_recover_disk", bdev_name="m0", ublk_id=1)[0], -19)
        self.start("m0")
        self.malloc("m1", 16)
        self.assertEqual(self.refused("ublk_start_disk", bdev_name="m1", ublk_id=1)[0], -16)
        self.assertEqual(self.refused("ublk_recover_disk", bdev_name="m1", ublk_id=1)[0], -16)
        self.assertEqual(self.refused("ublk_start_disk", bdev_name="m1", ublk_id=1 << 20)[0], -22)
        self.call("bdev_malloc_create", name="large", num_blocks=256, block_size=65536)
        code, why = self.refused("ublk_start_disk", bdev_name="large", ublk_id=2)
        self.assertEqual(code, -95)
        self.assertIn("blocks of 65536", why)
        self.assertFalse(os.path.exists("/dev/ublkc2"))
        self.assertIs(self.call("ublk_destroy_target"), True)
        self.assertFalse(os.path.exists("/dev/ublkb1"))


class a_daemon_that_is_killed(Served):
    def setUp(self):
        super().setUp()
        self.image = os.path.join(self.scratch, "disk.img")
        self.make_bdev(48)
        self.create_target()
        self.disk = self.start("f0", num_queues=2)

    def make_bdev(self, mib):
        self.call("bdev_aio_create", name="f0", filename=self.image, block_size=4096,
                  size=mib * MIB)

    def kill(self):
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait()
        self.daemon = self.start_daemon()

    def test_leaves_disks_that_the_next_one_goes_on_with(self):
        load = start_fio(self.disk, "--rw=randwrite", "--bs=16k", "--iodepth=16", "--size=40m",
                         "--rate=6m", "--verify=crc32c", "--do_verify=1")
        self.addCleanup(load.kill)
        time.sleep(2)
        self.kill()
        written = sysfs(self.disk, "stat").split()[4]
        self.make_bdev(48)
        time.sleep(0.5)
        self.assertEqual(sysfs(self.disk, "stat").split()[4], written)
        self.assertIsNone(load.poll())
        self.create_target()
        code, why = self.refused("ublk_start_disk", bdev_name="f0", ublk_id=1)
        self.assertEqual(code, -17)
        self.assertIn("ublk_recover_disk", why)
        self.assertEqual(self.call("ublk_recover_disk", bdev_name="f0", ublk_id=1), 1)
        self.assertEqual(self.call("ublk_get_disks")[0]["num_queues"], 2)
        said, _ = load.communicate(timeout=PATIENCE_S)
        self.assertEqual(load.returncode, 0, said)
        self.stop()

    def test_leaves_disks_that_no_other_bdev_may_take(self):
        self.kill()
        self.malloc("other", 16, 4096)
        self.create_target()
        code, why = self.refused("ublk_recover_disk", bdev_name="other", ublk_id=1)
        self.assertEqual(code, -22)
        self.assertIn("differs", why)
        self.make_bdev(48)
        self.assertEqual(self.call("ublk_recover_disk", bdev_name="f0", ublk_id=1), 1)
        fio(self.disk, "--rw=write", "--bs=64k", "--size=4m", "--verify=crc32c")
        self.stop()


class an_ordinary_user(Served):
    """Without udev, a thread gives the nodes to their owner."""

    def start_daemon(self, **options):
        os.chmod(self.scratch, 0o777)
        return super().start_daemon(folder=self.scratch, user=NOBODY, group=NOBODY,
                                    extra_groups=[], **options)

    def give_nodes(self, stopped):
        while not stopped.wait(0.05):
            for node in ("/dev/ublkc1", "/dev/ublkb1"):
                try:
                    os.chown(node, NOBODY, NOBODY)
                except FileNotFoundError:
                    pass

    def test_is_told_what_is_missing_and_can_have_disks(self):
        self.malloc("m0", 16)
        code, why = self.refused("ublk_create_target")
        self.assertEqual(code, INTERNAL_ERROR)
        self.assertIn("permission denied", why)
        os.chmod("/dev/ublk-control", 0o666)
        self.addCleanup(os.chmod, "/dev/ublk-control", 0o600)
        self.create_target()
        stopped = threading.Event()
        giving = threading.Thread(target=self.give_nodes, args=(stopped,))
        giving.start()
        try:
            disk = self.start("m0")
            self.assertTrue(wait_until(lambda: os.stat(disk).st_uid == NOBODY, 10))
            run("dd", "if=/proc/version", f"of={disk}", "conv=fsync", user=NOBODY, group=NOBODY)
            said = run("head", "-c", "13", disk, user=NOBODY, group=NOBODY)
            self.assertEqual(said, "Linux version")
        finally:
            stopped.set()
            giving.join()
        self.stop()
        self.call("bdev_malloc_create", name="z0", num_blocks=4096, block_size=4096,
                  zone_size=1024)
        code, why = self.refused("ublk_start_disk", bdev_name="z0", ublk_id=1)
        self.assertEqual(code, -1)
        self.assertIn("only root", why)


class a_kernel_without_the_driver(unittest.TestCase):
    def test_is_named(self):
        run("modprobe", "-r", "ublk_drv")
        try:
            with Daemon() as daemon:
                error = daemon.call("ublk_create_target")["error"]
        finally:
            run("modprobe", "ublk_drv")
        self.assertEqual(error["code"], INTERNAL_ERROR)
        self.assertIn("modprobe ublk_drv", error["message"])


if __name__ == "__main__":
    run("modprobe", "ublk_drv")
    main()
