"""What strangers upload: it is decoded apart and within limits, and only its pixels are ever served."""

import hashlib
import io
import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from services.object_store import Buckets, ObjectStoreServer

from darkroom.events.object_store import ObjectStore
from darkroom.events.originals import DamagedOriginal, OriginalMissing, OriginalsFull
from darkroom.events.originals_adapters.memory import MemoryOriginals
from darkroom.events.originals_adapters.s3 import S3Originals
from darkroom.gateway import media_pool, media_protocol
from darkroom.gateway.media import MediaLibrary, MediaRefused, Photo
from darkroom.gateway.media_protocol import FILE_BYTES_MAX, FRAMES_MAX, KINDS, DecodingLimits, Kind
from darkroom.gateway.media_renditions_s3 import S3Renditions

MARKER = b"MARKER-47.3769-8.5417"

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaLibrary]:
    """One library, and so one decoding process, for all tests that leave it as it was."""
    library = MediaLibrary(MemoryOriginals(), tmp_path_factory.mktemp("renditions"))
    yield library
    library.close()


@pytest.fixture
def open_library(tmp_path: Path) -> Iterator[Callable[..., MediaLibrary]]:
    libraries: list[MediaLibrary] = []

    def opened(**options: Any) -> MediaLibrary:
        libraries.append(MediaLibrary(MemoryOriginals(), tmp_path / "renditions", **options))
        return libraries[-1]

    yield opened
    for library in libraries:
        library.close()


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def plain(width: int, height: int, colour: Any = (200, 30, 40), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), colour)


def served(library: MediaLibrary, photo: Photo) -> dict[Kind, bytes]:
    return {kind: library.rendition(photo.hash, kind).read_bytes() for kind in KINDS}


def decoded(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def refusal(library: MediaLibrary, data: bytes) -> MediaRefused:
    with pytest.raises(MediaRefused) as refused:
        library.accept(data)
    assert str(refused.value).startswith("file ")
    return refused.value


def worker_of(library: MediaLibrary) -> "subprocess.Popen[bytes]":
    (process,) = library._pool._idle
    return process._popen


def jpeg_segments(data: bytes) -> list[bytes]:
    """The markers of a JPEG before its pixels, and proof that nothing comes after them."""
    assert data[:2] == b"\xff\xd8"
    assert data.endswith(b"\xff\xd9")
    assert data.count(b"\xff\xd9") == 1
    markers, at = [], 2
    while data[at + 1 : at + 2] != b"\xda":
        markers.append(data[at : at + 2])
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return markers


# Sizes and colours


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_photo_is_kept_as_it_came_and_printed_in_three_sizes(open_library: Any, kind: str) -> None:
    library = open_library()
    data = encoded(plain(2160, 1440), kind)
    photo = library.accept(data)
    assert photo == library.accept(data)
    assert (photo.hash, photo.width, photo.height) == (hashlib.sha256(data).hexdigest(), 2160, 1440)
    assert len(photo.placeholder) == 28
    assert library._originals.read(photo.hash) == data
    sizes = {name: decoded(jpeg).shape for name, jpeg in served(library, photo).items()}
    assert sizes == {"thumbnail": (320, 320, 3), "feed": (720, 1080, 3), "full": (1365, 2048, 3)}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((10, 6), {"thumbnail": (6, 6), "feed": (10, 6), "full": (10, 6)}),
        ((1, 1), {"thumbnail": (1, 1), "feed": (1, 1), "full": (1, 1)}),
        ((4000, 1), {"thumbnail": (1, 1), "feed": (1080, 1), "full": (2048, 1)}),
        ((500, 4095), {"thumbnail": (132, 132), "feed": (132, 1080), "full": (250, 2048)}),
    ],
)
def test_nothing_is_enlarged_and_no_shape_is_too_odd(
    shared: MediaLibrary, size: tuple[int, int], expected: dict[str, tuple[int, int]]
) -> None:
    photo = shared.accept(encoded(plain(*size)))
    assert (photo.width, photo.height) == size
    assert {kind: Image.open(io.BytesIO(data)).size for kind, data in served(shared, photo).items()} == expected


