"""What the gateway and its decoding processes say to each other over two pipes: frames of a length and its bytes.

A decoding process reads what strangers made, so its answers are not trusted either: every frame has a limit. It
imports this module and Pillow and nothing else, so that it is ready in a tenth of a second.
"""

import struct
from typing import BinaryIO, Literal, NamedTuple

FILE_BYTES_MAX = 10 * 1024 * 1024
PIXELS_MAX = 16_777_216
FRAMES_MAX = 1_000
ANSWER_BYTES_MAX = 32 * 1024 * 1024

Kind = Literal["thumbnail", "feed", "full"]
KINDS: tuple[Kind, ...] = ("thumbnail", "feed", "full")

_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<HIIBB")


class MediaRefused(Exception):
    """This file is not taken; the message names the field and the limit. `status` is what HTTP says: 413, 422, 503."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DecodingLimits(NamedTuple):
    """What decoding one file may use. Measured at 16.7 Mpx: 0.41 GB (WebP with alpha) and 1 s at most."""

    memory_bytes: int = 640 * 1024 * 1024
    cpu_s: int = 10
    deadline_s: float = 20.0


class Preview(NamedTuple):
    """A few pixels to make the placeholder of: RGB, row by row, at most 255 by 255."""

    width: int
    height: int
    pixels: bytes


class Developed(NamedTuple):
    """A photo made fit to be seen: its upright size in pixels, and a JPEG without metadata for each kind."""

    width: int
    height: int
    preview: Preview
    renditions: dict[Kind, bytes]


def write_frame(stream: BinaryIO, data: bytes) -> None:
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def read_frame(stream: BinaryIO, bytes_max: int) -> bytes:
    """The next frame; EOFError when the stream ends before it does, ValueError when it is over `bytes_max`."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > bytes_max:
        raise ValueError(f"frame is {length} bytes; the limit is {bytes_max}")
    return _exactly(stream, length)


def write_developed(stream: BinaryIO, photo: Developed) -> None:
    preview = photo.preview
    write_frame(stream, _HEAD.pack(200, photo.width, photo.height, preview.width, preview.height))
    write_frame(stream, preview.pixels)
    for kind in KINDS:
        write_frame(stream, photo.renditions[kind])


def write_refused(stream: BinaryIO, refused: MediaRefused) -> None:
    write_frame(stream, _HEAD.pack(refused.status, 0, 0, 0, 0))
    write_frame(stream, str(refused).encode(errors="replace")[:1000])


def read_answer(stream: BinaryIO) -> Developed:
    """The answer to one file; raises the MediaRefused that was written, EOFError or ValueError for no whole answer."""
    head = read_frame(stream, _HEAD.size)
    if len(head) != _HEAD.size:
        raise ValueError("the answer's head is cut short")
    status, width, height, preview_width, preview_height = _HEAD.unpack(head)
    if status in (413, 422):
        raise MediaRefused(status, read_frame(stream, 1000).decode(errors="replace"))
    if status != 200:
        raise ValueError(f"the answer's status is {status}")
    pixels = read_frame(stream, 3 * preview_width * preview_height)
    if not pixels or len(pixels) != 3 * preview_width * preview_height:
        raise ValueError("the answer's preview has another size than it says")
    renditions = {kind: read_frame(stream, ANSWER_BYTES_MAX) for kind in KINDS}
    return Developed(width, height, Preview(preview_width, preview_height, pixels), renditions)


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise EOFError(f"the stream ended after {len(data)} of {length} bytes")
    return data
