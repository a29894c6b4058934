"""Surrogates for an attacker who can only query: static and dynamic distillation."""

import keras
import tensorflow as tf
from keras import ops

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.models import losses
from tfpurify.models.base import Configured, freeze
from tfpurify.models.replicas import apply_mean


@keras.saving.register_keras_serializable("tfpurify")
class Distiller(Configured, keras.Model):
    """Teaches a surrogate classifier the outputs of a black box (static distillation).

    Args:
        surrogate: images -> logits, a Keras model; the one that is trained.
        black_box: images -> logits, any callable; queried, never differentiated. A Keras model is
            frozen and saved along.

    Inputs: images. Outputs: the surrogate's logits.

    Source: Xiao et al. 2018, section 4.2, static distillation.
    """

    def __init__(self, surrogate, black_box=None, **kwargs):
        super().__init__(**kwargs)
        self.surrogate = surrogate
        self.black_box = black_box
        freeze(black_box)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.agreement = keras.metrics.Mean(name="agreement")

    def build(self, input_shape=None):
        self.built = True

    def call(self, images, training=False):
        return self.surrogate(images, training=training)

    def train_step(self, data):
        images, _ = data
        target_logits = tf.stop_gradient(self.black_box(images))
        with tf.GradientTape() as tape:
            logits = self.surrogate(images, training=True)
            loss = ops.mean(losses.distillation_loss(target_logits, logits))
        variables = self.surrogate.trainable_variables
        apply_mean(self.optimizer, tape.gradient(loss, variables), variables)
        return self._update(loss, target_logits, logits)

    def test_step(self, data):
        images, _ = data
        target_logits, logits = self.black_box(images), self.surrogate(images, training=False)
        loss = ops.mean(losses.distillation_loss(target_logits, logits))
        return self._update(loss, target_logits, logits)

    def _update(self, loss, target_logits, logits):
        self.loss_tracker.update_state(loss)
        agree = ops.equal(ops.argmax(target_logits, axis=1), ops.argmax(logits, axis=1))
        self.agreement.update_state(ops.cast(agree, "float32"))
        return {metric.name: metric.result() for metric in self.metrics}

    @property
    def metrics(self):
        return [self.loss_tracker, self.agreement]


@keras.saving.register_keras_serializable("tfpurify")
class DynamicAdvGAN(AdvGAN):
    """AdvGAN whose surrogate goes on learning from the images that the attack makes.

    Each step trains the generator against the surrogate, then the surrogate on the black box's
    outputs for both x and x'. Successes are counted on the black box.

    Args:
        surrogate: images -> logits, a Keras model; takes the place of `target`.
        black_box: images -> logits, any callable; takes the place of `evaluation_target`.
        **kwargs: As for `AdvGAN`.

    Source: Xiao et al. 2018, section 4.2, dynamic distillation.
    """

    borrowed = ("black_box", "evaluation_target")  # the surrogate is its own

    def __init__(self, image_shape, surrogate=None, black_box=None, **kwargs):
        super().__init__(image_shape, target=surrogate, evaluation_target=black_box, **kwargs)
        if surrogate is not None:
            surrogate.trainable = True
        self.loss_trackers["surrogate_loss"] = keras.metrics.Mean(name="surrogate_loss")

    def compile(self, generator_optimizer, discriminator_optimizer, surrogate_optimizer, **kwargs):
        """As for `AdvGAN`, with one more optimizer for the surrogate."""
        super().compile(generator_optimizer, discriminator_optimizer, **kwargs)
        self.surrogate_optimizer = keras.optimizers.get(surrogate_optimizer)
        self.surrogate_optimizer.build(self.target.trainable_variables)

    def get_compile_config(self):
        if not self.compiled:
            return None
        return {
            **super().get_compile_config(),
            "surrogate_optimizer": keras.saving.serialize_keras_object(self.surrogate_optimizer),
        }

    def train_step(self, data):
        logs = super().train_step(data)
        images, _ = data
        both = tf.stop_gradient(ops.concatenate([images, self(images)], axis=0))
        target_logits = tf.stop_gradient(self.evaluation_target(both))
        with tf.GradientTape() as tape:
            logits = self.target(both, training=True)
            loss = ops.mean(losses.distillation_loss(target_logits, logits))
        variables = self.target.trainable_variables
        apply_mean(self.surrogate_optimizer, tape.gradient(loss, variables), variables)
        self.loss_trackers["surrogate_loss"].update_state(loss)
        return {**logs, "surrogate_loss": self.loss_trackers["surrogate_loss"].result()}

    @property
    def surrogate(self):
        """The target under the name that it has here."""
        return self.target

    @property
    def black_box(self):
        """The evaluation target under the name that it has here."""
        return self.evaluation_target

    def get_config(self):
        config = super().get_config()
        del config["target"], config["evaluation_target"]
        return config
