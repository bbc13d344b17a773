#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# `nacre blobfs mount`: real programs on real mounts, over /dev/fuse and over io_uring, as root and
# as an ordinary user; unmounted, mounted again and compared; and what is left when it is killed.

import errno
import filecmp
import hashlib
import json
import mmap
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

NACRE = os.environ["NACRE_BINARY"]
MIB = 1 << 20
WAIT_S_MAX = 60
URING = "/sys/module/fuse/parameters/enable_uring"


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def is_mounted(path):
    with open("/proc/mounts", encoding="ascii", errors="replace") as mounts:
        return any(line.split()[1] == path for line in mounts)


def wait_until(condition):
    end = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.02)


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S_MAX, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}: {done.stderr}")
    return done.stdout


class Mount:
    """A running `nacre blobfs mount`; what it said when it was ready."""

    def __init__(self, bdev, folder, *arguments, user=None):
        self.folder = folder
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [NACRE, "blobfs", "mount", "--json", *arguments, bdev, folder], user=user,
            stdout=subprocess.PIPE, stderr=self.errors)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(WAIT_S_MAX)
            raise AssertionError(f"exit {self.process.returncode}: {self.stderr()}")
        self.ready = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if is_mounted(self.folder):
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=False)
        self.process.stdout.close()
        self.errors.close()

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode()

    def ended(self):
        return self.process.wait(WAIT_S_MAX)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def tree(folder):
    """What is there: kinds, permissions, contents, targets."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            s = os.lstat(path)
            if os.path.islink(path):
                what = os.readlink(path)
            elif os.path.isfile(path):
                what = digest(path)
            else:
                what = ""
            found[os.path.relpath(path, folder)] = (s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns,
                                                    what)
    return found


class fuse(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="nacre-fuse-")
        os.chmod(self.base, 0o755)
        self.folder = os.path.join(self.base, "mounted")
        os.mkdir(self.folder)
        self.image = f"file://{self.base}/disk.img?size=256MiB"

    def tearDown(self):
        if is_mounted(self.folder):
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=False)
        shutil.rmtree(self.base)

    def mount(self, *arguments, **options):
        if not any(a == "--mkfs" for a in arguments) and not os.path.exists(
                os.path.join(self.base, "disk.img")):
            arguments = ("--mkfs", "--cluster-size", "16KiB", *arguments)
        return Mount(self.image, self.folder, *arguments, **options)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    # What each transport goes through.
    def work(self, folder):
        top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        source = os.path.join(top, "include", "nacre", "runtime")
        shutil.copytree(source, os.path.join(folder, "copy"))
        same = filecmp.dircmp(source, os.path.join(folder, "copy"))
        self.assertEqual((same.left_only, same.right_only, same.diff_files), ([], [], []))
        self.git(os.path.join(folder, "repository"), os.path.join(folder, "copy"))
        self.sqlite(os.path.join(folder, "db"))
        self.mapping(os.path.join(folder, "mapped"))
        self.names(folder)
        self.large(os.path.join(folder, "large"))
        self.many(os.path.join(folder, "many"))

    def git(self, folder, source):
        if shutil.which("git") is None:
            return
        os.mkdir(folder)
        run("git", "init", "-q", ".", cwd=folder)
        shutil.copytree(source, os.path.join(folder, "copy"))
        run("git", "add", "-A", cwd=folder)
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", cwd=folder)
        run("git", "fsck", "--strict", cwd=folder)
        self.assertEqual(run("git", "status", "--short", cwd=folder), "")

    def sqlite(self, path):
        if shutil.which("sqlite3") is None:
            return
        said = run("sqlite3", path, "pragma journal_mode=delete; create table t(a, b);"
                   "with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000)"
                   "insert into t select x, hex(randomblob(50)) from c;"
                   "delete from t where a % 3 = 0; vacuum;"
                   "select count(*) from t; pragma integrity_check;")
        self.assertEqual(said.split(), ["delete", "3334", "ok"])

    def mapping(self, path):
        with open(path, "wb+") as file:
            file.truncate(MIB)
            with mmap.mmap(file.fileno(), MIB) as mapped:
                mapped[4090:4100] = b"0123456789"
                mapped.flush()
                self.assertEqual(os.pread(file.fileno(), 10, 4090), b"0123456789")
                os.pwrite(file.fileno(), b"abc", 0)
                self.assertEqual(mapped[0:3], b"abc")
        os.utime(path)

    def names(self, folder):
        here = os.path.join(folder, "names")
        os.mkdir(here)
        a, b = os.path.join(here, "a"), os.path.join(here, "b")
        for path, text in ((a, "first"), (b, "second")):
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
        with open(a, encoding="ascii") as still_open:
            os.rename(b, a)
            self.assertEqual(still_open.read(), "first")
        with open(a, encoding="ascii") as replaced:
            self.assertEqual(replaced.read(), "second")
        os.link(a, b)
        self.assertEqual(os.stat(a).st_nlink, 2)
        self.assertEqual(os.stat(a).st_ino, os.stat(b).st_ino)
        os.unlink(a)
        self.assertEqual(os.stat(b).st_nlink, 1)
        os.symlink("b", a)
        with open(a, encoding="ascii") as linked:
            self.assertEqual(linked.read(), "second")
        with open(os.path.join(here, "gone"), "wb+") as gone:
            os.unlink(gone.name)
            gone.write(b"x" * 100000)
            gone.seek(0)
            self.assertEqual(len(gone.read()), 100000)
            self.assertEqual(os.fstat(gone.fileno()).st_nlink, 0)
        os.setxattr(b, "user.key", b"value")
        self.assertEqual(os.getxattr(b, "user.key"), b"value")
        os.chmod(b, 0o640)
        os.utime(b, ns=(1, 2_000_000_003))
        self.assertEqual(os.stat(b).st_mtime_ns, 2_000_000_003)
        os.mkfifo(os.path.join(here, "pipe"))
        self.refused(errno.ENOTEMPTY, os.rmdir, here)
        self.refused(errno.EEXIST, os.mkdir, here)
        self.refused(errno.ENAMETOOLONG, os.mkdir, os.path.join(here, "x" * 256))
        self.refused(errno.ENOENT, os.stat, os.path.join(here, "none"))
        os.mkdir(os.path.join(here, "inner"))
        self.refused(errno.EISDIR, os.rename, b, os.path.join(here, "inner"))

    def refused(self, number, function, *arguments):
        with self.assertRaises(OSError) as raised:
            function(*arguments)
        self.assertEqual(raised.exception.errno, number)

    def large(self, path):
        block = os.urandom(MIB)
        expected = hashlib.sha256()
        with open(path, "wb") as file:
            for i in range(40):
                piece = block[i * 1000:] + block[:i * 1000]
                file.write(piece)
                expected.update(piece)
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.assertEqual(digest(path), expected.hexdigest())
        flags = os.O_RDWR | os.O_DIRECT
        direct = os.open(path, flags)
        with mmap.mmap(-1, MIB) as memory:
            self.assertEqual(os.preadv(direct, [memory], 0), MIB)
            self.assertEqual(memory[:], block)
            memory[:] = bytes(MIB)
            self.assertEqual(os.pwritev(direct, [memory], 8 * MIB), MIB)
        os.close(direct)
        with open(path, "rb") as file:
            file.seek(8 * MIB)
            self.assertEqual(file.read(MIB), bytes(MIB))

    def many(self, folder):
        os.mkdir(folder)

        def make(first):
            for i in range(first, 400, 4):
                with open(os.path.join(folder, str(i)), "wb") as file:
                    file.write(b"%d" % i)

        workers = [threading.Thread(target=make, args=(n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(sorted(os.listdir(folder), key=int), [str(i) for i in range(400)])
        for i in range(0, 400, 2):
            os.unlink(os.path.join(folder, str(i)))
        self.assertEqual(len(os.listdir(folder)), 200)
        for i in range(1, 400, 2):
            with open(os.path.join(folder, str(i)), "rb") as file:
                self.assertEqual(file.read(), b"%d" % i)

    def work_and_come_back(self, transport, *arguments):
        with self.mount(*arguments) as m:
            self.assertEqual(m.ready["transport"], transport)
            self.assertEqual(m.ready["advice"] == "", transport == "io_uring")
            self.work(self.folder)
            before = tree(self.folder)
            run("umount", self.folder)
            self.assertEqual(m.ended(), 0)
        with self.mount(*arguments) as m:
            after = tree(self.folder)
            self.assertEqual(sorted(after), sorted(before))
            self.assertEqual({n: (after[n], before[n]) for n in before if after[n] != before[n]},
                             {})
            self.assertEqual(os.getxattr(self.path("names", "b"), "user.key"), b"value")
            self.assertEqual(m.stop(), 0, m.stderr())
            self.assertFalse(is_mounted(self.folder))

    def test_programs_work_over_the_device_and_find_their_data_again(self):
        self.work_and_come_back("/dev/fuse", "--no-uring")

    def test_programs_work_over_io_uring_and_find_their_data_again(self):
        if not os.path.exists(URING):
            self.skipTest("this kernel has no FUSE over io_uring (Linux 6.14 or later)")
        with open(URING, encoding="ascii") as file:
            before = file.read().strip()
        if before != "Y" and os.geteuid() != 0:
            self.skipTest("FUSE over io_uring is off, and only root turns it on")
        try:
            if before != "Y":
                with open(URING, "w", encoding="ascii") as file:
                    file.write("Y")
            self.work_and_come_back("io_uring")
        finally:
            if before != "Y":
                with open(URING, "w", encoding="ascii") as file:
                    file.write(before)

    def test_each_write_is_passed_on_at_once_without_writeback(self):
        with self.mount("--no-uring", "--no-writeback", "--cache-seconds", "0") as m:
            self.names(self.folder)
            self.mapping(self.path("mapped"))
            with open(self.path("log"), "ab", buffering=0) as log:
                for i in range(100):
                    log.write(b"line %d\n" % i)
            self.assertEqual(os.stat(self.path("log")).st_size, 790)
            self.assertEqual(m.stop(), 0, m.stderr())

    def test_an_ordinary_user_mounts_with_fusermount3(self):
        if os.geteuid() != 0:
            self.skipTest("only root becomes another user; the other tests run as this one")
        try:
            user = pwd.getpwnam("nobody")
        except KeyError:
            self.skipTest("there is no user nobody")
        os.chown(self.base, user.pw_uid, user.pw_gid)
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        mode = os.stat("/dev/fuse").st_mode & 0o777
        try:
            os.chmod("/dev/fuse", 0o666)  # as udev has it
            self.work_as(user)
        finally:
            os.chmod("/dev/fuse", mode)

    def work_as(self, user):
        with self.mount("--no-uring", user=user.pw_uid) as m:
            run("sh", "-c", 'mkdir "$1/d" && echo text > "$1/d/f" && cat "$1/d/f"', "sh",
                self.folder, user=user.pw_uid)
            # Others, root too, are not let in.
            self.refused(errno.EACCES, os.listdir, self.folder)
            run("fusermount3", "-u", self.folder, user=user.pw_uid)
            self.assertEqual(m.ended(), 0, m.stderr())
        with self.mount("--no-uring", user=user.pw_uid) as m:
            said = run("cat", self.path("d", "f"), user=user.pw_uid)
            self.assertEqual(said, "text\n")
            self.assertEqual(m.stop(), 0, m.stderr())
            self.assertFalse(is_mounted(self.folder))

    def test_a_mount_that_is_in_use_ends_by_force_and_loses_nothing(self):
        with self.mount("--no-uring") as m:
            held = os.open(self.path("held"), os.O_RDWR | os.O_CREAT)
            os.write(held, b"kept")
            self.assertEqual(m.stop(), 0, m.stderr())
            self.assertFalse(is_mounted(self.folder))
            with self.assertRaises(OSError):
                os.fsync(held)
            with self.assertRaises(OSError):
                os.close(held)
            self.assertIn("somebody uses it", m.stderr())
        with self.mount("--no-uring") as m:
            with open(self.path("held"), "rb") as held:
                self.assertEqual(held.read(), b"kept")
            self.assertEqual(m.stop(), 0)

    def test_a_killed_mount_is_replaced_and_what_was_synced_is_there(self):
        with self.mount("--no-uring") as m:
            with open(self.path("synced"), "wb") as file:
                file.write(b"durable")
                file.flush()
                os.fsync(file.fileno())
            m.process.kill()
            m.ended()
            wait_until(lambda: not os.path.exists(self.path("synced")))
            self.refused(errno.ENOTCONN, os.stat, self.folder)
            self.assertTrue(is_mounted(self.folder))
            with self.mount("--no-uring") as again:
                with open(self.path("synced"), "rb") as file:
                    self.assertEqual(file.read(), b"durable")
                self.assertEqual(again.stop(), 0)
                self.assertIn("had died", again.stderr())
            self.assertFalse(is_mounted(self.folder))

    def test_fusermount3_removes_what_a_killed_mount_left(self):
        with self.mount("--no-uring") as m:
            m.process.kill()
            m.ended()
            run("fusermount3", "-u", self.folder)
            self.assertFalse(is_mounted(self.folder))

    def test_a_full_device_says_so_and_works_again(self):
        self.image = f"file://{self.base}/disk.img?size=16MiB"
        with self.mount("--no-uring") as m:
            def fill():
                with open(self.path("full"), "wb") as file:
                    for _ in range(32):
                        file.write(bytes(MIB))
                    file.flush()
                    os.fsync(file.fileno())
            self.refused(errno.ENOSPC, fill)
            os.unlink(self.path("full"))
            with open(self.path("fits"), "wb") as file:
                file.write(bytes(MIB))
            self.assertEqual(digest(self.path("fits")), hashlib.sha256(bytes(MIB)).hexdigest())
            self.assertEqual(m.stop(), 0, m.stderr())

    def test_who_closes_what_found_no_room_is_told(self):
        self.image = f"file://{self.base}/disk.img?size=16MiB"
        # Together they fit in no device, and in the kernel's memory easily.
        with self.mount("--no-uring") as m:
            told = []
            for i in range(20):
                file = os.open(self.path(str(i)), os.O_WRONLY | os.O_CREAT)
                try:
                    os.write(file, bytes([i]) * MIB)
                except OSError as e:
                    told.append((i, e.errno))
                try:
                    os.close(file)
                except OSError as e:
                    told.append((i, e.errno))
            self.assertTrue(told)
            self.assertEqual({number for _, number in told}, {errno.ENOSPC})
            lost = {i for i, _ in told}
            self.assertEqual(m.stop(), 0, m.stderr())
        with self.mount("--no-uring") as m:
            for i in set(range(20)) - lost:
                with open(self.path(str(i)), "rb") as file:
                    self.assertTrue(file.read() == bytes([i]) * MIB, i)
            self.assertEqual(m.stop(), 0, m.stderr())

    def test_a_read_only_mount_refuses_changes(self):
        with self.mount("--no-uring") as m:
            with open(self.path("file"), "wb") as file:
                file.write(b"x")
            self.assertEqual(m.stop(), 0)
        with self.mount("--no-uring", "--read-only") as m:
            self.refused(errno.EROFS, os.unlink, self.path("file"))
            with open(self.path("file"), "rb") as file:
                self.assertEqual(file.read(), b"x")
            self.assertEqual(m.stop(), 0, m.stderr())

    def test_what_cannot_be_mounted_is_refused_in_one_sentence(self):
        def refusal(bdev, folder, *arguments):
            done = subprocess.run([NACRE, "blobfs", "mount", *arguments, bdev, folder],
                                  capture_output=True, text=True, timeout=WAIT_S_MAX, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            return done.stderr
        self.assertIn("No such file",
                      refusal("malloc:///m?size=16MiB", "/nowhere/at/all", "--mkfs"))
        self.assertIn("Not a directory", refusal("malloc:///m?size=16MiB", __file__, "--mkfs"))
        self.assertIn("blobstore", refusal("malloc:///m?size=16MiB", self.folder))
        self.assertIn("no such bdev", refusal("nothing", self.folder))


def check():
    if not os.path.exists("/dev/fuse"):
        skip("there is no /dev/fuse (modprobe fuse)")
    if shutil.which("fusermount3") is None:
        skip("there is no fusermount3 (package fuse3)")
    with tempfile.TemporaryDirectory(prefix="nacre-fuse-") as folder:
        tried = subprocess.Popen([NACRE, "blobfs", "mount", "--json", "--mkfs",
                                  "malloc:///m?size=16MiB", folder], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        line = tried.stdout.readline()
        tried.send_signal(signal.SIGTERM)
        errors = tried.communicate(timeout=WAIT_S_MAX)[1]
        if not line and ("Operation not permitted" in errors or "Permission denied" in errors):
            skip(f"this machine lets nobody mount: {errors.strip()}")


if __name__ == "__main__":
    check()
    unittest.main()
