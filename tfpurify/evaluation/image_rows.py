"""Images with what a classifier says of them, as a row of a figure shows them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of a figure.

    Args:
        title: What the images are.
        images: `(n, height, width, channels)` in [0, 1].
        labels: True labels `(n,)`.
        predictions: Predicted labels `(n,)`.
        confidences: Probabilities of the predictions `(n,)`.
        class_names: One for each label.
    """

    title: str
    images: object
    labels: object
    predictions: object
    confidences: object
    class_names: tuple
