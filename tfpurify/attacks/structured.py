"""Moves to the corners of the ball that need no model: patterns of plus and minus epsilon."""

import numpy as np
import tensorflow as tf

from tfpurify.arguments import require_epsilon, require_one_of
from tfpurify.data.loading import validate_images

_OF_THE_IMAGE = ("grey", "away")  # whose signs follow the image's own pixels
_ORDERS = 5  # of the cosines: below this in both directions


class StructuredMove:
    """Moves every pixel by +epsilon or -epsilon in a regular pattern, and clips to [0, 1].

    x' = clip(x + epsilon * s, 0, 1), s of -1 and +1

    White noise averages out in whatever smooths; a pattern does not, and needs as little: no model,
    no query, no gradient.

    Args:
        name: Of `structured_names(image_shape)`. `grey`: towards one half, s = sign(0.5 - x), which
            takes contrast away; `away` from it. `brighter`, `darker`. `checks_N`: squares of N
            pixels; `rows_N`, `columns_N`: stripes of a period of N; `blocks_N`: squares of N pixels
            of random signs; `cosine_K_L`: the signs of the cosine transform's base function of
            order K down and L across; `perlin_N`, `gabor_N`: the signs of procedural noise, of a
            wave of N pixels. With `_inverse`, all signs are the other way.
        epsilon: L-inf bound, in (0, 1].

    Raises:
        ValueError: If `epsilon` is out of its range, or there is no such pattern.

    Source: Co et al. 2019, "Procedural Noise Adversarial Examples for Black-Box Attacks on Deep
    Convolutional Networks" (Perlin and Gabor noise); Yin et al. 2019, "A Fourier Perspective on
    Model Robustness" (single frequencies).
    Differs from the first: one octave, few parameters and no search over them.
    """

    def __init__(self, name, epsilon):
        require_epsilon(epsilon)
        self.name = name
        self.epsilon = epsilon

    def __call__(self, images, labels=None):
        """Moves images (B, H, W, C) in [0, 1]; returns images alike."""
        shape = np.shape(images)[-3:]
        validate_images(images, shape)
        require_one_of(structured_names(shape), name=self.name)
        images = tf.convert_to_tensor(images)
        name, is_inverse = self.name.removesuffix("_inverse"), self.name.endswith("_inverse")
        if name in _OF_THE_IMAGE:
            signs = tf.sign(0.5 - images) * (1.0 if name == "grey" else -1.0)
        else:
            signs = structured_signs(name, shape[:2])[..., None] * (-1.0 if is_inverse else 1.0)
        return tf.clip_by_value(images + self.epsilon * tf.cast(signs, tf.float32), 0.0, 1.0)


def structured_names(image_shape):
    """Returns the names of all moves of images of a shape.

    Args:
        image_shape: `(height, width, channels)`.
    """
    side = min(image_shape[:2])
    patterns = [f"checks_{size}" for size in range(1, 9)]
    periods = [period for period in (2, 3, 4, 5, 6, 8, 10, 12, 14, 16) if period <= side]
    patterns += [f"{way}_{period}" for period in periods for way in ("rows", "columns")]
    patterns += [f"blocks_{size}" for size in (2, 4, 7)]
    orders = [(down, across) for down in range(_ORDERS) for across in range(_ORDERS)]
    patterns += [f"cosine_{down}_{across}" for down, across in orders[1:]]
    patterns += [f"{kind}_{wave}" for kind in ("perlin", "gabor") for wave in (4, 8, 12)]
    inverses = [f"{pattern}_inverse" for pattern in patterns]
    return (*_OF_THE_IMAGE, "brighter", "darker", *patterns, *inverses)


def structured_signs(name, size):
    """Returns a pattern's signs.

    Args:
        name: As for `StructuredMove`, of a pattern that does not follow the image, without
            `_inverse`.
        size: `(height, width)`.

    Returns:
        `(height, width)` of -1 and +1.
    """
    kind, *numbers = name.split("_")
    numbers = [int(number) for number in numbers]
    down, across = np.mgrid[: size[0], : size[1]]
    if kind in ("brighter", "darker"):
        values = np.full(size, 1.0 if kind == "brighter" else -1.0)
    elif kind == "checks":
        values = 1.0 - 2.0 * ((down // numbers[0] + across // numbers[0]) % 2)
    elif kind in ("rows", "columns"):
        place = down if kind == "rows" else across
        values = np.where(place % numbers[0] < numbers[0] / 2, 1.0, -1.0)
    elif kind == "blocks":
        rows, columns = -(-size[0] // numbers[0]), -(-size[1] // numbers[0])
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (rows, columns))
        values = np.kron(signs, np.ones((numbers[0],) * 2))[: size[0], : size[1]]
    elif kind == "cosine":
        waves = [
            np.cos(np.pi * order * (place + 0.5) / length)
            for order, place, length in zip(numbers, (down, across), size, strict=True)
        ]
        values = waves[0] * waves[1]
    else:
        values = {"perlin": _perlin, "gabor": _gabor}[kind](numbers[0], down, across)
    return np.where(values >= 0, 1.0, -1.0)


def _perlin(wave, down, across):
    """Returns Perlin's gradient noise on a lattice of `wave` pixels (Perlin 1985, 2002)."""
    lattice = [int(place.max()) // wave + 2 for place in (down, across)]
    angles = np.random.default_rng(0).uniform(0.0, 2.0 * np.pi, lattice)
    cells, rest = zip(*(np.divmod(place + 0.5, wave) for place in (down, across)), strict=True)
    (row, column), (y, x) = (cell.astype(int) for cell in cells), (part / wave for part in rest)

    def corner(i, j):
        angle = angles[row + i, column + j]
        return np.sin(angle) * (y - i) + np.cos(angle) * (x - j)

    fade_y, fade_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
    upper, lower = (corner(i, 0) * (1 - fade_x) + corner(i, 1) * fade_x for i in (0, 1))
    return upper * (1 - fade_y) + lower * fade_y


def _gabor(wave, down, across):
    """Returns Gabor noise: waves of one length in random directions (Lagae et al. 2009)."""
    random = np.random.default_rng(0)
    values = np.zeros(down.shape)
    for _ in range(max(8, down.size // wave**2)):
        angle, sign = random.uniform(0.0, 2.0 * np.pi), random.choice([-1.0, 1.0])
        y = down - random.uniform(0, down.max() + 1)
        x = across - random.uniform(0, across.max() + 1)
        phase = 2.0 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wave
        values += sign * np.exp(-np.pi * (x**2 + y**2) / (2.0 * wave) ** 2) * np.cos(phase)
    return values
