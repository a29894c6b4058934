"""What our models have in common: how they are saved, shipped, frozen, and trained in pairs."""

import hashlib
import inspect
import itertools

import keras
import numpy as np

import tfpurify
from tfpurify.models import zoo

_REFERENCE_KEYS = ("name", "path", "sha256")


def freeze(*models):
    """Stops the training of models and of every layer inside; None and plain functions pass.

    Keras ignores an attribute that is set to the value it has. A frozen model comes out of its file
    with its own flag False and its layers' flags True, so False alone would leave them trainable.
    """
    for model in models:
        if isinstance(model, keras.Layer):
            model.trainable = True
            model.trainable = False


class Configured:
    """Gives a model a configuration: the arguments of its `__init__`, which it keeps as attributes.

    An argument that is a model is saved along. A callable that is none comes back as None, and so
    does what the class borrows: of that the file holds the name, the path and the digest alone.

    Attributes:
        borrowed: Names of the arguments that are somebody else's models.
        references: After loading: name of a borrowed model -> its `name`, `path` and `sha256`.
    """

    borrowed = ()

    def __setattr__(self, name, value):
        if name in self.borrowed:
            object.__setattr__(self, name, value)  # so that Keras does not count its weights
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        # What this lists is what Keras saves the weights of.
        return [name for name in super().__dir__() if name not in self.borrowed]

    def get_config(self):
        names = _argument_names(type(self))
        arguments = {
            name: self._reference(name) if name in self.borrowed else _as_saved(getattr(self, name))
            for name in names
        }
        return {**super().get_config(), **arguments}

    def _reference(self, name):
        return reference_to(getattr(self, name)) or self._kept_references().get(name)

    def _kept_references(self):
        return getattr(self, "references", {})

    @classmethod
    def from_config(cls, config):
        found = {name: config.get(name) for name in (*_argument_names(cls), *cls.borrowed)}
        found = {name: value for name, value in found.items() if isinstance(value, dict)}
        borrowed = {name: value for name, value in found.items() if name in cls.borrowed}
        models = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in found.items()
            if name not in borrowed
        }
        model = super().from_config({**config, **models, **dict.fromkeys(borrowed)})
        # Older files hold the whole model; it has the same name.
        model.references = {
            name: {key: value.get(key, value.get("config", {}).get(key)) for key in _REFERENCE_KEYS}
            for name, value in borrowed.items()
        }
        return model


def _argument_names(cls):
    """Returns the names of the arguments of a class and of its bases among ours, each once."""
    signatures = [
        inspect.signature(vars(base)["__init__"]).parameters.values()
        for base in reversed(cls.__mro__)
        if issubclass(base, Configured) and "__init__" in vars(base)
    ]
    arguments = itertools.chain.from_iterable(signatures)
    names = [one.name for one in arguments if one.kind is one.POSITIONAL_OR_KEYWORD]
    return dict.fromkeys(name for name in names if name != "self")


def reference_to(model):
    """Returns what a file says of a Keras model that it does not hold; None of anything else.

    That is its `name`, the `path` of the file that it came from, if it is known, and the `sha256`
    of its weights.
    """
    if not isinstance(model, keras.Layer):
        return None
    if hasattr(model, "reference"):
        return dict(model.reference)
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return {
        "name": model.name,
        "path": getattr(model, "source_file", None),
        "sha256": digest.hexdigest(),
    }


def missing_model(model, name):
    """Returns the words for an error: what a loaded model needs that its file only names."""
    reference = model.references.get(name) if hasattr(model, "references") else None
    if reference is None:
        return f"Received: {name}=None"
    place = f" from {reference['path']}" if reference["path"] else ""
    digest = f", sha256 {reference['sha256']}" if reference["sha256"] else ""
    return (
        f"Its file names it and does not hold it: load {reference['name']}{place}{digest}, and set "
        f"`model.{name}`. Received: {name}=None"
    )


def _as_saved(value):
    if isinstance(value, keras.Layer):
        return keras.saving.serialize_keras_object(value)
    return None if callable(value) else value


class Pretrained:
    """Gives a model class `from_preset` and `presets`, from the zoo of shipped weights."""

    @classmethod
    def presets(cls, folder=None):
        """Returns the presets that `from_preset` of this class takes: name -> card.

        Args:
            folder: The zoo's folder. Defaults to `zoo.default_folder()`.
        """
        return {
            name: card
            for name, card in zoo.list_presets(folder).items()
            if _is_subclass(card.get("class_name"), cls)
        }

    @classmethod
    def from_preset(cls, name, folder=None):
        """Returns a trained model: verified by its digest, weights in float32, built.

        Args:
            name: A name that `presets()` lists.
            folder: The zoo's folder. Defaults to `zoo.default_folder()`.

        Raises:
            ValueError: If there is no such preset of this class, or its file is damaged.
        """
        require_preset(cls, name, folder)
        return zoo.load_preset(name, folder)


def require_preset(cls, name, folder):
    """Returns the presets of a class; raises ValueError if `name` is none of them."""
    found = cls.presets(folder)
    if name not in found:
        listed = ", ".join(found) or "there is none"
        raise ValueError(
            f"`name` must be a preset of {cls.__name__}: {listed}. Received: name={name!r}"
        )
    return found


def _is_subclass(name, cls):
    """Says whether a class of ours is `cls` or below it; imports it if it is a public one."""
    getattr(tfpurify, name or "", None)
    return name in {found.__name__ for found in _with_subclasses(cls)}


def _with_subclasses(cls):
    yield cls
    for subclass in cls.__subclasses__():
        yield from _with_subclasses(subclass)


class ImageStack(Configured, keras.Model):
    """A model that is one `stack` of layers over images; a subclass sets it and `image_shape`."""

    def build(self, input_shape=None):
        self.stack.build((None, *self.image_shape))
        self.built = True

    def call(self, images, training=False):
        return self.stack(images, training=training)


class AdversarialModel(Pretrained, Configured, keras.Model):
    """Base of the models whose `generator` and `discriminator` have an optimizer each."""

    def compile(self, generator_optimizer, discriminator_optimizer, **kwargs):
        """Takes one optimizer each and builds both, so that a restore finds their variables.

        Args:
            generator_optimizer: An optimizer, or what `keras.optimizers.get` makes one of.
            discriminator_optimizer: The same; another one.
            **kwargs: Of `keras.Model.compile`.
        """
        super().compile(**{"optimizer": None, **kwargs})
        self.generator_optimizer = keras.optimizers.get(generator_optimizer)
        self.discriminator_optimizer = keras.optimizers.get(discriminator_optimizer)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def get_compile_config(self):
        if not self.compiled:
            return None
        return {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in ("generator_optimizer", "discriminator_optimizer")
        }

    def compile_from_config(self, config):
        self.compile(
            **{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}
        )
