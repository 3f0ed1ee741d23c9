"""The published network of V. Bapst et al., Nature Physics 16, 448 (2020), into a model directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glassmd.errors import ImportDataError
from glassmd.importers.imported import check_state
from glassmd.importers.recognise import refuse_other_format
from glassmd.learners.networks.bapst import BapstModel
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import save_model
from glassmd.storage import is_special

__all__ = ["import_deepmind_weights"]

# Sonnet's names of the networks → ours, with the number of layers
_NETWORKS = {
    "graph_independent/node_model": ("node_encoder", 2),
    "graph_independent/edge_model": ("edge_encoder", 2),
    "graph_network/edge_block": ("edge_network", 2),
    "graph_network/node_block": ("node_network", 2),
    "graph_independent_1/node_model": ("decoder", 3),
}
_LARGEST = 1e6
"""Weights of a network that was trained are of order one."""

# the published decoder also decodes edges, which nothing reads
_UNUSED = "Graph/graph_independent_1/edge_model/"


def import_deepmind_weights(
    npz_path: str | Path,
    out_dir: str | Path,
    *,
    temperature: float = 0.44,
    time: float = 0.132,
    truncation: str = "truncated",
) -> Path:
    """Turn the published network's variables into a model directory.

    Args:
        npz_path: One array per variable under the name it has in the published checkpoint
            (`Graph/graph_network/edge_block/mlp/linear_0/w`, …), w as (inputs, outputs), float32.
        out_dir: The model directory to write.
        temperature: T the network was trained at, ε_AA / k_B.
        time: The time whose propensity it predicts, √(mσ²/ε).
        truncation: Of the potential behind the training data; the paper does not say, "truncated" is what
            GlassBench evaluates its configurations with.

    Returns:
        `out_dir`.

    Raises:
        ImportDataError: A missing or damaged file, missing variables, unexpected shapes or numbers.
        StorageError: The disk is full or not writable.
    """
    path = Path(npz_path)
    check_state(path.name, temperature, [time])
    refuse_other_format(path, "deepmind-weights")
    variables = _read(path)
    model = BapstModel()
    state = model.state_dict()
    for theirs, (ours, n_layers) in _NETWORKS.items():
        for layer in range(n_layers):
            stem = f"Graph/{theirs}/mlp/linear_{layer}/"
            for suffix, key in (("w", f"{ours}.{layer}.weight"), ("b", f"{ours}.{layer}.bias")):
                shape = tuple(state[key].T.shape) if suffix == "w" else tuple(state[key].shape)
                state[key] = torch.from_numpy(_take(variables, path, stem + suffix, shape).T.copy())
    unknown = sorted(name for name in variables if not name.startswith(_UNUSED))
    if unknown:
        raise ImportDataError(f"found variable {unknown[0]!r} in {path}", "those of the published network only")
    model.load_state_dict(state)
    mixture = get_mixture("kob-andersen", truncation)
    card = ModelCard(
        model=model.name,
        mixture=mixture.identity(),
        temperatures=[temperature],
        density=mixture.density,
        times=[time],
        trained_species=["A"],
        provenance={
            "source": "published weights of V. Bapst et al., Nature Physics 16, 448 (2020), Apache-2.0",
            "file": path.name,
        },
    )
    return save_model(out_dir, model, card)


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    if is_special(path):
        raise ImportDataError(f"{path} is no regular file", "an npz file", "write it to a file first")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ImportDataError(f"found no file {path}", "an npz file of network weights", "check the path") from error
    except Exception as error:  # a damaged archive can raise almost anything
        raise ImportDataError(f"could not read {path}", "an npz file of network weights, without pickles") from error


def _take(
    variables: dict[str, NDArray[np.float32]], path: Path, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Remove a variable and check it."""
    if name not in variables:
        raise ImportDataError(f"found no variable {name!r} in {path}", "all variables of the published network")
    values = variables.pop(name)
    if values.shape != shape or values.dtype != np.float32:
        raise ImportDataError(f"found {name!r} of {values.dtype} {values.shape} in {path}", f"float32 {shape}")
    if not np.isfinite(values).all():
        raise ImportDataError(f"found {name!r} with numbers that are not finite in {path}", "finite weights")
    if values.size and np.abs(values).max() > _LARGEST:
        raise ImportDataError(f"found {name!r} with {np.abs(values).max():g} in {path}", f"weights up to {_LARGEST:g}")
    return values
