"""PuVAE: a conditional variational autoencoder that proposes one clean image per class."""

import keras
import tensorflow as tf
from keras import layers, ops

from tfpurify.arguments import require_at_least, require_one_of
from tfpurify.data.augmentation import add_noise
from tfpurify.models import losses
from tfpurify.models.base import Pretrained, freeze, missing_model
from tfpurify.models.image_sizes import require_weights_fit
from tfpurify.models.logits import logits_of, require_logits
from tfpurify.models.replicas import apply_mean, own_step
from tfpurify.purifiers.base import CandidatePurifier
from tfpurify.purifiers.puvae_layers import decoder_layers, encoder_layers, num_features
from tfpurify.vocabulary import CLASSIFICATION_LABELS


@keras.saving.register_keras_serializable("tfpurify")
class PuVAE(Pretrained, CandidatePurifier):
    """Purifying variational autoencoder.

    Training reconstructs a clean image under its true label, and asks a frozen source classifier
    to recognise the reconstruction:
    `reconstruction_weight L_RC + kl_weight L_KL + classification_weight L_CE`.
    Purification reconstructs an image under every label and keeps the nearest reconstruction.
    The label joins after the convolutions, and the first dense layer is split into a part for the
    features and one for the label, so that all labels of an image share its convolutions.

    Args:
        image_shape: `(height, width, channels)`; height and width at most 128. Above 32 there is a
            convolution of stride 2 more at both ends for each doubling.
        num_classes: Number of labels, and of candidates.
        latent_dim: Size of z. The study takes 50, 100, 256 for MNIST, Fashion-MNIST, CIFAR-10.
        classifier: Frozen source classifier, images -> logits. Needed for training only; its
            `trainable` is set to False. A saved PuVAE names it and does not hold it.
        reconstruction_weight: lambda_RC, Eq. (4) of the study.
        kl_weight: lambda_KL.
        classification_weight: lambda_CE.
        classification_warmup_steps: Steps over which lambda_CE rises from 0. Untrained, the decoder
            makes grey images, on which a classifier may be so sure of a wrong class that its loss
            drowns the reconstruction's and kills the ReLUs.
        training_noise: Scale of the latent noise in training.
        noise_scale: Scale of the latent noise in purification: one draw for each place in a batch,
            the same in every call. 0: none.
        input_noise: Bound of the uniform noise that is added to the encoder's images in training,
            on the [0, 1] scale; each image draws its own bound between 0 and this. The
            reconstruction's target stays clean.
        input_noise_period: Side of a square that is repeated over the image in half of the images'
            noise, in pixels; None: every pixel has its own. White noise has little of its energy in
            any one pattern; of AdvGAN's perturbations on CIFAR-10, 40 % repeats every 4 pixels.
        classification_labels: Under which labels the reconstructions are made that the source
            classifier has to recognise: `true`, as in the paper, or `random`. With `true` and a
            large weight the decoder paints the label into any image, so that a wrong label's
            candidate is taken for that label; `random` asks for the true class whatever the label.
        batch_normalization: Whether the encoder's convolutions and its first dense layer are batch
            normalised. Without, Adam kills four fifths of that layer's ReLUs on CIFAR-10.
        seed: Of the latent noise; None: purification draws anew in every call, and training has
            none.

    Inputs: images `(batch, height, width, channels)`, float32 in [0, 1].
    Outputs: purified images, the same.

    Source: Hwang et al. 2019; the study, section 3.1.2 and Figure 5.

    Differs from the paper: the weights are 0.01, 0.01 and 0.1, not the public port's 0.01, 0.1 and
    10, because on MNIST with 10 (and with 1) the classifier's gradient drowns the reconstruction
    early and kills ReLUs, or every image becomes its class's template; training images may carry
    noise and the classified labels may be random (the presets of Fashion-MNIST and CIFAR-10 do);
    the last transposed convolution has the image's channels, because Figure 5 ends at 32 channels
    and a sigmoid; the label joins after the convolutions, as in the public port; and the encoder
    may be batch normalised.

    Limitations: the choice of the nearest candidate hides the gradient. An attack through a
    soft choice breaks a plainly trained PuVAE almost entirely (gradient mode `soft`; compare
    Athalye et al. 2018 on gradient masking). Fine texture (CIFAR-10) is lost.
    """

    borrowed = ("classifier",)
    hidden_units = 1024  # of the encoder's two dense layers

    def __init__(
        self,
        image_shape,
        num_classes=10,
        latent_dim=50,
        classifier=None,
        reconstruction_weight=0.01,
        kl_weight=0.01,
        classification_weight=0.1,
        classification_warmup_steps=0,
        training_noise=1.0,
        noise_scale=0.0,
        input_noise=0.0,
        input_noise_period=None,
        classification_labels="true",
        batch_normalization=False,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_at_least(1, latent_dim=latent_dim, input_noise_period=input_noise_period)
        noises = {"training_noise": training_noise, "input_noise": input_noise}
        require_at_least(0, noise_scale=noise_scale, **noises)
        require_one_of(CLASSIFICATION_LABELS, classification_labels=classification_labels)
        self.image_shape = tuple(image_shape)
        require_weights_fit("PuVAE", self.hidden_units * num_features(self.image_shape))
        self.num_classes = num_classes
        self.latent_dim = latent_dim
        self.reconstruction_weight = reconstruction_weight
        self.kl_weight = kl_weight
        self.classification_weight = classification_weight
        self.classification_warmup_steps = classification_warmup_steps
        self.training_noise = training_noise
        self.noise_scale = noise_scale
        self.input_noise = input_noise
        self.input_noise_period = input_noise_period
        self.classification_labels = classification_labels
        self.batch_normalization = batch_normalization
        self.seed = seed
        self.classifier = classifier
        freeze(classifier)
        convolutions = [*self.convolution_layers(), layers.Flatten()]
        self.convolutions = keras.Sequential(convolutions, name="convolutions")
        self.features_dense = layers.Dense(self.hidden_units, name="features_dense")
        if batch_normalization:
            self.features_normalization = layers.BatchNormalization(name="features_normalization")
        self.label_dense = layers.Dense(self.hidden_units, use_bias=False, name="label_dense")
        self.hidden_dense = layers.Dense(self.hidden_units, activation="relu", name="hidden_dense")
        self.mean_head = layers.Dense(latent_dim, dtype="float32", name="z_mean")
        self.stddev_head = layers.Dense(latent_dim, "softplus", dtype="float32", name="z_stddev")
        decoder = [*self.decoder_layers(), layers.Activation("sigmoid", dtype="float32")]
        self.decoder = keras.Sequential(decoder, name="decoder")
        names = ("loss", "reconstruction_loss", "kl_loss", "classification_loss")
        self.loss_trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.purified_accuracy = keras.metrics.SparseCategoricalAccuracy(name="purified_accuracy")

    def convolution_layers(self):
        """Yields the encoder's convolutions."""
        return encoder_layers(self.image_shape, self.batch_normalization)

    def decoder_layers(self):
        """Yields the layers from a latent code and a label to an image's logits."""
        return decoder_layers(self.image_shape)

    def build(self, input_shape=None):
        self.convolutions.build((None, *self.image_shape))
        self.features_dense.build(self.convolutions.output_shape)
        if self.batch_normalization:
            self.features_normalization.build((None, self.hidden_units))
        self.label_dense.build((None, self.num_classes))
        for layer in (self.hidden_dense, self.mean_head, self.stddev_head):
            layer.build((None, self.hidden_units))
        self.decoder.build((None, self.latent_dim + self.num_classes))
        if self.classifier is not None:
            require_logits(self.classifier, self.image_shape)
        self.built = True

    def encode_features(self, images, training=False):
        """Returns the label-free half of the first dense layer: `(batch, hidden_units)`."""
        features = self.features_dense(self.convolutions(images, training=training))
        if self.batch_normalization:
            features = self.features_normalization(features, training=training)
        return features

    def encode_labels(self, features, one_hot_labels):
        """Returns `(z_mean, z_stddev)`, each `(batch, latent_dim)`.

        Args:
            features: `(batch, hidden_units)` from `encode_features`.
            one_hot_labels: `(batch, num_classes)`.
        """
        hidden = self.hidden_dense(ops.relu(features + self.label_dense(one_hot_labels)))
        return self.mean_head(hidden), self.stddev_head(hidden)

    def decode(self, z, one_hot_labels):
        """Returns images `(batch, height, width, channels)` in [0, 1] from z and labels."""
        return self.decoder(ops.concatenate([z, one_hot_labels], axis=1))

    def candidates(self, images):
        """Returns one reconstruction per label: `(batch, num_classes, H, W, C)`."""
        return self._candidates(self.encode_features(images))

    def _candidates(self, features):
        labels = ops.tile(ops.eye(self.num_classes), (ops.shape(features)[0], 1))
        features = ops.repeat(features, self.num_classes, axis=0)
        z, z_stddev = self.encode_labels(features, labels)
        if self.noise_scale > 0:
            z += self.noise_scale * z_stddev * self._noise(ops.shape(z), 0)
        decoded = self.decode(z, labels)
        return ops.reshape(decoded, (-1, self.num_classes, *self.image_shape))

    def _noise(self, shape, step):
        if self.seed is None:
            return tf.random.normal(shape)
        return tf.random.stateless_normal(shape, seed=tf.stack([self.seed, tf.cast(step, "int32")]))

    def reconstruct(self, images, labels, noise):
        """Returns `(reconstructions, z_mean, z_stddev)` under the given labels `(batch,)`."""
        return self._reconstruct(self.encode_features(images), labels, noise)

    def _reconstruct(self, features, labels, noise):
        one_hot_labels = ops.one_hot(labels, self.num_classes)
        z_mean, z_stddev = self.encode_labels(features, one_hot_labels)
        return self.decode(z_mean + noise * z_stddev, one_hot_labels), z_mean, z_stddev

    def compute_losses(
        self, images, labels, noise, inputs=None, classified_labels=None, training=False
    ):
        """Returns the weighted sum and its three parts, each averaged over the batch.

        Args:
            images: `(batch, height, width, channels)`, clean.
            labels: `(batch,)`, true.
            noise: `(batch, latent_dim)`, or 0.
            inputs: What the encoder sees of the images; the images if None.
            classified_labels: `(batch,)`, the labels under which the source classifier sees
                reconstructions; the true ones if None.
            training: Whether batches normalise themselves.
        """
        if self.classifier is None:
            raise ValueError(
                "Training a PuVAE needs its source classifier: PuVAE(..., classifier=classifier). "
                + missing_model(self, "classifier")
            )
        features = self.encode_features(images if inputs is None else inputs, training)
        reconstructions, z_mean, z_stddev = self._reconstruct(features, labels, noise)
        classified = reconstructions
        if classified_labels is not None:
            classified, _, _ = self._reconstruct(features, classified_labels, noise)
        logits = logits_of(self.classifier, classified)
        parts = {
            "reconstruction_loss": ops.mean(losses.reconstruction_loss(images, reconstructions)),
            "kl_loss": ops.mean(losses.kl_loss(z_mean, z_stddev)),
            "classification_loss": ops.mean(losses.classification_loss(labels, logits)),
        }
        return self._with_sum(parts)

    def _with_sum(self, parts):
        """Returns the parts of the loss by name, and `loss`, their weighted sum."""
        weights = self._loss_weights()
        return {"loss": sum(weights[name] * part for name, part in parts.items()), **parts}

    def _loss_weights(self):
        return {
            "reconstruction_loss": self.reconstruction_weight,
            "kl_loss": self.kl_weight,
            "classification_loss": self._classification_weight(),
        }

    def _classification_weight(self):
        if not self.classification_warmup_steps or self.optimizer is None:
            return self.classification_weight
        progress = ops.cast(self.optimizer.iterations, "float32") / self.classification_warmup_steps
        return self.classification_weight * ops.minimum(progress, 1.0)

    def train_step(self, data):
        images, labels = data
        step = own_step(self.optimizer.iterations)
        noise_shape = (ops.shape(images)[0], self.latent_dim)
        noise = self.training_noise * self._noise(noise_shape, step)
        inputs, classified_labels = None, None
        if self.input_noise > 0:
            seed = tf.random.fold_in([self.seed, 1], tf.cast(step, "int32"))
            inputs = add_noise(images, self.input_noise, self.input_noise_period, seed)
        if self.classification_labels == "random":
            seed = tf.random.fold_in([self.seed, 2], tf.cast(step, "int32"))
            classified_labels = tf.random.stateless_uniform(
                ops.shape(labels), seed, 0, self.num_classes, "int32"
            )
        with tf.GradientTape() as tape:
            step_losses = self.compute_losses(
                images, labels, noise, inputs, classified_labels, training=True
            )
        variables = self.trainable_variables
        apply_mean(self.optimizer, tape.gradient(step_losses["loss"], variables), variables)
        return self._update_trackers(step_losses)

    def test_step(self, data):
        images, labels = data
        logs = self._update_trackers(self.compute_losses(images, labels, noise=0.0))
        self.purified_accuracy.update_state(labels, logits_of(self.classifier, self(images)))
        return {**logs, "purified_accuracy": self.purified_accuracy.result()}

    def _update_trackers(self, step_losses):
        for name, value in step_losses.items():
            self.loss_trackers[name].update_state(value)
        return {name: tracker.result() for name, tracker in self.loss_trackers.items()}

    @property
    def metrics(self):
        return [*self.loss_trackers.values(), self.purified_accuracy]
