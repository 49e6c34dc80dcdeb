"""What `nas search` and `nas proxy` check before they create a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from launch.cli.options import patience
from launch.files import check_folder
from launch.ray.connection import address_of
from launch.rundir.config import RunConfig, load_run, space_of
from launch.session import check_budget, check_machine, cost_model, load_fitting
from search_spaces import SearchSpace
from trainers import Dataset


class Prepared(NamedTuple):
    """A run that can begin. ``address``: the Ray cluster's; None: this machine."""

    folder: Path
    config: RunConfig
    space: SearchSpace
    dataset: Dataset
    address: str | None


def prepare(file: str, overrides: Sequence[str], folder: Path | None, address: str | None, *, json: bool) -> Prepared:
    """Reads a run file and everything that it names; nothing is created.

    Args:
        file: A run file, or the name of one that ships.
        overrides: Assignments of `--set`.
        folder: The run's; default: ``runs/<name>``.
        address: The Ray cluster; default: the run file's.
        json: Print nothing on standard output.

    Raises:
        UserError, FileError, DataError, CalibrationError: the run cannot begin; see what is called here.
    """
    config = load_run(file, [*overrides, *([f"resources.address={address}"] if address else [])])
    space = space_of(file, config)
    cluster = address_of(None, config.resources.address)
    folder = folder or Path("runs") / Path(file).stem
    check_folder(folder)
    check_machine(config, cluster)
    dataset = load_fitting(config, space)
    costs = cost_model(config)
    with patience("comparing the budget with the plain network's costs", json=json):
        check_budget(config, space, costs)
    return Prepared(folder, config, space, dataset, cluster)
