#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre sim`: a seed gives the same run every time, another seed another one; a violation is found,
# fails the command, and comes with the line that replays it.

import json
import os
import re
import subprocess
import unittest

NACRE = os.environ["NACRE_BINARY"]
SOUND = ["file", "file-faults", "raid1"]


def sim(*arguments):
    return subprocess.run([NACRE, "sim", *arguments], capture_output=True, text=True, timeout=100)


def runs(*arguments):
    done = sim("--json", *arguments)
    return done.returncode, json.loads(done.stdout)


class sim_command(unittest.TestCase):
    def test_the_same_seed_gives_the_same_run(self):
        for scenario in SOUND:
            first = sim("--seed", "7", "--steps", "400", scenario)
            self.assertEqual(first.returncode, 0, first.stderr)
            self.assertRegex(first.stdout, r"fingerprint [0-9a-f]{16}: ok")
            self.assertEqual(sim("--seed", "7", "--steps", "400", scenario).stdout, first.stdout)

    def test_a_seed_gives_the_same_run_alone_and_after_others(self):
        for scenario in SOUND:
            _, in_a_row = runs("--seed", "5", "--seeds", "4", "--steps", "200", scenario)
            _, alone = runs("--seed", "8", "--steps", "200", scenario)
            self.assertEqual(in_a_row[-1], alone[0], scenario)

    def test_the_trace_is_the_same_too_and_does_not_change_the_run(self):
        plain = sim("--seed", "3", "--steps", "50", "file").stdout
        traced = sim("--seed", "3", "--steps", "50", "file", "--trace").stdout
        self.assertEqual(traced, sim("--seed", "3", "--steps", "50", "--trace", "file").stdout)
        self.assertTrue(traced.endswith(plain))
        self.assertIn("power cut", traced)
        self.assertGreater(traced.count("submit"), 50)

    def test_other_seeds_give_other_runs(self):
        code, found = runs("--seeds", "20", "--steps", "200", "file")
        self.assertEqual(code, 0)
        self.assertEqual([r["seed"] for r in found], list(range(1, 21)))
        self.assertEqual(len({r["fingerprint"] for r in found}), 20)
        self.assertTrue(all(r["ok"] and r["operations"] >= 200 for r in found))
        self.assertGreater(sum(r["power_cuts"] for r in found), 20)

    def test_a_disk_that_lies_is_found_out_and_the_line_that_replays_it_does(self):
        code, found = runs("--seeds", "50", "--steps", "1000", "file-liar")
        self.assertEqual(code, 1)
        self.assertFalse(found[-1]["ok"])
        self.assertTrue(all(r["ok"] for r in found[:-1]))
        self.assertRegex(found[-1]["problem"], r"sector \d+ holds .*, but must hold ")
        failed = sim("--seeds", "50", "--steps", "1000", "file-liar")
        self.assertEqual(failed.returncode, 1)
        replay = re.search(r"replay: nacre (sim .*)", failed.stderr).group(1)
        again = subprocess.run([NACRE, *replay.split()], capture_output=True, text=True)
        self.assertEqual(again.returncode, 1)
        self.assertIn(found[-1]["problem"], again.stderr)
        self.assertIn(found[-1]["fingerprint"], again.stdout)

    def test_the_list_names_every_scenario(self):
        names = [s["name"] for s in json.loads(sim("--list", "--json").stdout)]
        for name in SOUND:
            self.assertIn(name, names)
        self.assertEqual([line.split()[0] for line in sim("--list").stdout.splitlines()], names)

    def test_what_is_no_scenario_is_refused(self):
        for wrong in (["nothing-like-it"], [], ["--steps", "-1", "file"], ["--seeds", "0", "file"],
                      ["--nonsense"]):
            done = sim(*wrong)
            self.assertEqual(done.returncode, 2, wrong)
            self.assertNotEqual(done.stderr, "", wrong)


if __name__ == "__main__":
    unittest.main()
