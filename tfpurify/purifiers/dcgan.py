"""DCGAN: the generative prior onto whose range DefenseGAN projects."""

import math

import keras
import tensorflow as tf
from keras import layers, ops

from tfpurify.arguments import require_at_least, require_one_of
from tfpurify.models import losses
from tfpurify.models.base import AdversarialModel, Configured
from tfpurify.models.image_sizes import doublings, first_grid, require_weights_fit
from tfpurify.models.layers import BatchNormalization, strided_discriminator_layers
from tfpurify.models.replicas import apply_mean, own_step
from tfpurify.purifiers.folded_generator import FoldedGenerator
from tfpurify.vocabulary import PRIOR_LOSSES


@keras.saving.register_keras_serializable("tfpurify")
class Generator(Configured, keras.Model):
    """z -> images in [0, 1].

    Dense to 4 x 4 x 64, then transposed 4 x 4 convolutions of stride 2 with 32, 16 and 8 channels,
    each with batch normalisation and ReLU, then a 4 x 4 convolution to the image's channels and a
    sigmoid; cropped to the image's size.

    Args:
        image_shape: `(height, width, channels)`; height and width at most 128. For each doubling
            above 32 there is a stage more, and it begins with twice the channels.
        latent_dim: Size of z.
        width: Multiplies the channels. 1 is the study's.

    Source: Radford et al. 2016, section 3; channels from the study, section 3.1.3.
    """

    def __init__(self, image_shape, latent_dim=100, width=1, **kwargs):
        super().__init__(**kwargs)
        require_at_least(1, width=width, latent_dim=latent_dim)
        self.image_shape = tuple(image_shape)
        self.latent_dim = latent_dim
        self.width = width
        height, image_width, channels = self.image_shape
        grid = first_grid(image_shape)
        first, *others = [8 * 2**n for n in range(3 + doublings(image_shape), -1, -1)]
        counts = [latent_dim * math.prod(grid) * first * width]
        counts += [4 * 4 * 2 * (filters * width) ** 2 for filters in others]
        require_weights_fit("The prior", sum(counts))
        stack = [
            layers.Dense(math.prod(grid) * first * width, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Reshape((*grid, first * width)),
        ]
        for filters in others:
            stack += [
                layers.Conv2DTranspose(filters * width, 4, 2, padding="same", use_bias=False),
                BatchNormalization(),
                layers.ReLU(),
            ]
        stack += [
            layers.Conv2D(channels, 4, padding="same"),
            layers.CenterCrop(height, image_width),
            layers.Activation("sigmoid", dtype="float32"),
        ]
        self.stack = keras.Sequential(stack, name="stack")

    def build(self, input_shape=None):
        self.stack.build((None, self.latent_dim))
        self.built = True

    def call(self, z, training=False):
        return self.stack(z, training=training)

    def folded(self):
        """Returns the same function of z with the weights as they are now, for a descent."""
        normalizations = self._layers_of(layers.BatchNormalization)
        (dense,), (convolution,) = map(self._layers_of, (layers.Dense, layers.Conv2D))
        transposed = self._layers_of(layers.Conv2DTranspose)
        (scale, bias), *scaled = [_scale_and_bias(layer) for layer in normalizations]
        return FoldedGenerator(
            (dense.kernel * scale, bias),
            [
                (layer.kernel * scale[:, None], bias)
                for layer, (scale, bias) in zip(transposed, scaled, strict=True)
            ],
            (tf.convert_to_tensor(convolution.kernel), tf.convert_to_tensor(convolution.bias)),
            self.image_shape,
            first_grid(self.image_shape),
        )

    def _layers_of(self, kind):
        return [layer for layer in self.stack.layers if isinstance(layer, kind)]


def _scale_and_bias(normalization):
    """Returns what batch normalisation multiplies by and adds, once trained."""
    deviation = tf.sqrt(normalization.moving_variance + normalization.epsilon)
    scale = normalization.gamma / deviation
    return scale, normalization.beta - normalization.moving_mean * scale


@keras.saving.register_keras_serializable("tfpurify")
class DCGAN(AdversarialModel):
    """Generative adversarial network with two losses to choose from.

    `dcgan`: the logistic loss, one discriminator step for each generator step.
    `wgan-gp`: the Wasserstein loss with a gradient penalty, `critic_steps` critic steps, each on a
    batch of its own, for each generator step, and no batch normalisation in the critic.

    Args:
        image_shape: `(height, width, channels)`; height and width at most 128.
        latent_dim: Size of z ~ N(0, 1).
        width: Multiplies the generator's and the discriminator's channels. 1 is the study's.
        gan_loss: `dcgan` or `wgan-gp`.
        gradient_penalty_weight: lambda of `wgan-gp`.
        critic_steps: Critic steps for each generator step, `wgan-gp` only.
        seed: Of z and of the interpolation.

    Inputs: z `(batch, latent_dim)`. Outputs: images `(batch, height, width, channels)` in [0, 1].
    Training takes batches `(images, labels)` or images alone; labels are ignored.

    Source: Radford et al. 2016; Gulrajani et al. 2017, Algorithm 1.
    """

    def __init__(
        self,
        image_shape,
        latent_dim=100,
        width=1,
        gan_loss="dcgan",
        gradient_penalty_weight=10.0,
        critic_steps=5,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_one_of(PRIOR_LOSSES, gan_loss=gan_loss)
        self.image_shape = tuple(image_shape)
        self.latent_dim = latent_dim
        self.width = width
        self.gan_loss = gan_loss
        self.gradient_penalty_weight = gradient_penalty_weight
        self.critic_steps = critic_steps
        self.seed = seed
        self.generator = Generator(image_shape, latent_dim, width, name="generator")
        normalization = BatchNormalization if gan_loss == "dcgan" else None
        self.discriminator = keras.Sequential(
            list(
                strided_discriminator_layers(
                    [16 * width, 32 * width, 64 * width], normalization, self.image_shape
                )
            ),
            name="discriminator",
        )
        self.generator_tracker = keras.metrics.Mean(name="generator_loss")
        self.discriminator_tracker = keras.metrics.Mean(name="discriminator_loss")

    def build(self, input_shape=None):
        self.generator.build()
        self.discriminator.build((None, *self.image_shape))
        self.built = True

    def call(self, z, training=False):
        return self.generator(z, training=training)

    def _score(self, images, training=True):
        return self.discriminator(images, training=training)[:, 0]

    def _random(self, sample, shape, stream):
        """Returns random numbers that depend on the step alone, so that a resumed run repeats."""
        step = ops.cast(own_step(self.discriminator_optimizer.iterations), "int32")
        return sample(shape, seed=tf.stack([2 * self.seed + stream, step]))

    def discriminator_loss(self, images, generated):
        """Returns the discriminator's loss on one batch, averaged."""
        if self.gan_loss == "dcgan":
            return ops.mean(losses.log_loss(self._score(images), is_real=True)) + ops.mean(
                losses.log_loss(self._score(generated), is_real=False)
            )
        return (
            ops.mean(losses.wasserstein_loss(self._score(images), is_real=True))
            + ops.mean(losses.wasserstein_loss(self._score(generated), is_real=False))
            + self.gradient_penalty_weight * ops.mean(self._gradient_penalty(images, generated))
        )

    def _gradient_penalty(self, images, generated):
        mix = self._random(tf.random.stateless_uniform, (ops.shape(images)[0], 1, 1, 1), 1)
        interpolated = images + mix * (generated - images)
        with tf.GradientTape() as tape:
            tape.watch(interpolated)
            scores = self._score(interpolated)
        return losses.gradient_penalty(tape.gradient(scores, interpolated))

    def generator_loss(self, generated):
        """Returns the generator's loss on one batch, averaged."""
        loss = losses.log_loss if self.gan_loss == "dcgan" else losses.wasserstein_loss
        return ops.mean(loss(self._score(generated), is_real=True))

    def train_step(self, data):
        if self.gan_loss == "wgan-gp":
            z = self._critic_step(data)
            is_turn = ops.equal(self.discriminator_optimizer.iterations % self.critic_steps, 0)
            tf.cond(is_turn, lambda: self._generator_step(z), lambda: None)
            return self._logs()
        images, z = self._images_and_z(data)
        # Both halves of the step look at the same generated images.
        with tf.GradientTape() as tape:
            generated = self.generator(z, training=True)
            with tape.stop_recording():
                self._discriminator_step(images, generated)
            loss = self.generator_loss(generated)
        self._apply_to_generator(tape, loss)
        return self._logs()

    def step_cycle(self):
        """Returns the train steps that take turns, each a function of a batch.

        For a loop over replicas, which exchange gradients: no graph may choose whether they do, as
        `train_step` has it choose for `wgan-gp`.
        """
        if self.gan_loss == "dcgan":
            return [self.train_step]
        return [self._critic_alone] * (self.critic_steps - 1) + [self._critic_and_generator]

    def _critic_alone(self, data):
        self._critic_step(data)
        return self._logs()

    def _critic_and_generator(self, data):
        self._generator_step(self._critic_step(data))
        return self._logs()

    def _critic_step(self, data):
        images, z = self._images_and_z(data)
        self._discriminator_step(images, self.generator(z, training=True))
        return z

    def _images_and_z(self, data):
        images = data[0] if isinstance(data, tuple) else data
        shape = (ops.shape(images)[0], self.latent_dim)
        return images, self._random(tf.random.stateless_normal, shape, 0)

    def _logs(self):
        return {metric.name: metric.result() for metric in self.metrics}

    def _discriminator_step(self, images, generated):
        with tf.GradientTape() as tape:
            loss = self.discriminator_loss(images, tf.stop_gradient(generated))
        variables = self.discriminator.trainable_variables
        apply_mean(self.discriminator_optimizer, tape.gradient(loss, variables), variables)
        self.discriminator_tracker.update_state(loss)

    def _generator_step(self, z):
        with tf.GradientTape() as tape:
            loss = self.generator_loss(self.generator(z, training=True))
        self._apply_to_generator(tape, loss)

    def _apply_to_generator(self, tape, loss):
        variables = self.generator.trainable_variables
        apply_mean(self.generator_optimizer, tape.gradient(loss, variables), variables)
        self.generator_tracker.update_state(loss)

    def test_step(self, data):
        """Scores validation images: how far the discriminator tells them from generated ones."""
        images = data[0] if isinstance(data, tuple) else data
        z = tf.random.stateless_normal((ops.shape(images)[0], self.latent_dim), seed=[self.seed, 2])
        generated = self.generator(z, training=False)
        loss = losses.log_loss if self.gan_loss == "dcgan" else losses.wasserstein_loss
        fake = self._score(generated, training=False)
        real = self._score(images, training=False)
        self.generator_tracker.update_state(loss(fake, is_real=True))
        self.discriminator_tracker.update_state(
            loss(real, is_real=True) + loss(fake, is_real=False)
        )
        return self._logs()

    @property
    def metrics(self):
        return [self.generator_tracker, self.discriminator_tracker]
