"""Keras's optimizers by TensorFlow's fused kernels: the same steps in one pass over the weights.

Keras 3 updates a weight in eight small operations, each a pass over memory. In PuVAE, with its 27
million weights, and in DCGAN, with its many small ones, that is a good part of a step.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfpurify")
class Adam(keras.optimizers.Adam):
    """Keras's Adam without `amsgrad`; same state, same steps up to rounding.

    Source: Kingma and Ba 2015, section 2 (the form before Algorithm 1's last line).
    """

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if self.amsgrad or not _is_float32(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        step = tf.cast(self.iterations.value, tf.float32) + 1.0
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(tf.constant(self.beta_1, tf.float32), step),
            beta2_power=tf.pow(tf.constant(self.beta_2, tf.float32), step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


@keras.saving.register_keras_serializable("tfpurify")
class SGD(keras.optimizers.SGD):
    """Keras's SGD; with momentum the same steps up to rounding."""

    def update_step(self, gradient, variable, learning_rate):
        if not self.momentum or not _is_float32(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable),
            accum=_handle(self.momentums[self._get_variable_index(variable)]),
            lr=tf.cast(learning_rate, tf.float32),
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


def _handle(variable):
    # Keras hands over its own variables or, under a strategy's update, TensorFlow's.
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def _is_float32(gradient, variable):
    """Tells whether a dense float32 weight is updated; the kernels take nothing else."""
    is_dense = not isinstance(gradient, tf.IndexedSlices)
    return is_dense and {tf.as_dtype(gradient.dtype), tf.as_dtype(variable.dtype)} == {tf.float32}
