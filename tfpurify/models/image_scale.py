"""The scale on which a network takes its images, and how a wrong one is found out."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfpurify.arguments import require_one_of
from tfpurify.vocabulary import CHANNEL_ORDERS

# ImageNet's mean and deviation on [0, 1] in RGB, and its mean on [0, 255] in BGR.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE = (103.939, 116.779, 123.68)


@dataclasses.dataclass(frozen=True)
class ImageScale:
    """What is done to an image in [0, 1] before a network sees it.

    The order of the channels comes first, then the range, then `mean` and `std`, which are in the
    units of that range and in that order of channels.

    Args:
        image_range: `(low, high)` of the network's images.
        mean: Subtracted after that: a number for each channel, or one. None: nothing.
        std: Divided by after that; None: nothing.
        channels: `rgb` or `bgr`.
    """

    image_range: tuple = (0.0, 1.0)
    mean: tuple | None = None
    std: tuple | None = None
    channels: str = "rgb"

    def __post_init__(self):
        require_one_of(CHANNEL_ORDERS, channels=self.channels)
        values = tuple(map(float, self.image_range))
        if len(values) != 2 or not np.all(np.isfinite(values)) or values[0] >= values[1]:
            raise ValueError(
                "`image_range` must be two numbers, the lower first, as (0, 255). "
                f"Received: image_range={self.image_range}"
            )
        object.__setattr__(self, "image_range", values)
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value is None:
                continue
            numbers = tuple(float(number) for number in np.atleast_1d(value))
            if not np.all(np.isfinite(numbers)) or (name == "std" and min(numbers) <= 0):
                raise ValueError(
                    f"`{name}` must be finite numbers, `std` above 0. Received: {value}"
                )
            object.__setattr__(self, name, numbers)

    def require_channels(self, count):
        """Refuses what does not fit images of so many channels."""
        for name in ("mean", "std"):
            found = len(getattr(self, name) or (0,))
            if found not in (1, count):
                raise ValueError(
                    f"`{name}` must have one number, or one for each of {count} channels. "
                    f"Received: {found} numbers"
                )
        if self.channels == "bgr" and count != 3:
            raise ValueError(
                f"`channels='bgr'` needs images of 3 channels. Received: {count} channels"
            )

    def __call__(self, images):
        """Returns images in [0, 1] as the network takes them."""
        low, high = self.image_range
        if self.channels == "bgr":
            images = images[..., ::-1]
        if (low, high) != (0.0, 1.0):
            images = images * (high - low) + low
        if self.mean is not None:
            images = images - tf.constant(self.mean)
        return images if self.std is None else images / tf.constant(self.std)

    def __str__(self):
        low, high = self.image_range
        words = [f"image_range=({low:g}, {high:g})"]
        for name in ("mean", "std"):
            if getattr(self, name) is not None:
                words.append(f"{name}=({', '.join(f'{v:g}' for v in getattr(self, name))})")
        return ", ".join(
            [*words, *([f"channels={self.channels!r}"] if self.channels != "rgb" else [])]
        )


def other_scales(scale, num_channels):
    """Returns the scales that people use and that are not this one."""
    found = [ImageScale(image_range) for image_range in ((0, 1), (0, 255), (-1, 1))]
    if num_channels == 3:
        found += [dataclasses.replace(one, channels="bgr") for one in found]
        found += [ImageScale((0, 1), *_IMAGENET), ImageScale((0, 255), _CAFFE, None, "bgr")]
        other = "rgb" if scale.channels == "bgr" else "bgr"
        found.append(dataclasses.replace(scale, channels=other))
    return [one for one in dict.fromkeys(found) if one != scale]


def require_right_scale(classify, scale, images, labels):
    """Returns the accuracy on labelled images; refuses a scale that is clearly the wrong one.

    Args:
        classify: Function of an `ImageScale` that returns a function images -> `(batch, classes)`.
        scale: The one that was given.
        images: `(n, height, width, channels)` in [0, 1].
        labels: `(n,)`.

    Raises:
        ValueError: If another scale is right for more images, by more than three standard errors
            of the difference; names it.
    """
    labels = np.asarray(labels)

    def is_right(candidate):
        return np.argmax(np.asarray(classify(candidate)(images)), axis=1) == labels

    own = is_right(scale)
    best, best_accuracy = None, own.mean()
    for candidate in other_scales(scale, images.shape[-1]):
        gain = is_right(candidate).astype(float) - own
        error = max(gain.std(), 0.5 / np.sqrt(len(gain))) / np.sqrt(len(gain))
        if gain.mean() > max(3 * error, 0.02) and own.mean() + gain.mean() > best_accuracy:
            best, best_accuracy = candidate, own.mean() + gain.mean()
    if best is not None:
        raise ValueError(
            f"The classifier is right for {own.mean():.1%} of {len(labels)} images with {scale}, "
            f"and for {best_accuracy:.1%} with {best}: pass that"
        )
    return float(own.mean())
