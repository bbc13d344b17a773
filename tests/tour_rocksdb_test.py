#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# The step of `nacre tour` on RocksDB, where RocksDB's programs are: db_bench fills a store, is
# killed, recovers, and what it had synced is there.

import json
import os
import subprocess
import tempfile
import unittest

import rocks


class tour_of_rocksdb(unittest.TestCase):
    def test_a_database_is_filled_killed_and_recovers(self):
        with tempfile.TemporaryDirectory(prefix="nacre-", dir=os.environ.get(
                "TMPDIR", "/var/tmp")) as place:
            data = os.path.join(place, "data")
            done = subprocess.run([os.environ["NACRE_BINARY"], "tour", "--step", "rocksdb",
                                   "--json", "--data", data], capture_output=True, text=True,
                                  timeout=280, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            (step,) = json.loads(done.stdout)
            self.assertNotIn("skipped", step)
            self.assertEqual(step["figures"]["keys"], 100_000)
            self.assertGreaterEqual(step["figures"]["synced_writes"], 20)
            self.assertGreater(step["figures"]["tables_verified"], 1)
            self.assertIn("synced keys are there", step["verified"])
            # Nothing of the databases lies beside the image.
            self.assertEqual(sorted(os.listdir(data)), [".nacre-tour", "rocks.img", "rocks.log"])


if __name__ == "__main__":
    rocks.need()
    unittest.main()
