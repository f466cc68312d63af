"""Blurhash: a photo's colours in 28 characters, shown until the photo has come.

Wolt's algorithm and encoding (https://github.com/woltapp/blurhash, Algorithm.md): a cosine transform of linear light.
"""

import numpy as np
import numpy.typing as npt

COMPONENTS_X, COMPONENTS_Y = 4, 3

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"

_Floats = npt.NDArray[np.float64]


def encode_blurhash(width: int, height: int, rgb: bytes) -> str:
    """The hash of `width` by `height` pixels, three bytes each; a few hundred pixels are enough."""
    if width < 1 or height < 1 or len(rgb) != 3 * width * height:
        raise ValueError(f"{len(rgb)} bytes are not {width} x {height} pixels of three bytes")
    pixels = np.frombuffer(rgb, np.uint8).reshape(height, width, 3)
    factors = _factors(_linear(pixels / 255.0))
    average, others = factors[0], factors[1:]
    # The largest component sets the scale of all but the average, in 82 steps.
    steps = int(np.clip(np.floor(np.abs(others).max() * 166 - 0.5), 0, 82))
    hash_ = _digits((COMPONENTS_X - 1) + (COMPONENTS_Y - 1) * 9, 1) + _digits(steps, 1)
    hash_ += _digits(_packed(_srgb(average), 256), 4)
    return hash_ + "".join(_digits(_packed(_quantised(other, (steps + 1) / 166), 19), 2) for other in others)


def _factors(linear: _Floats) -> _Floats:
    """One row of red, green and blue for each component, x running fastest."""
    height, width, _ = linear.shape
    waves_x = np.cos(np.pi * np.outer(np.arange(COMPONENTS_X), np.arange(width)) / width)
    waves_y = np.cos(np.pi * np.outer(np.arange(COMPONENTS_Y), np.arange(height)) / height)
    factors: _Floats = np.einsum("jy,ix,yxc->jic", waves_y, waves_x, linear).reshape(-1, 3) / (width * height)
    factors[1:] *= 2
    return factors


def _linear(srgb: _Floats) -> _Floats:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _srgb(linear: _Floats) -> npt.NDArray[np.int64]:
    light = np.clip(linear, 0, 1)
    srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (srgb * 255 + 0.5).astype(np.int64)


def _quantised(factor: _Floats, scale: float) -> npt.NDArray[np.int64]:
    share = factor / scale
    return np.clip(np.floor(np.copysign(np.sqrt(np.abs(share)), share) * 9 + 9.5), 0, 18).astype(np.int64)


def _packed(channels: npt.NDArray[np.int64], base: int) -> int:
    red, green, blue = channels.tolist()
    return int((red * base + green) * base + blue)


def _digits(value: int, count: int) -> str:
    return "".join(_DIGITS[value // 83**place % 83] for place in reversed(range(count)))
