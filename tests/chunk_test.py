#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre chunk` from a shell: objects in a file, in and out, read back by other processes, damaged,
# checked, loaded.

import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

from daemon import NACRE, nacre

PLUGIN = os.path.join(os.environ["NACRE_BUILD_DIR"], "nacre-chunk.so")
PAGE = 4096


class the_tool(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="nacre-chunk-")
        self.addCleanup(self.scratch.cleanup)
        self.image = os.path.join(self.scratch.name, "c.img")
        self.address = f"file://{self.image}"

    def at(self, name, data=None):
        path = os.path.join(self.scratch.name, name)
        if data is not None:
            with open(path, "wb") as out:
                out.write(data)
        return path

    def chunk(self, command, *arguments, status=0, address=None, **options):
        done = subprocess.run([NACRE, "chunk", command, address or self.address, *arguments],
                              capture_output=True, timeout=60, **options)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return done

    def json(self, command, *arguments, **how):
        return json.loads(self.chunk(command, *arguments, "--json", **how).stdout)

    def test_takes_one_address_for_all_commands(self):
        self.make()
        for options in ("?size=128MiB&mkfs=auto", "?mkfs=auto&size=128MiB", "?mkfs=auto"):
            listed = self.chunk("ls", "--json", address=self.address + options)
            self.assertEqual([o["name"] for o in json.loads(listed.stdout)], ["first"])

    def make(self):
        self.chunk("create", "first", address=f"{self.address}?size=128MiB&mkfs=auto")

    def test_keeps_what_is_put_in(self):
        self.make()
        data = random.Random(1).randbytes(20_000_000)
        self.chunk("put", "big", self.at("in", data))
        self.chunk("get", "big", self.at("out"))
        with open(self.at("out"), "rb") as back:
            self.assertTrue(back.read() == data)
        self.assertEqual(self.chunk("read", "big", "--offset=5000", "--length=10").stdout,
                         data[5000:5010])
        self.chunk("write", "big", "--offset=4090", input=b"across pages")
        self.assertEqual(self.chunk("read", "big", "--offset=4085", "--length=20").stdout,
                         data[4085:4090] + b"across pages" + data[4102:4105])
        self.chunk("resize", "big", "6000")
        stat = self.json("stat", "big")
        self.assertEqual((stat["size"], stat["allocated"]), (6000, 2 * PAGE))
        self.chunk("put", "big", input=b"another")
        self.assertEqual(self.chunk("get", "big").stdout, b"another")
        self.assertEqual([o["name"] for o in self.json("ls")], ["big", "first"])
        self.assertEqual([o["name"] for o in self.json("ls", "--prefix=f")], ["first"])
        self.assertIn(b"big", self.chunk("ls").stdout)
        self.chunk("rm", "big")
        info = self.json("info")
        self.assertEqual((info["objects"], info["allocated"]), (1, 0))
        self.assertEqual(self.json("check"), {"clean": True, "objects": 1, "pages": 0,
                                              "leaked_pages": 0, "findings": []})

    def test_finds_a_damaged_page_and_does_not_print_it(self):
        self.make()
        self.chunk("put", "o", self.at("in", b"x" * PAGE + b"needle" + b"y" * PAGE))
        self.assertEqual(self.json("scrub")["damaged"], [])
        with open(self.image, "r+b") as image:
            at = image.read().index(b"needle")
            image.seek(at)
            image.write(b"N")
        done = self.chunk("get", "o", status=1)
        self.assertIn(b"object o: page 1", done.stderr)
        self.assertNotIn(b"eedle", done.stdout)
        self.assertEqual(self.json("scrub", status=1)["damaged"], [{"name": "o", "page": 1}])
        self.chunk("write", "o", self.at("good", b"z" * PAGE), f"--offset={PAGE}")
        self.assertEqual(self.json("scrub")["damaged"], [])
        self.assertEqual(self.json("info")["scrub_passes"], 3)

    def test_loads_the_store(self):
        self.make()
        for rw in ("randwrite", "randread", "write", "read"):
            said = self.json("perf", f"--rw={rw}", "--runtime=200ms", "--object-size=1MiB",
                             "--threads=4", "--objects=4")
            self.assertGreater(said["calls"], 0, said)
            self.assertGreaterEqual(said["p99_us"], said["p50_us"])
        self.assertEqual([o["name"] for o in self.json("ls")], ["first"])
        self.assertTrue(self.json("check")["clean"])

    def test_says_what_is_wrong(self):
        done = self.chunk("ls", status=1)
        self.assertIn(b"c.img", done.stderr)
        self.make()
        self.assertIn(b"object none: there is none", self.chunk("get", "none", status=1).stderr)
        self.chunk("create", "first", status=1)
        self.chunk("create", "o", "--size=many", status=2)
        self.chunk("nonsense", status=2)
        self.assertIn(b"no chunk store",
                      self.chunk("ls", "--path=/other", status=1).stderr)
        done = self.chunk("ls", status=1, env={**os.environ, "NACRE_PLUGINS": self.scratch.name})
        self.assertIn(b"nacre-chunk.so is not in", done.stderr)
        self.assertIn("Examples", nacre("chunk", "--help").stdout)

    def test_the_program_itself_does_without_rocksdb(self):
        linked = subprocess.run(["ldd", NACRE], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("rocksdb", linked)


if __name__ == "__main__":
    if not os.path.exists(PLUGIN):
        print("skipped: no nacre-chunk.so: librocksdb-dev is missing, or a sanitizer is on")
        sys.exit(77)
    unittest.main()
