# SPDX-License-Identifier: BSD-3-Clause
#
# A Ceph cluster of one node, of Debian's ceph-mon, ceph-osd and ceph-common, for the tests of the
# module rbd: one monitor and one OSD that keeps everything in memory, on loopback, without systemd,
# without authentication, all files in one folder.

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "rbd", "monmaptool")
READY_S_MAX = 120

CONFIGURATION = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}]
mon initial members = a
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 268435456
ms bind ipv6 = false
run dir = {folder}
pid file = {folder}/$name.pid
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
keyring = {folder}/keyring
client mount timeout = 30
"""


def missing():
    """What of Ceph this machine lacks."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """Runs from start() to stop()."""

    def __init__(self, folder):
        self.folder = folder
        self.conf = os.path.join(folder, "ceph.conf")
        self.daemons = []
        self.environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def run(self, *command, timeout=READY_S_MAX):
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment,
                              timeout=timeout)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def ceph(self, *arguments):
        return self.run("ceph", "-c", self.conf, "--connect-timeout", "30", *arguments)

    def rbd(self, *arguments):
        return self.run("rbd", "-c", self.conf, *arguments)

    def start(self):
        fsid, port = str(uuid.uuid4()), free_port()
        for name in ("mon", "osd"):
            os.mkdir(os.path.join(self.folder, name))
        with open(self.conf, "w", encoding="ascii") as file:
            file.write(CONFIGURATION.format(fsid=fsid, port=port, folder=self.folder))
        open(os.path.join(self.folder, "keyring"), "w", encoding="ascii").close()
        monmap = os.path.join(self.folder, "monmap")
        self.run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{port}]", "--fsid", fsid,
                 monmap)
        self.run("ceph-mon", "-c", self.conf, "--mkfs", "-i", "a", "--monmap", monmap)
        self.spawn("ceph-mon", "-i", "a")
        self.wait_for(lambda: self.ceph("mon", "stat"), "the monitor")
        osd = str(uuid.uuid4())
        self.ceph("osd", "new", osd)
        self.run("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.spawn("ceph-osd", "-i", "0")
        self.wait_for(lambda: " 1 up" in self.ceph("osd", "stat"), "the OSD")
        self.ceph("osd", "pool", "create", "rbd", "8")
        self.rbd("pool", "init", "rbd")

    def spawn(self, program, *arguments):
        output = open(os.path.join(self.folder, program + ".out"), "wb")
        self.daemons.append(subprocess.Popen([program, "-f", "-c", self.conf, *arguments],
                                             stdout=output, stderr=output, env=self.environment))
        output.close()

    def wait_for(self, ready, what):
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                if ready():
                    return
                why = "not up yet"
            except AssertionError as problem:
                why = problem
            if time.monotonic() > deadline or any(d.poll() is not None for d in self.daemons):
                raise AssertionError(f"{what} of Ceph does not come up: {why}")
            time.sleep(0.2)

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:  # SIGTERM alone may leave an OSD running
                daemon.kill()
                daemon.wait()
        self.daemons = []
