#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre blobfs`: what each command prints and does, and how it fails; images of SPDK's BlobFS, read
# and written, held before the checker of tests/blobstore, which knows only the format's text; and
# the RPC methods with stock db_bench in the mount.

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

from daemon import NACRE, Daemon, nacre

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKER = os.path.join(HERE, "blobstore", "spdk_blobstore.py")
sys.path.insert(0, os.path.join(HERE, "blobstore"))
from scratch_store import extents, flags, fresh, table, unload, xattr  # noqa: E402

MIB = 1 << 20


class blobfs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nacre-blobfs-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.image = self.path("fs.img")
        self.uri = f"file://{self.image}"

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as out:
            out.write(data)
        return self.path(name)

    def run_fs(self, command, *arguments, status=0):
        done = nacre("blobfs", command, self.uri, *arguments)
        self.assertEqual(done.returncode, status, (command, arguments, done.stdout, done.stderr))
        return done

    def mkfs(self, *arguments):
        done = nacre("blobfs", "mkfs", f"{self.uri}?size=64MiB", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)

    def names(self, path="/"):
        return [e["name"] for e in json.loads(self.run_fs("ls", path, "--json").stdout)]

    def get(self, path):
        done = subprocess.run([NACRE, "blobfs", "get", self.uri, path], capture_output=True,
                              timeout=60, check=True)
        return done.stdout

    def bytes(self):
        with open(self.image, "rb") as whole:
            return whole.read()

    @staticmethod
    def ask(daemon, method, **params):
        answer = daemon.call(method, **params)
        assert "result" in answer, answer
        return answer["result"]

    def check(self):
        """Both checkers have nothing to say."""
        done = nacre("blob", "check", self.uri)
        self.assertEqual(done.returncode, 0, done.stdout)
        done = subprocess.run([sys.executable, "-B", CHECKER, "check", self.image],
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_files_go_in_and_out(self):
        self.mkfs()
        data = os.urandom(3 * MIB + 77)
        self.run_fs("put", self.write("in", data), "/a")
        self.run_fs("mkdir", "/d")
        self.run_fs("mv", "/a", "/d/b")
        self.run_fs("ln", "/d/b", "/c")
        self.assertEqual(self.names(), ["c", "d"])
        self.assertEqual(self.get("/d/b"), data)
        status = json.loads(self.run_fs("stat", "/c", "--json").stdout)
        self.assertEqual((status["length"], status["links"], status["kind"]),
                         (len(data), 2, "file"))
        self.check()
        self.run_fs("rm", "/d", status=1)
        self.run_fs("rm", "-r", "/d")
        self.assertEqual(self.get("/c"), data)
        self.run_fs("put", self.write("in", b"short"), "/c")
        self.assertEqual(self.get("/c"), b"short")
        self.run_fs("rm", "/c")
        info = json.loads(self.run_fs("info", "--json").stdout)
        self.assertEqual((info["format"], info["free"]), ("nacre", info["size"]))
        self.check()

    def test_what_only_reads_writes_nothing(self):
        self.mkfs()
        self.run_fs("put", self.write("in", b"x" * 5000), "/a")
        before = self.bytes()
        for command in (("ls",), ("info",), ("stat", "/a"), ("get", "/a", self.path("out"))):
            self.run_fs(*command)
        self.assertTrue(self.bytes() == before, "the image has changed")

    def test_failures_name_the_file_and_the_cause(self):
        self.mkfs()
        for command, text in ((("get", "/none"), "/none: No such file"),
                              (("mkdir", "/a/b"), "/a/b: No such file"),
                              (("rm", "/none"), "/none: No such file")):
            self.assertIn(text, self.run_fs(*command, status=1).stderr)
        done = self.run_fs("put", self.write("in", bytes(80 * MIB)), "/big", status=1)
        self.assertIn("No space left", done.stderr)
        self.assertEqual(self.names(), ["big"])  # what was written before it was full
        self.check()
        self.write("fs.img", os.urandom(4 * MIB))
        self.assertIn("no blobstore", self.run_fs("ls", status=1).stderr)

    def test_an_image_of_spdks_blobfs_is_read_and_changed(self):
        data = os.urandom(70_000)
        image = fresh(40, cluster_size=MIB).super(bstype=b"BLOBFS".ljust(16, b"\0"))
        image.put(0, flags(4), xattr(b"name", b"db/CURRENT\0"),
                  xattr(b"length", struct.pack("<Q", len(data))), table(1, (1, 1)))
        image.put(1, extents(0, [30]), owner=0)
        image.put(2, flags(4), xattr(b"name", b"gone\0"), xattr(b"length", struct.pack("<Q", 5)),
                  xattr(b"is_deleted", b"\1"), table(1, (3, 1)))
        image.put(3, extents(0, [31]), owner=2)
        unload(image, [0, 1, 2, 3], [0, 30, 31], [0, 2])
        with open(self.image, "wb") as out:
            out.truncate(image.size)
            out.write(bytes(image.bytes))
            out.seek(30 * MIB)
            out.write(data)
        self.uri += "?block_size=512"
        self.assertEqual(self.names(), ["db/CURRENT"])
        self.assertEqual(self.get("db/CURRENT"), data)
        self.run_fs("put", self.write("in", b"new" * 1000), "db/LOG")
        self.run_fs("mv", "db/LOG", "db/CURRENT")
        self.assertEqual(self.get("db/CURRENT"), b"new" * 1000)
        self.assertIn("not supported", self.run_fs("mkdir", "/d", status=1).stderr)
        self.check()
        self.check_files({"db/CURRENT": b"new" * 1000})

    @staticmethod
    def checker(*arguments):
        return subprocess.run([sys.executable, "-B", CHECKER, *arguments], capture_output=True,
                              timeout=120, check=True).stdout

    def check_files(self, files):
        """What a reader who knows only the format finds."""
        found = {}
        for blob in json.loads(self.checker("list", "--json", self.image)):
            shown = json.loads(self.checker("dump", "--json", self.image, blob["id"]))
            self.assertEqual(set(shown["xattrs"]), {"name", "length"}, shown)
            found[blob["name"]] = self.checker("read", self.image, blob["id"])
        self.assertEqual(set(found), set(files))
        for name, data in files.items():
            self.assertEqual(found[name][:len(data)], data)

    def test_what_compat_spdk_writes_is_spdks_blobfs(self):
        self.mkfs("--compat", "spdk")
        data = os.urandom(MIB + 5)
        self.run_fs("put", self.write("in", data), "db/a")
        self.run_fs("put", self.write("in", b"b"), "b")
        info = nacre("blob", "info", self.uri, "--json")
        self.assertEqual(json.loads(info.stdout)["type"].rstrip("\0"), "BLOBFS")
        self.check()
        self.check_files({"db/a": data, "b": b"b"})

    def test_db_bench_runs_in_a_mount_and_the_daemon_unmounts(self):
        if not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None:
            self.skipTest("FUSE needs /dev/fuse and the package fuse3")
        mountpoint = self.path("mount")
        os.mkdir(mountpoint)
        with Daemon(folder=self.folder) as daemon:
            self.ask(daemon, "bdev_malloc_create", name="m0", num_blocks=2097152, block_size=512)
            self.assertIs(self.ask(daemon, "blobfs_detect", bdev_name="m0"), False)
            self.assertIs(self.ask(daemon, "blobfs_create", bdev_name="m0", cluster_sz="1M"), True)
            self.assertIs(self.ask(daemon, "blobfs_detect", bdev_name="m0"), True)
            self.assertIs(self.ask(daemon, "blobfs_set_cache_size", size_in_mb=128), True)
            mounted = self.ask(daemon, "blobfs_mount", bdev_name="m0", mountpoint=mountpoint)
            self.assertIs(mounted, True)
            self.assertTrue(os.path.ismount(mountpoint))
            if shutil.which("db_bench"):
                done = subprocess.run(
                    ["db_bench", f"--db={mountpoint}/db", f"--wal_dir={mountpoint}/db",
                     "--benchmarks=readrandomwriterandom,stats", "--num=20000"],
                    capture_output=True, text=True, timeout=300, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("readrandomwriterandom", done.stdout)
                self.assertIn("CURRENT", os.listdir(f"{mountpoint}/db"))
            with open(f"{mountpoint}/kept", "wb") as out:
                out.write(b"k" * 100_000)
            (mount,) = self.ask(daemon, "blobfs_get_mounts")
            self.assertEqual((mount["bdev_name"], mount["mountpoint"]), ("m0", mountpoint))
            self.assertIs(self.ask(daemon, "blobfs_unmount", mountpoint=mountpoint), True)
            self.assertFalse(os.path.ismount(mountpoint))
            self.ask(daemon, "blobfs_mount", bdev_name="m0", mountpoint=mountpoint)
            with open(f"{mountpoint}/kept", "rb") as kept:
                self.assertEqual(kept.read(), b"k" * 100_000)
            self.assertEqual(daemon.stop(), 0)
            self.assertFalse(os.path.ismount(mountpoint))

    def test_a_daemons_read_only_mount_writes_nothing_to_the_disk(self):
        if not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None:
            self.skipTest("FUSE needs /dev/fuse and the package fuse3")
        self.mkfs()
        mountpoint = self.path("mount")
        os.mkdir(mountpoint)
        with Daemon(folder=self.folder) as daemon:
            self.ask(daemon, "bdev_aio_create", name="d", filename=self.image, block_size=4096)
            self.ask(daemon, "blobfs_mount", bdev_name="d", mountpoint=mountpoint)
            with open(f"{mountpoint}/kept", "wb") as kept:
                kept.write(b"k" * 100_000)
                kept.flush()
                os.fsync(kept.fileno())
            daemon.stop(signal.SIGKILL)
        subprocess.run(["fusermount3", "-u", "-z", mountpoint], check=True)
        # Whoever loads what was not unloaded in order to write recovers it on the disk.
        before = self.bytes()
        with Daemon(folder=self.folder) as daemon:
            self.ask(daemon, "bdev_aio_create", name="d", filename=self.image, block_size=4096)
            self.ask(daemon, "blobfs_mount", bdev_name="d", mountpoint=mountpoint, read_only=True)
            with open(f"{mountpoint}/kept", "rb") as kept:
                self.assertEqual(kept.read(), b"k" * 100_000)
            with self.assertRaises(OSError) as refused:
                open(f"{mountpoint}/new", "wb")
            self.assertEqual(refused.exception.errno, errno.EROFS)
            self.assertEqual(daemon.stop(), 0)
        self.assertTrue(self.bytes() == before, "the image has changed")


if __name__ == "__main__":
    unittest.main()
