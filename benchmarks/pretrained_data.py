"""The liquids that the models which come with glassmd are trained on.

    glassmd import BOTAN_FILES --format botan --truncation force-shifted --out FOLDER/botan
    python benchmarks/pretrained_data.py FOLDER [STATE...] [--workers 2] [--list]

One run directory per state, named by truncation and temperature, such as `force-shifted-0.64`; a second one,
`force-shifted-0.64-short`, has more parents and short replicas, since labels of short times are cheap and more parents
teach more of them (docs/assessment.md). `force-shifted-0.5-again` are more and longer replicas of the same parents,
`force-shifted-0.44` are short times of the ten published configurations, whose labels at t = 4120 are FOLDER/botan
itself. `force-shifted-0.6-unseen` and the like are for nobody to train on: published models are judged by them, two of
them at temperatures between those of the training. Without names all that is trained on is made in the order of the
table, `unseen` are those others. Stopped, it goes on where it was; with
`--device gpu` on a GPU. Every run is what `glassmd simulate` makes of the same settings, which `--list` prints.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import glassmd
from glassmd.settings import RunSettings

PER_DECADE = 5
LONGEST, SHORT = 4, -1
"""Output times are τ_α × 10^(k/5), from 0.1 √(mσ²/ε) up to k = 4, which is 6.3 τ_α, or k = -1, which is 0.63 τ_α."""


_UNSEEN = "-unseen"


@dataclass(frozen=True)
class State:
    """One temperature of one truncation.

    Attributes:
        truncation: Of Kob and Andersen's mixture.
        temperature: ε_AA.
        tau_alpha: √(mσ²/ε), of A at its own wave number, rounded: the unit of the output times.
        parents: Per lineage.
        replicas: Per parent of a training lineage.
        held_out_replicas: Per parent of the two others.
        lineages: All of them.
        longest: k of the last output time.
        start: Run directory in FOLDER whose parents are taken.
        suffix: What tells it from others at the same temperature.
    """

    truncation: str
    temperature: float
    tau_alpha: float
    parents: int = 4
    replicas: int = 4
    held_out_replicas: int = 16
    lineages: int = 10
    longest: int = LONGEST
    start: str = ""
    suffix: str = ""

    @property
    def name(self) -> str:
        """Of its run directory."""
        return f"{self.truncation}-{self.temperature:g}{self.suffix}"

    def short(self) -> State:
        """The same liquid with more parents and short replicas."""
        return replace(self, parents=30, replicas=4, held_out_replicas=4, longest=SHORT, suffix="-short")

    def unseen(self, replicas: int = 8, longest: int = 3) -> State:
        """The same liquid from other seeds, in twelve parents."""
        told = {"parents": 2, "lineages": 6, "replicas": replicas, "held_out_replicas": replicas, "longest": longest}
        return replace(self, suffix=_UNSEEN, **told)  # type: ignore[arg-type]

    def times(self) -> list[float]:
        """Output times, multiples of the time step."""
        step = 0.005
        found = [self.tau_alpha * 10 ** (k / PER_DECADE) for k in range(-30, self.longest + 1)]
        return [round(round(time / step) * step, 3) for time in found if time >= 0.0975]

    def settings(self, folder: Path, **others: object) -> RunSettings:
        """Of its simulation."""
        if self.start:
            return RunSettings(
                start=[str(folder / self.start)],
                times=self.times(),
                replicas=self.replicas,
                held_out_replicas=self.held_out_replicas,
                seed=round(1000 * self.temperature) + 20_000 * (self.suffix != ""),
                **others,  # type: ignore[arg-type]
            )
        told = {
            "truncation": self.truncation,
            "temperature": self.temperature,
            "particles": 1000,
            "lineages": self.lineages,
            "parents": self.parents,
            "replicas": self.replicas,
            "held_out_replicas": self.held_out_replicas,
            "times": self.times(),
            "parent_spacing": self.tau_alpha if self.longest == SHORT else 0.0,
            "seed": round(1000 * self.temperature)
            + 100_000 * (self.truncation == "shifted")
            + 10_000 * (self.longest == SHORT)
            + 1_000_000 * (self.suffix == _UNSEEN),
        }
        return RunSettings(**{**told, **others})  # type: ignore[arg-type]


LONG = (
    State("force-shifted", 1.0, 1.26),
    State("force-shifted", 0.8, 2.55),
    State("force-shifted", 0.64, 8.4),
    State("force-shifted", 0.56, 25.0),
    State("force-shifted", 0.5, 105.0, replicas=2, held_out_replicas=4, lineages=8, longest=2),
    State("shifted", 0.8, 2.55, parents=2),
    State("shifted", 0.64, 8.4, parents=2),
    State("shifted", 0.56, 25.0, parents=2),
)
AGAIN = State("force-shifted", 0.5, 105.0, held_out_replicas=4, longest=3, start="force-shifted-0.5", suffix="-again")
COLDEST = State("force-shifted", 0.44, 2600.0, replicas=2, held_out_replicas=2, longest=-4, start="botan")
STATES = (*LONG, AGAIN, COLDEST, *(state.short() for state in LONG if state.truncation == "force-shifted"))
UNSEEN = (
    State("force-shifted", 0.6, 14.0).unseen(replicas=24),
    State("force-shifted", 0.7, 5.0).unseen(replicas=24),
    *(state.unseen() for state in LONG if state.temperature > 0.5),
    *(state.unseen(replicas=4, longest=1) for state in LONG if state.temperature == 0.5),
)
"""What no model that comes with glassmd was trained on."""


def main() -> None:
    """Make what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("states", nargs="*", default=[state.name for state in STATES])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--list", action="store_true", help="print what would be made")
    asked = parser.parse_args()
    known = {state.name: state for state in (*STATES, *UNSEEN)}
    for name in [state.name for state in UNSEEN] if asked.states == ["unseen"] else asked.states:
        settings = known[name].settings(asked.folder, workers=asked.workers, device=asked.device)
        if asked.list:
            print(name, settings.model_dump_json(exclude_unset=True))
            continue
        print(name, glassmd.simulate(settings, asked.folder / name), flush=True)


if __name__ == "__main__":
    main()
