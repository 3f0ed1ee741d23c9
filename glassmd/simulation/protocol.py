"""What an equilibration does and demands, and the judgement on a run: is it an equilibrated liquid?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glassmd.errors import SettingsError
from glassmd.simulation.equilibrium_run import EquilibriumRun, agree

__all__ = ["LineageProgress", "Protocol", "beside_length", "judge", "next_length", "standing"]


@dataclass(frozen=True)
class Protocol:
    """What an equilibration does and demands; recorded with every lineage.

    Attributes:
        melt_temperature: Of the melt, ε_AA; the target temperature if that is higher.
        melt_time: √(mσ²/ε).
        thermostat_time: Coupling time of the thermostat, √(mσ²/ε).
        tau_alphas: Length of the analysed run, τ_α.
        first_time: Length of the run before it is analysed for the first time, √(mσ²/ε).
        max_time: Length after which the attempt ends, √(mσ²/ε), the melt not counted.
        standard_errors: Largest difference between the halves, in combined standard errors.
        temperature_tolerance: Largest relative error of the mean kinetic temperature, beyond its standard errors.
        max_crystalline: Largest crystalline fraction; see :mod:`glassmd.analysis.crystallinity` for what liquids and
            crystals have.

    Raises:
        SettingsError: Lengths that leave nothing to judge.

    Example:
        >>> Protocol(max_time=2000.0).tau_alphas
        20.0
    """

    melt_temperature: float = 2.0
    melt_time: float = 10.0
    thermostat_time: float = 0.5
    tau_alphas: float = 20.0
    first_time: float = 25.0
    max_time: float = 1e5
    standard_errors: float = 3.0
    temperature_tolerance: float = 0.02
    max_crystalline: float = 0.05

    def __post_init__(self) -> None:
        if min(self.first_time, self.max_time) < 2.0:
            raise SettingsError(
                f"found first_time {self.first_time:g} and max_time {self.max_time:g}",
                "at least 2 for both: a shorter run has too few frames to be judged",
            )


@dataclass(frozen=True)
class LineageProgress:
    """How far the equilibration of a lineage is.

    Attributes:
        melting: Whether it is still the melt.
        time: Length of the melt or of the run so far, √(mσ²/ε).
        required: Length that the analysed run has to have, τ_α.
        tau_alpha: As last measured, √(mσ²/ε); None while F_s has not fallen to 1/e.
        run_tau_alphas: Length of the analysed run so far, τ_α; None where that is unknown.
        open: What spoke against it at the last judgement, its length aside.
    """

    melting: bool
    time: float
    required: float
    tau_alpha: float | None = None
    run_tau_alphas: float | None = None
    open: tuple[str, ...] = ()


def next_length(length: float, report: dict[str, Any], protocol: Protocol) -> float:
    """Length after which to judge a run again that fell short: twice it, or less where τ_α says how much is missing.

    Args:
        length: Of the run, √(mσ²/ε).
        report: Of :func:`judge`.
        protocol: Says how many τ_α are wanted.
    """
    if report["tau_alpha"] is None or report["run_tau_alphas"] >= protocol.tau_alphas:
        return 2 * length
    missing = protocol.tau_alphas / report["run_tau_alphas"]
    return length * float(min(2.0, 1.05 * missing))


def judge(run: EquilibriumRun, temperature: float, protocol: Protocol) -> dict[str, Any]:
    """The evidence that a run is an equilibrated liquid, and what of it falls short.

    Args:
        run: With its frames so far.
        temperature: The thermostat's, ε_AA.
        protocol: The thresholds.

    Returns:
        The report that :func:`glassmd.simulation.equilibration.equilibrate` describes.
    """
    tau = run.tau_alpha()
    energy, pressure, kinetic = run.statistics(tau)
    crystalline = run.crystalline_fraction()
    length = run.analysed_time
    reasons = []
    if tau is None:
        reasons.append(f"F_s did not fall to 1/e within the analysed run of {length:.4g}")
    elif length < protocol.tau_alphas * tau:
        reasons.append(f"the analysed run is {length / tau:.1f} τ_α long, shorter than {protocol.tau_alphas:g}")
    for name, series in (("U/N", energy), ("the pressure", pressure)):
        if not agree(series, protocol.standard_errors):
            difference, error = series["halves_difference"], series["halves_difference_error"]
            reasons.append(f"{name} of the two halves differ by {difference:.2g}, standard error {error:.2g}")
    allowed = protocol.temperature_tolerance * temperature + protocol.standard_errors * kinetic["error"]
    if abs(kinetic["mean"] - temperature) > allowed:
        reasons.append(f"the kinetic temperature is {kinetic['mean']:.4g}, not {temperature:g}")
    if crystalline > protocol.max_crystalline:
        reasons.append(f"{crystalline:.1%} of the particles are crystalline, more than {protocol.max_crystalline:.0%}")
    return {
        "equilibrated": not reasons,
        "reasons": reasons,
        "temperature": temperature,
        "time_step": run.time_step,
        "tau_alpha": tau,
        "wave_number": run.mixture.wave_numbers[0],
        "total_time": run.time,
        "run_time": length,
        "run_tau_alphas": None if tau is None else length / tau,
        "energy_per_particle": energy,
        "pressure": pressure,
        "kinetic_temperature": kinetic,
        "crystalline_fraction": crystalline,
        "protocol": {**protocol.__dict__},
    }


def beside_length(report: Mapping[str, Any]) -> list[str]:
    """The reasons of a report against an equilibration, but for the one that the run is too short; none without one.

    Example:
        >>> beside_length({"tau_alpha": None, "reasons": ["F_s did not fall to 1/e", "U/N of the two halves differ"]})
        ['U/N of the two halves differ']
    """
    if not report:
        return []
    short = report["tau_alpha"] is None or report["run_tau_alphas"] < report["protocol"]["tau_alphas"]
    return list(report["reasons"][short:])


def standing(report: Mapping[str, Any]) -> bool | None:
    """Whether a lineage was shown to be an equilibrated liquid; None where nobody has looked.

    Earlier releases said True of every configuration that was given, without evidence; that is nothing shown.

    Example:
        >>> standing({"equilibrated": None, "given": "a.gsd frame 0"}) is None
        True
    """
    found = report.get("equilibrated")
    if found is None or (found and "given" in report and "tau_alpha" not in report):
        return None
    return bool(found)
