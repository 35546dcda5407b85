"""Generated road scenes with exact masks: what is drawn is what the mask says, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("sky", "building", "vegetation", "sidewalk", "road", "lane marking", "car")
SIZE = 480


class Scene:
    """A picture and its mask, drawn together."""

    def __init__(self, seed: int, size: int = SIZE) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        self.picture = Image.new("RGB", (size, size))
        self.mask = Image.new("L", (size, size))
        self._draw = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.mask)

    def color(self, base: tuple[int, int, int], spread: int = 18) -> tuple[int, ...]:
        """``base``, a little different in every scene."""
        shift = self.rng.integers(-spread, spread + 1, 3) + self.rng.integers(-spread, spread + 1)
        return tuple(int(v) for v in np.clip(np.array(base) + shift, 0, 255))

    def polygon(self, kind: str, points: list[tuple[float, float]], color: tuple[int, ...]) -> None:
        """Points in shares of the picture's side."""
        scaled = [(x * self.size, y * self.size) for x, y in points]
        self._draw[0].polygon(scaled, fill=color)
        self._draw[1].polygon(scaled, fill=CLASSES.index(kind))

    def box(self, kind: str, x0: float, y0: float, x1: float, y1: float, color: tuple[int, ...]) -> None:
        """An upright rectangle."""
        self.polygon(kind, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)

    def disc(self, kind: str, x: float, y: float, radius: float, color: tuple[int, ...]) -> None:
        """A circle."""
        corners = [v * self.size for v in (x - radius, y - radius, x + radius, y + radius)]
        self._draw[0].ellipse(corners, fill=color)
        self._draw[1].ellipse(corners, fill=CLASSES.index(kind))


def draw(seed: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """One scene.

    Returns:
        The picture, uint8 (size, size, 3), and the mask of class indices, uint8 (size, size).
    """
    scene = Scene(seed, size)
    rng = scene.rng
    horizon = rng.uniform(0.38, 0.5)
    scene.box("sky", 0, 0, 1, 1, scene.color((150, 190, 230)))
    left = 0.0
    while left < 1:
        width = rng.uniform(0.08, 0.2)
        if rng.random() < 0.65:
            _building(scene, left, width, horizon)
        left += width
    for _ in range(rng.integers(4, 9)):
        x = rng.uniform(0, 1)
        for _ in range(5):
            at = (x + rng.uniform(-0.05, 0.05), horizon - rng.uniform(0, 0.09))
            scene.disc("vegetation", *at, rng.uniform(0.02, 0.05), scene.color((50, 110, 45)))
    scene.box("sidewalk", 0, horizon, 1, 1, scene.color((170, 160, 150)))
    vanish, low, high = rng.uniform(0.4, 0.6), rng.uniform(0.0, 0.18), rng.uniform(0.82, 1.0)
    scene.polygon(
        "road", [(vanish - 0.04, horizon), (vanish + 0.04, horizon), (high, 1), (low, 1)], scene.color((85, 85, 90))
    )
    paint = scene.color((235, 235, 225), 8)
    for share in (0.5,) if rng.random() < 0.5 else (0.33, 0.67):
        for dash in np.arange(rng.uniform(0, 0.1), 1, 0.16):
            near, far = horizon + (1 - horizon) * min(dash + 0.09, 1), horizon + (1 - horizon) * dash
            points = []
            for y, sign in ((far, -1), (far, 1), (near, 1), (near, -1)):
                depth = (y - horizon) / (1 - horizon)
                middle = vanish + depth * (low + share * (high - low) - vanish)
                points.append((middle + sign * (0.002 + 0.016 * depth), y))
            scene.polygon("lane marking", points, paint)
    for _ in range(rng.integers(1, 4)):
        _car(scene, horizon, vanish, low, high)
    light = rng.uniform(0.8, 1.15)
    noise = rng.normal(0, 7, (size, size, 3))
    picture = np.clip(np.asarray(scene.picture, np.float64) * light + noise, 0, 255)
    return picture.astype(np.uint8), np.asarray(scene.mask)


def _building(scene: Scene, left: float, width: float, horizon: float) -> None:
    rng = scene.rng
    top = horizon - rng.uniform(0.12, 0.36)
    wall = scene.color(((150, 110, 90), (175, 165, 150), (120, 120, 135))[rng.integers(3)])
    scene.box("building", left, top, left + width, horizon + 0.01, wall)
    window = scene.color((70, 85, 105))
    for y in np.arange(top + 0.02, horizon - 0.03, 0.05):
        for x in np.arange(left + 0.012, left + width - 0.025, 0.035):
            scene.box("building", x, y, x + 0.018, y + 0.028, window)


def _car(scene: Scene, horizon: float, vanish: float, low: float, high: float) -> None:
    rng = scene.rng
    depth = rng.uniform(0.15, 0.7)
    y = horizon + depth * (1 - horizon)
    middle = vanish + depth * (low + rng.choice([0.25, 0.75]) * (high - low) - vanish)
    width, height = 0.05 + 0.22 * depth, 0.04 + 0.15 * depth
    body = scene.color(((190, 35, 35), (40, 70, 170), (215, 190, 60))[rng.integers(3)])
    scene.box("car", middle - width / 2, y - height * 0.6, middle + width / 2, y, body)
    scene.box("car", middle - width * 0.35, y - height, middle + width * 0.35, y - height * 0.6, body)
    scene.box(
        "car",
        middle - width * 0.3,
        y - height * 0.92,
        middle + width * 0.3,
        y - height * 0.62,
        scene.color((60, 75, 90)),
    )
    for side in (-0.35, 0.35):
        scene.disc("car", middle + side * width, y, width * 0.09, (25, 25, 25))


def write(folder: Path, seeds: range, size: int = SIZE) -> None:
    """Scenes as ``images/N.png`` and ``masks/N.png``."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        picture, mask = draw(seed, size)
        Image.fromarray(picture).save(folder / "images" / f"{seed:04d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{seed:04d}.png")
