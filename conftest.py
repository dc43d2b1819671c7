"""What has to be decided before any test module is collected."""

import os
import signal

# Keras looks for its backend when it is imported; doctests are collected from `src` on their own.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Tests run side by side, one a core: NumPy's BLAS with a thread each would wait for itself.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A shell has what it starts in the background ignore Ctrl-C, and so would the processes that tests
# interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
