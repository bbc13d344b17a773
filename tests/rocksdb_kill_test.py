#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What a database on nacre has synced survives SIGKILL, a few times (tests/long has more).

import subprocess
import unittest

import rocks
import rocks_kill


class a_killed_database(unittest.TestCase):
    def test_has_every_key_that_it_synced(self):
        self.assertGreater(rocks_kill.run(kills=10, seed=1), 100)

    def test_is_refused_if_a_synced_step_is_missing(self):
        with rocks.Place("128MiB") as place:
            command = [rocks.WRITER, place.uri, "/db"]
            how = {"cwd": place.folder, "env": place.environment(), "capture_output": True,
                   "timeout": rocks.PATIENCE_S, "check": False}
            first = subprocess.run([*command, "0", "1", "500"], **how)
            self.assertEqual((first.returncode, first.stdout.split()[-1]), (0, b"500"))
            second = subprocess.run([*command, "501", "1", "1"], **how)
            self.assertEqual(second.returncode, 1)
            self.assertIn(b"501 was synced", second.stderr)


if __name__ == "__main__":
    rocks.need()
    unittest.main()
