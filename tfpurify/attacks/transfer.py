"""Attacks that are made on a model at hand, to fool one that cannot be asked."""

import math

import numpy as np
import tensorflow as tf

from tfpurify.arguments import require_above_zero, require_at_least, require_epsilon, require_one_of
from tfpurify.attacks.dead_gradient import explain_dead_gradient, gradient_norms
from tfpurify.data.loading import validate_images
from tfpurify.models.logits import require_logits
from tfpurify.models.losses import (
    UNSATURATED,
    cross_entropy_attack_loss,
    margin_loss,
    require_gradient,
)
from tfpurify.vocabulary import ADVERSARIAL_LOSSES

_SPECTRUM_NOISE, _SPECTRUM_SPREAD = 16 / 255, 0.5  # sigma and rho of SSM
_AMPLIFICATION = 10.0  # beta of PI


class TransferAttack:
    """Iterated gradient signs with momentum, on a model at hand, for one that is like it.

    g <- mu g + gradient / mean |gradient|;  x <- clip(x - step * sign(g))

    From the clean image, to the last iterate, whatever becomes of it on the way: what fools the
    model at hand is not what counts. Each further argument is one published refinement; they add
    up.

    Args:
        target: Callable, images -> logits: the model at hand.
        epsilon: L-inf bound on the perturbation, in (0, 1].
        num_steps: Steps, >= 1, each of epsilon / num_steps.
        momentum: mu of MI, >= 0.
        diversity: p of DI, in [0, 1]: how often the images are resized and padded before the model
            sees them.
        largest_resize: Of DI, >= 1: the padded images' side, in sides of the image.
        kernel_size: Of TI, odd: the gradient is smoothed by a Gaussian kernel of so many pixels.
            0: not.
        num_scales: m of SI, >= 1: gradients of the images / 1, 2, 4... are added.
        patch_size: Of PI, odd: steps are ten times as long, and what they cut off at the bound goes
            on to the neighbours, this many pixels across. 0: not.
        num_spectra: N of SSM: gradients of so many images are added whose cosine transform is
            changed at random. 0: not.
        loss: What is climbed, of `vocabulary.ADVERSARIAL_LOSSES`.
        target_rank: Which other class is aimed at: the one whose logit at the clean image is the
            rank-th highest of the others, from 1. None: away from the true one.
        seed: Of what is drawn; a draw depends on it and on the step, not on the image.

    Raises:
        ValueError: If an argument is out of its range, or the gradient is None, not finite or zero
            for a whole batch; names the layer in which it died.

    Source: Dong et al. 2018 (MI, algorithm 1); Xie et al. 2019 (DI); Dong et al. 2019 (TI); Lin et
    al. 2020 (SI); Gao et al. 2020 (PI, algorithm 1); Long et al. 2022 (SSM, algorithm 1).
    Differs from the papers: the margin of the logits by default, because it does not vanish where
    the softmax saturates; kernels of 3 to 7 pixels for images of 28, where the papers have 15 for
    299; DI's padded images are brought back to the model's size.
    """

    def __init__(
        self,
        target,
        epsilon,
        num_steps=10,
        momentum=1.0,
        diversity=0.0,
        largest_resize=1.1,
        kernel_size=0,
        num_scales=1,
        patch_size=0,
        num_spectra=0,
        loss="margin",
        target_rank=None,
        seed=0,
    ):
        require_epsilon(epsilon)
        require_at_least(1, num_steps=num_steps, num_scales=num_scales, target_rank=target_rank)
        require_at_least(0, momentum=momentum, diversity=diversity, num_spectra=num_spectra)
        require_above_zero(largest_resize=largest_resize)
        require_one_of(ADVERSARIAL_LOSSES, loss=loss)
        for name, size in (("kernel_size", kernel_size), ("patch_size", patch_size)):
            if size and (size < 0 or size % 2 == 0):
                raise ValueError(f"`{name}` must be odd, or 0. Received: {name}={size}")
        self.target = target
        self.epsilon = epsilon
        self.num_steps = num_steps
        self.momentum = momentum
        self.diversity = diversity
        self.largest_resize = largest_resize
        self.kernel_size = kernel_size
        self.num_scales = num_scales
        self.patch_size = patch_size
        self.num_spectra = num_spectra
        self.loss = loss
        self.target_rank = target_rank
        self.seed = seed
        self._search = tf.function(self._iterate, autograph=False, reduce_retracing=True)

    def __call__(self, images, labels):
        """Attacks images (B, H, W, C) in [0, 1] with true labels (B,); returns images alike."""
        validate_images(images, np.shape(images)[-3:])
        require_logits(self.target, np.shape(images)[1:])
        images = tf.convert_to_tensor(images)
        with explain_dead_gradient(self.target, images, labels):
            return self._search(images, tf.cast(labels, tf.int64))

    def gradient_norms(self, images, labels):
        """Returns the norms `(batch,)` of the gradient that it begins with; 0 where it is dead."""
        return gradient_norms(self.target, images, labels)

    def _iterate(self, images, labels):
        low = tf.maximum(images - self.epsilon, 0.0)
        high = tf.minimum(images + self.epsilon, 1.0)
        rival = self._rival(images, labels)
        step_size = self.epsilon / self.num_steps

        def move(step, current, momentum, excess):
            gradient = self._gradient(current, labels, rival, step)
            if self.kernel_size:
                gradient = _filter(gradient, _gaussian(self.kernel_size))
            size = tf.reduce_mean(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
            momentum = self.momentum * momentum + gradient / tf.maximum(size, 1e-12)
            if not self.patch_size:
                change = -step_size * tf.sign(momentum)
                return step + 1, tf.clip_by_value(current + change, low, high), momentum, excess
            change = -_AMPLIFICATION * step_size * tf.sign(momentum)
            excess += change
            cut = tf.maximum(tf.abs(excess) - self.epsilon, 0.0) * tf.sign(excess)
            spread = tf.sign(_filter(cut, _neighbours(self.patch_size)))
            spread *= _AMPLIFICATION * step_size
            excess += spread
            current = tf.clip_by_value(current + change + spread, low, high)
            return step + 1, current, momentum, excess

        start = (0, images, tf.zeros_like(images), tf.zeros_like(images))
        return tf.while_loop(
            lambda step, *_: step < self.num_steps, move, start, maximum_iterations=self.num_steps
        )[1]

    def _rival(self, images, labels):
        if self.target_rank is None:
            return None
        logits = self.target(images)
        others = tf.where(tf.one_hot(labels, logits.shape[-1], True, False), -np.inf, logits)
        return tf.math.top_k(others, self.target_rank).indices[:, -1]

    def _gradient(self, images, labels, rival, step):
        """Returns the gradient that is climbed down, summed over all versions of the images."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            total, is_active = 0.0, rival is None or self.loss == "margin"
            for draw in range(max(1, self.num_spectra)):
                seed = tf.stack([self.seed * 1_000 + draw, step])
                seen = self._change_spectrum(images, seed) if self.num_spectra else images
                if self.diversity:
                    seen = self._resize(seen, seed)
                for scale in range(self.num_scales):
                    losses = self._losses(seen / 2.0**scale, labels, rival)
                    # The cross entropy of a class that is reached has no gradient left.
                    is_active = tf.reduce_any(losses > 0) | is_active
                    total += tf.reduce_sum(losses)
        where = "the target of a transfer attack"
        return require_gradient(tape.gradient(total, images), where, is_active)

    def _losses(self, images, labels, rival):
        logits = self.target(images)
        if self.loss == "cross_entropy":
            aim = labels if rival is None else rival
            return cross_entropy_attack_loss(logits, aim, targeted=rival is not None)
        if rival is None:
            return margin_loss(logits, labels, kappa=UNSATURATED)
        own, other = (tf.gather(logits, one, batch_dims=1) for one in (labels, rival))
        return own - other

    def _resize(self, images, seed):
        """Returns the images enlarged, padded with black and brought back to their size, or not."""
        size = images.shape[1:3]
        padded = [math.ceil(self.largest_resize * side) for side in size]
        draws = tf.random.stateless_uniform((4,), seed)
        grown = [
            side + tf.cast(draws[0] * (whole - side + 1), tf.int32)
            for side, whole in zip(size, padded, strict=True)
        ]
        room = [whole - side for whole, side in zip(padded, grown, strict=True)]
        place = [
            tf.cast(draw * tf.cast(left + 1, tf.float32), tf.int32)
            for draw, left in zip((draws[1], draws[2]), room, strict=True)
        ]

        def change():
            enlarged = tf.image.resize(images, grown)
            whole = tf.image.pad_to_bounding_box(enlarged, *place, *padded)
            return tf.image.resize(whole, size)

        return tf.cond(draws[3] < self.diversity, change, lambda: images)

    def _change_spectrum(self, images, seed):
        noise, mask = tf.random.split(seed)[0], tf.random.split(seed)[1]
        shape = tf.shape(images)[1:]  # the same for all images
        noisy = images + _SPECTRUM_NOISE * tf.random.stateless_normal(shape, noise)
        low, high = 1.0 - _SPECTRUM_SPREAD, 1.0 + _SPECTRUM_SPREAD
        factors = tf.random.stateless_uniform(shape, mask, low, high)
        return _cosine(_cosine(noisy) * factors, is_inverse=True)


def _filter(images, kernel):
    """Returns images convolved with a kernel `(size, size)`, each channel by itself."""
    channels = images.shape[-1]
    kernel = tf.tile(tf.constant(kernel, tf.float32)[..., None, None], (1, 1, channels, 1))
    return tf.nn.depthwise_conv2d(images, kernel, (1, 1, 1, 1), "SAME")


def _gaussian(size):
    """Returns TI's kernel: 3 standard deviations to the edge."""
    line = np.exp(-0.5 * np.linspace(-3.0, 3.0, size) ** 2)
    kernel = np.outer(line, line)
    return kernel / kernel.sum()


def _neighbours(size):
    """Returns PI's kernel: all pixels of the patch alike, but for the middle, which has none."""
    kernel = np.full((size, size), 1.0 / (size * size - 1))
    kernel[size // 2, size // 2] = 0.0
    return kernel


def _cosine(images, is_inverse=False):
    """Returns the orthonormal cosine transform of images, or its inverse."""
    for axis, length in ((1, images.shape[1]), (2, images.shape[2])):
        order, place = np.mgrid[:length, :length]
        base = np.sqrt(2.0 / length) * np.cos(np.pi * order * (place + 0.5) / length)
        base[0] /= np.sqrt(2.0)
        matrix = tf.constant(base.T if is_inverse else base, tf.float32)
        equation = "ij,bjwc->biwc" if axis == 1 else "ij,bhjc->bhic"
        images = tf.einsum(equation, matrix, images)
    return images
