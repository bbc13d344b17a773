#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What a database on nacre has synced survives SIGKILL: two hundred times.

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import rocks  # noqa: E402
import rocks_kill  # noqa: E402


class a_killed_database(unittest.TestCase):
    def test_has_every_key_that_it_synced_in_two_hundred_lives(self):
        for seed in range(2, 6):
            rocks_kill.run(kills=50, seed=seed)


if __name__ == "__main__":
    rocks.need()
    unittest.main()
