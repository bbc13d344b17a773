#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# pjdfstest, fsx and fsstress on a mounted blobfs, at full length: all groups, a million operations
# from each of several seeds, thousands of operations of several processes.

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import fs_suites  # noqa: E402

MILLION = 1_000_000
SEEDS = (1, 2, 3, 4)


class suites(unittest.TestCase):
    def each_way(self, run):
        for name, options in fs_suites.ways().items():
            with self.subTest(name), fs_suites.Place("2GiB") as place:
                run(place, options)

    @unittest.skipUnless(fs_suites.PJDFSTEST, "NACRE_PJDFSTEST is not set")
    @unittest.skipUnless(os.geteuid() == 0, "pjdfstest becomes other users, which only root may")
    def test_all_groups_of_pjdfstest_pass(self):
        self.each_way(lambda place, how: self.assertGreater(place.pjdfstest(*how), 8000))

    @unittest.skipUnless(fs_suites.FSX, "NACRE_FSX is not set")
    def test_fsx_does_a_million_operations_from_each_seed(self):
        def run(place, how):
            for seed in SEEDS:
                place.fsx(MILLION, seed, *how)
                place.fsx(MILLION, seed + 4, *how, *fs_suites.PASSING)
                place.fsx(MILLION, seed + 8, *how, arguments=fs_suites.DIRECT)
                place.fsx(MILLION, seed + 12, *how, arguments=fs_suites.UNMAPPED)
                place.fsx(MILLION // 10, seed + 16, *how, *fs_suites.TINY,
                          arguments=fs_suites.LARGE)
            place.fsx(MILLION // 20, 21, *how, bdev=place.image)
        self.each_way(run)

    @unittest.skipUnless(fs_suites.FSSTRESS, "NACRE_FSSTRESS is not set")
    def test_fsstress_finds_everything_again_after_a_remount(self):
        def run(_place, how):
            for seed in SEEDS:
                with fs_suites.Place("4GiB") as place:
                    self.assertGreater(place.stress_and_come_back(2000, seed, *how), 500)
                    place.stress_and_come_back(1000, seed + 4, *how, *fs_suites.PASSING,
                                               *fs_suites.TINY)
        self.each_way(run)

    @unittest.skipUnless(fs_suites.FSSTRESS, "NACRE_FSSTRESS is not set")
    def test_a_mount_that_is_killed_under_fsstress_leaves_what_can_be_mounted(self):
        self.each_way(lambda place, how: place.stress_and_kill(10, 1, *how))

    @unittest.skipUnless(fs_suites.FSSTRESS, "NACRE_FSSTRESS is not set")
    def test_fsstress_on_a_full_device_loses_nothing_that_the_kernel_has_not_kept_back(self):
        def run(_place, how):
            with fs_suites.Place("48MiB") as place:
                place.stress_and_come_back(3000, 9, *how, *fs_suites.PASSING,
                                           arguments=fs_suites.UNMAPPED_STRESS)
        self.each_way(run)


if __name__ == "__main__":
    fs_suites.main(unittest.main)
