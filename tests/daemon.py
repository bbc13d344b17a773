# SPDX-License-Identifier: BSD-3-Clause
#
# What the end-to-end tests share: a `nacre serve` of their own in a folder of its own, and a client
# that speaks JSON-RPC as it stands on the wire.

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

NACRE = os.environ["NACRE_BINARY"]
READY_S_MAX = 60  # sanitizers and busy machines


def nacre(*arguments, **options):
    """Runs the program to its end."""
    options.setdefault("timeout", 60)
    return subprocess.run([NACRE, *arguments], capture_output=True, text=True, **options)


def loop_device(test, path):
    """A block device that is the file, until the test ends; skips it where none can be had."""
    made = subprocess.run(["losetup", "--find", "--show", path], capture_output=True, text=True,
                          timeout=30, check=False) if shutil.which("losetup") else None
    if made is None or made.returncode != 0:
        test.skipTest("loop devices need root, and losetup")
    device = made.stdout.strip()
    test.addCleanup(subprocess.run, ["losetup", "--detach", device], check=True, timeout=30)
    return device


class Daemon:
    """`nacre serve --json`, ready when the constructor returns. A context manager: ends it."""

    def __init__(self, *arguments, folder=None, program=NACRE, **options):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="nacre-")
        if not any(a in arguments for a in ("-r", "--rpc-socket", "--data", "--quickstart")):
            arguments = ("-r", os.path.join(self.folder, "rpc.sock"), *arguments)
        self.log = open(os.path.join(self.folder, "log"), "ab+")
        self.process = subprocess.Popen([program, "serve", "--json", *arguments],
                                        stdout=subprocess.PIPE, stderr=self.log, cwd=self.folder,
                                        **options)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(READY_S_MAX)
            raise AssertionError(f"not ready: exit {self.process.returncode}: {self.stderr()}")
        self.ready = json.loads(line)
        self.pid = self.process.pid
        self.socket = os.path.join(self.folder, self.ready["socket"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def stderr(self):
        self.log.seek(0)
        return self.log.read().decode()

    def stop(self, number=signal.SIGTERM):
        """The exit code."""
        self.process.send_signal(number)
        return self.process.wait(READY_S_MAX)

    def rpc(self, *arguments):
        """By `nacre rpc`: the answer, or the failed run."""
        done = nacre("rpc", "-s", self.socket, "--json", *arguments)
        return json.loads(done.stdout) if done.returncode == 0 else done

    def call(self, method, **params):
        with Client(self.socket) as client:
            return client.call(method, **params)

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s*(\d+) kB", status.read()).group(1)) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/schedstat", encoding="ascii") as times:
            return int(times.read().split()[0]) / 1e9


class Client:
    """A connection. Answers are decoded one by one, as SPDK's Python client does."""

    def __init__(self, path, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.text = ""
        self.id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, text):
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def receive(self):
        """The next JSON value, or None when the server has closed."""
        while True:
            self.text = self.text.lstrip()
            try:
                value, end = json.JSONDecoder().raw_decode(self.text)
                self.text = self.text[end:]
                return value
            except ValueError:
                pass
            piece = self.socket.recv(65536)
            if not piece:
                return None
            self.text += piece.decode()

    def request(self, method, **params):
        self.id += 1
        request = {"jsonrpc": "2.0", "method": method, "id": self.id}
        if params:
            request["params"] = params
        self.send(json.dumps(request))
        return self.id

    def call(self, method, **params):
        """The whole response."""
        number = self.request(method, **params)
        response = self.receive()
        assert response is not None, f"{method}: the connection ended"
        assert response["id"] == number, response
        return response


def wait_until(condition, seconds=READY_S_MAX):
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
