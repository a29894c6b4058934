"""A purifier in front of a classifier, as one model that returns logits."""

import keras
import tensorflow as tf

from tfpurify.arguments import require_above_zero, require_at_least, require_one_of
from tfpurify.data.loading import validate_if_eager
from tfpurify.data.specs import get_spec
from tfpurify.models.base import Configured, freeze, require_preset
from tfpurify.models.classifiers import Classifier
from tfpurify.models.logits import logits_of
from tfpurify.purifiers.base import (
    CandidatePurifier,
    identity_backward,
    selection_logits,
    soft_logits,
)
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.vocabulary import GRADIENT_MODES


@keras.saving.register_keras_serializable("tfpurify")
class PurifiedClassifier(Configured, keras.Model):
    """Images -> purifier -> classifier -> logits.

    Args:
        purifier: A `Purifier`.
        classifier: images -> logits. Both are frozen: their `trainable` is set to False.
        gradient_mode: How a gradient crosses the purifier.
            `exact`: through the chosen candidate, or unrolled through the whole descent.
            `truncated`: through the last `truncated_steps` steps of the descent.
            `bpda`: forward exact, backward the identity.
            `encoder`: forward exact, backward through DefenseGAN's encoder and generator.
            `soft`: every candidate (PuVAE's classes, DefenseGAN's starts) is classified, and the
            logits are mixed by a soft-min over the candidates' distances. The forward value is that
            mixture, not the purifier's: a target for attacks to climb, never one to evaluate.
            `selection`: a class's logit is minus its candidate's distance / temperature, so that an
            attack goes for PuVAE's choice alone. The classifier takes no part; like `soft`, it is
            never evaluated.
        temperature: Of `soft` and `selection`, in units of the mean squared distance.
        truncated_steps: Of `truncated`, >= 1.
        soft_candidates: How many of the nearest candidates `soft` classifies and mixes; all if
            None. The others weigh little where the distances differ by more than the temperature.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1].
    Outputs: logits `(batch, num_classes)`.

    Source: the study, Figure 1; BPDA from Athalye et al. 2018, section 4.1.
    """

    def __init__(
        self,
        purifier,
        classifier,
        gradient_mode="exact",
        temperature=0.005,
        soft_candidates=None,
        truncated_steps=40,
        **kwargs,
    ):
        # Nearest is decided on the images as given, not on their bfloat16.
        super().__init__(**{"dtype": "float32", **kwargs})
        require_one_of(GRADIENT_MODES, gradient_mode=gradient_mode)
        require_above_zero(temperature=temperature)
        require_at_least(1, soft_candidates=soft_candidates, truncated_steps=truncated_steps)
        if gradient_mode == "truncated" and not isinstance(purifier, DefenseGAN):
            raise ValueError(
                "`gradient_mode='truncated'` needs a DefenseGAN, which descends. "
                f"Received: purifier={purifier.name!r}"
            )
        if gradient_mode == "encoder" and getattr(purifier, "encoder", None) is None:
            raise ValueError(
                "`gradient_mode='encoder'` needs a DefenseGAN with an encoder. "
                f"Received: purifier={purifier.name!r}"
            )
        if gradient_mode == "soft" and not isinstance(purifier, CandidatePurifier):
            raise ValueError(
                "`gradient_mode='soft'` needs a CandidatePurifier, whose candidates it mixes. "
                f"Received: purifier={purifier.name!r}"
            )
        if gradient_mode == "selection" and not isinstance(purifier, PuVAE):
            raise ValueError(
                "`gradient_mode='selection'` needs a PuVAE, whose candidates are classes. "
                f"Received: purifier={purifier.name!r}"
            )
        self.purifier = purifier
        self.classifier = classifier
        freeze(purifier, classifier)
        self.gradient_mode = gradient_mode
        self.temperature = temperature
        self.soft_candidates = soft_candidates
        self.truncated_steps = truncated_steps
        self.image_shape = purifier.image_shape

    @classmethod
    def presets(cls, folder=None):
        """Returns the purifiers and priors that `from_preset` takes: name -> card."""
        return {**PuVAE.presets(folder), **DefenseGAN.presets(folder)}

    @classmethod
    def from_preset(cls, name, folder=None, classifier=None, **options):
        """Returns a trained purifier in front of a trained classifier.

        Args:
            name: Of a PuVAE or of a prior, a name that `presets()` lists.
            folder: The zoo's folder. Defaults to `zoo.default_folder()`.
            classifier: Preset of the classifier; the study's for the data set if None.
            **options: Arguments of `PurifiedClassifier`.

        Raises:
            ValueError: If there is no such preset, or its file is damaged.
        """
        found = require_preset(cls, name, folder)
        is_puvae = name in PuVAE.presets(folder)
        purifier = (PuVAE if is_puvae else DefenseGAN).from_preset(name, folder)
        if classifier is None:
            spec = get_spec(found[name]["dataset"])
            classifier = f"{spec.default_classifier}_{spec.name}"
        model = cls(purifier, Classifier.from_preset(classifier, folder), **options)
        model.build()
        return model

    def build(self, input_shape=None):
        for part in (self.purifier, self.classifier):
            if not getattr(part, "built", True):
                part.build((None, *self.image_shape))
        self.built = True

    def exact_logits(self, images):
        """Returns what the classifier says of the purified images, whatever the gradient mode."""
        return logits_of(self.classifier, self.purifier(images))

    def call(self, images, training=False):
        validate_if_eager(images, self.image_shape)
        if self.gradient_mode in ("exact", "truncated"):
            is_truncated = self.gradient_mode == "truncated"
            options = {"last_steps": self.truncated_steps} if is_truncated else {}
            purified_images = self.purifier.differentiable(images, **options)
            return logits_of(self.classifier, purified_images)
        if self.gradient_mode == "soft":
            candidates = self.purifier.candidates(images)
            mixture = (self.temperature, self.soft_candidates)
            return soft_logits(images, candidates, self.classifier, *mixture)
        if self.gradient_mode == "selection":
            candidates = self.purifier.candidates(images)
            return selection_logits(images, candidates, self.temperature)
        # The purifier sees no tape, so a long descent costs no memory.
        purified_images = self.purifier(tf.stop_gradient(images))
        if self.gradient_mode == "encoder":
            approximation = self.purifier.approximate(images)
            purified_images = approximation + tf.stop_gradient(purified_images - approximation)
            return logits_of(self.classifier, purified_images)
        return logits_of(self.classifier, identity_backward(images, purified_images))
