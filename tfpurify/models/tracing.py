"""Functions of images as one graph each, traced once whatever the size of a batch."""

import tensorflow as tf

from tfpurify.models.logits import logits_of


def trace_images(function, image_shape):
    """Returns a function of images as one graph.

    Args:
        function: Images -> tensors. It is traced without autograph, so a loop over tensors in it
            has to be a `tf.while_loop`.
        image_shape: `(height, width, channels)` of the images, which are float32.
    """
    return tf.function(function, [tf.TensorSpec((None, *image_shape), tf.float32)], autograph=False)


def trace_classifier(classifier, purifier=None):
    """Returns a classifier, alone or behind a purifier, as one graph: images -> logits.

    Args:
        classifier: Images -> logits, a model with an `image_shape`.
        purifier: Images -> images, or None.
    """

    def classify(images):
        if purifier is not None:
            images = purifier(images, training=False)
        return logits_of(classifier, images)

    return trace_images(classify, classifier.image_shape)