def test_the_largest_photos_that_are_allowed_fit_in_memory_and_time(shared: MediaLibrary) -> None:
    colours = {"RGB": (9, 80, 200), "RGBA": (9, 80, 200, 255), "CMYK": (10, 20, 30, 40)}
    for mode, kind, options in (
        ("RGB", "JPEG", {"progressive": True}),
        ("CMYK", "JPEG", {}),
        ("RGBA", "PNG", {"compress_level": 1}),
        ("RGBA", "WEBP", {"method": 0}),
    ):
        photo = shared.accept(encoded(plain(4096, 4096, colours[mode], mode), kind, **options))
        assert (photo.width, photo.height) == (4096, 4096)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (plain(40, 30, (255, 0, 0, 0), "RGBA"), (255, 255, 255)),
        (plain(40, 30, (255, 0, 0, 128), "RGBA"), (255, 127, 127)),
        (plain(40, 30, (77, 255), "LA"), (77, 77, 77)),
        (plain(40, 30, 1, "1"), (255, 255, 255)),
        (plain(40, 30, 120, "L"), (120, 120, 120)),
        (plain(40, 30, (10, 200, 90)).quantize(4), (10, 200, 90)),
        (Image.fromarray(np.full((30, 40), 128 * 257, np.uint16)), (128, 128, 128)),
    ],
    ids=["transparent", "half transparent", "grey with alpha", "bits", "grey", "palette", "sixteen bits"],
)
def test_every_kind_of_pixel_is_shown_as_it_looks_on_white(
    shared: MediaLibrary, image: Image.Image, expected: tuple[int, int, int]
) -> None:
    photo = shared.accept(encoded(image, "PNG"))
    for data in served(shared, photo).values():
        assert np.abs(decoded(data).astype(int) - expected).max() <= 3


def swapped_profile() -> bytes:
    """A colour profile in which the primaries red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmp_", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"tmp_", b"gXYZ", 1)


def test_colours_are_converted_by_their_profile_and_a_broken_profile_is_left_out(shared: MediaLibrary) -> None:
    red = plain(40, 30, (255, 0, 0))
    for profile, expected in ((swapped_profile(), (0, 255, 0)), (b"no profile", (255, 0, 0)), (None, (255, 0, 0))):
        photo = shared.accept(encoded(red, "PNG", icc_profile=profile))
        for data in served(shared, photo).values():
            assert np.abs(decoded(data).astype(int) - expected).max() <= 6


# Files that are too much (S4)


def test_a_png_of_400_million_pixels_in_49_kb_is_refused_at_its_header(shared: MediaLibrary) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compressobj(9)
    pixels = b"".join(rows.compress(bytes(2501 * 1000)) for _ in range(20)) + rows.flush()
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
    bomb += chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    assert len(bomb) < 50_000
    without_pixels = bomb[:100]  # for which no decoder would find these words
    for refused in (refusal(shared, bomb), refusal(shared, without_pixels)):
        assert (refused.status, str(refused)) == (413, "file has more than 16777216 pixels")


def test_one_row_of_pixels_over_the_limit_is_refused_and_the_limit_itself_is_not(shared: MediaLibrary) -> None:
    assert refusal(shared, encoded(plain(4096, 4097))).status == 413
    assert shared.accept(encoded(plain(4096, 4096))).height == 4096


def test_a_webp_that_says_it_is_268_million_pixels_is_refused(shared: MediaLibrary) -> None:
    data = bytearray(encoded(plain(64, 64), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", 16_383 | 16_383 << 14)
    assert refusal(shared, bytes(data)).status == 413


def gif_of(frames: int) -> bytes:
    """As small as frames can be, which Pillow's writer would not make them."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b"\x3b"


