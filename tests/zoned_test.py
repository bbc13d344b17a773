#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# Zoned bdevs in a running daemon: made, saved, found again, refused.

import os
import tempfile
import unittest

from daemon import Daemon

MIB = 1 << 20


class zoned(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="nacre-zoned-")
        self.image = os.path.join(self.folder.name, "z.img")

    def tearDown(self):
        self.folder.cleanup()

    def test_a_zoned_file_comes_back_from_a_saved_configuration(self):
        config = os.path.join(self.folder.name, "config.json")
        with Daemon() as daemon:
            made = daemon.rpc("bdev_zoned_file_create", "name=z", f"filename={self.image}",
                              "zone_size=4MiB", "zone_capacity=3MiB", "zones=10",
                              "max_open_zones=4")
            self.assertEqual(made, "z")
            before = daemon.rpc("bdev_get_bdevs", "name=z")[0]
            self.assertTrue(before["zoned"])
            self.assertEqual((before["zone_size"], before["max_open_zones"]), (1024, 4))
            self.assertEqual(before["driver_specific"]["zoned"]["zone_capacity"], 768)
            self.assertEqual(os.stat(self.image).st_size, 31 * MIB)
            self.assertTrue(daemon.rpc("save_config", f"filename={config}"))
            self.assertEqual(daemon.stop(), 0)
        with Daemon("-c", config) as daemon:
            self.assertEqual(daemon.rpc("bdev_get_bdevs", "name=z")[0]["uuid"], before["uuid"])
            self.assertTrue(daemon.rpc("bdev_zoned_degrade_zone", "name=z", "zone=3",
                                       "state=offline"))
            self.assertTrue(daemon.rpc("bdev_zoned_delete", "name=z"))
            self.assertEqual(daemon.rpc("bdev_get_bdevs"), [])
            # What is stored, alone.
            made = daemon.rpc("bdev_zoned_file_create", "name=z", f"filename={self.image}")
            self.assertEqual(made, "z")
            self.assertEqual(daemon.stop(), 0)

    def test_a_truncated_file_is_refused_in_one_sentence(self):
        with Daemon() as daemon:
            daemon.rpc("bdev_zoned_file_create", "name=z", f"filename={self.image}",
                       "zone_size=1MiB", "zones=4")
            self.assertTrue(daemon.rpc("bdev_zoned_delete", "name=z"))
            os.truncate(self.image, 2 * MIB)
            refused = daemon.rpc("bdev_zoned_file_create", "name=z", f"filename={self.image}")
            self.assertIn("truncated", refused.stderr)
            self.assertEqual(daemon.rpc("bdev_get_bdevs"), [])

    def test_zones_over_a_bdev_that_comes_later_as_in_spdk(self):
        with Daemon() as daemon:
            made = daemon.rpc("bdev_zone_block_create", "name=zb", "base_bdev=m",
                              "zone_capacity=1000", "optimal_open_zones=8")
            self.assertEqual(made, "zb")
            daemon.rpc("bdev_malloc_create", "name=m", "num_blocks=8192", "block_size=512")
            shown = daemon.rpc("bdev_get_bdevs", "name=zb")[0]
            self.assertEqual((shown["zone_size"], shown["num_blocks"]), (1024, 8192))
            self.assertEqual((shown["max_open_zones"], shown["optimal_open_zones"]), (0, 8))
            self.assertEqual(shown["product_name"], "zone_block")
            self.assertEqual(shown["driver_specific"],
                             {"zoned_block": {"name": "zb", "base_bdev": "m",
                                              "zone_capacity": 1000, "optimal_open_zones": 8}})
            self.assertTrue(daemon.rpc("bdev_zone_block_delete", "name=zb"))
            self.assertEqual(daemon.rpc("bdev_zone_block_delete", "name=zb").returncode, 1)


if __name__ == "__main__":
    unittest.main()
