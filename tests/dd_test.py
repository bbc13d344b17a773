#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre dd`: between files, pipes and bdevs, by SPDK's option names; --skip, --seek, --count and
# holes to the byte; what it refuses before it writes anything.

import json
import os
import pty
import shutil
import subprocess
import tempfile
import unittest

from daemon import NACRE, loop_device, nacre

MIB = 1 << 20


class dd(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nacre-dd-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.data = os.urandom(3 * MIB + 12345)
        self.source = self.path("source")
        with open(self.source, "wb") as out:
            out.write(self.data)

    def path(self, name):
        return os.path.join(self.folder, name)

    def bdev(self, name, size="4MiB"):
        return f"file://{self.path(name)}?size={size}"

    def read(self, name):
        with open(self.path(name), "rb") as whole:
            return whole.read()

    def dd(self, *arguments, status=0, **options):
        options.setdefault("timeout", 60)
        done = subprocess.run([NACRE, "dd", *arguments], capture_output=True, **options)
        self.assertEqual(done.returncode, status, (arguments, done.stderr))
        return done

    def test_a_file_to_a_bdev_and_back(self):
        for depth in ("1", "2", "64"):
            self.dd("--if", self.source, "--ob", self.bdev("disk" + depth), "--bs", "64KiB",
                    "--qd", depth)
            disk = self.read("disk" + depth)
            self.assertEqual(disk[:len(self.data)], self.data)
            self.assertEqual(disk[len(self.data):], bytes(4 * MIB - len(self.data)))
            self.dd("--ib", f"file://{self.path('disk' + depth)}", "--of", self.path("back"),
                    "--bs", "64KiB", "--qd", depth)
            self.assertEqual(self.read("back"), disk)

    def test_what_lies_behind_the_end_of_a_file_in_its_last_block_stays(self):
        with open(self.path("disk"), "wb") as out:
            out.write(b"x" * MIB)
        with open(self.path("short"), "wb") as out:
            out.write(b"y" * 5000)
        self.dd("--if", self.path("short"), "--ob", f"file://{self.path('disk')}")
        self.assertEqual(self.read("disk"), b"y" * 5000 + b"x" * (MIB - 5000))

    def test_pipes(self):
        out = self.dd("--if", "-", "--of", "-", "--bs", "4096", input=self.data).stdout
        self.assertEqual(out, self.data)
        self.dd("--if", "-", "--ob", self.bdev("disk"), "--bs", "1MiB", "--skip", "1",
                input=self.data)
        self.assertEqual(self.read("disk")[:len(self.data) - MIB], self.data[MIB:])
        out = self.dd("--ib", f"file://{self.path('disk')}", "--of", "-", "--bs", "4KiB", "--count",
                      "3", "--skip", "1", "--qd", "16").stdout
        self.assertEqual(out, self.data[MIB + 4096:MIB + 4 * 4096])

    def test_skip_seek_and_count_are_in_units(self):
        self.dd("--if", self.source, "--ob", self.bdev("disk"), "--bs", "8KiB", "--skip", "3",
                "--seek", "5", "--count", "7")
        expected = bytearray(4 * MIB)
        expected[5 * 8192:12 * 8192] = self.data[3 * 8192:10 * 8192]
        self.assertEqual(self.read("disk"), expected)
        with open(self.path("old"), "wb") as out:
            out.write(b"o" * 40000)
        self.dd("--if", self.source, "--of", self.path("old"), "--bs", "1000", "--seek", "2",
                "--skip", "1", "--count", "3")
        self.assertEqual(self.read("old"), b"o" * 2000 + self.data[1000:4000])

    def test_a_bdev_to_a_bdev_of_a_configuration(self):
        config = {"subsystems": [{"subsystem": "bdev", "config": [
            {"method": "bdev_aio_create",
             "params": {"name": name, "filename": self.path(name), "block_size": 512}}
            for name in ("one", "two")]}]}
        for name, filled in (("one", b"1"), ("two", b"2")):
            with open(self.path(name), "wb") as out:
                out.write(filled * 65536)
        with open(self.path("config.json"), "w", encoding="utf-8") as out:
            json.dump(config, out)
        done = self.dd("--ib", "one", "--ob", "two", "-c", self.path("config.json"), "--bs", "512",
                       "--count", "8", "--seek", "1", "--json")
        self.assertEqual(json.loads(done.stdout)["bytes"], 4096)
        self.assertEqual(self.read("two"), b"2" * 512 + b"1" * 4096 + b"2" * (65536 - 4608))
        self.dd("--ib", "two", "--ob", "two", "-c", self.path("config.json"), "--bs", "512",
                "--skip", "1", "--count", "1")
        self.assertEqual(self.read("two")[:512], b"1" * 512)

    def holes(self):
        with open(self.path("holes"), "wb") as out:
            out.write(b"a" * 70000)
            out.seek(40 * MIB)
            out.write(b"b" * 70000)
            out.truncate(64 * MIB)
        return self.read("holes")

    def test_holes_are_not_read_and_become_holes(self):
        whole = self.holes()
        done = self.dd("--if", self.path("holes"), "--of", self.path("copy"), "--bs", "64KiB",
                       "--sparse", "--json")
        self.assertEqual(self.read("copy"), whole)
        figures = json.loads(done.stdout)
        self.assertEqual(figures["bytes"], 64 * MIB)
        self.assertLess(figures["written_bytes"], MIB)
        self.assertLess(os.stat(self.path("copy")).st_blocks * 512, MIB)
        self.dd("--if", self.path("holes"), "--of", self.path("dense"), "--bs", "64KiB")
        self.assertEqual(self.read("dense"), whole)

    def test_holes_are_zeros_of_a_bdev_whatever_it_held(self):
        whole = self.holes()
        with open(self.path("disk"), "wb") as out:
            out.write(b"x" * (65 * MIB))
        self.dd("--if", self.path("holes"), "--ob", f"file://{self.path('disk')}", "--bs", "1MiB",
                "--sparse", "--qd", "8")
        self.assertEqual(self.read("disk"), whole + b"x" * MIB)
        self.dd("--ib", f"file://{self.path('disk')}", "--of", self.path("back"), "--bs", "1MiB",
                "--sparse", "--count", "64")
        self.assertEqual(self.read("back"), whole)

    def test_holes_are_zeros_of_a_block_device_whatever_it_held(self):
        whole = self.holes()
        with open(self.path("disk"), "wb") as out:
            out.write(b"x" * (65 * MIB))
        device = loop_device(self, self.path("disk"))
        self.dd("--if", self.path("holes"), "--of", device, "--bs", "1MiB", "--sparse",
                "--oflag", "dsync")
        with open(device, "rb") as there:
            self.assertEqual(there.read(), whole + b"x" * MIB)

    def test_append_and_the_flags_of_spdk(self):
        with open(self.path("log"), "wb") as out:
            out.write(b"before")
        self.dd("--if", self.source, "--of", self.path("log"), "--bs", "4KiB", "--count", "2",
                "--oflag", "append,dsync", "--iflag", "direct,noatime", "--aio", "--qd", "8")
        self.assertEqual(self.read("log"), b"before" + self.data[:8192])
        self.assertIn(b"frobnicate", self.dd("--if", self.source, "--of", self.path("x"),
                                             "--oflag", "frobnicate", status=2).stderr)

    def test_what_cannot_be_is_said_before_anything_is_written(self):
        disk = self.bdev("disk", "1MiB")
        self.dd("--if", "/dev/null", "--ob", disk)
        disk = f"file://{self.path('disk')}"
        for arguments, words in (
                (("--if", self.source, "--ob", disk), "do not fit"),
                (("--if", self.source, "--ob", disk, "--bs", "1000"), "multiple"),
                (("--if", self.source, "--ob", disk, "--seek", "1000"), "--seek 1000"),
                (("--if", self.source, "--ob", disk, "--skip", "100000"), "--skip 100000"),
                (("--ib", disk, "--of", "-", "--count", "257"), "--count 257"),
                (("--if", self.source, "--of", "-", "--seek", "1"), "first to last"),
                (("--if", "/does/not/exist", "--ob", disk), "/does/not/exist"),
                (("--if", self.folder, "--ob", disk), "name a file"),
                (("--ib", "nobody", "--of", "-"), "--config")):
            done = self.dd(*arguments, status=1)
            self.assertIn(words, done.stderr.decode())
        self.assertEqual(self.read("disk"), bytes(MIB))
        for arguments in ((), ("--if", "a"), ("--if", "a", "--ib", "b", "--of", "c"),
                          ("--if", "a", "--of", "b", "--bs", "0"), ("--if", "a", "--of", "b",
                                                                    "--count", "-1")):
            self.dd(*arguments, status=2)

    def test_a_pipe_that_is_longer_than_the_bdev_ends_with_enospc(self):
        done = self.dd("--if", "-", "--ob", self.bdev("disk", "1MiB"), "--bs", "64KiB", status=1,
                       input=self.data)
        self.assertIn("ENOSPC", done.stderr.decode())
        self.assertEqual(self.read("disk"), self.data[:MIB])

    def test_progress_stands_on_a_terminal(self):
        primary, secondary = pty.openpty()
        run = subprocess.Popen([NACRE, "dd", "--if", "/dev/zero", "--ob",
                                "delay:///d?base=null:///n?size=1TiB&avg_write_latency=20000",
                                "--bs", "4KiB", "--count", "120", "--qd", "1"],
                               stderr=secondary, stdout=subprocess.DEVNULL)
        os.close(secondary)
        seen = b""
        while True:
            try:
                part = os.read(primary, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        os.close(primary)
        self.assertEqual(run.wait(60), 0, seen)
        self.assertIn(b" of 0.5 MiB, ", seen)

    def test_help_teaches(self):
        out = nacre("dd", "--help").stdout
        for option in ("--if", "--ib", "--of", "--ob", "--bs", "--count", "--skip", "--seek",
                       "--sparse", "--qd", "--config", "--iflag", "--oflag", "--aio", "--json"):
            self.assertIn(option, out)


if __name__ == "__main__":
    unittest.main()
