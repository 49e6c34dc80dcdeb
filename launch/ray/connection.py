"""A connection to Ray: to an existing cluster, or to a private session on this machine."""

import logging
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import ray

from launch.errors import Interrupted, UserError
from launch.ray import internals
from launch.ray.private import private_folder
from launch.ray.signals import deferred
from launch.rundir.config import Resources
from search_spaces.errors import named, printable

LOCAL = "local"
"""The address of a private Ray session on this machine."""

_TRUSTED = (None, LOCAL, "auto")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})", re.ASCII)
_MOST_PORT = 65535


def address_of(kept: str | None, given: str | None) -> str | None:
    """The Ray cluster to use: `given`, else `kept`, on which the run was begun; None is only this machine.

    Ray exchanges pickles, so we never connect to an address that only the journal names: it may be a stranger's.

    Raises:
        UserError: only the journal names a cluster elsewhere; or the address needs Ray Client, or is none.
    """
    if given is None and kept not in _TRUSTED:
        raise UserError(
            f"the run was begun on the Ray cluster {printable(str(kept))}; name the place to continue again: "
            f"--address {printable(str(kept))}, or --address {LOCAL} for this machine"
        )
    address = kept if given is None else given
    if address is not None and address.startswith("ray://"):
        # Under Ray Client, Tune runs on the cluster and could not use the journal that is open here.
        raise UserError(
            f"{printable(address)}: a search cannot run through Ray Client; start it on a machine of the "
            "cluster (--address auto), or from anywhere by ray job submit"
        )
    found = None if address in _TRUSTED else _HOST_AND_PORT.fullmatch(str(address))
    if address not in _TRUSTED and not (found and 0 < int(found[2]) <= _MOST_PORT):
        raise UserError(
            f"{named(address)} is no address of a Ray cluster: write host:port (port 1 to {_MOST_PORT}), auto, or "
            f"{LOCAL} for this machine alone"
        )
    return None if address == LOCAL else address


@contextmanager
def connected(resources: Resources) -> Iterator[None]:
    """A Ray session: the cluster at `resources.address`, else a private one here that ends with the block.

    A private session listens on loopback and requires a token that only this user can read.

    Raises:
        Interrupted: SIGINT or SIGTERM came while a private session started.
        UserError: there is no folder for the sockets of a private session, or no cluster answers at the address.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    # At its end Tune logs an error that lists the jobs whose node died. They were continued elsewhere.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    quiet = internals.Quiet(log_to_driver=False, logging_level=logging.ERROR)
    with ExitStack() as stack:
        stack.enter_context(internals.environment(dict.fromkeys(internals.SECRETS)))
        if resources.address:
            stack.callback(ray.shutdown)
            _connect(resources.address, quiet)
        else:
            cpus = (
                None if resources.workers == "auto" else max(1, math.ceil(resources.workers * resources.cpus_per_trial))
            )
            gpus = None if resources.gpus_per_trial else 0
            folder, token = stack.enter_context(private_folder())
            stack.callback(internals.reread_token)
            stack.callback(ray.shutdown)
            with deferred() as stopping:  # Ray's start may swallow a KeyboardInterrupt
                _started(lambda: internals.start(folder, token, cpus, gpus, quiet))
            if stopping.is_set():
                raise Interrupted
        yield


def _connect(address: str, quiet: internals.Quiet) -> None:
    try:
        internals.connect(address, quiet)
    except Exception as error:  # Ray raises many types here
        raise UserError(
            f"cannot connect to a Ray cluster at {printable(address)}: {printable(' '.join(str(error).split()))}; "
            f"check the address, or use this machine alone: --address {LOCAL}"
        ) from error


def _started(start: Callable[[], None]) -> None:
    """Starts a private Ray session, up to three times if it does not come up.

    On a busy machine Ray's own agents exceed the 15 seconds that its node manager allows them.
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
