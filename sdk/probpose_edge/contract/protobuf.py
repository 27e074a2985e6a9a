"""Just enough of the Protocol Buffers wire format to read and write parts of a model file without its library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO


class WireError(ValueError):
    """The bytes are not a protocol buffer message, or end in the middle of one."""


def fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Walk over the fields of the message that starts at the file's position and ends at offset `end`.

    Yields ``(field number, end of the value)``; for a length-delimited field the file stands at the start of its
    value, for others at its end. The caller may read or seek at will before asking for the next field. Raises
    `WireError` (https://protobuf.dev/programming-guides/encoding).
    """
    while (position := file.tell()) < end:
        tag = _varint(file, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            _varint(file, end)
            value_end = file.tell()
        elif wire_type == 2:
            length = _varint(file, end)
            value_end = file.tell() + length
        elif wire_type in (1, 5):
            value_end = file.tell() + (8 if wire_type == 1 else 4)
            file.seek(value_end)
        else:
            raise WireError(f"wire type {wire_type} at byte {position}")
        if number == 0 or value_end > end:
            raise WireError(f"field {number} at byte {position} ends at byte {value_end} of {end}")
        yield number, value_end
        file.seek(value_end)


def read_to(file: BinaryIO, end: int, *, limit: int = 1 << 24) -> bytes:
    """The bytes from the file's position to offset `end`; raises `WireError` if there are more than `limit`."""
    if end - file.tell() > limit:
        raise WireError(f"a text of {end - file.tell()} bytes")
    return file.read(end - file.tell())


def size_of(file: BinaryIO) -> int:
    """Length of an open file in bytes; the position goes back to the start."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    return end


def string_pair(file: BinaryIO, end: int) -> tuple[bytes, bytes]:
    """Key and value of a string map entry (fields 1 and 2) that ends at offset `end`."""
    pair = {1: b"", 2: b""}
    for number, value_end in fields(file, end):
        if number in pair:
            pair[number] = read_to(file, value_end)
    return pair[1], pair[2]


def encode_field(number: int, value: bytes) -> bytes:
    """A length-delimited field: text, bytes or an inner message."""
    return _encode_varint(number << 3 | 2) + _encode_varint(len(value)) + value


def encode_number(number: int, value: int) -> bytes:
    """A field that holds a whole number, at least 0."""
    return _encode_varint(number << 3) + _encode_varint(value)


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _varint(file: BinaryIO, end: int) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte or file.tell() > end:
            raise WireError(f"the file ends inside a number, at byte {file.tell()}")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise WireError(f"a number longer than 64 bits at byte {file.tell()}")
