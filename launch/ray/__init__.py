"""All code that depends on Ray.

Importing this package sets the environment that Ray and Tune read at their import. It imports neither.
"""

import os

ENVIRONMENT = {
    # Tune's loggers and snapshots cost 20 ms per trial, and nothing reads them.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Otherwise workers start one after the other, seconds each. The adapter limits their number.
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Tune's workers have a runtime environment of their own, so processes that Ray starts ahead are never used.
    "RAY_prestart_worker_first_driver": "0",
}

os.environ.update(ENVIRONMENT)
