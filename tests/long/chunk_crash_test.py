#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# A thousand random power cuts each: a chunk store, and a RocksDB with synced keys. And databases on
# 200 devices that become full.

import os
import subprocess
import sys
import unittest

BUILD = os.environ["NACRE_BUILD_DIR"]
PROGRAMS = {"nacre_chunk_tests": "chunk_crash.*", "nacre_rocksdb_tests": "rocksdb_power.*"}


class power_cuts(unittest.TestCase):
    def test_lose_nothing_that_was_acknowledged(self):
        for program, tests in PROGRAMS.items():
            with self.subTest(program):
                done = subprocess.run([os.path.join(BUILD, program), f"--gtest_filter={tests}"],
                                      env={**os.environ, "NACRE_CRASH_POINTS": "1000"},
                                      capture_output=True, text=True, timeout=1500)
                self.assertEqual(done.returncode, 0, done.stdout[-3000:])

    def test_space_that_comes_back_lets_databases_resume(self):
        done = subprocess.run([os.path.join(BUILD, "nacre_rocksdb_tests"),
                               "--gtest_filter=rocksdb_full.*"],
                              env={**os.environ, "NACRE_FULL_DEVICES": "200"},
                              capture_output=True, text=True, timeout=1500)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:])


if __name__ == "__main__":
    if not all(os.path.exists(os.path.join(BUILD, p)) for p in PROGRAMS):
        print("skipped: librocksdb-dev is not installed")
        sys.exit(77)
    unittest.main()
