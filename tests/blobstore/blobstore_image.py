# SPDX-License-Identifier: BSD-3-Clause
#
# A disk image that is read where it holds something: holes of sparse files are skipped, a .gz is
# unpacked into a sparse temporary file. Beside it the one checksum of the format, CRC-32C.

import gzip
import os
import tempfile
import zlib

CHUNK = 1 << 20
HOLE = 1 << 16


class unusable(Exception):
    """No blobstore can be read from this, whatever one is prepared to overlook."""

    def __init__(self, text, findings=()):
        super().__init__(text)
        self.findings = findings


class image:
    def __init__(self, path):
        try:
            self.file = unpacked(path) if path.endswith(".gz") else open(path, "rb", buffering=0)
            self.size = self.file.seek(0, os.SEEK_END)
        except (OSError, EOFError, zlib.error) as problem:
            raise unusable(f"{path}: cannot be read: {problem}") from problem

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def read(self, offset, length):
        """Exactly these bytes; what lies past the end is an error, as it is on a device."""
        if offset + length > self.size:
            raise unusable(f"bytes {offset}..{offset + length} lie past the end, {self.size}")
        parts, left = [], length
        while left:
            part = os.pread(self.file.fileno(), min(left, CHUNK), offset + length - left)
            if not part:
                raise unusable(f"byte {offset + length - left} cannot be read")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def data(self, start, end):
        """(offset, bytes) of all stretches between start and end that may hold a non-zero byte."""
        at, end = start, min(end, self.size)
        while at < end:
            try:
                at = max(at, os.lseek(self.file.fileno(), at, os.SEEK_DATA))
                stop = min(end, os.lseek(self.file.fileno(), at, os.SEEK_HOLE))
            except OSError:  # ENXIO: only a hole follows
                return
            while at < stop:
                part = self.read(at, min(stop - at, CHUNK))
                yield at, part
                at += len(part)


def unpacked(path):
    out = tempfile.TemporaryFile()
    size = 0
    with gzip.open(path, "rb") as packed:
        while part := packed.read(HOLE):
            if part.count(0) != len(part):
                out.seek(size)
                out.write(part)
            size += len(part)
    out.truncate(size)
    out.flush()
    return out


def nonzero(source, start, end):
    """(offset of the first, number) of the bytes in [start, end) that are not zero."""
    first, count = None, 0
    for at, part in source.data(start, end):
        here = len(part) - part.count(0)
        if here and first is None:
            first = at + len(part) - len(part.lstrip(b"\0"))
        count += here
    return first, count


def _byte_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def _apply(columns, register):
    result = 0
    while register:
        low = register & -register
        result ^= columns[low.bit_length() - 1]
        register ^= low
    return result


TABLE = _byte_table()
GAP = bytes(64)  # zeros from which on a leap is worth it
# ZEROS[k] is what 2**k bytes of zero do to the register, by columns: pages are mostly zeros.
ZEROS = [[TABLE[(1 << bit) & 0xFF] ^ (1 << bit) >> 8 for bit in range(32)]]
while len(ZEROS) < 16:
    ZEROS.append([_apply(ZEROS[-1], column) for column in ZEROS[-1]])


def crc32c(data):
    register, at = 0xFFFFFFFF, 0
    while at < len(data):
        gap = data.find(GAP, at)
        gap = len(data) if gap < 0 else gap
        for byte in data[at:gap]:
            register = TABLE[(register ^ byte) & 0xFF] ^ register >> 8
        rest = data[gap:]
        zeros = len(rest) - len(rest.lstrip(b"\0"))
        assert zeros < 1 << len(ZEROS)
        for power, columns in enumerate(ZEROS):
            if zeros >> power & 1:
                register = _apply(columns, register)
        at = gap + zeros
    return register ^ 0xFFFFFFFF
