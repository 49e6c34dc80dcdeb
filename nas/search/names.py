"""Names of a run: of its files, and in its journal."""

JOURNAL_NAME = "journal.log"
LOCK_NAME = "driver.lock"
DRIVER_NAME = "driver.json"
STUDY_NAME = "nas"
SETTINGS = "settings"
"""The study's attribute that holds what the run was created with."""
