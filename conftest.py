"""What has to be decided before any test module is collected."""

import os

# Keras looks for its backend when it is imported; doctests are collected from `src` on their own.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Tests run side by side, one a core: a BLAS with a thread for each core would wait for itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")
