"""The learned start of DefenseGAN's fast projector: an encoder, a refiner and a preconditioner."""

import keras
import tensorflow as tf
from keras import layers, ops

from tfpurify.arguments import require_at_least
from tfpurify.data.augmentation import add_noise
from tfpurify.models.base import Configured, Pretrained, freeze
from tfpurify.models.image_sizes import doublings
from tfpurify.models.replicas import apply_mean, own_step

_CURVATURE_SAMPLES = 256
_DAMPING = 0.01  # of the mean curvature, in units of its mean eigenvalue


@keras.saving.register_keras_serializable("tfpurify")
class LatentEncoder(Pretrained, Configured, keras.Model):
    """Guesses the z from which a generator makes an image.

    An encoder sees x and proposes z; then a refiner sees (x, G(z), z) and corrects z, several
    times. Trained to minimise the mean over pixels of (G(z) - x)^2 of every stage's z, through the
    frozen generator, on clean and on noisy images, each its own target: what it learns is to
    project, not to denoise.

    With it goes what makes the descent from there short: the inverse of the generator's mean
    curvature, E[J^T J] over z ~ N(0, 1), a Gauss-Newton preconditioner that all images share.

    Args:
        image_shape: `(height, width, channels)`.
        latent_dim: Size of z.
        generator: The frozen `Generator`; needed for training only.
        filters: Of the encoder's and the refiner's 4 x 4 convolutions of stride 2; of images above
            32 x 32 the last again, once for each doubling.
        units: Of the dense layer after them.
        num_refinements: How often the refiner corrects z in training.
        input_noise: Bound of the uniform noise on half of the training images; `add_noise`.
        input_noise_period: Side of a square that half of the noise repeats, in pixels.
        seed: Of the noise.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1].
    Outputs: the encoder's z `(batch, latent_dim)`, not refined.

    Source: ours; the idea of an encoder before the descent is in Bao et al. 2018 ("Featurized
    bidirectional GAN"), the preconditioner is Gauss-Newton's with the curvature averaged.
    """

    def __init__(
        self,
        image_shape,
        latent_dim=100,
        generator=None,
        filters=(32, 64),
        units=512,
        num_refinements=3,
        input_noise=0.2,
        input_noise_period=8,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_at_least(1, latent_dim=latent_dim)
        require_at_least(0, num_refinements=num_refinements)
        self.image_shape = tuple(image_shape)
        self.latent_dim = latent_dim
        self.filters = tuple(filters)
        self.units = units
        self.num_refinements = num_refinements
        self.input_noise = input_noise
        self.input_noise_period = input_noise_period
        self.seed = seed
        self.generator = generator
        freeze(generator)
        self.encoder_trunk, self.encoder_head = self._make_network("encoder")
        self.refiner_trunk, self.refiner_head = self._make_network("refiner")
        self.error_tracker = keras.metrics.Mean(name="projection_error")
        self.encoder_error_tracker = keras.metrics.Mean(name="encoder_error")

    def _make_network(self, name):
        trunk = []
        for filters in (*self.filters, *self.filters[-1:] * doublings(self.image_shape)):
            trunk += [layers.Conv2D(filters, 4, 2, padding="same"), layers.LeakyReLU(0.1)]
        small_start = keras.initializers.VarianceScaling(0.1)
        head = [
            layers.Dense(self.units),
            layers.LeakyReLU(0.1),
            layers.Dense(self.latent_dim, kernel_initializer=small_start, dtype="float32"),
        ]
        return (
            keras.Sequential([*trunk, layers.Flatten()], name=f"{name}_trunk"),
            keras.Sequential(head, name=f"{name}_head"),
        )

    def build(self, input_shape=None):
        if self.generator is not None:
            self.generator.build()
        height, width, channels = self.image_shape
        self.encoder_trunk.build((None, height, width, channels))
        self.encoder_head.build(self.encoder_trunk.output_shape)
        self.refiner_trunk.build((None, height, width, 2 * channels))
        features = self.refiner_trunk.output_shape[-1]
        self.refiner_head.build((None, features + self.latent_dim))
        self.preconditioner = self.add_weight(
            shape=(self.latent_dim, self.latent_dim),
            initializer="identity",
            trainable=False,
            dtype="float32",
            name="preconditioner",
        )
        self.built = True

    def call(self, images, training=False):
        return self.encoder_head(self.encoder_trunk(images - 0.5))

    def refine(self, images, generated, z):
        """Returns a better z `(batch, latent_dim)` from z and its images G(z)."""
        features = self.refiner_trunk(ops.concatenate([images, generated], axis=-1) - 0.5)
        return z + self.refiner_head(ops.concatenate([features, z], axis=-1))

    def encode(self, images, generate):
        """Returns the refined z `(batch, latent_dim)`.

        Args:
            images: `(batch, height, width, channels)`.
            generate: z -> images; the generator, or what it is folded to.
        """
        z = self(images)
        for _ in range(self.num_refinements):
            z = self.refine(images, generate(z), z)
        return z

    def fit_preconditioner(self):
        """Measures the generator's mean curvature and keeps its damped inverse.

        The inverse is scaled so that, along a direction of mean curvature, it changes nothing.
        """
        z = tf.random.stateless_normal((_CURVATURE_SAMPLES, self.latent_dim), [self.seed, 1])
        curvature = tf.function(lambda z: self.generator.folded().curvature(z))(z)
        mean = tf.linalg.trace(curvature) / self.latent_dim
        damped = curvature + _DAMPING * mean * tf.eye(self.latent_dim)
        self.preconditioner.assign((1.0 + _DAMPING) * mean * tf.linalg.inv(damped))

    def train_step(self, data):
        images = data[0] if isinstance(data, tuple) else data
        seed = tf.stack([self.seed, tf.cast(own_step(self.optimizer.iterations), "int32")])
        noisy = add_noise(images, self.input_noise, self.input_noise_period, seed)
        is_noisy = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
        images = tf.where(is_noisy, noisy, images)
        with tf.GradientTape() as tape:
            loss = self._loss(images)
        variables = self.trainable_variables
        apply_mean(self.optimizer, tape.gradient(loss, variables), variables)
        return self._logs()

    def _loss(self, images):
        """Returns a number to differentiate: its gradient is that of the errors, its value is not.

        A stage is the encoder or one turn of the refiner, and its error the sum over pixels of
        (G(z) - x)^2. `errors_and_gradient` already knows how each error changes with z. The
        product of that, held fixed, with z has the same gradient with respect to z, so the tape
        passes it on to the networks and need not go through G.

        No gradient goes from one stage to the one before: each learns to improve on what it gets.
        """
        if self.generator is None:
            raise ValueError(
                "Training a LatentEncoder needs its generator: LatentEncoder(..., "
                "generator=generator). Received: generator=None"
            )
        folded = self.generator.folded()
        pixels = tf.cast(tf.size(images[0]), tf.float32)
        z, generated, losses = self(images, training=True), None, []
        for stage in range(self.num_refinements + 1):
            if stage:
                z = self.refine(images, generated, tf.stop_gradient(z))
            errors, gradient, generated = folded.errors_and_gradient(tf.stop_gradient(z), images)
            losses.append(pixels * tf.reduce_mean(tf.reduce_sum(gradient * z, axis=1)))
            if not stage:
                self.encoder_error_tracker.update_state(errors)
        self.error_tracker.update_state(errors)
        return tf.add_n(losses)

    def test_step(self, data):
        images = data[0] if isinstance(data, tuple) else data
        self._loss(images)
        return self._logs()

    def _logs(self):
        return {metric.name: metric.result() for metric in self.metrics}

    @property
    def metrics(self):
        return [self.error_tracker, self.encoder_error_tracker]
