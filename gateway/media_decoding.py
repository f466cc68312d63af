"""A stranger's file to a photo fit to be seen: upright, in sRGB, at most 2048 pixels a side, nothing but pixels.

Runs in a decoding process, never in the gateway: image decoders are the likeliest place for a hostile file to break
in. The file's name and type are never asked; the content decides.
"""

import io
import warnings

# WebP's module registers itself; without it the first WebP would make Pillow import all forty formats.
from PIL import Image, ImageCms, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from darkroom.gateway.media_protocol import FRAMES_MAX, PIXELS_MAX, Developed, Kind, MediaRefused, Preview

FULL_PX_MAX, FEED_PX_MAX, THUMBNAIL_PX_MAX, PREVIEW_PX_MAX = 2048, 1080, 320, 32
JPEG_QUALITY = 85

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def develop(data: bytes) -> Developed:
    """The photo in `data`; MediaRefused 413 for one over a limit, 422 for what is no whole photo."""
    image = _opened(data)
    width, height = image.size
    full_size = _fitted(width, height, FULL_PX_MAX)
    _load(image, full_size)
    orientation = _orientation(image)
    # The small image is converted and turned, which costs a fraction of doing so to the large one.
    full = _in_srgb(_flattened(image, full_size), image.info.get("icc_profile"))
    if orientation in _UPRIGHT:
        full = full.transpose(_UPRIGHT[orientation])
    if orientation in _SIDEWAYS:
        width, height = height, width
    return _developed(_pixels_only(full), width, height)


def _opened(data: bytes) -> Image.Image:
    """The file with its header read and found within the limits, its pixels not yet decoded."""
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise MediaRefused(413, f"file has more than {PIXELS_MAX} pixels") from None
    except UnidentifiedImageError:
        raise MediaRefused(422, "file is not a JPEG, PNG, WebP or GIF image") from None
    # Frames are counted from their headers, a microsecond each; only the first is decoded.
    frames = getattr(image, "n_frames", 1)
    if frames > FRAMES_MAX:
        raise MediaRefused(413, f"file has {frames} frames; the limit is {FRAMES_MAX}")
    return image


def _load(image: Image.Image, full_size: tuple[int, int]) -> None:
    """All of it, for `verify` lets a truncated JPEG pass; a large JPEG at a half, quarter or eighth if that will do."""
    image.draft(None, full_size)
    image.load()


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts them; 1 where it says nothing that can be read, for a photo is more than its EXIF."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _flattened(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """At `size`, over white where it is transparent, in a mode that a colour profile can be applied to."""
    if image.mode.startswith("I"):
        # Sixteen bits of grey, which Pillow would not scale to eight but clip.
        image = image.point(lambda value: value * (1 / 257)).convert("L")
        image.info.pop("transparency", None)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if image.mode != "RGBA":
        return image
    white = Image.new("RGB", size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """In RGB by its colour profile; a profile that is damaged or of another mode is left out, as browsers do."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return image.convert("RGB")


def _pixels_only(image: Image.Image) -> Image.Image:
    """A new image of the same pixels: no comment, profile, EXIF, XMP or text can follow them into a rendition."""
    return Image.frombytes("RGB", image.size, image.tobytes())


def _developed(full: Image.Image, width: int, height: int) -> Developed:
    feed = full.resize(_fitted(*full.size, FEED_PX_MAX), Image.Resampling.LANCZOS, reducing_gap=3.0)
    preview = feed.resize(_fitted(*feed.size, PREVIEW_PX_MAX), Image.Resampling.BOX)
    renditions: dict[Kind, bytes] = {"thumbnail": _jpeg(_square(feed)), "feed": _jpeg(feed), "full": _jpeg(full)}
    return Developed(width, height, Preview(*preview.size, preview.tobytes()), renditions)


def _square(image: Image.Image) -> Image.Image:
    """The middle of it, as grids and avatars show it."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    goal = min(side, THUMBNAIL_PX_MAX)
    return image.resize((goal, goal), Image.Resampling.LANCZOS, (left, top, left + side, top + side), 3.0)


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True, progressive=True)
    return stream.getvalue()


def _fitted(width: int, height: int, px_max: int) -> tuple[int, int]:
    """The largest size of the same shape that has no side over `px_max`; never larger than it was."""
    longest = max(width, height, px_max)
    return max(1, round(width * px_max / longest)), max(1, round(height * px_max / longest))
