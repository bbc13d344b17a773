#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What was acknowledged survives SIGKILL, a few rounds (tests/long has more of them).

import unittest

import kill_loop


class a_killed_daemon(unittest.TestCase):
    def test_has_everything_that_it_acknowledged(self):
        self.assertGreater(kill_loop.run(rounds=5, seed=1), 100)

    def test_the_model_refuses_what_it_must(self):
        kept = kill_loop.model()
        stamp = kept.begin(0, 1024)
        kept.acknowledged(0, 1024, stamp)
        kept.check(0, kill_loop.content(stamp, 0) + kill_loop.content(stamp, 1))
        with self.assertRaises(kill_loop.violation):
            kept.check(0, bytes(512))                           # lost
        with self.assertRaises(kill_loop.violation):
            kept.check(0, kill_loop.content(stamp, 1))          # elsewhere
        later = kept.begin(0, 512)                              # in flight
        self.assertEqual(kept.check(0, kill_loop.content(later, 0)), [0, 1])
        with self.assertRaises(kill_loop.violation):
            kept.check(0, kill_loop.content(stamp, 0))          # it had been new


if __name__ == "__main__":
    unittest.main()
