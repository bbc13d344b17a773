#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# What docs/writing-a-module.md tells a newcomer to type does what it is said to do. (lint.guide
# holds the C++ that it shows against examples/.)

import os
import re
import shlex
import subprocess
import tempfile
import unittest

from daemon import NACRE, READY_S_MAX, wait_until

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.dirname(os.path.abspath(NACRE))
SOCKET = "/tmp/ram.sock"


def commands():
    with open(os.path.join(TOP, "docs/writing-a-module.md"), encoding="utf-8") as text:
        block = re.search(r"^```sh\ncd build/release\n(.*?)^```$", text.read(),
                          re.DOTALL | re.MULTILINE)
    return block[1].splitlines()


class guide(unittest.TestCase):
    def test_every_command_of_the_first_section_works(self):
        with tempfile.TemporaryDirectory(prefix="nacre-") as folder:
            here = os.path.join(folder, "ram.sock")
            daemon = None
            try:
                for line in commands():
                    typed = shlex.split(line.removesuffix("&").replace(SOCKET, here))
                    if line.endswith("&"):
                        daemon = subprocess.Popen(typed, cwd=BUILD, stdout=subprocess.DEVNULL)
                        self.assertTrue(wait_until(lambda: os.path.exists(here)), "no socket")
                        continue
                    done = subprocess.run(typed, cwd=BUILD, capture_output=True, text=True,
                                          timeout=READY_S_MAX, check=False)
                    self.assertEqual(done.returncode, 0, f"{line}: {done.stderr}")
            finally:
                if daemon is not None:
                    daemon.terminate()
                    self.assertEqual(daemon.wait(READY_S_MAX), 0)
            self.assertIsNotNone(daemon)


if __name__ == "__main__":
    unittest.main()
