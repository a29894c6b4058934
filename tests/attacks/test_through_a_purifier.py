"""Both attacks climb a purified classifier in every gradient mode, and move nothing of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.attacks.pgd import PGD
from tfpurify.purifiers.base import CandidatePurifier
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.vocabulary import GRADIENT_MODES

SHAPE = (28, 28, 1)


class Sealed(CandidatePurifier):
    """Depends on a variable, and cannot be differentiated unnoticed."""

    image_shape = SHAPE

    def __init__(self):
        super().__init__()
        self.brightness = self.add_weight(shape=(), initializer="ones")

    def candidates(self, images):
        @tf.custom_gradient
        def seal(values):
            def gradient(upstream):
                raise AssertionError("The purifier was differentiated.")

            return tf.identity(values), gradient

        return seal(0.9 * self.brightness * images)[:, None]


def train_advgan(target, images, labels):
    keras.utils.set_random_seed(0)
    model = AdvGAN(SHAPE, target, bottleneck_channels=8, width=4)
    model.build()
    model.compile(keras.optimizers.Adam(), keras.optimizers.Adam())
    logs = model.train_step((images, labels))
    assert np.isfinite(float(logs["generator_loss"]))


def run_pgd(target, images, labels):
    adversarial_images = PGD(target, epsilon=0.2, num_steps=2)(images, labels).numpy()
    assert np.any(adversarial_images != images)
    assert np.abs(adversarial_images - images).max() <= 0.2 + 1e-6


ATTACKS = pytest.mark.parametrize("attack", [train_advgan, run_pgd])


@ATTACKS
@pytest.mark.parametrize("mode", [mode for mode in GRADIENT_MODES if mode != "selection"])
def test_every_mode_lets_the_attack_through_and_moves_nothing(
    generator, classifier, batch, moved, attack, mode
):
    keras.utils.set_random_seed(0)
    encoder = LatentEncoder((28, 28, 1), 4, filters=(8,), units=16)
    purifier = DefenseGAN(generator, encoder, num_steps=2, num_restarts=2)
    purifier.build()
    target = PurifiedClassifier(purifier, classifier, mode)
    target_moved = moved(generator.weights + classifier.weights)
    attack(target, *batch)
    assert not any(target_moved())


@ATTACKS
def test_bpda_never_differentiates_the_purifier(classifier, batch, attack):
    purifier = Sealed()
    purifier.built = True
    attack(PurifiedClassifier(purifier, classifier, "bpda"), *batch)
    with pytest.raises(AssertionError, match="The purifier was differentiated"):
        attack(PurifiedClassifier(purifier, classifier, "exact"), *batch)
