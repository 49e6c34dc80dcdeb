from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces import Architecture, parse_architecture
from trainers import DataConfig, Dataset, load_data
from trainers.datasets import Arrays


@pytest.fixture(scope="session")
def small_shapes() -> Dataset:
    data = load_data(DataConfig(train_size=150, val_size=70))
    assert isinstance(data.test, Arrays)
    return replace(data, test=data.test.take(np.arange(100)))


@pytest.fixture(scope="session")
def small_network(small_shapes: Dataset) -> Architecture:
    # At least eight channels: with fewer, oneDNN's gradient of a strided 1x1 convolution writes past its buffer on CPUs
    # that have only AVX2 (https://github.com/uxlfoundation/oneDNN/issues/6035).
    return parse_architecture(
        f"""
        schema: 1
        skeleton: {{family: resnet, depth: 8, width: 8, image_size: 32, num_classes: {small_shapes.num_classes}}}
        placements: {{"*": {{refine: {{se: {{reduction: 2}}}}}}}}
        """,
        "test",
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """On such small networks, two threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
