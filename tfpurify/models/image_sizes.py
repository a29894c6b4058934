"""How the models grow with the images: one stage more for each doubling above 32 x 32."""

import math

LARGEST = 128
MOST_WEIGHT_BYTES = 2_000_000_000


def doublings(image_shape):
    """Returns how often 32 has to be doubled to be no less than the height and the width.

    Args:
        image_shape: `(height, width, channels)`.

    Raises:
        ValueError: If the height or the width is over 128.
    """
    largest = max(image_shape[:2])
    if largest > LARGEST:
        raise ValueError(
            f"`image_shape` must have height and width of at most {LARGEST}. "
            f"Received: image_shape={tuple(image_shape)}"
        )
    return max(0, math.ceil(math.log2(largest / 32)))


def first_grid(image_shape):
    """Returns the height and the width that a decoder begins with, before its doublings.

    Up to 32 x 32 that is 4 x 4, whatever the size: three doublings make 32 x 32, and the image is
    cut out of it. Above, it is just large enough.
    """
    extra = doublings(image_shape)
    if not extra:
        return 4, 4
    return tuple(math.ceil(size / 2 ** (3 + extra)) for size in image_shape[:2])


def require_weights_fit(name, count):
    """Refuses a model before its weights are made, if they are too many.

    Args:
        name: The model's.
        count: Number of its weights, four bytes each; the largest layers' is enough.

    Raises:
        ValueError: If they take over 2 GB.
    """
    if 4 * count > MOST_WEIGHT_BYTES:
        raise ValueError(
            f"{name} must have at most {MOST_WEIGHT_BYTES / 1e9:g} GB of weights. "
            f"Received: {4 * count / 1e9:.1f} GB; smaller images or layers need less"
        )
