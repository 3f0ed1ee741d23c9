"""Predicted propensity of every particle of a snapshot."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ModelError, TrajectoryError
from glassmd.fields import GSD_PROPENSITY, GSD_PROPENSITY_STD
from glassmd.graphs import batch_graphs, to_graph
from glassmd.models.store import LoadedModel, load_model
from glassmd.trajectory import Frame, check_overlaps, read_frames, write_frames

__all__ = ["Prediction", "predict", "predict_file"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted propensities.

    Attributes:
        times: Output times, √(mσ²/ε).
        propensity: (n_times, n_particles) float64, σ_AA.
        std: (n_times, n_particles) float64, σ_AA: how far the truth lies from the prediction on validation
            lineages, by species and time; NaN where the model was never validated.
    """

    times: list[float]
    propensity: NDArray[np.float64]
    std: NDArray[np.float64]


def predict(configuration: Configuration, model: LoadedModel | Path | str) -> Prediction:
    """Predict the propensity of every particle.

    Args:
        configuration: Of the model's mixture and dimension.
        model: A loaded model or its directory.

    Raises:
        ModelError: The model does not fit the configuration.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(Path(model))
    card = loaded.card
    if configuration.dimensions != card.mixture["dimensions"]:
        raise ModelError(
            f"found a configuration in {configuration.dimensions}D",
            f"{card.mixture['dimensions']}D as the model",
        )
    if tuple(configuration.species_names) != tuple(card.mixture["species"]):
        raise ModelError(
            f"found species {list(configuration.species_names)}", f"{card.mixture['species']} as the model"
        )
    loaded.model.eval()
    with torch.no_grad():
        graph = to_graph(configuration, loaded.model.cutoff, loaded.model.self_edges)
        values = loaded.model(batch_graphs([graph])).numpy().astype(np.float64).T
    std = np.full_like(values, np.nan)
    for index, name in enumerate(card.mixture["species"]):
        if card.residual_std is not None and name in card.residual_std:
            column = np.asarray(card.residual_std[name], np.float64)[:, None]
            std[:, configuration.species == index] = column
    return Prediction(list(card.times), values, std)


def predict_file(
    snapshot: Path,
    model: Path,
    out: Path | None = None,
    *,
    frame: int = -1,
    times: list[float] | None = None,
) -> tuple[dict[str, Any], Configuration, Prediction]:
    """Write a snapshot with `log/particles/propensity_t<time>` (and `_std`), ready to colour by.

    Args:
        snapshot: GSD file.
        model: Model directory.
        out: GSD file to write; `<snapshot>.predicted.gsd` by default.
        frame: Which frame of the snapshot, from the end if negative.
        times: Some of the model's times; all by default.

    Returns:
        What `glassmd predict --json` prints, the configuration, and the prediction.

    Raises:
        TrajectoryError: The snapshot cannot be used.
        ModelError: The model does not fit the snapshot, or does not know the times.
    """
    started = time.monotonic()
    out = out or snapshot.with_suffix(".predicted.gsd")
    if out.exists() and snapshot.exists() and out.samefile(snapshot):
        raise TrajectoryError(f"found --out {out}, the snapshot itself", "another file", "choose another --out")
    loaded = load_model(model)
    found = read_frames(snapshot, loaded.card.mixture["species"], [frame])[0]
    configuration = found.configuration
    check_overlaps(snapshot, configuration)
    if found.identity is not None:
        loaded.card.check_mixture(found.identity["mixture"])
    prediction = predict(configuration, loaded)
    if times is not None:
        chosen = loaded.card.check_times(times)
        prediction = Prediction(
            [prediction.times[c] for c in chosen], prediction.propensity[chosen], prediction.std[chosen]
        )
    log = dict(found.log)
    for t, values, std in zip(prediction.times, prediction.propensity, prediction.std, strict=True):
        log[GSD_PROPENSITY.format(time=t)] = values.astype(np.float32)
        log[GSD_PROPENSITY_STD.format(time=t)] = std.astype(np.float32)
    write_frames(out, [Frame(configuration, found.step, log)])
    means = {
        name: [float(row[mask].mean()) for row in prediction.propensity]
        for name in loaded.card.mixture["species"]
        if (mask := configuration.of_species(name)).any()
    }
    facts = {
        "output": str(out),
        "n_particles": configuration.n_particles,
        "times": prediction.times,
        "propensity_mean": means,
        "trained_species": list(loaded.card.trained_species),
        "mixture_checked": found.identity is not None,
        "seconds": time.monotonic() - started,
    }
    return facts, configuration, prediction
