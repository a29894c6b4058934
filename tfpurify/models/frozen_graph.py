"""Any function of images as one graph of constants, and the softmax at its end taken off."""

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

# What may stand between a softmax and the output without changing what it says.
_PASSES = ("Identity", "Cast", "StopGradient", "EnsureShape", "PreventGradient")
_HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log softmax"}


def freeze_graph(function, image_shape):
    """Returns a function of images whose variables have become constants.

    Args:
        function: Images -> one tensor. It is traced without autograph.
        image_shape: `(height, width, channels)` of the images, which are float32.

    Returns:
        A function of one graph, images `(batch, height, width, channels)` -> the tensor, that a
        gradient comes back through.
    """
    signature = tf.TensorSpec((None, *image_shape), tf.float32, name="images")
    traced = tf.function(function, autograph=False).get_concrete_function(signature)
    # Loops stay whole: what they are lowered to has no gradient.
    return convert_variables_to_constants_v2(traced, lower_control_flow=False)


def last_activation(graph):
    """Returns the name of the activation that a graph ends in, and what stands before it.

    Args:
        graph: As of `freeze_graph`.

    Returns:
        `(name, inner)`: `softmax`, `sigmoid` or `log softmax`, and the same graph without it; or
        `(None, graph)`.
    """
    tensor = graph.outputs[0]
    while tensor.op.type in _PASSES:
        tensor = tensor.op.inputs[0]
    name = _HEADS.get(tensor.op.type)
    if name is None:
        return None, graph
    return name, graph.prune(graph.inputs[0], tensor.op.inputs[0])
