#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre blob`: what each command prints and does, on stores of its own and on one that a real SPDK
# wrote; that what only reads writes nothing; how it fails.

import gzip
import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import unittest

from daemon import NACRE, loop_device, nacre

HERE = os.path.dirname(os.path.abspath(__file__))
SPDK_IMAGE = os.path.join(HERE, "blobstore", "testdata", "lvstore-64m.img.gz")
CHECKER = os.path.join(HERE, "blobstore", "spdk_blobstore.py")
READERS = (("list",), ("list", "--json"), ("info",), ("info", "cloneA"), ("tree",), ("dump",),
           ("export", "cloneA", "-"), ("xattr", "list", "lvolA"), ("xattr", "get", "lvolA", "name"),
           ("check",), ("shell", "--read-only"))


def sha256(path):
    with open(path, "rb") as whole:
        return hashlib.sha256(whole.read()).hexdigest()


class store_test(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nacre-blob-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.image = os.path.join(self.folder, "store.img")
        self.uri = f"file://{self.image}"

    def path(self, name):
        return os.path.join(self.folder, name)

    def blob(self, *words, status=0, **options):
        """`nacre blob COMMAND URI ...`; `xattr get` and the like are one command."""
        words = list(words)
        words.insert(2 if words[0] == "xattr" else 1, self.uri)
        done = nacre("blob", *words, **options)
        self.assertEqual(done.returncode, status, (words, done.stdout, done.stderr))
        return done.stdout if status == 0 else done.stderr

    def json(self, *words):
        return json.loads(self.blob(*words, "--json"))

    def init(self, size="64MiB", *options):
        self.uri = f"file://{self.image}?size={size}"
        self.blob("init", *options)
        self.uri = f"file://{self.image}"

    def unpack_spdk_image(self):
        with gzip.open(SPDK_IMAGE) as packed, open(self.image, "wb") as out:
            shutil.copyfileobj(packed, out)

    def check(self):
        """By the checker that was written from the format's text."""
        done = subprocess.run([sys.executable, "-B", CHECKER, "check", self.image],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(self.json("check")["verdict"], "clean")


class commands(store_test):
    def test_init_create_list_and_delete(self):
        self.init("64MiB", "--cluster-size", "64KiB", "--type", "MINE")
        info = self.json("info")
        self.assertEqual((info["type"], info["cluster_size"], info["clusters"], info["blobs"]),
                         ("MINE", 65536, 1024, 0))
        free = info["free_clusters"]
        thick = self.blob("create", "--size", "1MiB", "--name", "thick").strip()
        thin = self.blob("create", "--clusters", "100", "--thin", "--xattr", "a=b=c").strip()
        listed = {one["id"]: one for one in self.json("list")}
        self.assertEqual((listed[thick]["name"], listed[thick]["allocated_clusters"],
                          listed[thick]["kind"]), ("thick", 16, "thick"))
        self.assertEqual((listed[thin]["clusters"], listed[thin]["allocated_clusters"],
                          listed[thin]["xattrs"]), (100, 0, {"a": "b=c"}))
        self.assertEqual(self.json("info")["free_clusters"], free - 16)
        self.assertEqual(self.json("info", thin)["kind"], "thin")
        self.check()
        self.blob("delete", "thick")
        self.assertEqual([one["id"] for one in self.json("list")], [thin])
        self.blob("resize", thin, "--size", "100KiB")
        self.assertEqual(self.json("info", thin)["clusters"], 2)
        self.assertEqual(self.json("info")["free_clusters"], free)
        self.check()

    def test_attributes(self):
        self.init()
        self.blob("create", "--clusters", "1", "--name", "b")
        self.blob("xattr", "set", "b", "colour", "green and blue")
        self.assertEqual(self.blob("xattr", "get", "b", "colour"), "green and blue\n")
        self.assertEqual(self.json("xattr", "list", "b"),
                         {"name": "b", "colour": "green and blue"})
        self.blob("xattr", "rm", "b", "colour")
        self.assertIn("colour", self.blob("xattr", "get", "b", "colour", status=1))
        self.blob("xattr", "set", "b", "name", "renamed")
        self.assertEqual(self.blob("xattr", "list", "renamed"), "name=renamed\n")
        self.check()

    def test_the_tree_shows_who_reads_through_whom(self):
        self.init()
        self.blob("create", "--clusters", "2", "--name", "origin")
        self.blob("snapshot", "origin", "--name", "snap")
        self.blob("clone", "snap", "--name", "copy")
        self.blob("create", "--clusters", "0", "--name", "alone")
        lines = self.blob("tree").splitlines()
        drawn = [line.split(" (")[0] for line in lines[1:]]
        self.assertEqual(sorted(drawn), sorted(["├─ snap", "│  ├─ origin", "│  └─ copy",
                                                "└─ alone"]), lines)
        self.blob("inflate", "copy")
        self.assertEqual(self.json("info", "copy")["parent"], None)
        self.check()

    def test_import_and_export_keep_every_byte_and_skip_zeros(self):
        self.init("256MiB")
        source, back = self.path("source"), self.path("back")
        with open(source, "wb") as out:
            out.write(os.urandom(300000))
            out.seek(20 << 20)
            out.write(b"in the middle")
            out.seek(60 << 20)
            out.write(b"\0" * (2 << 20) + b"at the end, in no whole block")
        size = os.stat(source).st_size
        self.assertIn("stored", self.blob("import", source, "vol"))
        vol = self.json("info", "vol")
        self.assertEqual(vol["clusters"], -(-size // (1 << 20)))
        self.assertLessEqual(vol["allocated_clusters"], 3)
        self.blob("export", "vol", back)
        self.assertLess(os.stat(back).st_blocks * 512, 8 << 20)
        os.truncate(back, size)
        self.assertEqual(sha256(back), sha256(source))
        self.check()
        # Into one that is there and holds something: what was there is gone.
        with open(self.path("zeros"), "wb") as out:
            out.truncate(size)
        self.blob("import", self.path("zeros"), "vol")
        self.blob("export", "vol", back)
        os.truncate(back, size)
        self.assertEqual(sha256(back), sha256(self.path("zeros")))
        # One that is too small grows.
        self.blob("create", "--clusters", "1", "--name", "small")
        self.blob("import", source, "small")
        out = subprocess.run([NACRE, "blob", "export", self.uri, "small", "-"], timeout=60,
                             capture_output=True, check=True).stdout
        self.assertEqual(hashlib.sha256(out[:size]).hexdigest(), sha256(source))
        self.check()

    def test_export_to_a_block_device_that_held_something(self):
        self.init()
        with open(self.path("source"), "wb") as out:
            out.write(b"a" * 70000)
            out.seek(2 << 20)
            out.write(b"b" * 70000 + bytes((1 << 20) - 70000))
        self.blob("import", self.path("source"), "vol")
        with open(self.path("disk"), "wb") as out:
            out.write(b"x" * (4 << 20))
        device = loop_device(self, self.path("disk"))
        self.blob("export", "vol", device)
        with open(device, "rb") as there, open(self.path("source"), "rb") as source:
            self.assertEqual(there.read(), source.read() + b"x" * (1 << 20))

    def test_import_from_a_pipe(self):
        self.init()
        self.blob("create", "--clusters", "4", "--thin", "--name", "p")
        data = os.urandom(1234567)
        done = subprocess.run([NACRE, "blob", "import", self.uri, "-", "p"], input=data,
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        out = subprocess.run([NACRE, "blob", "export", self.uri, "p", "-"], timeout=60,
                             capture_output=True, check=True).stdout
        self.assertEqual(len(out), 4 << 20)
        self.assertEqual(out[:len(data)], data)
        self.assertEqual(out[len(data):].count(0), len(out) - len(data))

    def test_the_shell_takes_the_same_commands(self):
        self.init()
        script = ("# a comment\ncreate --clusters 2 --thin --name 'two words'\n"
                  "xattr set 'two words' k v\n\nxattr list 'two words'\nsnapshot 'two words' "
                  "--name s\ntree\n")
        out = self.blob("shell", input=script)
        self.assertIn("name=two words\nk=v\n", out)
        self.assertIn("└─ s (", out)
        self.assertEqual(len(self.json("list")), 2)
        # What fails in it counts, and ends nothing.
        done = nacre("blob", "shell", self.uri, input="frobnicate\ndelete nobody\nlist\nquit\nx\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nobody", done.stderr)
        self.assertIn("two words", done.stdout)
        self.assertIn("COMMAND --help", nacre("blob", "shell", self.uri, input="help\n").stdout)
        self.check()

    def test_the_shell_asks_on_a_terminal(self):
        self.init()
        primary, secondary = pty.openpty()
        shell = subprocess.Popen([NACRE, "blob", "shell", self.uri], stdin=secondary,
                                 stdout=subprocess.PIPE, text=True)
        os.close(secondary)
        os.write(primary, b"info\nquit\n")
        out, _ = shell.communicate(timeout=60)
        os.close(primary)
        self.assertEqual(shell.returncode, 0)
        self.assertIn("blob> ", out)
        self.assertIn("a blobstore of version 3", out)


class a_store_of_spdk(store_test):
    def setUp(self):
        super().setUp()
        self.unpack_spdk_image()

    def test_reading_commands_write_nothing(self):
        whole, before = sha256(self.image), os.stat(self.image).st_mtime_ns
        for dirty in (False, True):
            if dirty:  # as a crash leaves it
                done = subprocess.run([NACRE, "blob", "shell", self.uri], text=True, timeout=60,
                                      input="create --clusters 1 --thin --name x --xattr uuid=\n",
                                      capture_output=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.spoil_clean_mark()
                whole, before = sha256(self.image), os.stat(self.image).st_mtime_ns
            for words in READERS:
                words = list(words)
                words.insert(2 if words[0] == "xattr" else 1, self.uri)
                done = subprocess.run([NACRE, "blob", *words], capture_output=True, timeout=60,
                                      stdin=subprocess.DEVNULL)
                self.assertEqual(done.returncode, 0, (words, done.stderr))
                self.assertEqual(os.stat(self.image).st_mtime_ns, before, words)
            self.assertEqual(sha256(self.image), whole)

    def spoil_clean_mark(self):
        sys.path.insert(0, os.path.join(HERE, "blobstore"))
        from scratch_store import scratch
        with open(self.image, "r+b") as image:
            head = scratch(image.read(4096), 4096).super(clean=0)
            image.seek(0)
            image.write(head.bytes)

    def test_they_need_no_permission_to_write(self):
        os.chmod(self.image, 0o400)
        self.assertEqual(self.json("info")["blobs"], 5)
        if os.geteuid() != 0:
            self.assertIn("permission", self.blob("create", "--clusters", "1", status=1).lower())

    def test_every_volume_is_exported_as_spdk_wrote_it(self):
        with open(os.path.join(HERE, "blobstore", "testdata", "lvstore-64m.tsv"),
                  encoding="utf-8") as lines:
            rows = [line.rstrip("\n").split("\t") for line in lines if not line.startswith("#")]
        for name, uuid, *_, total in rows[1:]:
            for called in (name, uuid):
                self.blob("export", called, self.path("out"))
                self.assertEqual(sha256(self.path("out")), total, called)


class failures(store_test):
    def test_they_name_the_object_the_cause_and_the_next_step(self):
        missing = nacre("blob", "list", "file:///does/not/exist")
        self.assertEqual(missing.returncode, 1)
        self.assertIn("/does/not/exist", missing.stderr)
        self.assertEqual(nacre("blob", "list", "nobody").returncode, 1)
        self.assertIn("--config", nacre("blob", "list", "nobody").stderr)
        done = nacre("blob", "info", "malloc:///m?size=16MiB")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no blobstore", done.stderr)
        self.init()
        self.assertIn("`list` shows", self.blob("delete", "nobody", status=1))
        self.assertIn("/no/file", self.blob("import", "/no/file", "b", status=1))
        self.assertIn("NAME=VALUE", self.blob("create", "--xattr", "x", status=1))
        self.assertIn("63 are free", self.blob("create", "--size", "1GiB", status=1))
        self.assertEqual(self.json("list"), [])
        self.check()

    def test_wrong_usage_is_status_2(self):
        for words in ((), ("list",), ("frobnicate", "x"), ("create", "malloc:///m?size=1MiB",
                                                          "--size", "1", "--clusters", "1")):
            self.assertEqual(nacre("blob", *words).returncode, 2, words)

    def test_every_command_has_help(self):
        out = nacre("blob", "--help").stdout
        for command in ("list", "info", "create", "delete", "import", "export", "xattr", "tree",
                        "init", "dump", "check", "shell"):
            self.assertIn(f"  {command} ", out)
            done = nacre("blob", command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_two_of_one_name_are_told_apart_by_id(self):
        self.init()
        for _ in range(2):
            self.blob("create", "--clusters", "1", "--name", "twin")
        self.assertIn("give an id", self.blob("delete", "twin", status=1))


if __name__ == "__main__":
    unittest.main()
