#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# tests/guest/run itself, from the host: what goes in and what comes back. One boot each.

import os
import subprocess
import sys
import tempfile
import threading
import unittest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run")
SKIPPED = 77


def guest(*arguments, **options):
    return subprocess.run([RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, timeout=200, **options)


class a_guest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name
        self.script = os.path.join(self.folder, "script")

    def write(self, text):
        with open(self.script, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n" + text)
        os.chmod(self.script, 0o755)

    def test_runs_a_script_and_gives_back_what_came_of_it(self):
        self.write("""
echo "argument $2"; uname -r; test -x "$NACRE_BINARY" && echo built
touch /usr/new 2>/dev/null || echo read-only
echo figures >"$GUEST_RESULTS/file"
exit 5
""")
        results = os.path.join(self.folder, "results")
        done = guest("--results", results, self.script, "one", "two words")
        self.assertEqual(done.returncode, 5, done.stdout)
        self.assertIn("argument two words\n", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^6\.(1[2-9]|[2-9]\d)\.")
        self.assertIn("built\n", done.stdout)
        self.assertIn("read-only\n", done.stdout)
        with open(os.path.join(results, "file"), encoding="ascii") as f:
            self.assertEqual(f.read(), "figures\n")

    def test_is_ended_when_it_takes_too_long(self):
        self.write("sleep 1000\n")
        done = guest("--seconds", "6", self.script)
        self.assertEqual(done.returncode, 124, done.stdout)

    def test_gives_a_person_a_shell(self):
        with subprocess.Popen([RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as shell:
            late = threading.Timer(100, shell.kill)
            late.start()
            said = b""
            while not said.endswith(b"guest# "):
                piece = os.read(shell.stdout.fileno(), 4096)
                self.assertTrue(piece, said)
                said += piece
            shell.stdin.write(b"echo $((6 * 7)) is it; exit\n")
            shell.stdin.flush()
            said = shell.stdout.read()
            late.cancel()
        self.assertIn(b"42 is it", said)
        self.assertEqual(shell.returncode, 0, said)


if __name__ == "__main__":
    ready = guest("--prepare")
    if ready.returncode == SKIPPED:
        sys.stdout.write(ready.stdout)
        sys.exit(SKIPPED)
    unittest.main()
