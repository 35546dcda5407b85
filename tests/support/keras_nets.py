"""Writes SavedModels of Keras applications with seeded weights; a worker on the tensorflow toolchain's Python."""

import keras
from accel_worker import serve

LOGIT = 5.0
"""Largest logit. Trained networks reach 5 to 20 on photos."""


def make(params, arrays):
    """``name`` saved in the folder ``path``; returns the logits of the photos ``x`` (as it wants them, NHWC)."""
    keras.utils.set_random_seed(0)
    x = arrays["x"].copy()
    own = {"input_shape": x.shape[1:]} if x.shape[1] != 224 else {}
    net = getattr(keras.applications, params["name"])(weights=None, classifier_activation=None, **own)
    for layer in net.layers:
        layer.momentum = 0.0
        if layer.name.endswith(("project_bn", "project_BN", "_3_bn")):  # each residual block adds little, as trained
            layer.gamma.assign(0.25 * keras.ops.ones_like(layer.gamma))
    net(x, training=True)  # statistics of these photos: the signal reaches the end
    last = [layer for layer in net.layers if getattr(layer, "kernel", None) is not None][-1]
    factor = LOGIT / abs(net(x).numpy()).max()
    last.set_weights([w * factor for w in last.get_weights()])
    net.export(params["path"])
    return {}, {"y": net(x).numpy()}


serve({"make": make})
