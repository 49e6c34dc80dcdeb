"""`python -m launch.cli` is `nas`."""

from launch.cli.app import main

main()
