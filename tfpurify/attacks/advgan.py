"""AdvGAN: a generator that learns to perturb images past a target."""

import keras
import tensorflow as tf
from keras import ops

from tfpurify.arguments import require_epsilon, require_one_of, require_target_class
from tfpurify.attacks.dead_gradient import gradient_norms
from tfpurify.attacks.perturbation_generator import PerturbationGenerator
from tfpurify.data.loading import validate_if_eager
from tfpurify.models import losses
from tfpurify.models.base import AdversarialModel, freeze, missing_model
from tfpurify.models.layers import instance_normalization, strided_discriminator_layers
from tfpurify.models.logits import require_logits
from tfpurify.models.replicas import apply_mean
from tfpurify.vocabulary import ADVERSARIAL_LOSSES, GAN_LOSSES


@keras.saving.register_keras_serializable("tfpurify")
class AdvGAN(AdversarialModel):
    """Generative attack: x' = clip(x + epsilon tanh(G(x)), 0, 1).

    Minimises `L_adv + alpha L_GAN + beta L_hinge` over the generator, against a discriminator that
    tells adversarial images from clean ones.

    Args:
        image_shape: `(height, width, channels)`.
        target: Any callable images -> logits. A Keras model is frozen (`trainable` is set to
            False); a saved attack names it and does not hold it.
        evaluation_target: What `evaluate` counts successes on, if not `target`: the black box
            behind a surrogate. A target whose logits are softened for the gradient's sake has a
            method `exact_logits(images)`, and successes are counted on that.
        epsilon: L-inf bound on the perturbation, in (0, 1].
        target_class: Class to move towards, an int in [0, num_classes), or None for an untargeted
            attack.
        adversarial_loss: `margin` (Carlini and Wagner's, on logits) or `cross_entropy`.
        gan_loss: `least_squares` or `log`.
        alpha: Weight of L_GAN.
        beta: Weight of L_hinge.
        hinge_bound: c, in the L2 norm of one image's perturbation.
        kappa: Confidence of the margin loss.
        bottleneck_channels: Of the generator.
        width: Of the generator.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1]; and labels, as every
    attack is given them, of which a trained AdvGAN needs none.
    Outputs: adversarial images, the same.

    Raises:
        ValueError: If an argument is out of its range, or no gradient comes through the target.

    Source: Xiao et al. 2018, Eq. (1) to (4); the study, Eq. (5) to (8). Untargeted margin: the
    untargeted form of Carlini and Wagner 2017.

    Differs from the public ports: the margin is taken on logits and not on probabilities, the hinge
    is there, and clean errors are no successes.
    """

    borrowed = ("target", "evaluation_target")

    def __init__(
        self,
        image_shape,
        target=None,
        evaluation_target=None,
        epsilon=0.2,
        target_class=None,
        adversarial_loss="margin",
        gan_loss="least_squares",
        alpha=1.0,
        beta=1.0,
        hinge_bound=6.0,
        kappa=0.0,
        bottleneck_channels=32,
        width=16,
        **kwargs,
    ):
        # Not its images: bfloat16 has 8 bits, so that 8/255 would be one or two steps of it.
        super().__init__(**{"autocast": False, **kwargs})
        require_epsilon(epsilon)
        require_target_class(target_class)
        require_one_of(ADVERSARIAL_LOSSES, adversarial_loss=adversarial_loss)
        require_one_of(GAN_LOSSES, gan_loss=gan_loss)
        self.image_shape = tuple(image_shape)
        self.target = target
        self.evaluation_target = evaluation_target
        freeze(target, evaluation_target)
        self.epsilon = epsilon
        self.target_class = None if target_class is None else int(target_class)
        self.adversarial_loss = adversarial_loss
        self.gan_loss = gan_loss
        self.alpha = alpha
        self.beta = beta
        self.hinge_bound = hinge_bound
        self.kappa = kappa
        self.bottleneck_channels = bottleneck_channels
        self.width = width
        self.generator = PerturbationGenerator(
            image_shape, bottleneck_channels, width, name="generator"
        )
        self.discriminator = keras.Sequential(
            list(
                strided_discriminator_layers([8, 16, 32], instance_normalization, self.image_shape)
            ),
            name="discriminator",
        )
        self.loss_trackers = {
            name: keras.metrics.Mean(name=name)
            for name in (
                "generator_loss",
                "adversarial_loss",
                "gan_loss",
                "hinge_loss",
                "discriminator_loss",
                "adversarial_error",
            )
        }
        self.robust_accuracy = keras.metrics.Mean(name="robust_accuracy")
        self.attack_success_rate = keras.metrics.Mean(name="attack_success_rate")

    def build(self, input_shape=None):
        self.generator.build()
        self.discriminator.build((None, *self.image_shape))
        for model in (self.target, self.evaluation_target):
            if isinstance(model, keras.Model) and not model.built:
                model.build((None, *self.image_shape))
        self.built = True

    def compile(self, generator_optimizer, discriminator_optimizer, **kwargs):
        """Takes one optimizer each and builds both, so that a restore finds their variables."""
        # Keras picks XLA where there is a GPU, and XLA drops assertions: a dead target would pass.
        options = {"jit_compile": False, **kwargs}
        super().compile(generator_optimizer, discriminator_optimizer, **options)
        if self.target is not None:
            require_logits(self.target, self.image_shape)

    def call(self, images, labels=None, training=False):
        validate_if_eager(images, self.image_shape)
        return self._add(images, self.perturb(images, training=training))

    def gradient_norms(self, images, labels):
        """Returns the norms `(batch,)` of the target's gradient; None where it has no target."""
        return None if self.target is None else gradient_norms(self.target, images, labels)

    def perturb(self, images, training=False):
        """Returns perturbations within [-epsilon, epsilon], before they are clipped."""
        return self.epsilon * self.generator(images, training=training)

    def _add(self, images, perturbation):
        return ops.clip(images + perturbation, 0.0, 1.0)

    def _adversarial_losses(self, logits, labels):
        """Returns L_adv `(batch,)` and whether any example has something left to gain."""
        is_targeted = self.target_class is not None
        require_target_class(self.target_class, logits.shape[-1])
        if is_targeted:
            labels = ops.full_like(labels, self.target_class)
        if self.adversarial_loss == "cross_entropy":
            is_label = ops.equal(ops.argmax(logits, axis=1), ops.cast(labels, "int64"))
            is_active = ops.any(ops.logical_not(is_label) if is_targeted else is_label)
            return losses.cross_entropy_attack_loss(logits, labels, is_targeted), is_active
        values = losses.margin_loss(logits, labels, self.kappa, is_targeted)
        return values, ops.any(values > -self.kappa)

    def _gan_losses(self, images, is_real):
        loss = losses.least_squares_loss if self.gan_loss == "least_squares" else losses.log_loss
        return ops.mean(loss(self.discriminator(images, training=True)[:, 0], is_real))

    def train_step(self, data):
        images, labels = data
        if self.target is None:
            raise ValueError(
                f"Training an AdvGAN needs a `target`. {missing_model(self, 'target')}"
            )
        with tf.GradientTape() as tape:
            perturbation = self.perturb(images, training=True)
            adversarial_images = self._add(images, perturbation)
            gan_loss = self._gan_losses(adversarial_images, is_real=True)
            hinge_loss = ops.mean(losses.hinge_loss(perturbation, self.hinge_bound))
            side_loss = self.alpha * gan_loss + self.beta * hinge_loss
        # Watched variables would put a whole descent on the tape, even one that `bpda` steps over.
        with tf.GradientTape(watch_accessed_variables=False) as target_tape:
            target_tape.watch(adversarial_images)
            logits = self.target(adversarial_images)
            adversarial_losses, is_active = self._adversarial_losses(logits, labels)
            adversarial_loss = ops.mean(adversarial_losses)
        # The target's own part of the gradient is taken apart, so that a live discriminator
        # cannot hide a dead target.
        target_gradient = losses.require_gradient(
            target_tape.gradient(adversarial_loss, adversarial_images), "the target", is_active
        )
        variables = self.generator.trainable_variables
        gradients = tape.gradient(
            [side_loss, adversarial_images],
            variables,
            output_gradients=[tf.ones_like(side_loss), target_gradient],
        )
        apply_mean(self.generator_optimizer, gradients, variables)
        discriminator_loss = self._discriminator_step(images, tf.stop_gradient(adversarial_images))
        is_error = ops.not_equal(ops.argmax(logits, axis=1), ops.cast(labels, "int64"))
        return self._update_trackers(
            generator_loss=adversarial_loss + side_loss,
            adversarial_loss=adversarial_loss,
            gan_loss=gan_loss,
            hinge_loss=hinge_loss,
            discriminator_loss=discriminator_loss,
            adversarial_error=ops.mean(ops.cast(is_error, "float32")),
        )

    def _discriminator_step(self, images, adversarial_images):
        with tf.GradientTape() as tape:
            loss = self._gan_losses(images, is_real=True)
            loss += self._gan_losses(adversarial_images, is_real=False)
        variables = self.discriminator.trainable_variables
        apply_mean(self.discriminator_optimizer, tape.gradient(loss, variables), variables)
        return loss

    def _update_trackers(self, **values):
        for name, value in values.items():
            self.loss_trackers[name].update_state(value)
        return {name: tracker.result() for name, tracker in self.loss_trackers.items()}

    def test_step(self, data):
        """Counts successes: only images that the target classifies correctly without an attack.

        A success of an untargeted attack is an image that the target gets wrong under attack. For
        a targeted attack `attack_success_rate` is the share classified as `target_class` under
        attack, of the images with another label that the target gets right without it.
        """
        images, labels = data
        target = self.evaluation_target or getattr(self.target, "exact_logits", self.target)

        def predict(inputs):
            logits = target(inputs)
            require_target_class(self.target_class, logits.shape[-1])
            return ops.argmax(logits, axis=1)

        before, after = predict(images), predict(self(images))
        labels = ops.cast(labels, before.dtype)
        is_counted = ops.equal(before, labels)
        is_success = ops.not_equal(after, labels)
        if self.target_class is not None:
            is_counted = ops.logical_and(is_counted, ops.not_equal(labels, self.target_class))
            is_success = ops.equal(after, self.target_class)
        self.robust_accuracy.update_state(ops.cast(ops.equal(after, labels), "float32"))
        self.attack_success_rate.update_state(
            ops.cast(is_success, "float32"), sample_weight=ops.cast(is_counted, "float32")
        )
        return {
            "robust_accuracy": self.robust_accuracy.result(),
            "attack_success_rate": self.attack_success_rate.result(),
        }

    @property
    def metrics(self):
        return [*self.loss_trackers.values(), self.robust_accuracy, self.attack_success_rate]
