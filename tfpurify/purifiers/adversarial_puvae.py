"""A PuVAE that is trained on the attacks that break a plain one."""

import math

import keras
import tensorflow as tf
from keras import layers, ops

from tfpurify.arguments import require_above_zero, require_at_least, require_epsilon
from tfpurify.models import losses
from tfpurify.models.image_sizes import doublings
from tfpurify.models.layers import BatchNormalization
from tfpurify.models.logits import logits_of
from tfpurify.models.replicas import apply_mean, own_step
from tfpurify.purifiers.base import selection_logits
from tfpurify.purifiers.puvae import PuVAE

_CLASSIFIER_PERIOD = 4  # steps of which one attacks the classifier, which is easier to protect
_VALIDATION_STEPS = 20  # of each attack that `adversarial_accuracy` is measured under


@keras.saving.register_keras_serializable("tfpurify")
class AdversarialPuVAE(PuVAE):
    """`PuVAE`, trained on images that are attacked through its own choice of a candidate.

    Each step attacks its images by a few steps of L-inf PGD on the margin of the scores
    -errors / temperature by which the candidates are chosen, and every fourth step, if
    `attacks_classifier`, on that of the classifier's logits of the true label's candidate: an image
    is lost where either is. It then minimises

        w_RC L_RC + w_KL L_KL + w_CE L_CE + w_S CE(-errors / temperature, y)

    on what comes out and, weighted by `clean_weight`, on the clean images. L_RC compares the true
    label's candidate with the clean image, L_CE asks the source classifier to recognise that
    candidate, and the last term makes it the nearest. The classifier never changes.

    Args:
        image_shape: `(height, width, channels)`.
        epsilon: L-inf bound of the attack, in (0, 1].
        epsilon_warmup_steps: Steps over which the bound rises from 0.
        attack_steps: Of the attack, >= 1; each of 2.5 * epsilon / attack_steps.
        attacks_classifier: Whether every fourth step's attack goes through the classifier.
        training_noise: Scale of the latent noise in training; none, unlike `PuVAE`'s. Trained with
            noise, the decoder's images of noisy codes are recognised whatever the attack, and those
            of the codes' means, which are served, are not.
        selection_weight: w_S.
        clean_weight: Of the clean images' loss beside the attacked ones'; the sum is divided by
            1 + clean_weight.
        temperature: Of the scores, in units of the mean squared error.
        **kwargs: `PuVAE`'s. `input_noise` and `classification_labels` have no part in this
            training.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1].
    Outputs: purified images, the same.

    Raises:
        ValueError: If an argument is out of its range.

    Source: adversarial training as in Madry et al. 2018, section 2.1, of a purifier instead of a
    classifier; that candidates of all classes compete for an image is analysis by synthesis, as in
    Schott et al. 2019; the loss is ours.

    Differs from `PuVAE`: the encoder's convolutions are strided and the decoder is two dense
    layers, which makes a step of the attack five times as fast and the weights a tenth.
    """

    hidden_units = 512

    def __init__(
        self,
        image_shape,
        epsilon=0.2,
        epsilon_warmup_steps=0,
        attack_steps=7,
        attacks_classifier=True,
        training_noise=0.0,
        selection_weight=1.0,
        clean_weight=0.0,
        temperature=0.005,
        **kwargs,
    ):
        super().__init__(image_shape, training_noise=training_noise, **kwargs)
        require_epsilon(epsilon)
        require_above_zero(attack_steps=attack_steps, temperature=temperature)
        require_at_least(0, epsilon_warmup_steps=epsilon_warmup_steps)
        require_at_least(0, selection_weight=selection_weight, clean_weight=clean_weight)
        self.epsilon = epsilon
        self.epsilon_warmup_steps = epsilon_warmup_steps
        self.attack_steps = attack_steps
        self.attacks_classifier = attacks_classifier
        self.selection_weight = selection_weight
        self.clean_weight = clean_weight
        self.temperature = temperature
        self.loss_trackers["selection_loss"] = keras.metrics.Mean(name="selection_loss")
        self.adversarial_accuracy = keras.metrics.Mean(name="adversarial_accuracy")

    def convolution_layers(self):
        extra = [(64, 4, 2)] * doublings(self.image_shape)
        for filters, size, strides in ((32, 5, 2), (64, 3, 1), (64, 4, 2), *extra):
            is_biased = not self.batch_normalization
            yield layers.Conv2D(filters, size, strides, padding="same", use_bias=is_biased)
            if self.batch_normalization:
                yield BatchNormalization()
            yield layers.ReLU()

    def decoder_layers(self):
        yield layers.Dense(512, activation="relu")
        yield layers.Dense(math.prod(self.image_shape))
        yield layers.Reshape(self.image_shape)

    def compile(self, *args, **kwargs):
        # Keras picks XLA where there is a GPU, and XLA drops assertions: a dead target would pass.
        super().compile(*args, **{"jit_compile": False, **kwargs})

    def train_step(self, data):
        images, labels = data
        step = self.optimizer.iterations
        attacked = self._attack_in_training(images, labels, step)
        noise_shape = (ops.shape(images)[0], self.latent_dim)
        noise = self.training_noise * self._noise(noise_shape, own_step(step))
        with tf.GradientTape() as tape:
            step_losses = self._adversarial_losses(images, attacked, labels, noise, training=True)
            total = step_losses["loss"]
            if self.clean_weight > 0:
                clean = self._adversarial_losses(images, images, labels, noise, training=True)
                total = (total + self.clean_weight * clean["loss"]) / (1.0 + self.clean_weight)
        variables = self.trainable_variables
        apply_mean(self.optimizer, tape.gradient(total, variables), variables)
        return self._update_trackers(step_losses)

    def _attack_in_training(self, images, labels, step):
        progress = ops.cast(step + 1, "float32") / max(1, self.epsilon_warmup_steps)
        epsilon = self.epsilon * ops.minimum(progress, 1.0)
        search = (images, labels, epsilon, self.attack_steps, own_step(step))
        if not self.attacks_classifier:
            return self._attack(*search, self._choice)
        return tf.cond(
            step % _CLASSIFIER_PERIOD == 0,
            lambda: self._attack(*search, self._classification),
            lambda: self._attack(*search, self._choice),
        )

    def test_step(self, data):
        """Returns the losses under attack, and the accuracies.

        `adversarial_accuracy` counts the images that hold against attacks of 20 steps on all that
        training attacks: the choice of a candidate, and its classification. The losses are under
        the last of them.
        """
        images, labels = data

        def attack(climbed):
            return self._attack(images, labels, self.epsilon, _VALIDATION_STEPS, 0, climbed)

        def logits(inputs):
            return logits_of(self.classifier, self(inputs))

        def is_right(inputs):
            return ops.argmax(logits(inputs), axis=-1) == ops.cast(labels, "int32")

        holds = True
        for climbed in (self._choice, self._classification)[: 1 + self.attacks_classifier]:
            attacked = attack(climbed)
            holds &= is_right(attacked)
        step_losses = self._adversarial_losses(images, attacked, labels, 0.0, training=False)
        logs = self._update_trackers(step_losses)
        self.purified_accuracy.update_state(labels, logits(images))
        self.adversarial_accuracy.update_state(holds)
        return {
            **logs,
            "purified_accuracy": self.purified_accuracy.result(),
            "adversarial_accuracy": self.adversarial_accuracy.result(),
        }

    def _adversarial_losses(self, images, attacked, labels, noise, training):
        """Returns the weighted sum and its four parts, each averaged over the batch."""
        features = self.encode_features(attacked, training)
        reconstructions, z_mean, z_stddev = self._reconstruct(features, labels, noise)
        logits = logits_of(self.classifier, reconstructions)
        scores = self._scores(attacked, self._candidates(features))
        parts = {
            "reconstruction_loss": ops.mean(losses.reconstruction_loss(images, reconstructions)),
            "kl_loss": ops.mean(losses.kl_loss(z_mean, z_stddev)),
            "classification_loss": ops.mean(losses.classification_loss(labels, logits)),
            "selection_loss": ops.mean(losses.classification_loss(labels, scores)),
        }
        return self._with_sum(parts)

    def _loss_weights(self):
        return {**super()._loss_weights(), "selection_loss": self.selection_weight}

    def _scores(self, images, candidates):
        return selection_logits(images, candidates, self.temperature)

    def _choice(self, images, labels):
        return self._scores(images, self.candidates(images))

    def _classification(self, images, labels):
        reconstructions, _, _ = self.reconstruct(images, labels, 0.0)
        return logits_of(self.classifier, reconstructions)

    def _attack(self, images, labels, epsilon, num_steps, seed, climbed):
        """Returns images attacked from a random start.

        Args:
            images: `(batch, height, width, channels)`, clean.
            labels: `(batch,)`, true.
            epsilon: L-inf bound.
            num_steps: Of the attack.
            seed: Of its start.
            climbed: Function of images and labels -> logits, whose margin falls.
        """
        low, high = ops.maximum(images - epsilon, 0.0), ops.minimum(images + epsilon, 1.0)
        seed = tf.random.fold_in([self.seed, 3], tf.cast(seed, "int32"))
        start = tf.random.stateless_uniform(ops.shape(images), seed, -1.0, 1.0)

        def move(step, attacked):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(attacked)
                logits = climbed(attacked, labels)
                margin = ops.sum(losses.margin_loss(logits, labels, losses.UNSATURATED))
            gradient = losses.require_gradient(tape.gradient(margin, attacked), "the purifier")
            attacked = attacked - 2.5 * epsilon / num_steps * ops.sign(gradient)
            return step + 1, ops.clip(attacked, low, high)

        return tf.while_loop(
            lambda step, _: step < num_steps,
            move,
            (0, ops.clip(images + epsilon * start, low, high)),
            maximum_iterations=num_steps,
        )[1]

    @property
    def metrics(self):
        return [*super().metrics, self.adversarial_accuracy]
