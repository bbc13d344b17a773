#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What was acknowledged survives SIGKILL: many rounds, from several seeds.

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import kill_loop  # noqa: E402


class a_killed_daemon(unittest.TestCase):
    def test_has_everything_that_it_acknowledged_in_a_hundred_rounds(self):
        for seed in range(2, 7):
            kill_loop.run(rounds=20, seed=seed)


if __name__ == "__main__":
    unittest.main()
