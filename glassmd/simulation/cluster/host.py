"""A Ray cluster of this machine alone, as long as the process that asked for it is there; nobody else can reach it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from glassmd.errors import EngineError, GlassmdError, Interrupted, raised_elsewhere
from glassmd.interrupt import StoppedAtOnce, StopRequest
from glassmd.simulation.cluster.connection import LOCAL, check_address, connected, environment_of

__all__ = ["Cluster", "hosted", "main"]


class Cluster(NamedTuple):
    """A cluster, as processes find it.

    Attributes:
        address: `auto` or HOST:PORT.
        environment: Variables of a process that belongs to it, which Ray reads when it is imported.
    """

    address: str
    environment: dict[str, str]


_LOOK = 0.2  # seconds between two looks whether somebody needs it


@contextlib.contextmanager
def hosted(address: str, cores: int) -> Iterator[Cluster]:
    """A cluster that is there while the block runs: a new one for `local`.

    Args:
        address: See :func:`glassmd.simulation.cluster.connection.check_address`.
        cores: Of this machine that a new cluster has.

    Raises:
        EngineError: Nothing answers, or none could be started.
        SettingsError: Ray is not installed, or it is no address.
    """
    check_address(address)
    environment = environment_of(address)
    if address != LOCAL:
        yield Cluster(address, environment)
        return
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # other users stay outside
    command = [sys.executable, "-m", __name__, "--cores", str(cores), "--parent", str(os.getpid())]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C reaches this process, which ends the cluster when nobody needs it any more
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            assert process.stdout is not None
            found = process.stdout.readline().strip()
            if found.startswith("{"):
                raise raised_elsewhere(json.loads(found))
            if not found:
                raise EngineError(
                    "could not start a Ray cluster on this machine", "one", "try ray start --head, and --cluster auto"
                )
            yield Cluster(found, environment)
        finally:
            process.terminate()


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.simulation.cluster.host --cores N --parent PID` prints the address, and stays.

    Where no cluster starts it prints why, as JSON.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True, help="end when this process ends")
    options = parser.parse_args(arguments)
    try:
        with connected(None, cores=options.cores) as address:
            stop = StopRequest(parent_process=options.parent).install()
            print(address, flush=True)  # noqa: T201  (to whoever started it)
            while stop.reason is None:
                time.sleep(_LOOK)
    except (Interrupted, StoppedAtOnce):
        return Interrupted.exit_code
    except GlassmdError as error:
        print(json.dumps(error.to_dict()), flush=True)  # noqa: T201  (likewise)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
