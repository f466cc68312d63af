"""Photographs that nobody took, for the demo world: painted from a seed, so that no picture of anyone is needed.

The same seed and size give the same picture. Nothing is read but the numbers.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from darkroom.gateway.demo_sheet import Colour, Floats, Mood, Sheet, colour_of, levels, mixed

SHAPES = ((1280, 960), (1080, 1350), (1080, 1080), (1350, 900), (1400, 788))

_MOODS: tuple[Mood, ...] = (
    ("#1d2b53", "#7a4a7c", "#f4a261", "#ffd9a0", "#120e1c"),  # dusk
    ("#0f2a43", "#3f6d8c", "#e9c7b0", "#fff0d8", "#0a141c"),  # dawn
    ("#25184a", "#8b3f73", "#ff8e72", "#ffc9a3", "#140b20"),  # rose
    ("#12323a", "#4c8b86", "#f2d9a6", "#fff4cf", "#081616"),  # teal
    ("#3b4a5a", "#8d9aa6", "#dfe1de", "#ffffff", "#1b2228"),  # mist
    ("#2a1a12", "#a4532a", "#ffc35a", "#ffe9b0", "#1a0d08"),  # amber
)
_NIGHTS: tuple[Mood, ...] = (
    ("#050914", "#0d1b38", "#2b4468", "#cfe0ff", "#03050a"),
    ("#070512", "#1d1540", "#5a3564", "#f0d8ff", "#05030a"),
    ("#02090d", "#08262e", "#2f5f5c", "#d6fff0", "#010507"),
)


def picture(seed: int, width: int = 1440, height: int = 1080) -> bytes:
    """A JPEG; seeds that follow each other show different kinds of scene. 64 to 4096 pixels a side, or ValueError."""
    if not 64 <= min(width, height) <= max(width, height) <= 4096:
        raise ValueError(f"{width} x {height} pixels: each side must have from 64 to 4096")
    sheet = Sheet(seed, width, height)
    SCENES[seed % len(SCENES)][0](sheet)
    return sheet.printed()


def description(seed: int) -> str:
    """What the picture shows, for whoever cannot see it."""
    return SCENES[seed % len(SCENES)][1]


def shape(seed: int) -> tuple[int, int]:
    """A width and height that suit the seed: landscape, portrait or square."""
    return SHAPES[seed * 7 // 3 % len(SHAPES)]


def _hills(sheet: Sheet) -> None:
    """Ridge behind ridge in haze, the sun just above the farthest."""
    zenith, middle, horizon, light, ground = sheet.one_of(_MOODS)
    level = sheet.between(0.42, 0.58)
    sheet.gradient([(0, zenith), (level * 0.6, middle), (level + 0.08, horizon), (1, horizon)])
    _clouds(sheet, level, light)
    _sun(sheet, sheet.between(0.2, 0.8) * sheet.aspect, level - sheet.between(0.02, 0.12), light)
    layers = int(sheet.chance.integers(5, 8))
    for layer in range(layers):
        depth = (layer + 1) / layers
        line = sheet.ridge(level + (0.98 - level) * depth**1.35 * 0.9, 0.05 + 0.05 * depth, 1.3 + depth)
        colour = mixed(mixed(horizon, middle, 0.45), ground, depth**0.8)
        body = sheet.below(line)
        haze = np.exp(-np.clip(sheet.y - line, 0, 1) / 0.10) - 1
        sheet.cover(body, colour)
        sheet.light(body * -haze * (0.30 * (1 - depth)), horizon)


def _sea(sheet: Sheet) -> None:
    """A low sun and its path on the water."""
    zenith, middle, horizon, light, ground = sheet.one_of(_MOODS)
    level, at = sheet.between(0.45, 0.62), sheet.between(0.25, 0.75) * sheet.aspect
    sheet.gradient([(0, zenith), (level * 0.55, middle), (level, horizon), (level + 0.001, horizon), (1, horizon)])
    _clouds(sheet, level, light)
    _sun(sheet, at, level - sheet.between(0.03, 0.14), light)
    water = sheet.below(np.full((1, sheet.width), level, np.float32))
    depth = np.clip((sheet.y - level) / (1 - level), 0.0005, 1)
    sheet.rgb = np.where(water[..., None] > 0.5, _mirrored(sheet, level, 0.6), sheet.rgb)
    sheet.cover(water * (0.25 + 0.6 * depth**0.7), mixed(zenith, ground, 0.45))
    swell = _waves(sheet, level)
    path = np.exp(-(((sheet.x - at) / (0.03 + 0.22 * depth)) ** 2)) * (1 - depth * 0.55)
    sheet.light(water * path * np.clip(swell * 2.4 - 1.0, 0, 1), light)
    sheet.light(water * np.clip(swell - 0.62, 0, 1) * 0.5 * depth, horizon)
    if sheet.chance.random() < 0.6:
        far = sheet.ridge(level - 0.012, 0.02, 2.0)
        sheet.cover(sheet.below(far) * (1 - water), mixed(middle, zenith, 0.6))


def _lake(sheet: Sheet) -> None:
    """Snow on the peaks, and all of it again in still water."""
    zenith, middle, horizon, light, ground = sheet.one_of(_MOODS)
    level = sheet.between(0.56, 0.64)
    sheet.gradient([(0, zenith), (level * 0.7, middle), (level, horizon), (1, horizon)])
    _clouds(sheet, level, light)
    for depth in (0.25, 0.6, 1.0):
        line = sheet.ridge(level * (0.48 + 0.36 * depth), 0.16 - 0.09 * depth, 1.6 + 2 * depth, roughness=0.53)
        body, under = sheet.below(line), np.clip((sheet.y - line) / (level - line + 0.01), 0, 1)
        sheet.cover(body, mixed(mixed(middle, horizon, 0.35), ground, 0.25 + 0.55 * depth))
        facing = sheet.facing(line, 0.9, 2.5)
        sheet.cover(body * facing * 0.55, mixed(zenith, ground, 0.5 * depth))
        snow = np.clip((0.75 - 0.7 * depth - under + (sheet.noise(26, 5) - 0.5) * 1.1 - facing * 0.3) * 5, 0, 1)
        sheet.cover(body * snow, mixed(light, zenith, 0.12 + 0.3 * depth))
        sheet.cover(body * snow * facing * 0.6, mixed(middle, zenith, 0.5))
        sheet.light(body * under**2 * 0.28 * (1.2 - depth), horizon)
    shore = sheet.ridge(level - 0.012, 0.012, 9)
    sheet.cover(sheet.below(shore), ground)
    water = sheet.below(np.full((1, sheet.width), level, np.float32))
    sheet.rgb = np.where(water[..., None] > 0.5, _mirrored(sheet, level, 0.25), sheet.rgb)
    depth_of_water = np.clip((sheet.y - level) / (1 - level), 0, 1)
    sheet.cover(water * (0.12 + 0.45 * depth_of_water), mixed(zenith, ground, 0.4))
    sheet.light(water * np.exp(-depth_of_water / 0.03) * 0.35, horizon)


def _forest(sheet: Sheet) -> None:
    """Pines in fog, one row behind another."""
    zenith, middle, horizon, light, ground = sheet.one_of(_MOODS)
    fog = mixed(horizon, light, 0.4)
    sheet.gradient([(0, mixed(middle, horizon, 0.4)), (0.4, fog), (1, fog)])
    _sun(sheet, sheet.between(0.2, 0.8) * sheet.aspect, sheet.between(0.15, 0.35), light)
    rows = 6
    for row in range(rows):
        depth = (row + 1) / rows
        line = sheet.ridge(0.30 + 0.62 * depth, 0.05, 1.2, octaves=4)
        colour = mixed(fog, mixed(ground, zenith, 0.25), 0.12 + 0.88 * depth**1.4)
        sheet.cover(_pines(sheet, line, 0.05 + 0.17 * depth), colour)
        sheet.light(sheet.noise(2.2, 4, 3.0) * sheet.below(line - 0.06) * 0.5 * (1 - depth), fog)


def _dunes(sheet: Sheet) -> None:
    """Sand in side light: each crest has a bright and a dark flank."""
    zenith, middle, horizon, light, ground = sheet.one_of(_MOODS)
    level = sheet.between(0.3, 0.45)
    sheet.gradient([(0, zenith), (level * 0.7, middle), (level, horizon), (1, horizon)])
    _sun(sheet, sheet.between(0.1, 0.9) * sheet.aspect, level - sheet.between(0.05, 0.2), light)
    sand, shade = mixed(horizon, light, 0.25), mixed(ground, middle, 0.35)
    for layer in range(5):
        depth = (layer + 1) / 5
        line = sheet.ridge(level + 0.5 * depth**1.5, 0.05 + 0.06 * depth, 0.7 + 0.4 * depth, octaves=3, roughness=0.35)
        body, down = sheet.below(line), sheet.y - line
        facing = sheet.facing(line, 1.5, 4.0) * np.clip(1.15 - down * 1.3, 0, 1)
        sheet.cover(body, mixed(sand, middle, 0.35 * (1 - depth)))
        sheet.cover((body * facing * (0.45 + 0.5 * depth)).astype(np.float32), shade)
        ripples = np.sin(down * 260 / depth + np.sin(sheet.x * 9 + layer) * 3 + sheet.noise(5, 3) * 7)
        sheet.light((body * ripples * 0.045 * depth * (1 - facing)).astype(np.float32), light)


def _night(sheet: Sheet) -> None:
    """Stars, a veil of aurora or the galaxy, and a black treeline."""
    zenith, middle, horizon, light, ground = sheet.one_of(_NIGHTS)
    sheet.gradient([(0, zenith), (0.55, middle), (0.85, horizon), (1, horizon)])
    sheet.stars(sheet.width * sheet.height // 500, 0.9)
    if sheet.chance.random() < 0.5:
        _aurora(sheet)
    else:
        tilt, at = sheet.between(-0.9, 0.9), sheet.between(0.35, 0.65) * sheet.aspect
        band = np.exp(-(((sheet.x - at - (sheet.y - 0.4) * tilt) / 0.16) ** 2))
        dust = sheet.noise(4, 6)
        sheet.light(band * dust**1.4 * 0.75, light)
        sheet.cover(band * np.clip(sheet.noise(5, 6) * 2.4 - 1.35, 0, 0.6), zenith)
    sheet.cover(sheet.below(sheet.ridge(0.83, 0.05, 1.2)), mixed(horizon, ground, 0.7))
    sheet.cover(_pines(sheet, sheet.ridge(0.95, 0.03, 1.5, octaves=4), 0.14), ground)


def _city(sheet: Sheet) -> None:
    """Lights of a street out of focus: hexagons would need a worse lens."""
    zenith, middle, _, light, ground = sheet.one_of(_NIGHTS)
    sheet.gradient([(0, zenith), (0.5, middle), (1, ground)])
    sheet.light(sheet.noise(1.5, 3) * 0.25, middle)
    warm = [colour_of(text) for text in ("#ffb347", "#ff7b54", "#ffd98e", "#ff5470", "#7fd8ff", "#9effc5")]
    for _ in range(int(sheet.chance.integers(120, 190))):
        x, y = sheet.between(0, sheet.aspect), float(np.clip(sheet.chance.normal(0.52, 0.17), 0, 1))
        radius = sheet.between(0.012, 0.035) + 0.08 * abs(y - 0.5) * sheet.between(0.5, 2.2)
        colour = warm[int(sheet.chance.integers(len(warm)) * sheet.between(0.4, 1))]
        sheet.spot(x, y, radius, colour, sheet.between(0.15, 0.75))
    sheet.light(sheet.noise(1.2, 2) * 0.06, light)


def _cyanotype(sheet: Sheet) -> None:
    """Ferns laid on iron salts and left in the sun."""
    blue, paper = colour_of("#123d7a"), colour_of("#e8f0f2")
    sheet.gradient([(0, mixed(blue, (0, 0, 0), 0.25)), (1, blue)])
    sheet.light(sheet.noise(3, 5) * 0.18, colour_of("#4f86c6"))
    plate = Image.new("L", (sheet.width, sheet.height), 0)
    pen = ImageDraw.Draw(plate)
    for _ in range(int(sheet.between(1.6, 4) * sheet.aspect + 0.7)):
        _fern(sheet, pen, sheet.between(0.2, 0.8) * sheet.width, sheet.between(0.98, 1.1) * sheet.height)
    leaf = np.asarray(plate.filter(ImageFilter.GaussianBlur(1.1)), np.float32) / 255
    sheet.cover(leaf * (0.62 + 0.38 * sheet.noise(12, 4)), paper)
    edge = np.minimum(np.minimum(sheet.x, sheet.aspect - sheet.x), np.minimum(sheet.y, 1 - sheet.y))
    brushed = 0.035 + (sheet.noise(7, 5) - 0.5) * 0.06
    sheet.cover(np.clip((brushed - edge) / 0.008, 0, 1), colour_of("#ece6d8"))


def _dahlia(sheet: Sheet) -> None:
    """A flower head, petals set at the golden angle, in front of a blurred garden."""
    hue = int(sheet.chance.integers(4))
    outer = colour_of(("#c2185b", "#e4572e", "#7b4fa3", "#f0b429")[hue])
    inner = colour_of(("#ffd1dc", "#ffd166", "#e3c8ff", "#fff1b8")[hue])
    sheet.gradient([(0, colour_of("#2f4a2c")), (1, colour_of("#0f1a10"))])
    sheet.light(sheet.noise(2, 3) ** 2 * 0.6, colour_of("#4c7a45"))
    for _ in range(40):
        spot = sheet.between(0, sheet.aspect), sheet.between(0, 1), sheet.between(0.03, 0.1)
        sheet.spot(*spot, colour_of("#9fc48a"), sheet.between(0.03, 0.22))
    head = Image.fromarray(levels(sheet.rgb))
    _petals(sheet, head, outer, inner)
    sheet.rgb = np.asarray(head, np.float32) / np.float32(255)


SCENES: tuple[tuple[Callable[[Sheet], None], str], ...] = (
    (_hills, "Ridges one behind another in haze, and a low sun"),
    (_sea, "A low sun over water, and its path on the waves"),
    (_forest, "Rows of firs in fog"),
    (_lake, "Snowy peaks above a lake that mirrors them"),
    (_night, "A night sky over a black line of trees"),
    (_dunes, "Dunes in side light"),
    (_city, "Street lights out of focus"),
    (_cyanotype, "White ferns on a blue ground with brushed edges"),
    (_dahlia, "A dahlia in front of a blurred garden"),
)


def _sun(sheet: Sheet, x: float, y: float, light: Colour) -> None:
    sheet.light(sheet.glow(x, y, 0.42) * 0.55, light)
    sheet.light(sheet.glow(x, y, 0.09) * 0.75, light)
    sheet.cover(sheet.disc(x, y, sheet.between(0.018, 0.045), 0.006), mixed(light, (1, 1, 1), 0.6))


def _clouds(sheet: Sheet, level: float, light: Colour) -> None:
    """Drawn out sideways, thicker on some days than on others, lit from below."""
    cover = sheet.between(0.42, 0.62)
    bank = np.clip((sheet.noise(3, 6, 3.5) - cover) * 2.6, 0, 1) * np.clip((level + 0.05 - sheet.y) * 3, 0, 1)
    sheet.light(bank * 0.5, light)
    sheet.cover(np.clip(sheet.noise(2.5, 5, 4.0) - 0.55, 0, 0.5) * bank, mixed(light, (0, 0, 0), 0.55))


def _mirrored(sheet: Sheet, level: float, ripple: float) -> Floats:
    """The sheet upside down about a level, shaken by small waves that grow towards the viewer."""
    rows = np.arange(sheet.height)
    down = rows / sheet.height - level
    chop = np.convolve(sheet.chance.uniform(-1, 1, sheet.height), np.ones(4) / 4, "same")
    shake = chop * np.clip(down, 0, 1) * ripple * 0.1
    source = np.clip((level - down * 0.85 + shake) * sheet.height, 0, sheet.height - 1).astype(int)
    mirrored: Floats = sheet.rgb[source]
    return mirrored


def _waves(sheet: Sheet, level: float) -> Floats:
    """Noise seen flat along the water: fine and dense far off, long and low near by."""
    texture = sheet.noise(170, 3, 9.0)
    depth = np.clip((np.linspace(0, 1, sheet.height) - level) / (1 - level), 0.004, 1)
    rows = (np.log(depth / 0.004) / math.log(250) * (sheet.height - 1)).astype(int)
    waves: Floats = texture[rows]
    return waves


def _pines(sheet: Sheet, line: Floats, tall: float) -> Floats:
    """A row of firs that stand on a line, as a mask."""
    mask = Image.new("L", (sheet.width, sheet.height), 0)
    pen, high = ImageDraw.Draw(mask), sheet.height
    pen.polygon([(0, high), *zip(range(sheet.width), line[0] * high, strict=True), (sheet.width, high)], fill=255)
    at = 0.0
    while at < sheet.width:
        size = tall * high * sheet.between(0.45, 1.1)
        foot = float(line[0, int(at)]) * high + size * 0.08
        for tier in np.linspace(0, 1, 9):
            half, top = size * (0.02 + 0.19 * tier) * sheet.between(0.75, 1.15), foot - size * (1 - tier * 0.9)
            low = top + size * 0.06
            pen.polygon([(at, top - size * 0.09), (at - half, low), (at + half, low)], fill=255)
        at += size * sheet.between(0.12, 0.5)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(0.8)), np.float32) / np.float32(255)


def _aurora(sheet: Sheet) -> None:
    for colour in ("#3dffa8", "#37e0c0", "#9a5cff"):
        hem = sheet.ridge(sheet.between(0.45, 0.62), 0.09, 0.8, octaves=4)
        up = (hem - sheet.y) / sheet.between(0.18, 0.34)
        rays = 0.45 + 0.55 * np.interp(np.linspace(0, 1, sheet.width), np.linspace(0, 1, 140), sheet.chance.random(140))
        veil = np.where(up > 0, np.exp(-up * 1.8), np.exp(up * 22)) * rays[None, :]
        sheet.light((veil * sheet.noise(1.2, 2, 0.7) * 0.75).astype(np.float32), colour_of(colour))


def _fern(sheet: Sheet, pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    length, heading, bend = (
        sheet.between(0.75, 1.0) * sheet.height,
        sheet.between(-1.9, -1.25),
        sheet.between(-0.5, 0.5),
    )
    pairs = 30
    for pair in range(pairs):
        share = pair / pairs
        step, angle = length / pairs, heading + bend * share
        ahead = x + math.cos(angle) * step, y + math.sin(angle) * step
        pen.line([(x, y), ahead], fill=230, width=max(1, round(5 * (1 - share))))
        reach = length * 0.24 * math.sin(math.pi * (0.16 + 0.84 * share) ** 0.8) * (1 - share * 0.35)
        for side in (-1, 1):
            _frond(pen, *ahead, angle + side * (1.2 - 0.45 * share), reach, step * 0.5)
        x, y = ahead


def _frond(pen: ImageDraw.ImageDraw, x: float, y: float, angle: float, reach: float, wide: float) -> None:
    leaflets = max(1, int(reach / (wide * 0.5)))
    pen.line([(x, y), (x + math.cos(angle) * reach, y + math.sin(angle) * reach)], fill=215, width=2)
    for leaflet in range(leaflets):
        share = leaflet / leaflets
        at = x + math.cos(angle) * reach * share, y + math.sin(angle) * reach * share
        size = wide * (1.1 - share * 0.85)
        for turn in (-1.0, 1.0):
            tip = angle + turn * 0.95
            across = size * 0.28
            pen.polygon(
                [
                    at,
                    (at[0] + math.cos(tip - 0.35) * size * 0.6, at[1] + math.sin(tip - 0.35) * size * 0.6),
                    (at[0] + math.cos(tip) * (size + across), at[1] + math.sin(tip) * (size + across)),
                    (at[0] + math.cos(tip + 0.35) * size * 0.6, at[1] + math.sin(tip + 0.35) * size * 0.6),
                ],
                fill=225,
            )


def _petals(sheet: Sheet, head: Image.Image, outer: Colour, inner: Colour) -> None:
    pen, high = ImageDraw.Draw(head), sheet.height
    centre = sheet.between(0.4, 0.6) * sheet.width, sheet.between(0.45, 0.55) * high
    count, radius = 190, 0.47 * min(high, sheet.width)
    for petal in range(count, 0, -1):
        share = petal / count
        angle, reach = petal * 2.39996, radius * math.sqrt(share)
        half = radius * (0.035 + 0.115 * share)
        colour = mixed(inner, outer, share**0.7 * 0.9)
        for inset, tone in ((1.0, 0.5), (0.9, 0.72), (0.78, 0.86), (0.62, 0.98), (0.42, 1.1)):
            points = [_petal_point(centre, angle, reach, half * inset, turn / 12) for turn in range(25)]
            pen.polygon(points, fill=tuple(round(255 * min(1, part * tone * (0.62 + 0.38 * share))) for part in colour))


def _petal_point(
    centre: tuple[float, float], angle: float, reach: float, half: float, turn: float
) -> tuple[float, float]:
    along = reach * 0.62 + math.cos(turn * math.pi) * half * 1.9
    across = math.sin(turn * math.pi) * half * (0.85 + 0.15 * math.cos(turn * math.pi))
    return (
        centre[0] + math.cos(angle) * along - math.sin(angle) * across,
        centre[1] + math.sin(angle) * along + math.cos(angle) * across,
    )
