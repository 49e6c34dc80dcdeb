"""A data set of one's own: any arrays with labels become a `Dataset`, and a network is trained on them.

`python examples/dataset.py`, seconds on a core. Folders of pictures need no code: `data: {name: imagefolder, ...}`.
"""

import numpy as np

from search_spaces import parse_architecture
from trainers import Dataset, TrainerConfig, Training
from trainers.datasets.base import Arrays

SIDE = 16


def stripes(count: int, rng: np.random.Generator) -> Arrays:
    """Pictures [count, 16, 16, 1] of stripes on noise; the class is whether they lie or stand."""
    labels = rng.integers(2, size=count)
    rows = np.arange(SIDE)[:, None] // 2 % 2 * np.ones(SIDE, int)
    pictures = np.where(labels[:, None, None] == 0, rows, rows.T) * 100 + rng.integers(0, 100, (count, SIDE, SIDE))
    return Arrays(pictures[..., None].astype(np.uint8), labels.astype(np.int64))


rng = np.random.default_rng(0)
train, val, test = (stripes(count, rng) for count in (256, 64, 64))
data = Dataset(
    "stripes", train, val, test, classes=("lie", "stand"), image_size=SIDE, in_channels=1,
    mean=(float(train.images.mean() / 255),), std=(float(train.images.std() / 255),), flip=True, padding=0,
)  # fmt: skip

network = parse_architecture(
    """
    schema: 1
    skeleton: {family: resnet, depth: 8, width: 8, image_size: 16, in_channels: 1, num_classes: 2}
    placements: {"layer3.*": {refine: se}}
    """
)
training = Training(network, data, TrainerConfig(epochs=2, batch_size=32))
while training.epoch < 2:
    training.run_epoch()
print(f"test top-1 {training.evaluate('test').metrics['top1']:.3f}")
