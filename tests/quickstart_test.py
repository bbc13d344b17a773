#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre serve --quickstart`: a volume that is there at once, and again with the same data after a
# stop, after SIGKILL, in a folder that was moved, and with one leg missing.

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import nbd
from daemon import NACRE, Daemon, nacre

GIB = 1 << 30
FIRST = bytes(range(256)) * 16 * 4
LAST = b"the last bytes of vol0".ljust(4096, b".")


def connect(d):
    handle = nbd.NBD()
    handle.connect_uri(d.ready["exports"][0]["uri"])
    return handle


def write_both_ends(d):
    handle = connect(d)
    handle.pwrite(FIRST, 0)
    handle.pwrite(LAST, GIB - len(LAST), nbd.CMD_FLAG_FUA)
    handle.flush()
    handle.shutdown()


def read(path):
    with open(path, encoding="utf-8") as text:
        return text.read()


class quickstart(unittest.TestCase):
    def setUp(self):
        self.top = tempfile.mkdtemp(prefix="nacre-quick-")
        self.data = self.top + "/data"
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)

    def start(self, data=None):
        return Daemon("--quickstart", "--data", data or self.data, folder=self.top)

    def check_both_ends(self, d):
        handle = connect(d)
        self.assertEqual(handle.get_size(), GIB)
        self.assertEqual(bytes(handle.pread(len(FIRST), 0)), FIRST)
        self.assertEqual(bytes(handle.pread(len(LAST), GIB - len(LAST))), LAST)
        handle.shutdown()

    def raid(self, d):
        arrays = d.rpc("bdev_raid_get_bdevs", "category=all")
        self.assertEqual([a["name"] for a in arrays], ["vol0"])
        return arrays[0]

    def test_the_first_start_makes_everything_in_the_folder(self):
        with self.start() as d:
            self.assertEqual(d.ready["socket"], self.data + "/rpc.sock")
            (export,) = d.ready["exports"]
            self.assertEqual(export["export"], "vol0")
            self.assertEqual(export["unix"], self.data + "/nbd.sock")
            self.assertEqual(export["size"], GIB)
            self.assertEqual(self.raid(d)["num_base_bdevs_operational"], 2)
            self.assertEqual(sorted(os.listdir(self.data)),
                             ["config.json", "leg0.img", "leg1.img", "nbd.sock", "nbd.sock.lock",
                              "rpc.sock", "rpc.sock.lock"])
            self.assertEqual(d.stop(), 0, d.stderr())
        self.assertEqual(sorted(os.listdir(self.data)), ["config.json", "leg0.img", "leg1.img"])
        for leg in ("leg0.img", "leg1.img"):
            there = os.stat(f"{self.data}/{leg}")
            self.assertEqual(there.st_size, GIB + (1 << 20))
            self.assertLess(there.st_blocks * 512, 16 << 20)  # sparse

    def test_a_second_start_finds_the_same_data(self):
        with self.start() as d:
            write_both_ends(d)
            self.assertEqual(d.stop(), 0)
        saved = read(self.data + "/config.json")
        with self.start() as d:
            self.check_both_ends(d)
            self.assertEqual(self.raid(d)["num_base_bdevs_operational"], 2)
            self.assertEqual(d.stop(), 0)
            self.assertFalse([line for line in d.stderr().splitlines()
                              if not line.startswith("notice ")])
        self.assertEqual(read(self.data + "/config.json"), saved)

    def test_after_sigkill_too(self):
        with self.start() as d:
            write_both_ends(d)
            self.assertEqual(d.stop(signal.SIGKILL), -signal.SIGKILL)
        with self.start() as d:
            self.check_both_ends(d)

    def test_the_folder_can_be_moved(self):
        with self.start() as d:
            write_both_ends(d)
            d.stop()
        os.rename(self.data, self.top + "/elsewhere")
        with self.start(self.top + "/elsewhere") as d:
            self.check_both_ends(d)
            d.stop()
        self.assertFalse(os.path.exists(self.data))
        text = read(self.top + "/elsewhere/config.json")
        self.assertNotIn(self.data + "/", text)

    def test_a_copy_beside_the_original_is_refused(self):
        with self.start() as d:
            d.stop()
        shutil.copytree(self.data, self.top + "/copy")
        done = nacre("serve", "--quickstart", "--data", self.top + "/copy")
        self.assertEqual(done.returncode, 1)
        self.assertIn("Remove one of the two", done.stderr)

    def test_a_missing_leg_is_waited_for_and_never_guessed_about(self):
        with self.start() as d:
            write_both_ends(d)
            d.stop()
        os.rename(self.data + "/leg0.img", self.top + "/leg0.img")
        done = nacre("serve", "--quickstart", "--data", self.data)
        self.assertEqual(done.returncode, 1)
        self.assertIn("leg0.img is missing", done.stderr)
        done = nacre("serve", "--quickstart", "--data", self.data, "--ignore-config-errors")
        self.assertEqual(done.returncode, 1)
        self.assertIn("vol0: waits for a leg that may hold newer data", done.stderr)
        self.assertIn("bdev_raid_start_degraded name=vol0", done.stderr)
        self.assertFalse(os.path.exists(self.data + "/leg0.img"))
        os.rename(self.top + "/leg0.img", self.data + "/leg0.img")
        with self.start() as d:
            self.check_both_ends(d)

    def test_a_lost_leg_is_done_without_as_the_error_says(self):
        with self.start() as d:
            write_both_ends(d)
            d.stop()
        os.unlink(self.data + "/leg1.img")
        done = nacre("serve", "--quickstart", "--data", self.data, "--ignore-config-errors")
        said = re.findall(r"`nacre ([^`]*)`", done.stderr.split("go on with the other alone")[1])
        self.assertEqual(len(said), 2, done.stderr)
        with Daemon(*said[0].split()[1:], folder=self.top) as d:
            self.assertEqual(nacre(*said[1].split()).returncode, 0)
            raid = d.rpc("bdev_raid_get_bdevs", "category=online")[0]
            self.assertEqual(raid["num_base_bdevs_operational"], 1)
            d.stop()

    def test_two_lost_legs_are_an_error_and_not_a_new_volume(self):
        with self.start() as d:
            d.stop()
        os.unlink(self.data + "/leg0.img")
        os.unlink(self.data + "/leg1.img")
        done = nacre("serve", "--quickstart", "--data", self.data)
        self.assertEqual(done.returncode, 1)
        self.assertIn("leg0.img is missing", done.stderr)
        self.assertFalse(os.path.exists(self.data + "/leg0.img"))
        done = nacre("serve", "--quickstart", "--data", self.data, "--ignore-config-errors")
        self.assertEqual(done.returncode, 1)
        self.assertIn("vol0: ", done.stderr)

    def test_legs_without_their_configuration_are_not_touched(self):
        with self.start() as d:
            write_both_ends(d)
            d.stop()
        os.rename(self.data + "/config.json", self.top + "/config.json")
        done = nacre("serve", "--quickstart", "--data", self.data)
        self.assertEqual(done.returncode, 1)
        self.assertIn("may hold somebody's data", done.stderr)
        os.rename(self.top + "/config.json", self.data + "/config.json")
        with self.start() as d:
            self.check_both_ends(d)

    def test_a_start_that_was_interrupted_is_finished_by_the_next(self):
        with self.start() as d:
            d.stop()
        config = json.loads(read(self.data + "/config.json"))
        config["subsystems"] = config["subsystems"][:1]  # as the first start leaves it: no export
        with open(self.data + "/config.json", "w", encoding="utf-8") as out:
            json.dump(config, out)
        with self.start() as d:
            self.assertEqual(d.ready["exports"][0]["size"], GIB)

    def test_a_second_daemon_in_the_folder_is_refused(self):
        with self.start() as d:
            write_both_ends(d)
            done = nacre("serve", "--quickstart", "--data", self.data)
            self.assertEqual(done.returncode, 1)
            self.assertIn("in use", done.stderr)
            self.check_both_ends(d)

    def test_it_tells_people_how_to_go_on(self):
        process = subprocess.Popen([NACRE, "serve", "--quickstart"], cwd=self.top, text=True,
                                   stdout=subprocess.PIPE)
        lines = []
        while not lines or "stops it" not in lines[-1]:
            lines.append(process.stdout.readline())
            self.assertNotEqual(lines[-1], "", lines)
        text = "".join(lines)
        for part in ("vol0", "1 GiB", self.top + "/nacre-data/nbd.sock", "qemu-img", "nbdcopy",
                     f"kill {process.pid}"):
            self.assertIn(part, text)
        # In the same folder `nacre rpc` finds it by itself.
        listed = nacre("rpc", "--json", "nbd_get_exports", cwd=self.top)
        self.assertEqual(json.loads(listed.stdout)[0]["bdev_name"], "vol0")
        process.terminate()
        self.assertEqual(process.wait(30), 0)
        process.stdout.close()


if __name__ == "__main__":
    unittest.main()
