"""Adapters to IBM's Adversarial Robustness Toolbox (ART), the extra `art`.

Our purifiers as ART's preprocessing defences, and ART's defences as purifiers.
"""

import keras
import tensorflow as tf

try:
    from art.defences import preprocessor
    from art.defences.preprocessor.preprocessor import PreprocessorTensorFlowV2
except ImportError as error:
    raise ImportError(
        'tfpurify.purifiers.art needs the extra `art`: `pip install -e ".[art]"`. '
        f"Received: {type(error).__name__}: {error}"
    ) from error

from tfpurify.data.loading import validate_if_eager
from tfpurify.models.image_scale import ImageScale
from tfpurify.purifiers.base import Purifier
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.vocabulary import BASELINES, SURROGATE_MODES


class PurifierPreprocessor(PreprocessorTensorFlowV2):
    """A purifier as a preprocessing defence: `TensorFlowV2Classifier(preprocessing_defences=...)`.

    Args:
        purifier: A `Purifier`.
        gradient_mode: `exact`, `truncated`, `bpda` or `encoder`, as `PurifiedClassifier` has them.
            `soft` and `selection` make logits: attack `as_art_classifier` of such a target instead.
        apply_fit: Whether ART purifies what it trains on.
        apply_predict: Whether it purifies what it classifies.
        clip_values: `(low, high)` of the images, those of ART's classifier.

    Inputs: images `(batch, height, width, channels)`, float32 in `clip_values`.

    Raises:
        ValueError: If the mode is another, or does not fit the purifier.
    """

    params = ["gradient_mode", "clip_values"]

    def __init__(
        self,
        purifier,
        gradient_mode="exact",
        apply_fit=False,
        apply_predict=True,
        clip_values=(0.0, 1.0),
    ):
        super().__init__(is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)
        if gradient_mode in SURROGATE_MODES:
            raise ValueError(
                f"`gradient_mode` must not be {gradient_mode!r}, which makes logits of candidates: "
                f"attack `as_art_classifier(PurifiedClassifier(..., {gradient_mode!r}))`. "
                f"Received: {gradient_mode!r}"
            )
        # A classifier that changes nothing leaves the purifier, with the mode's way back.
        self._purified = PurifiedClassifier(
            purifier, keras.layers.Identity(), gradient_mode=gradient_mode
        )
        self.purifier = purifier
        self.gradient_mode = gradient_mode
        self.clip_values = ImageScale(clip_values).image_range

    def forward(self, x, y=None):
        """Returns the purified images, with the gradient of the mode, and the labels as they came.

        ART takes its gradients through this and not through `estimate_forward`, which does the
        same.
        """
        low, high = self.clip_values
        if (low, high) == (0.0, 1.0):
            return self._purified(x), y
        # Rounding may leave [0, 1], and ART's own arrays may be float64.
        images = tf.clip_by_value((tf.cast(x, tf.float32) - low) / (high - low), 0.0, 1.0)
        return self._purified(images) * (high - low) + low, y


class ARTPurifier(Purifier):
    """One of ART's preprocessing defences as a purifier: a baseline to stand beside ours.

    It has no gradient, so `bpda` is the only gradient mode that goes through; and it cannot be
    exported.

    Args:
        name: Of `vocabulary.BASELINES`: `jpeg`, compression at quality 75, or `bit_depth`, which
            rounds pixels: to 1 bit where there is one channel, else to 4.
        image_shape: `(height, width, channels)`.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1].
    Outputs: purified images, the same.

    Raises:
        ValueError: If the name is another.

    Source: Dziugaite et al. 2016 and Das et al. 2017 (JPEG); Xu et al. 2018, section III (bit
    depth). The code is ART's.

    Limitations: both fall to BPDA on colour images (Athalye et al. 2018, section 5.2).
    """

    def __init__(self, name, image_shape, **kwargs):
        super().__init__(name=name, **kwargs)
        self.image_shape = tuple(image_shape)
        options = {"clip_values": (0.0, 1.0), "apply_predict": True}
        if name == "jpeg":
            self._defence = preprocessor.JpegCompression(
                quality=75, channels_first=False, **options
            )
        elif name == "bit_depth":
            is_grey = image_shape[-1] == 1
            self._defence = preprocessor.FeatureSqueezing(bit_depth=1 if is_grey else 4, **options)
        else:
            raise ValueError(f"`name` must be one of {list(BASELINES)}. Received: name={name!r}")

    def call(self, images, training=False):
        validate_if_eager(images, self.image_shape)
        images = tf.convert_to_tensor(images)
        purified_images = tf.numpy_function(self._defend, [images], images.dtype)
        purified_images.set_shape(images.shape)
        return purified_images

    def _defend(self, images):
        return self._defence(images)[0].astype(images.dtype)
