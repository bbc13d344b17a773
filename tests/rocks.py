# SPDX-License-Identifier: BSD-3-Clause
#
# RocksDB's own programs, as Debian has them, on nacre: libnacre_rocksdb.so is preloaded, and
# --fs_uri says where the files are. A test that uses this is skipped where either is missing.
#
#     with rocks.Place() as place:
#         place.run("ldb", "--db=/db", "put", "a", "1", "--create_if_missing")

import os
import shutil
import subprocess
import sys
import tempfile

BUILD = os.path.dirname(os.environ["NACRE_BINARY"])
PLUGIN = os.path.join(BUILD, "libnacre_rocksdb.so")
WRITER = os.path.join(BUILD, "nacre_rocksdb_writer")
PATIENCE_S = 300


def need():
    for tool in ("db_bench", "ldb", "sst_dump"):
        if shutil.which(tool) is None:
            print(f"skipped: {tool} of rocksdb-tools is not installed")
            sys.exit(77)
    if not os.path.exists(PLUGIN):
        print("skipped: libnacre_rocksdb.so is not built (sanitized, or without librocksdb-dev)")
        sys.exit(77)


class Place:
    """A disk image, and an empty folder for programs to run in, which should stay empty."""

    def __init__(self, size="1GiB", folder=None):
        self.scratch = tempfile.TemporaryDirectory(prefix="nacre-rocks-", dir=folder)
        self.image = os.path.join(self.scratch.name, "disk.img")
        self.folder = os.path.join(self.scratch.name, "empty")
        os.mkdir(self.folder)
        self.size = size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.scratch.cleanup()

    @property
    def uri(self):
        return f"nacre://file://{self.image}?size={self.size}&mkfs=auto"

    def environment(self):
        return {**os.environ, "LD_PRELOAD": PLUGIN, "HOME": self.folder, "TMPDIR": self.folder,
                "TEST_TMPDIR": self.folder}

    def start(self, program, *arguments, uri=None, **how):
        """Popen's, running."""
        return subprocess.Popen([program, f"--fs_uri={uri or self.uri}", *arguments],
                                cwd=self.folder, env=self.environment(), text=True, **how)

    def run(self, program, *arguments, uri=None, status=0):
        """What it printed, on both."""
        with self.start(program, *arguments, uri=uri, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT) as process:
            try:
                printed = process.communicate(timeout=PATIENCE_S)[0]
            except BaseException:
                process.kill()
                raise
        if status is not None and process.returncode != status:
            raise AssertionError(f"{program} {' '.join(arguments)}: status {process.returncode}\n"
                                 + printed)
        return printed
