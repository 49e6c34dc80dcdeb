"""Settings for all tests.

An operation uses one thread: tensors are tiny, and a kernel's allocations depend on the number of threads.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in every process that a test starts
