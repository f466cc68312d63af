"""The sheet that a demo picture is painted on: gradients, glows, clouds, skylines and stars, and its print at the end.

All chance comes from the seed; the same seed and size give the same print.
"""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

JPEG_QUALITY = 90

Floats = npt.NDArray[np.float32]
Colour = tuple[float, float, float]
Mood = tuple[str, str, str, str, str]
"""Colours of the zenith, the middle of the sky, the horizon, the light, and the darkest ground."""


class Sheet:
    """A picture in the making: `y` and `x` are 0 at the top left and 1 at the bottom and `aspect` at the right."""

    def __init__(self, seed: int, width: int, height: int) -> None:
        self.chance = np.random.default_rng(seed)
        self.width, self.height, self.aspect = width, height, width / height
        self.y: Floats = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        self.x: Floats = np.linspace(0, self.aspect, width, dtype=np.float32)[None, :]
        self.rgb: Floats = np.zeros((height, width, 3), np.float32)

    def between(self, low: float, high: float) -> float:
        return float(self.chance.uniform(low, high))

    def one_of(self, moods: Sequence[Mood]) -> list[Colour]:
        return [colour_of(text) for text in moods[int(self.chance.integers(len(moods)))]]

    def gradient(self, stops: Sequence[tuple[float, Colour]]) -> None:
        """Fill the sheet from top to bottom."""
        places = [place for place, _ in stops]
        for channel in range(3):
            self.rgb[:, :, channel] = np.interp(self.y, places, [colour[channel] for _, colour in stops])

    def cover(self, mask: Floats, colour: Colour) -> None:
        """Paint where the mask is 1."""
        rows = np.flatnonzero(mask.max(axis=1) > 0.002) if mask.shape[0] == self.height else np.arange(self.height)
        if len(rows):
            part = slice(rows[0], rows[-1] + 1)
            mask = mask[part] if mask.shape[0] == self.height else mask
            self.rgb[part] += mask[..., None] * (np.asarray(colour, np.float32) - self.rgb[part])

    def light(self, amount: Floats, colour: Colour) -> None:
        """Add light as a second exposure would, so that nothing burns out."""
        self.rgb += amount[..., None] * np.asarray(colour, np.float32) * (1 - np.clip(self.rgb, 0, 1))

    def glow(self, x: float, y: float, radius: float) -> Floats:
        distance = np.sqrt((self.x - x) ** 2 + (self.y - y) ** 2)
        return np.exp(-distance / radius).astype(np.float32)

    def disc(self, x: float, y: float, radius: float, softness: float = 0.0015) -> Floats:
        distance = np.sqrt((self.x - x) ** 2 + (self.y - y) ** 2)
        return np.clip((radius - distance) / softness + 0.5, 0, 1).astype(np.float32)

    def noise(self, cells: float, octaves: int, stretch: float = 1.0) -> Floats:
        """Clouds of 0 to 1 over the sheet; `stretch` draws them out sideways."""
        finest = cells * 2 ** (octaves - 1)
        size = (self.width, self.height)
        if finest * 6 < self.height:  # the sum of few cells is as smooth as they are, and a sixteenth of the work
            size = (self.width // 4, self.height // 4)
        total, weight = np.zeros(size[::-1], np.float32), 0.0
        for octave in range(octaves):
            across = max(2, round(cells * self.aspect * 2**octave / stretch))
            coarse = self.chance.random((max(2, round(cells * 2**octave)), across), np.float32)
            total += np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)) * 0.5**octave
            weight += 0.5**octave
        total = np.asarray(Image.fromarray(total).resize((self.width, self.height), Image.Resampling.BICUBIC))
        return np.clip(0.5 + (total / weight - 0.5) * 1.6, 0, 1)

    def ridge(self, level: float, swing: float, cells: float, octaves: int = 7, roughness: float = 0.5) -> Floats:
        """A skyline: for each column, how far down it stands."""
        line = np.zeros(self.width, np.float32)
        for octave in range(octaves):
            points = self.chance.uniform(-1, 1, max(4, round(cells * self.aspect * 2**octave)) + 2)
            at = np.linspace(0, len(points) - 1.001, self.width)
            left, share = at.astype(int), at % 1
            share = share * share * (3 - 2 * share) if octave < 3 else share
            line += (points[left] * (1 - share) + points[left + 1] * share) * roughness**octave
        return (level + swing * line)[None, :].astype(np.float32)

    def below(self, line: Floats) -> Floats:
        return np.asarray(np.clip((self.y - line) * self.height + 0.5, 0, 1), np.float32)

    def stars(self, count: int, lowest: float) -> None:
        """Few bright, many faint, a little blue or amber."""
        sky = np.zeros_like(self.rgb)
        rows = (self.chance.random(count) ** 1.3 * lowest * self.height).astype(int)
        columns = self.chance.integers(1, self.width - 1, count)
        brightness = self.chance.pareto(2.2, count) * 0.26 + 0.12
        tint = np.stack(
            [self.chance.uniform(0.8, 1, count), np.full(count, 0.92), self.chance.uniform(0.8, 1, count)], 1
        )
        sky[rows, columns] = np.clip(brightness, 0, 1.6)[:, None] * tint
        soft = _blurred(sky / 1.6, self.height / 900) * 1.6
        self.rgb += sky * 0.7 + soft * 2.2

    def facing(self, line: Floats, lean: float, sharpness: float) -> Floats:
        """How far each place below a skyline is turned from the light: flanks that lean, not folds."""
        slope = np.gradient(line[0]) * self.width / self.aspect
        slope = np.convolve(slope, np.ones(9) / 9, "same")
        down = np.clip(self.y - line, 0, 1)
        swerve = np.sin(down * 14 + self.between(0, 6)) * 0.035 + (self.noise(6, 4) - 0.5) * 0.14 * np.minimum(
            down * 6, 1
        )
        source = (np.arange(self.width) + (down * lean + swerve) * self.height).astype(int)
        turned = slope[np.clip(source, 0, self.width - 1)]
        return np.asarray(1 / (1 + np.exp(-turned * 6 * sharpness)), np.float32)

    def spot(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """A light out of focus: a disc with a slightly brighter rim. Only its own square is touched."""
        top, left = (max(0, int((place - radius * 1.1) * self.height)) for place in (y, x))
        bottom, right = (int((place + radius * 1.1) * self.height) + 2 for place in (y, x))
        part = self.rgb[top:bottom, left:right]
        distance = np.sqrt((self.x[:, left:right] - x) ** 2 + (self.y[top:bottom] - y) ** 2) / radius
        disc = np.clip((1 - distance) * radius * self.height / 1.8, 0, 1) * (0.7 + 0.3 * np.clip(distance, 0, 1) ** 6)
        part += disc[..., None] * strength * np.asarray(colour, np.float32) * (1 - np.clip(part, 0, 1))

    def printed(self) -> bytes:
        """Bloom, vignette, a soft curve and grain: what makes it look like film rather than arithmetic."""
        rgb = self.rgb + 0.12 * _blurred(np.clip(self.rgb - 0.6, 0, 1) / 0.4, self.height / 45) * 0.4
        fall = ((self.x / self.aspect - 0.5) ** 2 + (self.y - 0.5) ** 2)[..., None]
        rgb = np.clip(rgb * (1.04 - 0.62 * fall), 0, 1)
        rgb = rgb * 0.75 + (rgb * rgb * (3 - 2 * rgb)) * 0.25
        grain = self.chance.standard_normal((self.height, self.width, 1), np.float32) * 0.017
        stream = io.BytesIO()
        Image.fromarray(levels(rgb + grain)).save(stream, "JPEG", quality=JPEG_QUALITY)
        return stream.getvalue()


def _blurred(rgb: Floats, radius: float) -> Floats:
    """Blurred at a quarter of the size, for a blur has no detail to lose."""
    image = Image.fromarray(levels(rgb))
    small = image.reduce(4).filter(ImageFilter.GaussianBlur(radius / 4))
    return np.asarray(small.resize(image.size, Image.Resampling.BILINEAR), np.float32) / np.float32(255)


def levels(rgb: Floats) -> npt.NDArray[np.uint8]:
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def colour_of(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text[1:])
    return red / 255, green / 255, blue / 255


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue
