# SPDX-License-Identifier: BSD-3-Clause
#
# Suites of others for file systems, on a blobfs that nacre has mounted. They are not part of nacre:
# each is built elsewhere, and a variable of the environment says where.
#
#     NACRE_PJDFSTEST  a folder with the program pjdfstest and its tests/ (github.com/pjd/pjdfstest)
#     NACRE_FSX        the program fsx of xfstests (ltp/fsx.c)
#     NACRE_FSSTRESS   the program fsstress of xfstests (ltp/fsstress.c)
#
#     with fs_suites.Place() as place:
#         place.fsx(100_000, seed=1)

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import fuse_test

PJDFSTEST = os.environ.get("NACRE_PJDFSTEST")
FSX = os.environ.get("NACRE_FSX")
FSSTRESS = os.environ.get("NACRE_FSSTRESS")
HOUR_S = 3600
MOVED_NS_MAX = 100_000_000
# What each way of mounting is for: the two transports; the kernel keeping nothing; a cache of
# nacre's that is too small for anything.
DEVICE = ("--no-uring",)
RING = ()
PASSING = ("--no-writeback", "--cache-seconds", "0")
TINY = ("--cache-size", "1MiB")
# Direct I/O goes past all caches; fsx then must not map the file.
DIRECT = ("-Z", "-R", "-W", "-r", "4096", "-w", "4096")
UNMAPPED = ("-R", "-W")
# What is written to a mapping finds out too late that the device is full.
UNMAPPED_STRESS = ("-f", "mwrite=0")
# Files beyond what fits in one request, and in a small cache.
LARGE = ("-l", "8000000", "-o", "600000", "-c", "100")


class failed(Exception):
    pass


def need():
    fuse_test.check()
    if not (PJDFSTEST or FSX or FSSTRESS):
        fuse_test.skip("NACRE_PJDFSTEST, NACRE_FSX and NACRE_FSSTRESS should name suites of others")


def has_ring():
    """Whether the kernel offers FUSE over io_uring."""
    try:
        with open(fuse_test.URING, encoding="ascii") as file:
            return file.read().strip() == "Y"
    except OSError:
        return False


def ways():
    """Transports that are there, by name."""
    return {"/dev/fuse": DEVICE, "io_uring": RING} if has_ring() else {"/dev/fuse": DEVICE}


