"""Images that the network was not trained for: rotated digits, and digits of other scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from refmiracle import drawing
from refmiracle.errors import InputError

ANGLES = (30, 60, 90, 180)
ROTATED = 2000  # test images, from the first on
FOREIGN = "foreign digits"
# Digits of other scripts in the font that comes with matplotlib.  What a reader of Latin digits
# would take for one is left out, as are glyphs that another here repeats:
# Arabic-Indic 0 (a dot: a filled square at this size), 1 (for 1), 5 (for 0), 6 (for 7), 9 (for 9);
# Extended Arabic-Indic 5 (for 0), and 0 to 3 and 7 to 9 (as in Arabic-Indic);
# N'Ko 0 (for 0), 1 (for 1), 3 and 4 (for an angular 3), 6 (for 4), 9 (for 9);
# Lao 0 (for 0), 1 (for 9), 2 and 4 (for 6).
SCRIPTS = {
    "Arabic-Indic": "\u0662\u0663\u0664\u0667\u0668",
    "Extended Arabic-Indic": "\u06f4\u06f6",
    "N'Ko": "\u07c2\u07c5\u07c7\u07c8",
    "Lao": "\u0ed3\u0ed5\u0ed6\u0ed7\u0ed8\u0ed9",
}
GLYPHS = "".join(SCRIPTS.values())
COPIES = 30  # of each glyph
SEED = 0
TURN = 15.0  # degrees, at most, either way
SHEAR = 0.2  # of the height, at most, either way
WIDEN = 1.25  # factor on the width, at most; its inverse at least
SIZE, BOX = 28, 20  # pixels
MIDDLE = 14.0  # row and column of MNIST's centres of mass, the first being 0
Pixels = NDArray[np.uint8]


def has_foreign(test: Pixels) -> bool:
    """Tell whether images are as foreign digits are, grey and of 28x28."""
    return test.shape[1:] == (SIZE, SIZE)


def changed_images(test: Pixels) -> dict[str, Pixels]:
    """Return sets of changed images by name, each of the shape of those that are given.

    Parameters
    ----------
    test : ndarray of uint8, shape (images, channels, height, width)
        Of which the first 2,000 are rotated; one channel has no axis.  Beside images as they are
        stand foreign digits too.
    """
    sets = {f"rotated by {angle} degrees": rotated(test[:ROTATED], angle) for angle in ANGLES}
    return {**sets, FOREIGN: foreign_digits()} if has_foreign(test) else sets


def rotated(images: Pixels, angle: float) -> Pixels:
    """Return images turned anticlockwise about their middle; what comes from outside is black.

    Parameters
    ----------
    images : ndarray of uint8, shape (images, channels, height, width)
        One channel has no axis.
    angle : float
        In degrees.

    Returns
    -------
    ndarray of uint8, of that shape
        Interpolated linearly.
    """
    turned = scipy.ndimage.rotate(
        images.astype(np.float32), angle, axes=(-1, -2), reshape=False, order=1
    )
    return np.asarray(np.clip(np.rint(turned), 0, 255).astype(np.uint8))


def foreign_digits(copies: int | None = None) -> Pixels:
    """Return digits of other scripts, white on black, in the manner of MNIST.

    Each is drawn from the font's outline, turned by up to 15 degrees, sheared and widened at
    random, scaled to a box of 20x20 pixels and put in the image by its centre of mass.  The
    randomness is numpy's, which may differ between its versions.

    Parameters
    ----------
    copies : int, optional
        Of each glyph; `COPIES` by default.

    Returns
    -------
    ndarray of uint8, shape (copies * glyphs, 28, 28)
        All glyphs once, then all once again.

    Raises
    ------
    InputError
        If the font lacks a glyph.
    """
    rng = np.random.default_rng(SEED)
    with drawing.own_style():
        outlines = [outline(character) for character in GLYPHS]
        every = outlines * (COPIES if copies is None else copies)
        return np.stack([draw(path, _distortion(rng)) for path in every])


def outline(character: str) -> Any:
    """Return the outline of a glyph of matplotlib's own DejaVu Sans, a matplotlib Path.

    Raises
    ------
    InputError
        If the font lacks the glyph.
    """
    fonts = drawing.load("font_manager")
    # By its path, as the system may have another version of it.
    font = Path(drawing.load().get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    if ord(character) not in fonts.get_font(str(font)).get_charmap():
        raise InputError(f"{font}: it has no glyph for U+{ord(character):04X}; update matplotlib")
    properties = fonts.FontProperties(fname=str(font))
    return drawing.load("textpath").TextPath((0, 0), character, size=100, prop=properties)


def _distortion(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random matrix, shape (2, 2): rotation times shear times scale of the width."""
    turn = np.deg2rad(rng.uniform(-TURN, TURN))
    shear = rng.uniform(-SHEAR, SHEAR)
    widen = WIDEN ** rng.uniform(-1, 1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([widen, 1.0])


def draw(path: Any, distortion: NDArray[np.float64]) -> Pixels:
    """Return an outline as an anti-aliased image, shape (28, 28), white on black.

    Parameters
    ----------
    path : matplotlib Path
    distortion : ndarray, shape (2, 2)
        What its points are multiplied by; its size does not matter.
    """
    affine = drawing.load("transforms").Affine2D
    (a, c), (b, d) = distortion
    shape = path.transformed(affine.from_values(a, b, c, d, 0, 0))
    box = shape.get_extents()
    fit = affine().translate(*-(box.min + box.max) / 2).scale(BOX / box.size.max())
    image = _fill(shape, fit.translate(SIZE / 2, SIZE / 2))
    row, column = scipy.ndimage.center_of_mass(image)
    # Agg's y runs upwards, an image's rows downwards.
    return _fill(shape, fit.translate(MIDDLE - column, row - MIDDLE))


def _fill(path: Any, transform: Any) -> Pixels:
    renderer = drawing.load("backends.backend_agg").RendererAgg(SIZE, SIZE, 72)
    settings = renderer.new_gc()
    settings.set_snap(False)
    settings.set_linewidth(0)
    renderer.draw_path(settings, path, transform, (1.0, 1.0, 1.0))
    return np.asarray(renderer.buffer_rgba())[..., 3].copy()
