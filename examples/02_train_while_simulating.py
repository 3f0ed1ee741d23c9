"""Train the network of Bapst et al. while the simulation that feeds it is running, then predict."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import glassmd

settings = glassmd.Settings(
    run=glassmd.RunSettings(
        particles=200, temperature=1.5, lineages=4, parents=2, replicas=4, times=[0.1, 0.5], workers=1, seed=2
    ),
    train=glassmd.TrainSettings(max_steps=60, learning_rate=1e-3),
)


def main(out: Path) -> None:
    """Train into `out` and predict a configuration of the lineage that was kept for testing."""
    result = glassmd.train_stream(settings, out)
    print(f"{result['steps']} steps, {result['steps_while_simulating']} of them while simulating")
    model = glassmd.load_model(out)
    unseen = next(sample for sample in glassmd.open_run(result["run"]).stream() if sample.role == "test")
    prediction = glassmd.predict(unseen.parent, model)
    print("predicted mean propensity at t =", prediction.times, prediction.propensity.mean(axis=1).round(3))
    print("simulated                     ", unseen.propensity.mean(axis=1).round(3))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "model")