def test_a_gif_of_many_frames_is_refused_and_one_of_few_is_not(shared: MediaLibrary) -> None:
    assert shared.accept(gif_of(FRAMES_MAX)).width == 1
    refused = refusal(shared, gif_of(FRAMES_MAX + 1))
    assert (refused.status, str(refused)) == (413, "file has 1001 frames; the limit is 1000")
    assert refusal(shared, gif_of(600_000)).status == 413


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_the_photo(shared: MediaLibrary, kind: str) -> None:
    data = encoded(plain(40, 30, (250, 10, 10)), kind, save_all=True, append_images=[plain(40, 30, (10, 10, 250))])
    for jpeg in served(shared, shared.accept(data)).values():
        assert np.abs(decoded(jpeg).astype(int) - (250, 10, 10)).max() <= 12


def test_bytes_over_the_limit_are_refused_before_anything_reads_them(open_library: Any) -> None:
    library = open_library()
    refused = refusal(library, bytes(FILE_BYTES_MAX + 1))
    assert (refused.status, str(refused)) == (413, "file is 10485761 bytes; the limit is 10485760")
    assert not library._pool._idle


def test_a_file_that_needs_more_memory_than_allowed_is_refused_and_the_next_is_not(open_library: Any) -> None:
    library = open_library(limits=DecodingLimits(memory_bytes=256 << 20))
    bomb = encoded(plain(4096, 4096, (1, 2, 3, 4), "RGBA"), "WEBP", method=0)
    for _ in range(2):
        refused = refusal(library, bomb)
        assert (refused.status, str(refused)) == (413, "file needs more memory to decode than the limit of 256 MiB")
        assert library.accept(encoded(noise(640, 480))).width == 640


def test_a_file_that_needs_more_processor_time_than_allowed_is_refused_and_the_next_is_not(open_library: Any) -> None:
    # Every scan of a progressive JPEG passes over all its pixels: at 16.7 Mpx 33 bytes buy 8 ms, 10 MB 40 minutes.
    library = open_library(limits=DecodingLimits(cpu_s=1))
    photo = encoded(plain(2048, 2048), progressive=True)
    scan = photo[photo.rindex(b"\xff\xda") : -2]
    refused = refusal(library, photo[:-2] + scan * 5_000 + b"\xff\xd9")
    assert refused.status == 422
    assert "processor time than the limit of 1 s" in str(refused)
    assert library.accept(photo).width == 2048


# Files that are not what they seem (S4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_truncated_file_is_refused_wherever_it_ends(shared: MediaLibrary, kind: str) -> None:
    whole = encoded(noise(200, 150), kind)
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        assert refusal(shared, whole[: int(len(whole) * share)]).status == 422


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"This is a text that was renamed to .jpg\n" * 50,
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200),
        encoded(plain(20, 20), "BMP"),
        encoded(plain(20, 20), "TIFF"),
        encoded(plain(20, 20), "PPM"),
        encoded(plain(20, 20), "ICO"),
    ],
    ids=["empty", "one byte", "text", "SVG", "EPS", "PDF", "HEIC", "BMP", "TIFF", "PPM", "ICO"],
)
def test_what_is_no_jpeg_png_webp_or_gif_is_refused(shared: MediaLibrary, data: bytes) -> None:
    assert refusal(shared, data).status == 422


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_bytes_changed_at_random_are_a_photo_or_a_clear_refusal(
    shared: MediaLibrary, kind: str, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(noise(48, 36), kind))
    for at, byte in flips:
        data[at % len(data)] = byte
    try:
        photo = shared.accept(bytes(data))
    except MediaRefused as refused:
        outcome = str(refused.status)
    else:
        outcome = photo.placeholder
    assert outcome in ("413", "422") or len(outcome) == 28


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_polyglots_tail_is_not_served(shared: MediaLibrary, kind: str) -> None:
    data = encoded(plain(300, 200), kind) + b"PK\x03\x04<script>" + MARKER + b"</script>"
    for jpeg in served(shared, shared.accept(data)).values():
        assert MARKER not in jpeg
        assert b"<script" not in jpeg


