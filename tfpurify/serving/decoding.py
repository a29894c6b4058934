"""What a served graph does with a request before it looks at the images.

Nothing here raises for an image that is wrong: where requests are batched, as servers do, an
exception would be the answer to all of them. Each image has an error of its own, a string that is
empty where there is none, and one that is wrong is replaced by black.
"""

import tensorflow as tf

_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # with the chunk that tells the size
MAX_PIXELS = 4096 * 4096  # of an encoded image; more is taken for a decompression bomb


def require_shape(batch):
    """Returns a batch; one that is empty, or whose shape is not its specification's, raises.

    Python's loader checks some of a signature's shapes and a server's none, and what follows may
    answer images of another shape, or end the process.

    Args:
        batch: A signature's input, of whose shape all but the first is known.
    """
    # The known shape would settle the answer before there is a request.
    hidden = tf.raw_ops.PlaceholderWithDefault(input=batch, shape=tf.TensorShape(None))
    shape = tf.shape(hidden)
    found = tf.strings.reduce_join(tf.strings.as_string(shape[1:]), separator=",")
    wanted = ",".join(map(str, batch.shape[1:]))
    is_right = (tf.size(shape) == batch.shape.rank) & (found == wanted) & tf.reduce_all(shape > 0)
    words = f"a request must hold at least one image, of shape (batch,{wanted}). Received: shape"
    with tf.control_dependencies([tf.debugging.Assert(is_right, [words, shape])]):
        return tf.identity(batch)


def check_images(images):
    """Finds the images that are no images.

    Args:
        images: `(batch, height, width, channels)`, float32.

    Returns:
        The images, black where they are wrong, and their errors `(batch,)`.
    """
    images = require_shape(images)
    is_finite = tf.reduce_all(tf.math.is_finite(images), axis=(1, 2, 3))
    low, high = tf.reduce_min(images, axis=(1, 2, 3)), tf.reduce_max(images, axis=(1, 2, 3))
    is_in_range = (low >= 0.0) & (high <= 1.0)
    found = tf.strings.join([tf.strings.as_string(low), tf.strings.as_string(high)], " to ")
    errors = tf.where(
        is_finite,
        tf.where(is_in_range, "", "images must be in [0, 1]. Received: " + found),
        "images must be finite. Received: NaN or infinity",
    )
    is_right = is_finite & is_in_range
    return tf.where(is_right[:, None, None, None], images, 0.0), errors


def decode_images(image_bytes, image_shape, max_pixels=MAX_PIXELS):
    """Decodes PNG and JPEG files of any size.

    Files of another size are resized with antialiasing, those of other channels converted. The size
    is read from the file's header before anything is decoded.

    Args:
        image_bytes: Files, `(batch,)`, string.
        image_shape: `(height, width, channels)` of the images, channels 1 or 3.
        max_pixels: Of a file.

    Returns:
        Images `(batch, height, width, channels)`, float32 in [0, 1], black where a file is wrong;
        whether each was resized `(batch,)`; and the errors `(batch,)`.
    """

    def decode(data):
        is_jpeg = tf.io.is_jpeg(data)
        size = tf.cond(is_jpeg, lambda: _jpeg_size(data), lambda: _png_size(data))
        # TensorFlow's `decode_png` takes GIFs too, and PNGs that begin with a chunk of somebody's
        # own: their size stands elsewhere.
        is_png = tf.strings.substr(data, 0, len(_PNG)) == _PNG
        bounds = [
            tf.debugging.Assert(is_jpeg | is_png, ["neither PNG nor JPEG"]),
            tf.debugging.assert_positive(size),
            tf.debugging.assert_less_equal(tf.reduce_prod(size), tf.cast(max_pixels, tf.int64)),
        ]
        with tf.control_dependencies([bound for bound in bounds if bound is not None]):
            data = tf.identity(data)
        channels = image_shape[-1]
        image = tf.cond(
            is_jpeg,
            lambda: tf.io.decode_jpeg(data, channels=channels),
            lambda: tf.io.decode_png(data, channels=channels),
        )
        image = tf.image.resize(tf.cast(image, tf.float32) / 255.0, image_shape[:2], antialias=True)
        image = tf.ensure_shape(tf.clip_by_value(image, 0.0, 1.0), image_shape)
        return image, tf.reduce_any(size != tf.constant(image_shape[:2], tf.int64))

    def decode_or_not(data):
        # A graph cannot catch an exception; a dataset of one element can.
        decoded = tf.data.Dataset.from_tensors(data).map(decode).ignore_errors()
        nothing = (tf.zeros(image_shape), tf.constant(False), tf.constant(False))
        return decoded.reduce(nothing, lambda _, found: (*found, tf.constant(True)))

    images, is_resized, is_decoded = tf.map_fn(
        decode_or_not,
        require_shape(image_bytes),
        fn_output_signature=(
            tf.TensorSpec(image_shape, tf.float32),
            tf.TensorSpec((), tf.bool),
            tf.TensorSpec((), tf.bool),
        ),
    )
    wrong = (
        f"image_bytes must be a whole PNG or JPEG file, grey or RGB, of at most {max_pixels} pixels"
    )
    return images, is_resized, tf.where(is_decoded, "", wrong)


def _jpeg_size(data):
    return tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.int64)


def _png_size(data):
    """Returns height and width from a PNG's first chunk, where they stand big-endian."""
    digits = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8)
    places = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    width_and_height = tf.reduce_sum(tf.cast(tf.reshape(digits, (2, 4)), tf.int64) * places, axis=1)
    return width_and_height[::-1]
