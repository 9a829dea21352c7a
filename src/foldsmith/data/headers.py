"""The size an image file claims in its header, read before anything is decoded."""

import re
import struct
from collections.abc import Callable

Size = tuple[int, int]  # (width, height)


def claimed_size(data: bytes) -> Size | None:
    """Width and height in pixels; None if the file is of no known form, or its header is not whole."""
    for magic, read in READERS.items():
        if data.startswith(magic):
            try:
                return read(data)
            except (struct.error, ValueError, IndexError):
                return None
    return None


def _jpeg(data: bytes) -> Size | None:
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a filling byte
            place += 1
        elif marker in (0x01, *range(0xD0, 0xD8)):  # markers without content
            place += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        else:
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return None


def _png(data: bytes) -> Size:
    return struct.unpack_from(">II", data, 16)


def _gif(data: bytes) -> Size:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> Size:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # the oldest header, of OS/2
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # a negative height means from top to bottom


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return tuple(1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(data: bytes) -> Size:
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    sides = {}
    for entry in range(struct.unpack_from(f"{order}H", data, start)[0]):
        place = start + 2 + 12 * entry
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        if tag in (256, 257):  # width and height, 16 or 32 bits
            sides[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place + 8)[0]
    if len(sides) < 2:
        raise ValueError("no size")
    return sides[256], sides[257]


def _jpeg2000(data: bytes) -> Size:
    start = data.index(b"\xff\x4f\xff\x51")  # the code stream, inside its boxes or alone
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    return right - left, bottom - top


def _pnm(data: bytes) -> Size:
    words = re.sub(rb"#[^\n]*", b" ", data[:4096]).split(None, 3)
    return int(words[1]), int(words[2])


READERS: dict[bytes, Callable[[bytes], Size | None]] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"RIFF": _webp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"\0\0\0\x0cjP": _jpeg2000,
    b"\xff\x4f\xff\x51": _jpeg2000,
    **{b"P%d" % kind: _pnm for kind in range(1, 7)},
}
