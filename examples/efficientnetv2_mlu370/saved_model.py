"""EfficientNetV2-S of keras.applications with seeded weights, as a SavedModel: for the tensorflow toolchain's Python.

    saved_model.py FOLDER SIZE PHOTOS.npy

Random weights alone fade from layer to layer. So every batch norm takes its statistics from the photos, residual
branches are quiet, and the classifier's scores are centred: photos get different classes, as trained weights do it.
"""

import os
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # the same weights on every machine

import keras
import numpy as np
import tensorflow as tf

BRANCH = 0.25
"""Scale of a residual branch: as in a trained network, most of what a block gives is what it got."""


def network(size: int, photos: np.ndarray) -> keras.Model:
    """The network; ``photos`` are float32 (n, size, size, 3) with values 0..255, as its input is."""
    keras.utils.set_random_seed(0)
    model = keras.applications.EfficientNetV2S(
        weights=None, input_shape=(size, size, 3), classifier_activation=None, include_preprocessing=True
    )
    layers = {layer.name: layer for layer in model.layers}
    for name, layer in layers.items():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.beta.assign(np.random.normal(0, 0.3, layer.beta.shape))
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
        elif isinstance(layer, keras.layers.Add):
            block = name.removesuffix("add")
            last = [n for n in layers if n.startswith(block) and n.endswith("bn")][-1]
            layers[last].gamma.assign(np.full(layers[last].gamma.shape, BRANCH))
    model(photos, training=True)
    scores = model.predict(photos, verbose=0)
    kernel, _ = model.layers[-1].get_weights()
    factor = 2 / scores.std(axis=0)
    model.layers[-1].set_weights([kernel * factor, -scores.mean(axis=0) * factor])
    return model


def main() -> None:
    folder, size, photos = sys.argv[1], int(sys.argv[2]), np.load(sys.argv[3], allow_pickle=False)
    signature = [tf.TensorSpec((None, size, size, 3), tf.float32, name="image")]
    network(size, photos).export(folder, format="tf_saved_model", input_signature=signature, verbose=False)


if __name__ == "__main__":
    main()
