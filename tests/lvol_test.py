#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Stores of logical volumes that `nacre serve` made, by JSON-RPC: cut by SIGKILL or shut down in
# order, they are explicable by the format's text (tests/blobstore/spdk_blobstore.py, which uses
# nothing of nacre), and come back.

import os
import subprocess
import sys
import unittest

from daemon import Daemon

TOP = os.path.dirname(os.path.abspath(__file__))
CHECKER = os.path.join(TOP, "blobstore", "spdk_blobstore.py")
MIB = 1 << 20


def check(image):
    """What the independent checker says of an image; its exit status is 0 if nothing is wrong."""
    found = subprocess.run([sys.executable, "-B", CHECKER, "check", image], capture_output=True,
                           text=True, timeout=120)
    return found.returncode, found.stdout + found.stderr


def ask(d, method, **params):
    answer = d.call(method, **params)
    if "error" in answer:
        raise AssertionError(f"{method}: {answer}")
    return answer["result"]


def names(d):
    return [v["name"] for v in ask(d, "bdev_lvol_get_lvols")]


class a_store(unittest.TestCase):
    def start(self, folder=None):
        d = Daemon(folder=folder)
        ask(d, "bdev_aio_create", name="disk", filename=os.path.join(d.folder, "disk"),
              block_size=4096)
        return d

    def make(self, d):
        ask(d, "bdev_lvol_create_lvstore", bdev_name="disk", lvs_name="lvs0", cluster_sz=MIB)
        ask(d, "bdev_lvol_create", lvs_name="lvs0", lvol_name="thick", size_in_mib=4)
        ask(d, "bdev_lvol_create", lvs_name="lvs0", lvol_name="thin", size_in_mib=8,
              thin_provision=True)
        ask(d, "bdev_lvol_snapshot", lvol_name="lvs0/thick", snapshot_name="snap")
        ask(d, "bdev_lvol_clone", snapshot_name="lvs0/snap", clone_name="clone")
        ask(d, "bdev_lvol_resize", name="lvs0/thin", size_in_mib=12)
        ask(d, "bdev_lvol_rename", old_name="lvs0/clone", new_name="copy")
        ask(d, "bdev_lvol_inflate", name="lvs0/copy")
        ask(d, "bdev_lvol_delete", name="lvs0/thick")

    def lives_on(self, end):
        folder = None
        with self.start_with_disk() as d:
            folder = d.folder
            d.own_folder = False
            self.make(d)
            end(d)
        try:
            image = os.path.join(folder, "disk")
            status, said = check(image)
            self.assertEqual(status, 0, said)
            with self.start(folder) as d:
                self.assertEqual(names(d), ["thin", "snap", "copy"])
                ask(d, "bdev_lvol_delete", name="lvs0/snap")
                ask(d, "bdev_lvol_delete", name="lvs0/copy")
                [store] = ask(d, "bdev_lvol_get_lvstores")
                self.assertEqual(store["free_clusters"], store["total_data_clusters"])
                d.process.terminate()
                self.assertEqual(d.process.wait(60), 0)
            status, said = check(image)
            self.assertEqual(status, 0, said)
        finally:
            subprocess.run(["rm", "-rf", folder], check=True)

    def start_with_disk(self):
        d = Daemon()
        path = os.path.join(d.folder, "disk")
        with open(path, "wb") as disk:
            disk.truncate(64 * MIB)
        ask(d, "bdev_aio_create", name="disk", filename=path, block_size=4096)
        return d

    def test_that_was_shut_down_is_explicable_and_comes_back(self):
        def end(d):
            d.process.terminate()
            self.assertEqual(d.process.wait(60), 0)
        self.lives_on(end)

    def test_that_was_killed_is_explicable_and_comes_back(self):
        def end(d):
            d.process.kill()
            d.process.wait(60)
        self.lives_on(end)


if __name__ == "__main__":
    unittest.main()
