"""Several nodes of a Ray cluster on this machine, that come, go and are killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Any


class Nodes:
    """A Ray cluster whose nodes are processes of this machine; use as a context manager.

    The head has no cores: it lives where whoever asks lives, and work is done on the others.

    Args:
        count: Nodes besides the head.
        cpus: Cores that each says it has.
    """

    def __init__(self, count: int, cpus: int = 1) -> None:
        from glassmd.simulation.cluster.connection import environment_of

        os.environ |= environment_of("127.0.0.1:0")  # read when Ray is imported
        from ray.cluster_utils import Cluster

        self._cpus = cpus
        self._cluster = Cluster()
        self._cluster.add_node(num_cpus=0, node_ip_address="127.0.0.1", include_dashboard=False)
        self.nodes: list[Any] = []
        for _ in range(count):
            self.join()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return str(self._cluster.address)

    def join(self, cpus: int | None = None, **environment: str) -> None:
        """Another node, with as many cores as the others or others, whose processes have further variables."""
        told = {"num_cpus": cpus or self._cpus, "node_ip_address": "127.0.0.1", "env_vars": environment}
        self.nodes.append(self._cluster.add_node(**told))

    def leave(self, number: int) -> None:
        """A node says goodbye."""
        self._cluster.remove_node(self.nodes.pop(number), allow_graceful=True)

    def kill(self, number: int) -> int:
        """SIGKILL to every process of a node; returns how many there were."""
        node = self.nodes.pop(number)
        found = descendants(self.processes(node))
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._cluster.remove_node(node, allow_graceful=False)
        return len(found)

    @staticmethod
    def processes(node: Any) -> list[int]:
        """Of a node, but for those that they have started."""
        return [info.process.pid for infos in node.all_processes.values() for info in infos]

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.shutdown()


def descendants(roots: list[int]) -> list[int]:
    """Processes and all that they started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = list(roots)
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found
