"""DefenseGAN: projection onto a generator's range by descent from several starts."""

import math
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from keras import ops

from tfpurify.data.loading import validate_if_eager
from tfpurify.models import zoo
from tfpurify.models.base import require_preset
from tfpurify.purifiers import descent
from tfpurify.purifiers.base import CandidatePurifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.vocabulary import PROJECTORS

_DEFAULTS = {
    "reference": {"num_steps": 200, "num_restarts": 10, "step_size": 10.0, "momentum": 0.7},
    "fast": {"num_steps": 10, "num_restarts": 2, "step_size": 2.0, "momentum": 0.9},
}
_DECAY_START = 0.8  # share of the reference's steps after which the step size is divided by ten
_SCREENING = 0.25  # share of the fast projector's steps that all starts get, not only the best
# Steps and restarts among which a time budget chooses, by rising effort.
_EFFORTS = ((2, 1), (5, 1), (10, 2), (15, 2), (25, 2), (40, 4), (60, 10), (100, 10), (200, 10))
_BUDGET_SHARE = 0.75  # of the time budget that the projection may take in the median
_TIMED_CALLS = 9


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
        if projector not in PROJECTORS:
            raise ValueError(
                f"`projector` must be one of {list(PROJECTORS)}. Received: projector={projector!r}"
            )
        if projector == "fast" and encoder is None:
            raise ValueError(
                "`projector='fast'` needs the `encoder` that was trained for the generator. "
                "Received: encoder=None"
            )
        if time_budget_ms is not None and projector != "fast":
            raise ValueError(
                "`time_budget_ms` needs `projector='fast'`: the reference's steps and restarts are "
                f"the paper's. Received: projector={projector!r}"
            )
        if time_budget_ms is not None and not 0 < time_budget_ms < math.inf:
            raise ValueError(
                "`time_budget_ms` must be > 0 and finite. "
                f"Received: time_budget_ms={time_budget_ms}"
            )
        if time_budget_ms is not None and (num_steps, num_restarts) != (None, None):
            raise ValueError(
                "`time_budget_ms` chooses `num_steps` and `num_restarts`, so it excludes them. "
                f"Received: num_steps={num_steps}, num_restarts={num_restarts}"
            )
        defaults = _DEFAULTS[projector]
        given = {
            "num_steps": num_steps,
            "num_restarts": num_restarts,
            "step_size": step_size,
            "momentum": momentum,
        }
        for name, value in given.items():
            setattr(self, name, defaults[name] if value is None else value)
        self.chunk_size = chunk_size
        for name in ("num_steps", "num_restarts", "chunk_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be >= 1. Received: {name}={getattr(self, name)}")
        self.generator = generator
        self.encoder = encoder
        self.projector = projector
        self.image_shape = tuple(generator.image_shape)
        self.latent_dim = generator.latent_dim
        self.seed = seed
        self.jit_compile = jit_compile
        self.time_budget_ms = time_budget_ms
        self._is_calibrated = False
        self._compile_descent()

    def _compile_descent(self):
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
                self._calibrate()

    def _calibrate(self):
        """Takes the greatest effort whose median time for one image fits the budget."""
        image, chosen = tf.fill((1, *self.image_shape), 0.5), None
        for effort in _EFFORTS:
            self.num_steps, self.num_restarts = effort
            self._compile_descent()
            self(image)
            times = []
            for _ in range(_TIMED_CALLS):
                started = time.perf_counter()
                self(image)
                times.append(1e3 * (time.perf_counter() - started))
            if np.median(times) > _BUDGET_SHARE * self.time_budget_ms:
                break
            chosen, milliseconds = effort, np.median(times)
        if chosen is None:
            raise ValueError(
                "`time_budget_ms` must leave room for two steps, which take "
                f"{np.median(times):.1f} ms here. Received: time_budget_ms={self.time_budget_ms}"
            )
        self.num_steps, self.num_restarts = chosen
        self._compile_descent()
        logging.info(
            "DefenseGAN, time_budget_ms=%g: num_steps=%d, num_restarts=%d, %.1f ms for one image",
            *(self.time_budget_ms, *chosen, milliseconds),
        )

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
        count, num_restarts = tf.shape(images)[0], ops.shape(z0)[1] + with_encoder
        num_chunks = -(-count // self.chunk_size)

        def project_chunk(index, all_z, all_errors):
            rows = slice(index * self.chunk_size, (index + 1) * self.chunk_size)
            z, errors = self._descend(images[rows], z0[rows], with_encoder)
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
            tf.reshape(all_z.concat(), (count, num_restarts, self.latent_dim)),
            tf.reshape(all_errors.concat(), (count, num_restarts)),
        )

    def _descend_chunk(self, images, z0, with_encoder):
        generator = self.generator.folded()
        if with_encoder:
            z0 = tf.concat([self.encoder.encode(images, generator)[:, None], z0], axis=1)
        descend = self._descend_fast if self.projector == "fast" else self._descend_reference
        return descend(generator, images, z0)

    def _move(self):
        """Returns one step of the descent: step, z, velocity, gradient -> next z and velocity."""

        def move_reference(step, z, velocity, gradient):
            is_late = step >= _DECAY_START * self.num_steps
            velocity = self.momentum * velocity + gradient
            return z - tf.where(is_late, 0.1 * self.step_size, self.step_size) * velocity, velocity

        if self.projector == "reference":
            return move_reference
        # Read here, because a loop's gradient cannot read a variable anew.
        preconditioner = tf.convert_to_tensor(self.encoder.preconditioner)

        def move_fast(_, z, velocity, gradient):
            change = self.step_size * (gradient @ preconditioner)
            velocity = self.momentum * velocity - change
            return z + self.momentum * velocity - change, velocity

        return move_fast

    def _descend_reference(self, generator, images, z0):
        num_restarts, move = ops.shape(z0)[1], self._move()
        repeated_images = tf.repeat(images, num_restarts, axis=0)
        state = descent.initial_state(tf.reshape(z0, (-1, self.latent_dim)))
        steps = (0, self.num_steps)
        state = descent.iterate(generator, repeated_images, state, move, steps)
        z, errors = descent.best(generator, repeated_images, state)
        return (
            tf.reshape(z, (-1, num_restarts, self.latent_dim)),
            tf.reshape(errors, (-1, num_restarts)),
        )

    def _descend_fast(self, generator, images, z0):
        num_restarts, move = ops.shape(z0)[1], self._move()
        state = descent.initial_state(tf.reshape(z0, (-1, self.latent_dim)))
        screening_steps = max(1, int(_SCREENING * self.num_steps))
        repeated_images = tf.repeat(images, num_restarts, axis=0)
        steps = (0, screening_steps)
        state = descent.iterate(generator, repeated_images, state, move, steps)
        screened = [tf.reshape(part, (-1, num_restarts, *part.shape[1:])) for part in state]
        all_z, all_errors = screened[2:]
        nearest = tf.argmin(all_errors, axis=1)
        state = [tf.gather(part, nearest, axis=1, batch_dims=1) for part in screened]
        steps = (screening_steps, self.num_steps)
        state = descent.iterate(generator, images, state, move, steps)
        z, errors = descent.best(generator, images, state)
        is_nearest = tf.one_hot(nearest, num_restarts, True, False)
        return (
            tf.where(is_nearest[..., None], z[:, None], all_z),
            tf.where(is_nearest, errors[:, None], all_errors),
        )

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
        generator, move = self.generator.folded(), self._move()
        z = tf.gather(starts, nearest, axis=1, batch_dims=1)
        if self.projector == "fast" and last_steps is None:
            encoded = self.encoder.encode(images, generator)
            z = tf.where((nearest == 0)[:, None], encoded, z)
        state, first = descent.initial_state(z), 0
        if last_steps is not None:
            first = max(0, self.num_steps - last_steps)
            fixed = (generator, tf.stop_gradient(images), state, move, (0, first))
            state = [tf.stop_gradient(part) for part in descent.iterate(*fixed)]
        steps = (first, self.num_steps)
        state = descent.iterate(generator, images, state, move, steps, recompute=True)
        return generator(descent.best(generator, images, state)[0])

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
