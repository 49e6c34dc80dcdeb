"""The files and folders of a run, by name. All lie in the run's folder."""

from nas.search.names import DRIVER_NAME, JOURNAL_NAME, LOCK_NAME

JOURNAL = JOURNAL_NAME
"""The whole state of the run: every trial, append-only."""
LOCK = LOCK_NAME
"""The lock that the running driver holds."""
DRIVER = DRIVER_NAME
"""The process and the host of that driver."""
COSTS = "costs.jsonl"
"""Cache of measured and simulated costs."""
CALIBRATION = "calibration.yaml"
"""The run's calibration, improved by the run's measurements."""
CLUSTER = "cluster.json"
"""Ray's nodes and jobs, a few seconds ago."""
CHECKPOINTS = "checkpoints"
"""`<trial>/epoch-<N>.pt` of every trial that can be continued."""
REPORT = "report"
"""The report; it can be written again at any time."""
MEANS = "means.json"
"""In the report's folder: the answer's means, so that `nas export` need not compute them."""
TENSORBOARD = "tensorboard"
"""TensorBoard's files; they can be written again at any time."""
TUNE = "ray"
"""Ray Tune's files; never read again."""
PROXIES = "proxies"
"""`nas proxy`'s runs on less data, on smaller images or with fewer epochs; each is a run of its own."""

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
    PROXIES,
)
"""Everything that a run writes. `--overwrite` removes exactly these."""
