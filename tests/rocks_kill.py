# SPDX-License-Identifier: BSD-3-Clause
#
# A database on nacre whose program is killed with SIGKILL at some moment, again and again: each
# time it is opened it must hold exactly the steps up to some one, and every step that was synced
# (plugins/rocksdb/tool_writer.cpp, which knows nothing of nacre).
#
#     rocks_kill.run(kills=10, seed=1)

import random
import select
import subprocess
import time

import rocks

# A killed program's successor comes to life so soon that most rounds die during its recovery.
LIFE_S = (0.05, 0.9)


class lost(Exception):
    pass


def last_step(read, acknowledged):
    """Of the lines that are whole."""
    whole = read[:read.rfind(b"\n") + 1].split()
    return int(whole[-1]) if whole else acknowledged


def one_life(place, acknowledged, seed, seconds):
    """What it has acknowledged when it is killed."""
    command = [rocks.WRITER, place.uri, "/db", str(acknowledged), str(seed)]
    with subprocess.Popen(command, cwd=place.folder, env=place.environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        read = b""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([writer.stdout], [], [], left)[0]:
                break
            part = writer.stdout.read1()
            if not part:
                break
            read += part
        ended = writer.poll()
        writer.kill()
        read += writer.stdout.read()
        complaint = writer.stderr.read().decode(errors="replace")
        if ended is not None or "nacre_rocksdb_writer:" in complaint:
            raise lost(f"seed {seed}: {complaint}")
    return last_step(read, acknowledged)


def run(kills, seed, size="256MiB"):
    """The step that was acknowledged last."""
    dice = random.Random(seed)
    acknowledged = 0
    with rocks.Place(size) as place:
        for number in range(kills):
            life = dice.uniform(*LIFE_S)
            acknowledged = one_life(place, acknowledged, seed * 1000 + number, life)
        # The last one ends in good order, and is checked once more.
        for count in (100, 0):
            done = subprocess.run([rocks.WRITER, place.uri, "/db", str(acknowledged), str(seed),
                                   str(count)], cwd=place.folder, env=place.environment(),
                                  capture_output=True, timeout=rocks.PATIENCE_S)
            if done.returncode != 0:
                raise lost(done.stderr.decode(errors="replace"))
            acknowledged = last_step(done.stdout, acknowledged)
    return acknowledged
