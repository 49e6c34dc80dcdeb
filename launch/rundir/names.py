"""The files and folders of a run, by name. All lie in the run's folder."""

from nas.search.names import DRIVER_NAME, JOURNAL_NAME, LOCK_NAME

JOURNAL = JOURNAL_NAME
"""The only truth: every trial, append-only."""
LOCK = LOCK_NAME
"""Held by the driver that is at work."""
DRIVER = DRIVER_NAME
"""Which process on which host that is."""
COSTS = "costs.jsonl"
"""Costs that were measured or simulated, so that they are not again."""
CALIBRATION = "calibration.yaml"
"""The calibration that the run was begun with, bettered by what the run measured."""
CLUSTER = "cluster.json"
"""What Ray gave to whom, a few seconds ago."""
CHECKPOINTS = "checkpoints"
"""`<trial>/epoch-<N>.pt` of every trial that can go on."""
REPORT = "report"
"""The report, redrawn at will."""
TENSORBOARD = "tensorboard"
"""TensorBoard's files, redrawn at will."""
TUNE = "ray"
"""What Ray Tune writes; never read again."""

WRITTEN = (
    JOURNAL,
    f"{JOURNAL}.lock",
    LOCK,
    DRIVER,
    COSTS,
    CALIBRATION,
    CLUSTER,
    CHECKPOINTS,
    REPORT,
    TENSORBOARD,
    TUNE,
)
"""All that a run writes: what is removed when another takes its place, and nothing else."""
