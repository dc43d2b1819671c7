"""What has to be decided before any test module is collected."""

import os

# Keras looks for its backend when it is imported; doctests are collected from `src` on their own.
os.environ.setdefault("KERAS_BACKEND", "torch")