# What must not be served (S5)


def exif_with_marker(orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = exif[0x9286] = MARKER.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 36.84), 3: "E", 4: (8.0, 32.0, 30.12), 27: MARKER})
    if orientation is not None:
        exif[0x0112] = orientation
    return exif.tobytes()


def profile_with_marker() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile + MARKER


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def marked_jpeg() -> bytes:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:GPSLatitude>' + MARKER + b"</exif:GPSLatitude></x:xmpmeta>"
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + struct.pack(">I", 5 + len(MARKER))
    iptc += b"\x1c\x02\x5a" + struct.pack(">H", len(MARKER)) + MARKER
    segments = jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + xmp) + jpeg_segment(0xED, iptc)
    segments += jpeg_segment(0xFE, MARKER) + jpeg_segment(0xEC, b"Ducky" + MARKER) + jpeg_segment(0xEF, MARKER)
    data = encoded(noise(300, 200), exif=exif_with_marker(), icc_profile=profile_with_marker(), comment=MARKER)
    return data[:2] + segments + data[2:]


def marked_png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", MARKER.decode())
    text.add_text("Location", MARKER.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", MARKER.decode(), "en", MARKER.decode())
    text.add(b"prVt", MARKER)
    return encoded(noise(300, 200), "PNG", pnginfo=text, exif=exif_with_marker(), icc_profile=profile_with_marker())


def marked_webp() -> bytes:
    options = {"exif": exif_with_marker(), "xmp": MARKER, "icc_profile": profile_with_marker()}
    return encoded(noise(300, 200), "WEBP", **options)


@pytest.mark.parametrize(
    "data",
    [marked_jpeg(), marked_png(), marked_webp(), encoded(plain(300, 200), "GIF", comment=MARKER)],
    ids=["JPEG", "PNG", "WebP", "GIF"],
)
def test_no_metadata_is_in_any_served_byte(shared: MediaLibrary, data: bytes) -> None:
    photo = shared.accept(data)
    assert MARKER in shared._originals.read(photo.hash)
    for jpeg in served(shared, photo).values():
        assert MARKER not in jpeg
        assert b"GPS" not in jpeg
        # Nothing but JFIF's head, tables and the frame: no APP1 to APP15 and no COM.
        assert set(jpeg_segments(jpeg)) <= {b"\xff\xe0", b"\xff\xdb", b"\xff\xc2", b"\xff\xc4"}


def test_metadata_that_is_in_the_test_files_can_be_found_there() -> None:
    assert marked_jpeg().count(MARKER) >= 9
    image = Image.open(io.BytesIO(marked_jpeg()))
    assert image.getexif().get_ifd(0x8825)[2] == (47.0, 22.0, 36.84)
    assert {"comment", "xmp", "photoshop", "icc_profile", "exif"} <= set(image.info)
    assert {"Comment", "Location", "xmp", "exif"} <= set(Image.open(io.BytesIO(marked_png())).info)


def quarters(width: int, height: int) -> Pixels:
    """Upright: red and green above, blue and white below."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = (250, 5, 5), (5, 250, 5)
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = (5, 5, 250), (250, 250, 250)
    return pixels


# How a camera stores the upright picture under each orientation; EXIF 2.32, tag 274.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize(
    ("kind", "size"),
    [("JPEG", (120, 80)), ("PNG", (120, 80)), ("WEBP", (120, 80)), ("JPEG", (4100, 400))],
    ids=["JPEG", "PNG", "WebP", "JPEG decoded at half its size"],
)
def test_photos_are_upright_whatever_their_orientation(shared: MediaLibrary, kind: str, size: tuple[int, int]) -> None:
    upright = quarters(*size)
    for orientation, stored in STORED.items():
        image = Image.fromarray(np.ascontiguousarray(stored(upright)))
        photo = shared.accept(encoded(image, kind, exif=exif_with_marker(orientation), quality=95))
        assert (photo.width, photo.height) == size
        for data in served(shared, photo).values():
            pixels = decoded(data)
            height, width, _ = pixels.shape
            for x, y in itertools.product((1, 3), (1, 3)):
                shown = pixels[height * y // 4, width * x // 4].astype(int)
                meant = upright[size[1] * y // 4, size[0] * x // 4].astype(int)
                assert np.abs(shown - meant).max() < 25, (orientation, x, y)


@pytest.mark.parametrize("exif", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00"])
def test_a_photo_whose_exif_cannot_be_read_is_taken_as_it_lies(shared: MediaLibrary, exif: bytes) -> None:
    photo = shared.accept(encoded(plain(40, 30), exif=exif))
    assert (photo.width, photo.height) == (40, 30)


# Renditions


def test_renditions_thrown_away_are_made_again_just_as_they_were(open_library: Any, tmp_path: Path) -> None:
    library = open_library()
    photo = library.accept(encoded(noise(500, 400)))
    before = served(library, photo)
    shutil.rmtree(tmp_path / "renditions")
    assert served(library, photo) == before
    library.rendition(photo.hash, "feed").unlink()
    assert served(library, photo) == before


def test_a_missing_rendition_that_many_ask_for_is_made_once(
    open_library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library()
    photo = library.accept(encoded(noise(500, 400)))
    shutil.rmtree(tmp_path / "renditions")
    reads: list[str] = []
    read = library._originals.read

    def counted(content_hash: str) -> bytes:
        reads.append(content_hash)
        return bytes(read(content_hash))

    monkeypatch.setattr(library._originals, "read", counted)
    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(lambda _: library.rendition(photo.hash, "full"), range(24)))
    assert len(paths) == 1
    assert reads == [photo.hash]


@pytest.mark.parametrize("name", ["0" * 64, "../../../etc/passwd", "", "A" * 64, "0" * 64 + "/../x"])
def test_a_rendition_of_what_was_never_taken_is_missing(shared: MediaLibrary, name: str) -> None:
    for kind in KINDS:
        with pytest.raises(OriginalMissing):
            shared.rendition(name, kind)


def test_a_kind_that_does_not_exist_is_missing_too(shared: MediaLibrary) -> None:
    photo = shared.accept(encoded(plain(20, 10)))
    with pytest.raises(OriginalMissing):
        shared.rendition(photo.hash, "../original")  # type: ignore[arg-type]


def test_a_rendition_of_a_damaged_original_is_not_made(open_library: Any, tmp_path: Path) -> None:
    library = open_library()
    photo = library.accept(encoded(plain(20, 10)))
    shutil.rmtree(tmp_path / "renditions")
    library._originals._contents[photo.hash] = encoded(plain(20, 11))
    with pytest.raises(DamagedOriginal):
        library.rendition(photo.hash, "feed")


def test_without_room_a_photo_is_refused_with_507(
    open_library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library()

    def full(_: bytes) -> str:
        raise OriginalsFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(library._originals, "put", full)
        assert refusal(library, encoded(plain(20, 10))).status == 507

    def no_room(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", no_room)
        with pytest.raises(MediaRefused, match="no room for renditions") as refused:
            library.accept(encoded(plain(20, 10)))
        assert refused.value.status == 507
    assert not [path for path in (tmp_path / "renditions").rglob("*") if path.is_file()]
    assert library.accept(encoded(plain(20, 10))).width == 20


# Originals and renditions in an object store


@pytest.fixture
def open_gateway(object_store: Buckets) -> Iterator[Callable[[], MediaLibrary]]:
    """Each call is the media of one more gateway on the same object store."""
    address = object_store()
    libraries: list[MediaLibrary] = []

    def opened() -> MediaLibrary:
        originals, renditions = S3Originals(address.below("originals")), S3Renditions(address.below("renditions"))
        libraries.append(MediaLibrary(originals, renditions))
        return libraries[-1]

    yield opened
    for library in libraries:
        library.close()


def objects_of(library: MediaLibrary) -> ObjectStore:
    assert isinstance(library._renditions, S3Renditions)
    return library._renditions._store


def test_what_one_gateway_takes_in_another_serves_without_decoding(open_gateway: Callable[[], MediaLibrary]) -> None:
    data = encoded(noise(500, 400))
    photo = open_gateway().accept(data)
    other = open_gateway()
    sizes = {kind: Image.open(io.BytesIO(jpeg)).size for kind, jpeg in served(other, photo).items()}
    assert sizes == {"thumbnail": (320, 320), "feed": (500, 400), "full": (500, 400)}
    assert not other._pool._idle
    assert other._originals.read(photo.hash) == data


def test_objects_that_were_thrown_away_are_made_again_just_as_they_were(
    open_gateway: Callable[[], MediaLibrary],
) -> None:
    library = open_gateway()
    photo = library.accept(encoded(noise(500, 400)))
    before = served(library, photo)
    objects = objects_of(library)
    assert len(objects.keys("")) == len(KINDS)
    objects.delete(objects.keys(""))
    assert served(open_gateway(), photo) == before
    with pytest.raises(OriginalMissing):
        library.rendition("0" * 64, "feed")


def test_while_the_object_store_is_silent_photos_are_refused_with_503_and_taken_afterwards() -> None:
    server = ObjectStoreServer()
    address = server.bucket(deadline_s=0.9)
    library = MediaLibrary(S3Originals(address.below("originals")), S3Renditions(address.below("renditions")))
    try:
        photo = library.accept(encoded(plain(20, 10)))
        before = served(library, photo)
        server.process.send_signal(signal.SIGSTOP)
        for ask in (lambda: library.accept(encoded(plain(30, 10))), lambda: library.rendition(photo.hash, "feed")):
            with pytest.raises(MediaRefused, match="right now; try again later") as refused:
                ask()
            assert refused.value.status == 503
            assert server.endpoint not in str(refused.value)
        server.process.send_signal(signal.SIGCONT)
        assert served(library, photo) == before
        assert library.accept(encoded(plain(30, 10))).width == 30
        server.process.send_signal(signal.SIGSTOP)
        library._renditions = type("Empty", (), {"find": lambda *_: None})()
        with pytest.raises(MediaRefused, match="cannot be read right now"):
            library.rendition(photo.hash, "feed")
    finally:
        library.close()
        server.stop()


# Decoding processes


def test_a_process_killed_in_the_middle_refuses_that_file_and_the_next_is_taken(
    open_library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library()
    library.accept(encoded(plain(20, 10)))
    worker = worker_of(library)
    write_frame = media_protocol.write_frame

    def written_then_killed(stream: BinaryIO, data: bytes) -> None:
        worker.send_signal(signal.SIGSTOP)
        write_frame(stream, data)
        worker.kill()

    with monkeypatch.context() as patched:
        patched.setattr(media_pool, "write_frame", written_then_killed)
        refused = refusal(library, encoded(plain(30, 10)))
    assert refused.status == 422
    assert "the decoder stopped" in str(refused)
    assert library.accept(encoded(plain(30, 10))).width == 30
    assert worker_of(library).pid != worker.pid


def test_a_process_that_died_while_idle_costs_nobody_a_refusal(open_library: Any) -> None:
    library = open_library()
    library.accept(encoded(plain(20, 10)))
    worker_of(library).kill()
    worker_of(library).wait()
    assert library.accept(encoded(plain(30, 10))).width == 30


def test_a_process_that_hangs_is_killed_at_the_deadline(open_library: Any) -> None:
    library = open_library(limits=DecodingLimits(deadline_s=0.8))
    library.accept(encoded(plain(20, 10)))
    worker = worker_of(library)
    worker.send_signal(signal.SIGSTOP)
    # Larger than a pipe holds, so that the gateway hangs while writing and not only while reading.
    refused = refusal(library, encoded(noise(640, 480)))
    assert (refused.status, str(refused)) == (422, "file could not be decoded: it took longer than the limit of 0.8 s")
    assert worker.poll() == -signal.SIGKILL
    assert library.accept(encoded(plain(30, 10))).width == 30


def test_an_answer_that_is_nonsense_is_not_believed(open_library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    library = open_library()
    program = (
        "import sys; o = sys.stdout.buffer; o.write(b'\\5\\0\\0\\0ready' + b'\\xff' * 99); o.flush(); sys.stdin.read()"
    )
    popen = subprocess.Popen
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", program], **options))
        refused = refusal(library, encoded(plain(20, 10)))
    assert refused.status == 422
    assert library.accept(encoded(plain(20, 10))).width == 20


def test_an_answer_that_was_not_fetched_is_never_another_files(
    open_library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library()
    library.accept(encoded(plain(20, 10)))

    def interrupted(_: BinaryIO) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(media_pool, "read_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            library.accept(encoded(plain(30, 10)))
    assert library.accept(encoded(plain(40, 10))).width == 40


def test_decoding_that_cannot_be_started_is_told_apart_from_a_bad_file(
    open_library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library()
    for program in ("/does/not/exist", "/bin/true"):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", program)
            with pytest.raises(MediaRefused, match="could not be started") as refused:
                library.accept(encoded(plain(20, 10)))
            assert refused.value.status == 503
    assert library.accept(encoded(plain(20, 10))).width == 20


def test_processes_start_when_needed_are_reused_and_are_no_more_than_allowed(open_library: Any) -> None:
    library = open_library(workers=2)
    assert not library._pool._idle
    photos = [encoded(noise(64, 48, seed)) for seed in range(12)]
    with ThreadPoolExecutor(6) as threads:
        accepted = list(threads.map(library.accept, photos))
    assert [photo.hash for photo in accepted] == [hashlib.sha256(data).hexdigest() for data in photos]
    started = {process._popen.pid for process in library._pool._idle}
    assert 1 <= len(started) <= 2
    library.accept(photos[0])
    assert {process._popen.pid for process in library._pool._idle} == started


def test_more_than_may_wait_are_refused_with_503(open_library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_pool, "WAITING_MAX", 0)
    library = open_library()
    library.accept(encoded(plain(20, 10)))
    with library._pool._turns.turn(), pytest.raises(MediaRefused, match="try again later") as refused:
        library.accept(encoded(plain(20, 10)))
    assert refused.value.status == 503
    assert library.accept(encoded(plain(20, 10))).width == 20


def test_a_process_is_replaced_after_so_many_files(open_library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_pool, "FILES_PER_PROCESS_MAX", 2)
    library = open_library()
    library.accept(encoded(plain(20, 10)))
    first = worker_of(library)
    library.accept(encoded(plain(20, 10)))
    assert not library._pool._idle
    assert first.poll() is not None
    assert library.accept(encoded(plain(20, 10))).width == 20


def test_closing_ends_the_processes_and_takes_no_more(open_library: Any) -> None:
    library = open_library()
    library.accept(encoded(plain(20, 10)))
    worker = worker_of(library)
    library.close()
    assert worker.poll() is not None
    with pytest.raises(MediaRefused):
        library.accept(encoded(plain(20, 10)))


def test_a_decoding_process_imports_no_more_than_it_needs() -> None:
    program = "import sys, darkroom.gateway.media_worker; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "msgspec", "ray", "sqlite3", "asyncio", "lmdb", "darkroom.gateway.media"} & set(
        printed.split()
    )
