"""From arrays or a GSD snapshot to a graph for torch_geometric."""

from __future__ import annotations

import numpy as np

import glassmd


def main() -> None:
    """Build the graph of a small crystal and say what it holds."""
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3)
    crystal = glassmd.Configuration(box=[6, 6, 6], species=np.zeros(216), positions=grid)
    graph = glassmd.to_graph(crystal, cutoff=1.1, self_edges=False)
    print(f"{graph.num_nodes} particles, {graph.num_edges} edges, {graph.num_edges // graph.num_nodes} neighbours each")


if __name__ == "__main__":
    main()
