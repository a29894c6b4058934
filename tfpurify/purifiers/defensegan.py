"""DefenseGAN: projection onto a generator's range by descent from several starts."""

import keras
import tensorflow as tf
from absl import logging
from keras import ops

from tfpurify.arguments import require_at_least, require_one_of
from tfpurify.data.loading import validate_if_eager
from tfpurify.models import zoo
from tfpurify.models.base import require_preset
from tfpurify.purifiers import descent, projectors
from tfpurify.purifiers.base import CandidatePurifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.purifiers.time_budget import choose_effort, require_time_budget
from tfpurify.vocabulary import PROJECTORS


@keras.saving.register_keras_serializable("tfpurify")
class DefenseGAN(CandidatePurifier):
    """Replaces an image by the nearest image that a generator can make.

    Minimises the mean over pixels of (G(z) - x)^2 and keeps for each image the best iterate of its
    best start. Two projectors do it:

    `reference`: the paper's. `num_steps` steps of gradient descent with momentum from
    `num_restarts` random starts.
    `fast`: a trained `LatentEncoder` gives the first start, the others are random, because an
    attacker may aim at the encoder. All descend for a quarter of the steps, then for each image
    only the start with the smallest error goes on (successive halving in one halving). The steps
    are Nesterov's, on the gradient times the encoder's preconditioner.

    Args:
        generator: A `Generator`, z `(batch, latent_dim)` -> images in [0, 1]. Nothing here changes
            its weights.
        encoder: A `LatentEncoder` that was trained for the generator; `fast` needs one.
        projector: `fast` or `reference`; if None, `fast` where there is an encoder.
        num_steps: L >= 1. 200 in `reference`, 10 in `fast`.
        num_restarts: R >= 1. 10 in `reference`, 2 in `fast`.
        step_size: Of the descent. 10 in `reference`, a tenth of it after 80 % of the steps; 2 in
            `fast`.
        momentum: Of the descent, in [0, 1). 0.7 in `reference`, 0.9 in `fast`.
        seed: Of the starts z0 ~ N(0, 1), which all images share, so that what happens to an image
            does not depend on its neighbours in the batch. None draws new ones at every call.
        chunk_size: Images that descend at once; bounds the memory of a projection whatever the
            batch, not that of a gradient through it.
        jit_compile: Whether XLA compiles the descent. Slower on CPU.
        time_budget_ms: Milliseconds that one image may take, with `fast`: `build` measures this
            machine once, chooses `num_steps` and `num_restarts` and logs them. What is saved are
            these, not the budget.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1].
    Outputs: purified images, the same.

    Raises:
        ValueError: If `fast` has no encoder, or a number is out of its range; and when built, if
            the time budget is too small for a single step.

    Source: Samangouei et al. 2018, section 3.1 and Eq. (4); the reference's step size, its decay
    and momentum from the public port. `fast` is ours; Nesterov's step as in Sutskever et al. 2013,
    Eq. (3) and (4).

    Differs from the public ports: the restart is chosen for each image, not for the batch, and the
    best iterate is returned, not the last one. Both errors cost accuracy.

    Limitations: an attack that approximates the descent by the identity (BPDA; Athalye et al.
    2018, section 5.4.1) gets through; through `fast`, short as it is, one can differentiate
    exactly. Images that the generator cannot make (CIFAR-10) are lost.
    """

    def __init__(
        self,
        generator,
        encoder=None,
        projector=None,
        num_steps=None,
        num_restarts=None,
        step_size=None,
        momentum=None,
        seed=0,
        chunk_size=64,
        jit_compile=False,
        time_budget_ms=None,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        projector = projector or ("reference" if encoder is None else "fast")
        require_one_of(PROJECTORS, projector=projector)
        if projector == "fast" and encoder is None:
            raise ValueError(
                "`projector='fast'` needs the `encoder` that was trained for the generator. "
                "Received: encoder=None"
            )
        require_time_budget(time_budget_ms, projector, num_steps, num_restarts)
        given = {"num_steps": num_steps, "num_restarts": num_restarts}
        given |= {"step_size": step_size, "momentum": momentum}
        for name, default in projectors.DEFAULTS[projector].items():
            setattr(self, name, default if given[name] is None else given[name])
        self.chunk_size = chunk_size
        require_at_least(1, num_steps=num_steps, num_restarts=num_restarts, chunk_size=chunk_size)
        self.generator = generator
        self.encoder = encoder
        self.projector = projector
        self.image_shape = tuple(generator.image_shape)
        self.latent_dim = generator.latent_dim
        self.seed = seed
        self.jit_compile = jit_compile
        self.time_budget_ms = time_budget_ms
        self._is_calibrated = False
        self._set_effort(self.num_steps, self.num_restarts)

    def _set_effort(self, num_steps, num_restarts):
        self.num_steps, self.num_restarts = num_steps, num_restarts
        self._descend = tf.function(
            self._descend_chunk, jit_compile=self.jit_compile, reduce_retracing=True
        )
        self._project = tf.function(self._project_chunks, reduce_retracing=True)

    @classmethod
    def presets(cls, folder=None):
        """Returns the priors of the zoo: name -> card."""
        return DCGAN.presets(folder)

    @classmethod
    def from_preset(cls, name, folder=None, projector=None, **options):
        """Returns a projector onto a trained prior; as for `Pretrained.from_preset`.

        Args:
            name: Of a prior, a name that `presets()` lists.
            folder: The zoo's folder.
            projector: `fast`, `reference`, or None: `fast` where the zoo has the prior's encoder.
            **options: `num_steps`, `num_restarts` and the other arguments of `DefenseGAN`.

        Raises:
            ValueError: If there is no such preset, or `fast` is asked for and has no encoder.
        """
        require_preset(cls, name, folder)
        encoder_name = f"encoder_{name}"
        if projector is None:
            projector = "fast" if encoder_name in zoo.available(folder) else "reference"
            logging.info("DefenseGAN on %s: the %s projector", name, projector)
        encoder = LatentEncoder.from_preset(encoder_name, folder) if projector == "fast" else None
        generator = DCGAN.from_preset(name, folder).generator
        purifier = cls(generator, encoder, projector, **options)
        purifier.build()
        return purifier

    def build(self, input_shape=None):
        self.generator.build()
        if self.encoder is not None and not self.encoder.built:
            self.encoder.build()
        self.built = True
        if self.time_budget_ms is not None and not self._is_calibrated:
            self._is_calibrated = True
            with tf.init_scope():  # inside a graph there would be nothing to time
                image = tf.fill((1, *self.image_shape), 0.5)
                choose_effort(self.time_budget_ms, self._set_effort, lambda: self(image))

    def initial_z(self):
        """Returns the random starts: `(num_restarts, latent_dim)`, one less with an encoder."""
        shape = (self.num_restarts - (self.projector == "fast"), self.latent_dim)
        if self.seed is None:
            return tf.random.normal(shape)
        return tf.random.stateless_normal(shape, seed=[self.seed, 0])

    def project(self, images, z0=None):
        """Descends from given starts, or from its own; deterministic but for `seed=None`.

        Args:
            images: `(batch, height, width, channels)`, float32 in [0, 1].
            z0: Starts, `(num_restarts, latent_dim)` for all images alike or
                `(batch, num_restarts, latent_dim)`; None: the random ones, after the encoder's
                with `fast`.

        Returns:
            `(z, errors)`: the best iterate of each start `(batch, num_restarts, latent_dim)` and
            its mean squared error `(batch, num_restarts)`.

        Raises:
            ValueError: If `z0` has another shape.
        """
        validate_if_eager(images, self.image_shape)
        with_encoder = z0 is None and self.projector == "fast"
        z0 = tf.convert_to_tensor(self.initial_z() if z0 is None else z0)
        if z0.shape.rank == 2:
            z0 = tf.repeat(z0[None], ops.shape(images)[0], axis=0)
        if z0.shape.rank != 3 or z0.shape[-1] != self.latent_dim:
            raise ValueError(
                "`z0` must have shape (num_restarts, latent_dim) or (batch, num_restarts, "
                f"latent_dim) with latent_dim={self.latent_dim}. Received: shape {z0.shape}"
            )
        return self._project(images, z0, with_encoder)

    def _project_chunks(self, images, z0, with_encoder):
        num_restarts = ops.shape(z0)[1] + with_encoder
        return descent.in_chunks(
            lambda images, z0: self._descend(images, z0, with_encoder),
            images,
            z0,
            self.chunk_size,
            num_restarts,
        )

    def _descend_chunk(self, images, z0, with_encoder):
        generator = self.generator.folded()
        if with_encoder:
            z0 = tf.concat([self.encoder.encode(images, generator)[:, None], z0], axis=1)
        is_fast = self.projector == "fast"
        descend = projectors.descend_fast if is_fast else projectors.descend_reference
        return descend(generator, images, z0, self.num_steps, self._move())

    def _move(self):
        if self.projector == "fast":
            return projectors.fast_move(self.step_size, self.momentum, self.encoder.preconditioner)
        return projectors.reference_move(self.num_steps, self.step_size, self.momentum)

    def call(self, images, training=False):
        z, errors = self.project(images)
        nearest = tf.gather(z, tf.argmin(errors, axis=1), axis=1, batch_dims=1)
        return self.generator.folded()(nearest)

    def differentiable(self, images, last_steps=None):
        """Returns what `call` does, with a gradient that goes back through the chosen descent.

        The gradient descends a second time, from the chosen start alone, and recomputes every step
        from its z and velocity: all of L=200 fits in memory. It is taken once, not twice, and
        reaches images alone, not weights.

        Args:
            images: `(batch, height, width, channels)`, float32 in [0, 1].
            last_steps: How many steps the gradient goes back, or None: all of them, and through the
                encoder where the chosen start is its own.
        """

        @tf.custom_gradient
        def purify(images):
            starts = self._starts(images)
            z, errors = self._project(images, starts, False)
            nearest = tf.argmin(errors, axis=1)

            def gradient(upstream, variables=()):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(images)
                    purified_images = self._descend_again(images, starts, nearest, last_steps)
                to_images = tape.gradient(purified_images, images, upstream)
                return (to_images, [None] * len(variables)) if variables else to_images

            z = tf.gather(z, nearest, axis=1, batch_dims=1)
            return self.generator.folded()(z), gradient

        return purify(images)

    def _starts(self, images):
        """Returns all starts of each image: `(batch, num_restarts, latent_dim)`."""
        z0 = tf.repeat(self.initial_z()[None], ops.shape(images)[0], axis=0)
        if self.projector == "fast":
            encoded = self.encoder.encode(images, self.generator.folded())
            z0 = tf.concat([encoded[:, None], z0], axis=1)
        return z0

    def _descend_again(self, images, starts, nearest, last_steps):
        """Returns G(z) of each image's chosen start, all or the last steps of it differentiable."""
        generator = self.generator.folded()
        z = tf.gather(starts, nearest, axis=1, batch_dims=1)
        if self.projector == "fast" and last_steps is None:
            encoded = self.encoder.encode(images, generator)
            z = tf.where((nearest == 0)[:, None], encoded, z)
        first = 0 if last_steps is None else max(0, self.num_steps - last_steps)
        steps = (first, self.num_steps)
        return projectors.descend_differentiably(generator, images, z, steps, self._move())

    def candidates(self, images):
        """Returns the best iterate of each start: `(batch, num_restarts, H, W, C)`."""
        z, _ = self.project(images)
        generated = self.generator.folded()(tf.reshape(z, (-1, self.latent_dim)))
        return tf.reshape(generated, (-1, self.num_restarts, *self.image_shape))

    def approximate(self, images):
        """Returns what the encoder alone makes of images: the gradient mode `encoder`'s way back.

        Raises:
            ValueError: If there is no encoder.
        """
        if self.encoder is None:
            raise ValueError(
                "The gradient mode 'encoder' needs a DefenseGAN with an encoder. "
                "Received: encoder=None"
            )
        generator = self.generator.folded()
        return generator(self.encoder.encode(images, generator))

    def get_config(self):
        config = super().get_config()
        del config["time_budget_ms"]  # what it chose is there
        return config
