#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre tour` on a small tree: every step is done and says so, its figures are those of the tree,
# and it fails, with a reason, when something is wrong.

import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest

NACRE = os.environ["NACRE_BINARY"]
STEPS = ["prepare", "serve", "copy", "fail-leg", "rebuild", "kill", "verify", "thin",
         "stop", "rocksdb"]


def tour(*arguments, **environment):
    return subprocess.run([NACRE, "tour", *arguments], capture_output=True, text=True, timeout=280,
                          env={**os.environ, **environment})


class tour_command(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.mkdtemp(prefix="nacre-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.addCleanup(shutil.rmtree, self.place)
        self.tree = os.path.join(self.place, "tree")
        self.temporary = os.path.join(self.place, "tmp")
        os.makedirs(os.path.join(self.tree, "a folder", "empty"))
        os.mkdir(self.temporary)
        for number in range(40):
            with open(os.path.join(self.tree, "a folder", f"file {number}"), "wb") as file:
                file.write(os.urandom(number * 5000))
        os.symlink("a folder/file 7", os.path.join(self.tree, "link"))

    def test_does_all_of_it_and_cleans_up(self):
        began = time.monotonic()
        done = tour("--json", "--tree", self.tree, TMPDIR=self.temporary)
        took = time.monotonic() - began
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        steps = json.loads(done.stdout)
        self.assertEqual([step["name"] for step in steps], STEPS)
        for step in steps:
            self.assertTrue(step["ok"], step)
            self.assertGreaterEqual(step["seconds"], 0)
            self.assertTrue(step.get("did") or step.get("skipped"), step)
        figures = {step["name"]: step["figures"] for step in steps}
        self.assertEqual(figures["prepare"]["files"], 40)
        self.assertEqual(figures["prepare"]["links"], 1)
        self.assertEqual(figures["prepare"]["tree_bytes"], 5000 * sum(range(40)))
        self.assertEqual(figures["verify"]["files_checked"], 40)
        self.assertEqual(figures["verify"]["entries_checked"], 43)
        self.assertEqual(figures["verify"]["image_sha256"], figures["prepare"]["image_sha256"])
        self.assertEqual(figures["fail-leg"]["writes_acknowledged"], figures["fail-leg"]["writes"])
        self.assertGreater(figures["fail-leg"]["writes_after_failure"], 0)
        self.assertGreater(figures["kill"]["writes_acknowledged"], 100)
        self.assertGreater(figures["thin"]["writes_acknowledged"], 100)
        self.assertGreater(figures["thin"]["allocated_since_snapshot_bytes"], 0)
        self.assertLess(figures["thin"]["allocated_bytes"], figures["serve"]["volume_bytes"])
        self.assertGreater(figures["serve"]["ready_ms"], 0)
        self.assertEqual(os.listdir(self.temporary), [])
        self.assertLess(took, 60)

    def test_a_step_brings_those_that_it_needs_and_a_named_folder_stays(self):
        data = os.path.join(self.place, "data")
        done = tour("--step", "copy", "--json", "--tree", self.tree, "--data", data)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual([step["name"] for step in json.loads(done.stdout)],
                         ["prepare", "serve", "copy"])
        self.assertIn("leg_a.img", os.listdir(data))
        again = tour("--step", "prepare", "--tree", self.tree, "--data", data)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("40 files", again.stdout)
        self.assertNotIn("leg_a.img", os.listdir(data))

    def test_without_rocksdb_says_which_package_is_missing(self):
        nothing = os.path.join(self.place, "bin")
        os.mkdir(nothing)
        done = tour("--step", "rocksdb", "--data", os.path.join(self.place, "d"), PATH=nothing)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"skipped +rocksdb")
        self.assertIn("skipped: db_bench is not installed: sudo apt-get install -y rocksdb-tools",
                      " ".join(done.stdout.split()))
        self.assertIn("Nothing differs in what was done", done.stdout)

    def test_lists_its_steps(self):
        self.assertEqual([step["name"] for step in json.loads(tour("--list", "--json").stdout)],
                         STEPS)
        self.assertEqual([line.split()[0] for line in tour("--list").stdout.splitlines()], STEPS)

    def test_a_missing_tool_is_named_with_the_line_that_installs_it(self):
        nothing = os.path.join(self.place, "bin")
        os.mkdir(nothing)
        done = tour("--json", "--tree", self.tree, TMPDIR=self.temporary, PATH=nothing)
        self.assertEqual(done.returncode, 1)
        steps = json.loads(done.stdout)
        self.assertFalse(steps[0]["ok"])
        self.assertIn("nbdcopy", steps[0]["problem"])
        self.assertRegex(steps[0]["problem"], r"apt-get install .*libnbd-bin.*qemu-utils")
        # RocksDB's step needs none of the others, and is none for who has no RocksDB.
        self.assertEqual([step["ok"] for step in steps], [False] * (len(STEPS) - 1) + [True])
        self.assertIn("apt-get install -y rocksdb-tools", steps[-1]["skipped"])
        self.assertIn("not run, because prepare failed", steps[1]["problem"])

    def test_refuses_what_it_cannot_use(self):
        occupied = os.path.join(self.place, "tree")
        for arguments, words in (
                (["--data", occupied], "not empty"),
                (["--step", "dance"], "no such step"),
                (["--tree-size", "many"], "--tree-size"),
                (["--data", os.path.join(self.place, "x" * 80)], "too long a path")):
            done = tour(*arguments, TMPDIR=self.temporary)
            self.assertNotEqual(done.returncode, 0, arguments)
            self.assertIn(words, done.stderr, arguments)
        for tree, words in ((os.path.join(self.place, "none"), "No such file"),
                            (os.path.join(self.tree, "a folder", "empty"), "no files")):
            done = tour("--json", "--tree", tree, TMPDIR=self.temporary)
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, json.loads(done.stdout)[0]["problem"])
        self.assertIn("file 3", os.listdir(os.path.join(self.tree, "a folder")))


if __name__ == "__main__":
    unittest.main()
