"""The command line: `app` has the table of commands; each other file has a group of commands."""

from launch.cli.app import FAILED, INTERRUPTED, SUCCESS, USER_ERROR, main, run

__all__ = ["FAILED", "INTERRUPTED", "SUCCESS", "USER_ERROR", "main", "run"]
