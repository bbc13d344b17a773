#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The module rbd with a Ceph cluster of one node, brought up here from Debian's packages (ceph.py).

import filecmp
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

import ceph
from daemon import NACRE, Daemon

MIB = 1 << 20
PLUGIN = os.path.join(os.path.dirname(NACRE), "nacre-rbd.so")
PATIENCE_S = 60


def ask(daemon, method, **params):
    """The result; refusals are asked for by refusal()."""
    answer = daemon.call(method, **params)
    if "error" in answer:
        raise AssertionError(f"{method}: {answer['error']}")
    return answer["result"]


class Rbd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="nacre-ceph-")
        cls.cluster = ceph.Cluster(cls.scratch.name)
        try:
            cls.cluster.start()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()
        cls.scratch.cleanup()

    def image(self, name, mib=16):
        self.cluster.rbd("create", f"rbd/{name}", "--size", str(mib))
        return name

    def register(self, daemon):
        self.assertEqual(ask(daemon, "bdev_rbd_register_cluster", name="ceph",
                                     config_file=self.cluster.conf), "ceph")

    def open(self, daemon, image, **more):
        return ask(daemon, "bdev_rbd_create", name=image, pool_name="rbd", rbd_name=image,
                           block_size=4096, **more)

    def refusal(self, daemon, method, **params):
        answer = daemon.call(method, **params)
        self.assertIn("error", answer, f"{method} was not refused")
        return answer["error"]["code"]

    def blocks(self, daemon, name):
        return ask(daemon, "bdev_get_bdevs", name=name)[0]["num_blocks"]

    def wait_for_blocks(self, daemon, name, expected):
        deadline = time.monotonic() + PATIENCE_S
        while self.blocks(daemon, name) != expected:
            self.assertLess(time.monotonic(), deadline, "the new size was not taken over")
            time.sleep(0.05)

    def test_what_is_written_through_it_is_in_the_image(self):
        image = self.image("data")
        source = os.path.join(self.scratch.name, "source")
        with open(source, "wb") as file:
            file.write(os.urandom(16 * MIB))
        with Daemon() as daemon:
            self.register(daemon)
            self.assertEqual(self.open(daemon, image, cluster_name="ceph"), image)
            described = ask(daemon, "bdev_get_bdevs", name=image)[0]
            self.assertEqual(described["product_name"], "Ceph Rbd Disk")
            self.assertEqual(described["num_blocks"], 16 * MIB // 4096)
            self.assertEqual(described["driver_specific"]["rbd"]["rbd_name"], image)
            socket = os.path.join(daemon.folder, "nbd.sock")
            uri = ask(daemon, "nbd_export_create", bdev_name=image, unix=socket)
            subprocess.run(["nbdcopy", "--flush", source, uri], check=True, timeout=PATIENCE_S)
            back = os.path.join(self.scratch.name, "back")
            subprocess.run(["nbdcopy", uri, back], check=True, timeout=PATIENCE_S)
            self.assertTrue(filecmp.cmp(source, back, shallow=False))
            self.assertEqual(daemon.stop(), 0)
        exported = os.path.join(self.scratch.name, "exported")
        self.cluster.rbd("export", "--no-progress", f"rbd/{image}", exported)
        self.assertTrue(filecmp.cmp(source, exported, shallow=False))

    def test_verified_load_with_a_connection_of_its_own(self):
        image = self.image("load")
        environment = dict(os.environ, CEPH_CONF=self.cluster.conf)
        done = subprocess.run(
            [NACRE, "perf", "--bdev", f"rbd:///rbd/{image}?block_size=512", "--rw", "randrw",
             "--bs", "8192", "--iodepth", "16", "--runtime", "2", "--verify", "crc32c", "--json"],
            capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(json.loads(done.stdout)["total_ios"], 0)

    def test_resizes_and_follows_a_size_changed_elsewhere(self):
        image = self.image("size")
        with Daemon() as daemon:
            self.register(daemon)
            self.open(daemon, image, cluster_name="ceph")
            self.assertIs(ask(daemon, "bdev_rbd_resize", name=image, new_size=24), True)
            self.assertEqual(self.blocks(daemon, image), 24 * MIB // 4096)
            self.assertIn("24 MiB", self.cluster.rbd("info", f"rbd/{image}"))
            self.assertEqual(self.refusal(daemon, "bdev_rbd_resize", name=image, new_size=8), -22)
            self.cluster.rbd("resize", "--no-progress", f"rbd/{image}", "--size", "32")
            self.wait_for_blocks(daemon, image, 32 * MIB // 4096)
            self.assertEqual(daemon.stop(), 0)

    def test_clusters_are_kept_while_they_are_used(self):
        image = self.image("kept")
        with Daemon() as daemon:
            self.assertEqual(self.refusal(daemon, "bdev_rbd_get_clusters_info"), -2)
            self.register(daemon)
            self.assertEqual(self.refusal(daemon, "bdev_rbd_register_cluster", name="ceph"), -1)
            self.assertEqual(ask(daemon, "bdev_rbd_get_clusters_info", name="ceph"),
                             {"cluster_name": "ceph", "config_file": self.cluster.conf})
            self.assertEqual(len(ask(daemon, "bdev_rbd_get_clusters_info")), 1)
            self.open(daemon, image, cluster_name="ceph", read_only=True)
            supported = ask(daemon, "bdev_get_bdevs", name=image)[0]["supported_io_types"]
            self.assertTrue(supported["read"])
            self.assertFalse(supported["write"])
            self.assertEqual(self.refusal(daemon, "bdev_rbd_unregister_cluster", name="ceph"), -1)
            for pool in ("rbd", "none"):
                self.assertEqual(self.refusal(daemon, "bdev_rbd_create", pool_name=pool,
                                              rbd_name="none", block_size=4096,
                                              cluster_name="ceph"), -1)
            self.assertIs(ask(daemon, "bdev_rbd_delete", name=image), True)
            self.assertIs(ask(daemon, "bdev_rbd_unregister_cluster", name="ceph"), True)
            self.assertEqual(daemon.stop(), 0)

    def test_comes_back_from_a_saved_configuration(self):
        image = self.image("saved")
        with Daemon() as first:
            self.register(first)
            self.open(first, image, cluster_name="ceph")
            saved = ask(first, "save_config")
            self.assertEqual(first.stop(), 0)
        file = os.path.join(self.scratch.name, "saved.json")
        with open(file, "w", encoding="ascii") as out:
            json.dump(saved, out)
        with Daemon("-c", file) as second:
            self.assertEqual(ask(second, "save_config"), saved)
            self.assertEqual(second.stop(), 0)

    def test_is_deleted_under_load(self):
        image = self.image("deleted", 64)
        with Daemon() as daemon:
            self.register(daemon)
            self.open(daemon, image, cluster_name="ceph")
            socket = os.path.join(daemon.folder, "nbd.sock")
            uri = ask(daemon, "nbd_export_create", bdev_name=image, unix=socket)
            with subprocess.Popen(["fio", "--name=load", "--ioengine=nbd", f"--uri={uri}",
                                   "--rw=randwrite", "--bs=4k", "--iodepth=16", "--time_based",
                                   "--runtime=30", "--size=64m"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as load:
                time.sleep(2)
                self.assertIs(ask(daemon, "bdev_rbd_delete", name=image), True)
                load.kill()
            self.assertEqual(ask(daemon, "bdev_get_bdevs"), [])
            self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    lacking = ceph.missing() + ([] if os.path.exists(PLUGIN) else ["nacre-rbd.so"])
    if lacking:
        print("skipped: not on this machine: " + ", ".join(lacking))
        sys.exit(77)
    unittest.main()
