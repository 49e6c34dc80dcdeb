"""Names of a run's files, and names in its journal."""

JOURNAL_NAME = "journal.log"
LOCK_NAME = "driver.lock"
DRIVER_NAME = "driver.json"
STUDY_NAME = "nas"
SETTINGS = "settings"
"""The study's attribute that holds the settings of the run."""
