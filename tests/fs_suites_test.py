#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# pjdfstest, fsx and fsstress on a mounted blobfs, briefly (fs_suites.py says where they are found;
# long/fs_suites_test.py has their full lengths).

import os
import unittest

import fs_suites


class suites(unittest.TestCase):
    def each_way(self, run):
        for name, options in fs_suites.ways().items():
            with self.subTest(name), fs_suites.Place() as place:
                run(place, options)

    @unittest.skipUnless(fs_suites.PJDFSTEST, "NACRE_PJDFSTEST is not set")
    @unittest.skipUnless(os.geteuid() == 0, "pjdfstest becomes other users, which only root may")
    def test_pjdfstest_finds_names_and_lengths_as_posix_has_them(self):
        groups = ["ftruncate", "mkdir", "mkfifo", "rmdir", "symlink", "truncate"]
        with fs_suites.Place() as place:
            self.assertGreater(place.pjdfstest(groups=groups), 600)

    @unittest.skipUnless(fs_suites.FSX, "NACRE_FSX is not set")
    def test_fsx_reads_what_it_wrote(self):
        def run(place, how):
            place.fsx(5_000, 1, *how)
            place.fsx(2_000, 2, *how, *fs_suites.PASSING)
            place.fsx(200, 3, *how, *fs_suites.TINY, arguments=fs_suites.LARGE)
            place.fsx(5_000, 4, *how, arguments=fs_suites.DIRECT)
            place.fsx(200, 5, *how, bdev=place.image)
        self.each_way(run)

    @unittest.skipUnless(fs_suites.FSSTRESS, "NACRE_FSSTRESS is not set")
    def test_fsstress_finds_everything_again_after_a_remount(self):
        self.each_way(lambda place, how: self.assertGreater(
            place.stress_and_come_back(300, 1, *how), 50))

    @unittest.skipUnless(fs_suites.FSSTRESS, "NACRE_FSSTRESS is not set")
    def test_a_mount_that_is_killed_under_fsstress_leaves_what_can_be_mounted(self):
        self.each_way(lambda place, how: place.stress_and_kill(1, 1, *how))


if __name__ == "__main__":
    fs_suites.main(unittest.main)
