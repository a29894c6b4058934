"""How a bundle is written: the next version of a folder, whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf


def export_model(model, folder, signatures, image_shape=None, extra_files=()):
    """Writes the next version of a bundle.

    Each weight is stored once, and only if a signature uses it: `keras.export.ExportArchive` and
    `model.export` write them twice, discriminators and frozen models included.

    Args:
        model: Keras model that owns every variable that the signatures use.
        folder: Where the versions live, made if missing.
        signatures: Dictionary of name -> function(images) -> dictionary of tensors, or a pair of a
            function and its input's `TensorSpec`. The one named `serving_default` is what servers
            use when none is asked for.
        image_shape: (height, width, channels). Defaults to `model.image_shape`, else to the shape
            that the model was built with.
        extra_files: Pairs of a path within the version's folder and its content, bytes.

    Returns:
        The path of the new version, `FOLDER/VERSION`.

    Raises:
        ValueError: If the model is not built, or `image_shape` is neither given nor known.
        OSError: If the folder cannot be written.
    """
    if not model.built:
        raise ValueError(f"`model` must be built. Received: model={model.name!r}, not built")
    spec = tf.TensorSpec((None, *image_shape_of(model, image_shape)), tf.float32, name="images")
    # Without autograph: a loop in `call` is a `tf.while_loop` already.
    pairs = {
        name: signature if isinstance(signature, tuple) else (signature, spec)
        for name, signature in signatures.items()
    }
    functions = {
        name: tf.function(function, input_signature=[spec], autograph=False)
        for name, (function, spec) in pairs.items()
    }
    bundle = tf.Module()
    bundle.weights = _captured(model, functions.values())
    folder = Path(folder)
    made = not folder.exists()
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A folder inside the private temporary one, so that the bundle gets the usual permissions.
        aside = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
        tf.saved_model.save(bundle, str(aside / "bundle"), signatures=functions)
        for name, content in extra_files:
            path = aside / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        version = folder / str(next_version(folder))
        os.rename(aside / "bundle", version)
    except (OSError, tf.errors.OpError) as error:
        words = str(error).splitlines()[0].rpartition("}} ")[2].partition(" [Op")[0]
        reason = getattr(error, "strerror", None) or words  # TensorFlow's, without its nodes
        raise OSError(
            f"`folder` must be a writable folder. Received: folder={folder} ({reason})"
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return version


def next_version(folder):
    """Returns 1 + the highest version in the folder; 1 where there is none."""
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def _captured(model, functions):
    """Returns the model's TensorFlow variables that the traced functions read, each once.

    A `tf.Module` that held the Keras model instead would load in Python, but not in the session
    loader, which is what serving uses.
    """
    captured = {
        id(tensor)
        for function in functions
        for tensor in function.get_concrete_function().captured_inputs
    }
    return [v.value for v in model.variables if id(v.value.handle) in captured]


def image_shape_of(model, image_shape=None):
    """Returns the shape of a model's images: as given, else as it says, else as it was built."""
    if image_shape is None:
        image_shape = getattr(model, "image_shape", None)
    if image_shape is None:
        image_shape = (getattr(model, "input_shape", None) or _built_shape(model) or ())[1:]
    if len(image_shape) != 3 or None in image_shape:
        raise ValueError(
            f"`image_shape` must be (height, width, channels). Received: image_shape={image_shape}"
        )
    return tuple(image_shape)


def _built_shape(model):
    return (model.get_build_config() or {}).get("input_shape")
