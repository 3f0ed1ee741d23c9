"""The Ray cluster that somebody names, with an error in words where there is none."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from glassmd.errors import EngineError, SettingsError

__all__ = ["AUTO", "LOCAL", "check_address", "connected", "environment_of", "require_resources"]

LOCAL, AUTO = "local", "auto"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # each takes half a minute
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what a worker without a GPU sees in later releases of Ray
}

_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"  # a frame of HTTP/2: length, type, flags, stream
_ANSWER = 5.0  # seconds that a cluster has to answer a first call


def check_address(address: str) -> None:
    """Refuse an address that is none, or where nothing answers, before anything slow is loaded.

    Args:
        address: `local`, `auto` or HOST:PORT.

    Raises:
        EngineError: Nothing answers.
        SettingsError: Ray is not installed, or it is no address.
    """
    if find_spec("ray") is None:
        raise SettingsError(f"found --cluster {address} and no Ray", "it", 'try pip install "glassmd[cluster]"')
    if address in (LOCAL, AUTO):
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536) or "/" in address:
        raise SettingsError(
            f"found --cluster {address}",
            "local, auto or HOST:PORT",
            "on a machine of the cluster, which ray start --address=HOST:PORT joins, give the same HOST:PORT",
        )
    try:
        with socket.create_connection((host, int(port)), _ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0" and not _speaks_http2(connection):
                raise ConnectionError("something else answers")
    except OSError as error:
        raise _silent(address, error) from error


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether who listens answers the greeting of HTTP/2 (RFC 9113, 3.4), which Ray's calls go through."""
    connection.settimeout(_ANSWER)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)
    answered = b""
    while len(answered) < len(_SETTINGS) and (more := connection.recv(len(_SETTINGS) - len(answered))):
        answered += more
    return len(answered) == len(_SETTINGS) and answered[3] == _SETTINGS[3]  # the type of the frame


def environment_of(address: str) -> dict[str, str]:
    """Environment variables of a process that will belong to a cluster, beside those that are set already."""
    wanted = dict(_ENVIRONMENT)
    if address == LOCAL or address.rpartition(":")[0] in _LOOPBACK:
        wanted[_LOOPBACK_ONLY] = "0"  # else Ray takes the loopback for the machine's own address
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _silent(address: str, reason: object) -> EngineError:
    return EngineError(
        f"found no Ray cluster at {address} ({str(reason).splitlines()[0]})",
        "one that answers",
        "start one with ray start --head and give its HOST:PORT, or try --cluster local",
    )


@contextlib.contextmanager
def connected(address: str | None, *, cores: int | None = None) -> Iterator[str]:
    """Belong to a cluster while the block runs; signals are listened to as before.

    The process should have been started with :func:`environment_of` the address, which Ray reads when it is imported.

    Args:
        address: `auto` or HOST:PORT; None starts a cluster of this machine, which ends with the block.
        cores: Of a cluster that is started.

    Yields:
        HOST:PORT of the cluster.

    Raises:
        EngineError: Nothing answers, or Ray or Python are of another release there.
    """
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "glassmd"}
    if address is None:
        options |= {"num_cpus": cores, "_node_ip_address": "127.0.0.1", "include_dashboard": None}
    else:
        options["address"] = address
    with _signals_kept():
        try:
            context = ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise _silent(address or LOCAL, error) from error
    try:
        yield str(context.address_info["gcs_address"])
    finally:
        with _signals_kept():
            ray.shutdown()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Whoever listened to SIGTERM and SIGINT before does so afterwards: Ray has handlers of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def require_resources(cpus: float, gpus: float, what: str) -> None:
    """Refuse what no machine of the cluster has room for.

    Args:
        cpus: Cores that something needs.
        gpus: GPUs that it needs, or a share of one.
        what: Needs them, such as `a worker`.

    Raises:
        EngineError: No machine has so many.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, needed, todo in (("GPU", gpus, "try --device cpu, or fewer"), ("CPU", cpus, "ask for fewer")):
        most = max((machine.get(name, 0.0) for machine in machines), default=0.0)
        if needed > most:
            raise EngineError(
                f"found a cluster of {len(machines)} machines with {most:g} {name}s at most",
                f"{needed:g} for {what}",
                todo,
            )
