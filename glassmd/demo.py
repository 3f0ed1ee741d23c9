"""The whole loop, small: simulate, stream, train, predict, compare with what an unseen liquid really does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glassmd.evaluation import evaluate
from glassmd.interrupt import StopRequest
from glassmd.prediction_files import predict_file
from glassmd.report.figures import plot_scores, plot_slices
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.preparation import available_cores, gpus_of
from glassmd.stream.dataset import open_run
from glassmd.training.session import Show, train_stream

__all__ = ["demo_settings", "run_demo"]


def demo_settings() -> Settings:
    """A supercooled liquid in the plane, where every particle can be seen, about its relaxation time.

    Two cores equilibrate and learn it in three to five minutes. Cages are measured in a tenth of the shortest time.
    """
    return Settings(
        run=RunSettings(
            mixture="kob-andersen-2d-ternary",
            particles=1000,
            temperature=0.41,
            lineages=8,
            parents=12,
            replicas=4,
            held_out_replicas=10,
            times=[8.0, 12.0, 16.0],
            seed=1,
        ),
        train=TrainSettings(cage_time=0.8, train_threads=1, validate_every=300, checkpoint_every=300),
    )


def run_demo(
    out: Path,
    *,
    settings: Settings | None = None,
    stop: StopRequest | None = None,
    show: Show | bool | None = None,
) -> dict[str, Any]:
    """Run the demonstration into `out`; run it again to continue what was stopped.

    Returns:
        The results: training summary, evaluation on the unseen test lineage, the files written, and `story`,
        what happened in a few sentences.
    """
    model = out / "model"
    training = train_stream(settings or _on_all_cores(demo_settings()), model, stop=stop, show=show)
    run = open_run(training["run"])
    evaluation = evaluate(model, [run.path], subset="test")
    unseen = next(sample for sample in run.samples() if sample.role == "test")
    snapshot = run.file("parents", f"L{unseen.key.lineage:04d}-P{unseen.key.parent:04d}")
    predicted = out / "predicted.gsd"
    _, configuration, prediction = predict_file(snapshot, model, predicted)
    figure, scores = out / "propensity.png", out / "scores.png"
    rows = [("predicted", prediction.propensity), ("simulated", unseen.propensity)]
    plot_slices(figure, configuration, rows, prediction.times)
    plot_scores(scores, evaluation)
    return {
        "training": training,
        "evaluation": evaluation,
        "predicted": str(predicted),
        "figure": str(figure),
        "scores": str(scores),
        "story": _story(training, evaluation),
    }


def _on_all_cores(settings: Settings) -> Settings:
    """As many workers as cores where there is no GPU: the learner takes less of one than its samples do."""
    if gpus_of(settings.run):
        return settings
    return settings.model_copy(update={"run": settings.run.model_copy(update={"workers": available_cores()})})


def _story(training: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    share = training["overlap_seconds"] / training["seconds"] if training["seconds"] else 0.0
    return [
        f"simulated {training['segments']} segments in {training['simulation_seconds']:.0f} s "
        f"({training['replica_steps_per_second']:,.0f} replica-steps/s)",
        f"trained {training['steps']} steps, {training['steps_while_simulating']} of them while the simulation ran: "
        f"both were at work for {training['overlap_seconds']:.0f} of {training['seconds']:.0f} s ({share:.0%})",
        f"scored on {evaluation['n_configurations']} configurations of a lineage that training never saw:",
    ]
