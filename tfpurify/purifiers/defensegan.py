"""DefenseGAN: projection onto a generator's range by gradient descent from several starts."""

import keras
import tensorflow as tf
from keras import ops

from tfpurify.data import validate_if_eager
from tfpurify.layers import require_preset
from tfpurify.losses import projection_error
from tfpurify.purifiers.base import Purifier
from tfpurify.purifiers.dcgan import DCGAN

_DECAY_START = 0.8  # share of the steps after which the step size is divided by ten


@keras.saving.register_keras_serializable("tfpurify")
class DefenseGAN(Purifier):
    """Replaces an image by the nearest image that a generator can make.

    Minimises the mean over pixels of (G(z) - x)^2 by `num_steps` steps of gradient descent with
    momentum from `num_restarts` starts, and keeps for each image the best iterate of its best
    start.

    Args:
        generator: z `(batch, latent_dim)` -> images in [0, 1]; a Keras model with `image_shape`
            and `latent_dim`. Nothing here changes its weights.
        num_steps: L >= 1.
        num_restarts: R >= 1.
        step_size: Of the descent; a tenth of it after 80 % of the steps.
        momentum: Of the descent, in [0, 1).
        seed: Of the starts z0 ~ N(0, 1), which all images share, so that what happens to an image
            does not depend on its neighbours in the batch. None draws new ones at every call.
        chunk_size: Images that descend at once; bounds the memory whatever the batch.
        jit_compile: Whether XLA compiles the descent. Slower on CPU.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1].
    Outputs: purified images, the same.

    Source: Samangouei et al. 2018, section 3.1 and Eq. (4); step size, its decay and momentum from
    the public port.

    Differs from the public ports: the restart is chosen for each image, not for the batch, and the
    best iterate is returned, not the last one. Both errors cost accuracy.

    Limitations: an attack that approximates the descent by the identity (BPDA; Athalye et al.
    2018, section 5.4.1) gets through. Images that the generator cannot make (CIFAR-10) are lost.
    """

    def __init__(
        self,
        generator,
        num_steps=200,
        num_restarts=10,
        step_size=10.0,
        momentum=0.7,
        seed=0,
        chunk_size=64,
        jit_compile=False,
        **kwargs,
    ):
        super().__init__(**{"autocast": False, **kwargs})
        for name, value in (
            ("num_steps", num_steps),
            ("num_restarts", num_restarts),
            ("chunk_size", chunk_size),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1. Received: {name}={value}")
        self.generator = generator
        self.image_shape = tuple(generator.image_shape)
        self.latent_dim = generator.latent_dim
        self.num_steps = num_steps
        self.num_restarts = num_restarts
        self.step_size = step_size
        self.momentum = momentum
        self.seed = seed
        self.chunk_size = chunk_size
        self.jit_compile = jit_compile
        self._descend = tf.function(
            self._descend_chunk, jit_compile=jit_compile, reduce_retracing=True
        )
        self._project = tf.function(self._project_chunks, reduce_retracing=True)

    @classmethod
    def presets(cls, folder=None):
        """Returns the priors of the zoo: name -> card."""
        return DCGAN.presets(folder)

    @classmethod
    def from_preset(cls, name, folder=None, **options):
        """Returns a projector onto a trained prior; as for `Pretrained.from_preset`.

        Args:
            name: Of a prior, a name that `presets()` lists.
            folder: The zoo's folder.
            **options: `num_steps`, `num_restarts` and the other arguments of `DefenseGAN`.
        """
        require_preset(cls, name, folder)
        purifier = cls(DCGAN.from_preset(name, folder).generator, **options)
        purifier.build()
        return purifier

    def build(self, input_shape=None):
        self.generator.build()
        self.built = True

    def initial_z(self):
        """Returns the starts `(num_restarts, latent_dim)`."""
        shape = (self.num_restarts, self.latent_dim)
        if self.seed is None:
            return tf.random.normal(shape)
        return tf.random.stateless_normal(shape, seed=[self.seed, 0])

    def project(self, images, z0):
        """Descends from given starts; deterministic.

        Args:
            images: `(batch, height, width, channels)`, float32 in [0, 1].
            z0: Starts, `(num_restarts, latent_dim)` for all images alike or
                `(batch, num_restarts, latent_dim)`.

        Returns:
            `(z, errors)`: the best iterate of each start `(batch, num_restarts, latent_dim)` and
            its mean squared error `(batch, num_restarts)`.

        Raises:
            ValueError: If `z0` has another shape.
        """
        validate_if_eager(images, self.image_shape)
        z0 = tf.convert_to_tensor(z0)
        if z0.shape.rank == 2:
            z0 = tf.repeat(z0[None], ops.shape(images)[0], axis=0)
        if z0.shape.rank != 3 or z0.shape[-1] != self.latent_dim:
            raise ValueError(
                "`z0` must have shape (num_restarts, latent_dim) or (batch, num_restarts, "
                f"latent_dim) with latent_dim={self.latent_dim}. Received: shape {z0.shape}"
            )
        return self._project(images, z0)

    def _project_chunks(self, images, z0):
        count = tf.shape(images)[0]
        num_chunks = -(-count // self.chunk_size)

        def project_chunk(index, all_z, all_errors):
            rows = slice(index * self.chunk_size, (index + 1) * self.chunk_size)
            z, errors = self._descend(images[rows], z0[rows])
            return index + 1, all_z.write(index, z), all_errors.write(index, errors)

        def new_array():
            return tf.TensorArray(tf.float32, size=num_chunks, infer_shape=False)

        _, all_z, all_errors = tf.while_loop(
            lambda index, *_: index < num_chunks,
            project_chunk,
            (0, new_array(), new_array()),
            parallel_iterations=1,
        )
        return (
            tf.reshape(all_z.concat(), (count, ops.shape(z0)[1], self.latent_dim)),
            tf.reshape(all_errors.concat(), (count, ops.shape(z0)[1])),
        )

    def _descend_chunk(self, images, z0):
        num_restarts = ops.shape(z0)[1]
        repeated_images = tf.repeat(images, num_restarts, axis=0)

        def keep_better(z, error, best_z, best_error):
            is_better = error < best_error  # never for NaN, where the descent has run away
            return (
                tf.where(is_better[:, None], z, best_z),
                tf.where(is_better, error, best_error),
            )

        def descend(step, z, velocity, best_z, best_error):
            with tf.GradientTape() as tape:
                tape.watch(z)
                error = projection_error(repeated_images, self.generator(z, training=False))
            gradient = tape.gradient(error, z)
            best_z, best_error = keep_better(z, error, best_z, best_error)
            is_late = tf.cast(step, tf.float32) >= _DECAY_START * self.num_steps
            velocity = self.momentum * velocity + gradient
            z -= tf.where(is_late, 0.1 * self.step_size, self.step_size) * velocity
            return step + 1, z, velocity, best_z, best_error

        z = tf.reshape(z0, (-1, self.latent_dim))
        worst_error = tf.fill(tf.shape(z)[:1], float("inf"))
        _, z, _, best_z, best_error = tf.while_loop(
            lambda step, *_: step < self.num_steps,
            descend,
            (0, z, tf.zeros_like(z), z, worst_error),
            maximum_iterations=self.num_steps,
        )
        error = projection_error(repeated_images, self.generator(z, training=False))
        best_z, best_error = keep_better(z, error, best_z, best_error)
        return (
            tf.reshape(best_z, (-1, num_restarts, self.latent_dim)),
            tf.reshape(best_error, (-1, num_restarts)),
        )

    def candidates(self, images):
        """Returns the best iterate of each start: `(batch, num_restarts, H, W, C)`."""
        z, _ = self.project(images, self.initial_z())
        generated = self.generator(tf.reshape(z, (-1, self.latent_dim)), training=False)
        return tf.reshape(generated, (-1, self.num_restarts, *self.image_shape))

    def get_config(self):
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "num_steps": self.num_steps,
            "num_restarts": self.num_restarts,
            "step_size": self.step_size,
            "momentum": self.momentum,
            "seed": self.seed,
            "chunk_size": self.chunk_size,
            "jit_compile": self.jit_compile,
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            **{**config, "generator": keras.saving.deserialize_keras_object(config["generator"])}
        )
