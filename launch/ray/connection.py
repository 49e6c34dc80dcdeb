"""A connection to Ray: to a cluster that there is, or to a private session on this machine."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import ray

from launch.errors import UserError
from launch.ray import internals
from launch.ray.private import private_folder
from launch.rundir.config import Resources
from search_spaces.errors import printable

LOCAL = "local"
"""The address that stands for a private Ray session on this machine."""

_TRUSTED = (None, LOCAL, "auto")


def address_of(kept: str | None, given: str | None) -> str | None:
    """The Ray cluster to work on: `given`, else the one that the run was begun on; None is this machine alone.

    Ray exchanges pickles, so we never connect to an address that only the journal names: it may be a stranger's.

    Raises:
        UserError: the journal names a cluster elsewhere, and nobody else does; or it is to be reached by Ray Client.
    """
    if given is None and kept not in _TRUSTED:
        raise UserError(
            f"the run was begun on the Ray cluster {printable(str(kept))}; say again where to go on: "
            f"--address {printable(str(kept))}, or --address {LOCAL} for this machine"
        )
    address = kept if given is None else given
    if address is not None and address.startswith("ray://"):
        # Tune moves itself to the cluster there, and would have to take the open journal along.
        raise UserError(
            f"{printable(address)}: a search cannot be driven through Ray Client; start it on a machine of the "
            "cluster (--address auto), or from anywhere by ray job submit"
        )
    return None if address == LOCAL else address


@contextmanager
def connected(resources: Resources) -> Iterator[None]:
    """A Ray session: the cluster at `resources.address`, else a private one here that ends with the block.

    A private one listens on loopback, and lets in who has a token that this user alone can read.

    Raises:
        UserError: there is no folder for a private one's sockets.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    # It ends with an error that lists the jobs whose node went, which have long gone on elsewhere.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    quiet = internals.Quiet(log_to_driver=False, logging_level=logging.ERROR)
    with ExitStack() as stack:
        stack.enter_context(internals.environment(dict.fromkeys(internals.SECRETS)))
        if resources.address:
            stack.callback(ray.shutdown)
            internals.connect(resources.address, quiet)
        else:
            cpus = (
                None if resources.workers == "auto" else max(1, math.ceil(resources.workers * resources.cpus_per_trial))
            )
            gpus = None if resources.gpus_per_trial else 0
            folder, token = stack.enter_context(private_folder())
            stack.callback(internals.reread_token)
            stack.callback(ray.shutdown)
            _started(lambda: internals.start(folder, token, cpus, gpus, quiet))
        yield


def _started(start: Callable[[], None]) -> None:
    """Starts a private Ray session, up to three times if it does not come up.

    On a busy machine Ray's own agents miss the 15 seconds that its node manager grants them.
    """
    for attempts_left in (2, 1, 0):
        try:
            start()
        except Exception as error:  # Ray raises a bare Exception here
            ray.shutdown()
            if not attempts_left or "timed out" not in str(error):
                raise
        else:
            return
