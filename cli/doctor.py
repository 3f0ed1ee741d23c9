"""glassmd doctor."""

from __future__ import annotations

from glassmd_cli.options import JsonFlag, console, emit

from glassmd.report.tables import key_value_table

__all__ = ["doctor"]


def doctor(json_mode: JsonFlag = False) -> None:
    """Say what this machine can do, and what to type for what it cannot."""
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.doctor import diagnose

    facts = diagnose()
    if json_mode:
        emit(facts)
    else:
        console().print(key_value_table("this machine", facts))
