# SPDX-License-Identifier: BSD-3-Clause
#
# What the suites of the guest share. They run inside it: see tests/guest/run.

import os
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from daemon import Daemon, wait_until  # noqa: E402

PATIENCE_S = 60


def run(*command, expect=0, **options):
    """What it prints; its exit status must be `expect`, unless that is None."""
    options.setdefault("timeout", PATIENCE_S)
    options.setdefault("stderr", subprocess.STDOUT)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, **options)
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}")
    return done.stdout


def sysfs(disk, name):
    with open(f"/sys/block/{os.path.basename(disk)}/{name}", encoding="ascii") as f:
        return f.read().strip()


def result(response):
    """Of a call that must succeed."""
    assert "result" in response, response
    return response["result"]


def main():
    """The suite of the calling script; says how long each test took."""
    began = time.monotonic()

    class timed(unittest.TextTestResult):
        def startTest(self, test):
            self.began = time.monotonic()
            super().startTest(test)

        def stopTest(self, test):
            self.stream.writeln(f"    {time.monotonic() - self.began:.1f} s")
            super().stopTest(test)

    program = unittest.main(module="__main__", exit=False, verbosity=2,
                            testRunner=unittest.TextTestRunner(resultclass=timed, verbosity=2))
    print(f"{time.monotonic() - began:.0f} s in the guest")
    sys.exit(not program.result.wasSuccessful())


__all__ = ["Daemon", "PATIENCE_S", "main", "result", "run", "signal", "subprocess", "sysfs",
           "wait_until"]
