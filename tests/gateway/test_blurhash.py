"""The placeholder's characters are those of Wolt's own encoder."""

import numpy as np
import pytest

from darkroom.gateway.blurhash import encode_blurhash


def gradient(width: int, height: int) -> bytes:
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2))
    return np.stack(channels, -1).astype(np.uint8).tobytes()


def blocks(width: int, height: int) -> bytes:
    y, x = np.mgrid[0:height, 0:width]
    channels = ((x * 7 + y * 3) % 256, (x * y) % 256, (x // 4 + y // 4) % 2 * 255)
    return np.stack(channels, -1).astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    ("width", "height", "rgb", "expected"),
    [
        # From the C encoder of woltapp/blurhash, as packaged in blurhash-python 1.2.2.
        (32, 24, gradient(32, 24), "L$HewS2jwzX5l?WGjue;gKfkfQfj"),
        (32, 20, blocks(32, 20), "LpHU0p13n8nSREWXt4S|RTt1XPnO"),
        (8, 8, bytes(8 * 8 * 3), "L00000fQfQfQfQfQfQfQfQfQfQfQ"),
        (5, 7, b"\xff" * (5 * 7 * 3), "L*TSUA~qfQ~q_3t7fQt7fQfQfQfQ"),
    ],
    ids=["gradient", "blocks", "black", "white"],
)
def test_hashes_equal_those_of_the_reference_encoder(width: int, height: int, rgb: bytes, expected: str) -> None:
    assert encode_blurhash(width, height, rgb) == expected


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (32, 1)])
def test_every_shape_has_a_hash_of_28_characters(width: int, height: int) -> None:
    assert len(encode_blurhash(width, height, bytes(range(3)) * (width * height))) == 28


@pytest.mark.parametrize(("width", "height", "length"), [(2, 2, 11), (0, 0, 0), (2, 2, 13)])
def test_bytes_that_are_not_the_pixels_are_refused(width: int, height: int, length: int) -> None:
    with pytest.raises(ValueError, match="pixels"):
        encode_blurhash(width, height, bytes(length))
