# SPDX-License-Identifier: BSD-3-Clause
#
# A writer that remembers, against a daemon that is killed. Each round writes to a mirrored volume
# over NBD (libnbd, many requests at once), kills the daemon with SIGKILL at some moment, starts it
# again, and holds every sector that was ever written against what was acknowledged:
#
#   acknowledged                 it is there
#   in flight at the kill        each sector is old or new, and stays what it was found to be
#
# Half of the rounds also flush and write with FUA; some kill the daemon while it starts. In the end
# it is stopped in good order, and the legs must hold the same.
#
#     kill_loop.run(rounds=5, seed=1)

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import nbd

NACRE = os.environ["NACRE_BINARY"]
SECTOR = 512
SLOT = 64 * 1024                # a request lies in one slot, and a slot has one request at a time
SLOTS = 512
DEPTH = 16
SUPERBLOCK = 1 << 20
START_LIMIT_S = 60


class violation(Exception):
    pass


class daemon:
    """`nacre serve --quickstart` in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    def spawn(self):
        self.log = open(self.folder + ".log", "ab")
        self.process = subprocess.Popen(
            [NACRE, "serve", "--quickstart", "--data", self.folder, "--json"],
            stdout=subprocess.PIPE, stderr=self.log, text=True)

    def start(self):
        self.spawn()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise violation(f"the daemon did not start (status {self.process.returncode}): "
                            + self.last_words())
        self.ready = json.loads(line)
        return self.ready

    def last_words(self):
        with open(self.folder + ".log", encoding="utf-8") as log:
            return "".join(log.readlines()[-12:])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self):
        self.process.stdout.close()
        status = self.process.wait(timeout=START_LIMIT_S)
        self.log.close()
        self.process = None
        return status

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def rpc(self, method, *arguments):
        done = subprocess.run([NACRE, "rpc", "-s", self.ready["socket"], method, *arguments],
                              capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    def connect(self):
        handle = nbd.NBD()
        handle.set_export_name("vol0")
        handle.connect_unix(os.path.join(self.folder, "nbd.sock"))
        return handle


def content(stamp, sector):
    """A sector's bytes say which write they are of and where they belong; stamp 0 is zeros."""
    return bytes(SECTOR) if stamp == 0 else struct.pack("<QQ", stamp, sector) * (SECTOR // 16)


class model:
    """For each sector that was ever written the stamps that it may hold."""

    def __init__(self):
        self.allowed = {}
        self.stamp = 0

    def begin(self, offset, length):
        self.stamp += 1
        for sector in range(offset // SECTOR, (offset + length) // SECTOR):
            self.allowed.setdefault(sector, {0}).add(self.stamp)
        return self.stamp

    def acknowledged(self, offset, length, stamp):
        for sector in range(offset // SECTOR, (offset + length) // SECTOR):
            self.allowed[sector] = {stamp}

    def check(self, first, data):
        """Counts the sectors that were in flight as (old, new)."""
        counted = [0, 0]
        for index in range(len(data) // SECTOR):
            sector = first + index
            allowed = self.allowed.get(sector, {0})
            seen = data[index * SECTOR:(index + 1) * SECTOR]
            matching = [stamp for stamp in allowed if seen == content(stamp, sector)]
            if not matching:
                found = struct.unpack("<QQ", seen[:16])
                raise violation(f"sector {sector} holds stamp {found[0]} of sector {found[1]}, but "
                                f"must hold one of {sorted(allowed)}")
            if len(allowed) > 1:
                counted[matching[0] == max(allowed)] += 1
            self.allowed[sector] = {matching[0]}
        return counted


class writer:
    def __init__(self, handle, kept, dice):
        self.handle = handle
        self.kept = kept
        self.dice = dice
        self.flying = {}        # cookie: (slot, offset, length, stamp), or None for a flush
        self.writes = 0

    def submit(self):
        if self.dice.random() < 0.03:
            self.flying[self.handle.aio_flush()] = None
            return
        busy = {entry[0] for entry in self.flying.values() if entry}
        slot = self.dice.randrange(SLOTS)
        while slot in busy:
            slot = self.dice.randrange(SLOTS)
        blocks = self.dice.choice((1, 1, 2, 4, 8, 16))
        start = self.dice.randrange(16 - blocks + 1)
        offset, length = slot * SLOT + start * 4096, blocks * 4096
        stamp = self.kept.begin(offset, length)
        data = b"".join(content(stamp, sector) for sector in
                        range(offset // SECTOR, (offset + length) // SECTOR))
        flags = nbd.CMD_FLAG_FUA if self.dice.random() < 0.1 else 0
        cookie = self.handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset,
                                        flags=flags)
        self.flying[cookie] = (slot, offset, length, stamp)

    def reap(self):
        for cookie, entry in list(self.flying.items()):
            try:
                if not self.handle.aio_command_completed(cookie):
                    continue
            except nbd.Error:
                del self.flying[cookie]         # it may have happened or not
                if not self.connected():
                    continue
                raise
            del self.flying[cookie]
            if entry:
                self.kept.acknowledged(*entry[1:])
                self.writes += 1

    def connected(self):
        return not (self.handle.aio_is_dead() or self.handle.aio_is_closed())

    def write_until(self, count):
        while self.writes < count:
            while len(self.flying) < DEPTH:
                self.submit()
            self.handle.poll(1000)
            self.reap()

    def drain_dead(self):
        """Takes in what was acknowledged before the end."""
        deadline = time.monotonic() + 20
        while self.flying and self.connected() and time.monotonic() < deadline:
            try:
                self.handle.poll(1000)
            except nbd.Error:
                pass
            self.reap()
        self.reap()
        return sum(1 for entry in self.flying.values() if entry)


def verify(handle, kept):
    counted = [0, 0]
    for slot in range(SLOTS):
        first = slot * SLOT // SECTOR
        if not any(sector in kept.allowed for sector in range(first, first + SLOT // SECTOR)):
            continue
        old, new = kept.check(first, bytes(handle.pread(SLOT, slot * SLOT)))
        counted[0] += old
        counted[1] += new
    return counted


def compare_legs(folder):
    legs = [os.path.join(folder, name) for name in ("leg0.img", "leg1.img")]
    done = subprocess.run(["cmp", f"--ignore-initial={SUPERBLOCK}", *legs], capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise violation("the legs differ: " + done.stdout + done.stderr)


def one_round(served, kept, dice):
    """From a running daemon to a running daemon."""
    handle = served.connect()
    work = writer(handle, kept, dice)
    work.write_until(dice.randrange(20, 400))
    served.kill()
    work.drain_dead()
    handle = work.handle = None
    if dice.random() < 0.3:                     # killed again while it starts
        served.spawn()
        time.sleep(dice.random() * 0.03)
        served.kill()
    served.start()
    handle = served.connect()
    found = verify(handle, kept)
    handle.shutdown()
    return work.writes, found


def run(rounds, seed):
    dice = random.Random(seed)
    place = tempfile.mkdtemp(prefix="nacre-kill-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    served = daemon(os.path.join(place, "data"))
    kept = model()
    writes, old, new = 0, 0, 0
    try:
        served.start()
        for number in range(1, rounds + 1):
            try:
                done, found = one_round(served, kept, dice)
            except violation as what:
                raise violation(f"seed {seed}, round {number}: {what}") from None
            writes, old, new = writes + done, old + found[0], new + found[1]
        arrays = served.rpc("bdev_raid_get_bdevs", "category=all")
        if [a["num_base_bdevs_operational"] for a in arrays] != [2]:
            raise violation(f"seed {seed}: the mirror is not whole: {arrays}")
        deadline = time.monotonic() + 60
        while "process" in arrays[0] and time.monotonic() < deadline:
            time.sleep(0.02)
            arrays = served.rpc("bdev_raid_get_bdevs", "category=all")
        status = served.stop()
        if status != 0:
            raise violation(f"the daemon ended with status {status}: {served.last_words()}")
        compare_legs(served.folder)
    finally:
        if served.process:
            served.kill()
        shutil.rmtree(place)
    print(f"{rounds} rounds, {writes} writes acknowledged, {old} sectors in flight were old and "
          f"{new} new")
    return writes
