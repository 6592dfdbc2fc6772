"""Draw a small picture for the demo: a desk with a computer. Pure."""

from __future__ import annotations

import struct
import zlib

WIDTH, HEIGHT = 320, 220
_PAPER, _SUN = b"\xff\xff\xff", b"\xe0\x32\x4b"
_CASE, _SCREEN, _RING, _DESK = b"\x1c\x22\x26", b"\x35\x5c\x8a", b"\x3e\xcf\x85", b"\xc9\xb4\x9a"


def png() -> bytes:
    """Return the picture as a PNG file."""
    rows = b"".join(b"\x00" + b"".join(_color(x, y) for x in range(WIDTH)) for y in range(HEIGHT))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _color(x: int, y: int) -> bytes:
    """Return the color of the topmost object at this point."""
    if 40 <= x < 96 and 66 <= y < 180:  # the tower, with three fans
        for center in (92, 123, 154):
            if 9**2 <= (x - 68) ** 2 + (y - center) ** 2 < 12**2:
                return _RING
        return _CASE
    if 116 <= x < 264 and 70 <= y < 156:  # the monitor
        bright = 122 <= x < 258 and 76 <= y < 150
        return (_SUN if (x + y) % 60 < 12 else _SCREEN) if bright else _CASE
    if (184 <= x < 196 and 156 <= y < 176) or (160 <= x < 220 and 174 <= y < 180):  # its foot
        return _CASE
    if 180 <= y < 188:
        return _DESK
    if (x - 178) ** 2 + (y - 104) ** 2 < 88**2:
        return _SUN
    return _PAPER