class Place:
    """A folder to mount on, an image to mount, and a folder for logs."""

    def __init__(self, size="1GiB"):
        self.base = tempfile.mkdtemp(prefix="nacre-suites-", dir=os.environ.get("TMPDIR"))
        os.chmod(self.base, 0o755)
        self.folder = os.path.join(self.base, "mounted")
        self.stressed = os.path.join(self.folder, "stressed")
        self.image = f"file://{self.base}/disk.img?size={size}"
        os.mkdir(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if fuse_test.is_mounted(self.folder):
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=False)
        shutil.rmtree(self.base)

    @contextlib.contextmanager
    def mounted(self, *options, bdev=None):
        """Ended in good order, unless the block fails."""
        how = ("--mkfs", "--cluster-size", "16KiB", *options)
        with fuse_test.Mount(bdev or self.image, self.folder, *how) as m:
            yield m
            if m.process.poll() is None and m.stop() != 0:
                raise failed(f"the mount ended with a failure: {m.stderr()}")

    def check(self):
        """The blobstore below, by nacre's own checker."""
        fuse_test.run(fuse_test.NACRE, "blob", "check", self.image)

    # --- pjdfstest

    def pjdfstest(self, *options, groups=None):
        """How many tests passed. Of its groups, or of some of them."""
        tests = os.path.join(PJDFSTEST, "tests")
        with self.mounted("--allow-other", *options):
            done = subprocess.run(
                ["prove", "-r", "-Q", *[os.path.join(tests, g) for g in groups or [""]]],
                cwd=self.folder, capture_output=True, text=True, timeout=HOUR_S, check=False)
        if done.returncode != 0:
            raise failed(done.stdout[-4000:] + done.stderr[-1000:])
        words = done.stdout.replace(",", "").split("Tests=")[1].split()
        return int(words[0])

    # --- fsx

    def fsx(self, operations, seed, *options, bdev="malloc:///m?size=256MiB", arguments=()):
        """One process that does all that can be done to a file, and compares it each time."""
        with self.mounted(*options, bdev=bdev):
            done = subprocess.run(
                [FSX, "-q", "-N", str(operations), "-S", str(seed), "-P", self.base, *arguments,
                 "file"], cwd=self.folder, capture_output=True, text=True, timeout=HOUR_S,
                check=False)
        if done.returncode != 0:
            raise failed(f"fsx, seed {seed}, {options} {arguments}: status {done.returncode}\n"
                         + (done.stdout + done.stderr)[-6000:])

    # --- fsstress

    def fsstress(self, operations, seed, *arguments):
        """Running, as four processes."""
        os.makedirs(self.stressed, exist_ok=True)
        return subprocess.Popen([FSSTRESS, "-d", self.stressed, "-n", str(operations), "-p", "4",
                                 "-s", str(seed), *arguments], cwd=self.base,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                start_new_session=True)

    def stress_and_come_back(self, operations, seed, *options, arguments=()):
        """All that was there is there after a remount: names, kinds, owners, times, contents."""
        with self.mounted(*options):
            with self.fsstress(operations, seed, *arguments) as stress:
                said = stress.communicate(timeout=HOUR_S)[0]
            if stress.returncode != 0:
                raise failed(f"fsstress, seed {seed}: status {stress.returncode}\n{said[-3000:]}")
            before = everything(self.folder)
        self.check()
        with self.mounted(*options):
            after = everything(self.folder)
        changed = {name: (before.get(name), after.get(name)) for name in before.keys() | after
                   if not is_same(before.get(name), after.get(name))}
        if changed:
            raise failed(f"fsstress, seed {seed}: {len(changed)} of {len(before)} differ after a "
                         f"remount: {dict(list(changed.items())[:5])}")
        return len(before)

    def stress_and_kill(self, kills, seed, *options):
        """What SIGKILL leaves can be mounted, read to the last byte, removed, and is consistent;
        what was synced before the stress began is what it was."""
        dice = random.Random(seed)
        synced = {}
        for number in range(kills):
            with self.mounted(*options) as m:
                name = f"synced {number}"
                write_synced(os.path.join(self.folder, name), dice.randbytes(300_000))
                synced[name] = fuse_test.digest(os.path.join(self.folder, name))
                with self.fsstress(10_000_000, dice.randrange(1 << 30)) as stress:
                    fuse_test.wait_until(lambda: len(os.listdir(self.stressed)) >= 4)
                    time.sleep(dice.uniform(0.3, 3))
                    m.process.kill()
                    m.ended()
                    os.killpg(stress.pid, 9)
                    stress.communicate(timeout=fuse_test.WAIT_S_MAX)
                fuse_test.run("umount", "-l", self.folder)
            self.check()
            with self.mounted(*options):
                # Of the rest nothing is promised but that it can be read.
                found = everything(self.folder)
                for name, contents in synced.items():
                    if name not in found or found[name][4] != contents:
                        raise failed(f"seed {seed}, kill {number}: {name} is not what was synced")
            self.check()
        with self.mounted(*options):
            shutil.rmtree(self.stressed)
            if sorted(os.listdir(self.folder)) != sorted(synced):
                raise failed(f"seed {seed}: {os.listdir(self.folder)}")
        self.check()


def write_synced(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def everything(folder):
    """fuse_test.tree() with links and extended attributes."""
    found = fuse_test.tree(folder)
    for name in found:
        path = os.path.join(folder, name)
        more = tuple(sorted((key, os.getxattr(path, key, follow_symlinks=False))
                            for key in os.listxattr(path, follow_symlinks=False)))
        found[name] += (os.lstat(path).st_nlink, os.lstat(path).st_rdev, more)
    return found


def is_same(before, after):
    """A time may move a little where the kernel gathers writes (docs/fuse.md)."""
    if before is None or after is None:
        return False
    moved = abs(before[3] - after[3])
    return before[:3] + before[4:] == after[:3] + after[4:] and moved <= MOVED_NS_MAX


def main(cases):
    """Of a test program: each suite that is not there is skipped by its own test."""
    need()
    print("suites:", PJDFSTEST, FSX, FSSTRESS, "transports:", *ways(), file=sys.stderr)
    cases()
