"""What has to be decided before any test module is collected."""

import os

# Keras looks for its backend when it is imported; doctests are collected from `src` on their own.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Tests run side by side, one a core: NumPy's BLAS with a thread each would wait for itself.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
