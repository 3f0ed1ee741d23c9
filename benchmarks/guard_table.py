"""Two hundred snapshots and what `predict` makes of them: a hundred liquids that a model knows, and a hundred others.

    python benchmarks/guard_table.py FOLDER OUT.json [--model kob-andersen]

FOLDER is that of pretrained_data.py. Liquids are the last frames of replicas there, which no training has seen; half of
them are told their temperature. The others are such liquids with something wrong.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.models.known import model_directory
from glassmd.models.store import LoadedModel, load_models
from glassmd.prediction_files import predict_file
from glassmd.storage import write_json
from glassmd.stream.dataset import open_run
from glassmd.trajectory import Frame
from glassmd.trajectory.writing import FrameWriter

EACH = 100
Wrong = Callable[[Configuration, np.random.Generator], tuple[Configuration, float | None]]


def liquids(folder: Path) -> Iterator[tuple[str, float, Configuration]]:
    """Last frames of replicas, of every run in turn."""
    runs = [open_run(path) for path in sorted(folder.glob("*-*")) if (path / "run.json").exists()]
    runs = [run for run in runs if not run.path.name.endswith("-short") and run.entries("segments")]
    for number in range(10**6):
        for run in runs:
            entries = run.entries("segments")
            entry = entries[(7 * number) % len(entries)]
            frames = entry.read()
            yield run.path.name, float(run.identity["temperature"]), frames[-1].configuration.with_images_zero()


def _as_it_is(one: Configuration) -> dict[str, Any]:
    return {
        "box": np.array(one.box),
        "species": np.array(one.species),
        "positions": np.array(one.positions),
        "species_names": one.species_names,
    }


def _made(one: Configuration, **others: Any) -> Configuration:
    return Configuration(**{**_as_it_is(one), **others})


def _scaled(one: Configuration, factor: float) -> Configuration:
    return _made(one, box=np.array(one.box) * factor, positions=np.array(one.positions) * factor)


def _swapped(one: Configuration, _: np.random.Generator) -> tuple[Configuration, float | None]:
    return _made(one, species=1 - np.array(one.species)), None


def _half(one: Configuration, generator: np.random.Generator) -> tuple[Configuration, float | None]:
    return _made(one, species=generator.permutation(one.n_particles) % 2), None


def _alone(one: Configuration, _: np.random.Generator) -> tuple[Configuration, float | None]:
    return _made(one, species=np.zeros(one.n_particles, np.int64)), None


def _thin(one: Configuration, _: np.random.Generator) -> tuple[Configuration, float | None]:
    return _scaled(one, (1.2 / 0.69) ** (1 / 3)), None


def _in_angstrom(one: Configuration, _: np.random.Generator) -> tuple[Configuration, float | None]:
    return _scaled(one, 3.405), None


def _dense(one: Configuration, _: np.random.Generator) -> tuple[Configuration, float | None]:
    return _scaled(one, (1.2 / 1.3) ** (1 / 3)), None


def _hot(one: Configuration, generator: np.random.Generator) -> tuple[Configuration, float | None]:
    return one, float(generator.uniform(1.3, 3.0))


def _cold(one: Configuration, generator: np.random.Generator) -> tuple[Configuration, float | None]:
    return one, float(generator.uniform(0.1, 0.35))


def _told_wrongly(one: Configuration, _: np.random.Generator) -> tuple[Configuration, float | None]:
    return one, -1.0  # the temperature at the other end of the model's


def _shaken(one: Configuration, generator: np.random.Generator) -> tuple[Configuration, float | None]:
    moved = np.array(one.positions) + 0.12 * generator.standard_normal(one.positions.shape)
    return _made(one, positions=moved), None


def _mixed_up(one: Configuration, generator: np.random.Generator) -> tuple[Configuration, float | None]:
    return _made(one, species=generator.permutation(np.array(one.species))), None


def _crystal(one: Configuration, generator: np.random.Generator) -> tuple[Configuration, float | None]:
    n = round((one.n_particles / 4) ** (1 / 3))
    cells = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    side = (4 / 1.2) ** (1 / 3)
    positions = (cells + basis).reshape(-1, 3) * side - n * side / 2
    positions = positions + 0.05 * generator.standard_normal(positions.shape)
    species = generator.permutation(len(positions)) < len(positions) // 5
    return Configuration([n * side] * 3, species.astype(np.int64), positions, species_names=one.species_names), None


WRONG: dict[str, Wrong] = {
    "A and B swapped": _swapped,
    "50:50": _half,
    "only A": _alone,
    "density 0.69": _thin,
    "density 1.3": _dense,
    "in ångström": _in_angstrom,
    "T = 1.3 to 3 told": _hot,
    "T = 0.1 to 0.35 told": _cold,
    "another temperature told": _told_wrongly,
    "every particle shaken by 0.12": _shaken,
    "species drawn anew": _mixed_up,
    "a crystal": _crystal,
}


def outcome(one: Configuration, temperature: float | None, model: str, folder: Path) -> str:
    """What `predict` says: nothing, a warning or a refusal."""
    snapshot = folder / "one.gsd"
    with FrameWriter(snapshot) as writer:
        writer.append(Frame(one, 0, {}, None))
    try:
        facts, _, _ = predict_file(
            snapshot, model, folder / "out.gsd", temperature=temperature, inputs=["thermal"], device="cpu"
        )
    except InputError:
        return "refused"
    told = [line for line in facts["warnings"] if "was estimated from" not in line]
    return "warned" if told else "silent"


def _other_end(loaded: LoadedModel, temperature: float) -> float:
    low, high = min(loaded.card.temperatures), max(loaded.card.temperatures)
    return high if temperature < np.sqrt(low * high) else low


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="kob-andersen")
    asked = parser.parse_args()
    generator, loaded = np.random.default_rng(0), load_models(model_directory(asked.model))[0]
    found: dict[str, dict[str, int]] = {}
    source = liquids(asked.folder)
    with tempfile.TemporaryDirectory() as place:
        for number in range(EACH):
            name, temperature, one = next(source)
            told = temperature if number // 8 % 2 else None
            what = outcome(replace(one), told, asked.model, Path(place))
            row = found.setdefault(f"inside: {name}", {})
            row[what] = row.get(what, 0) + 1
        for number in range(EACH):
            _, temperature, one = next(source)
            label = list(WRONG)[number % len(WRONG)]
            wrong, told = WRONG[label](one, generator)
            told = _other_end(loaded, temperature) if told == -1.0 else told
            what = outcome(wrong, told, asked.model, Path(place))
            row = found.setdefault(label, {})
            row[what] = row.get(what, 0) + 1
    for label, row in found.items():
        print(f"{label:36s}", row)
    write_json(asked.out, {"found": found})


if __name__ == "__main__":
    main()
