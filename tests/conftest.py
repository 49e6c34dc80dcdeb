"""What holds for all tests.

One thread an operation: tensors here are tiny, and what a kernel allocates depends on how many threads it has.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in every process that a test starts
