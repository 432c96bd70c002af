"""What a report says of how its numbers came to be: the configs, with all overrides, and the versions."""

from pathlib import Path

import pandas as pd
import yaml

from ..files import written_at_once
from .job import VERSIONS
from .plan import Plan

STYLE = {"sort_keys": False, "default_flow_style": None, "allow_unicode": True, "width": 120}
HEAD = """\
# The config of this study, with all overrides. Folders were where it was made: put in your own.
"""


def write_configs(plans: list[Plan], out: Path) -> list[str]:
    """One file for each plan that has recorded its config; returns their names."""
    names = []
    for plan in plans:
        if plan.config:
            names.append(f"{plan.name}.yaml")
            text = yaml.safe_dump(_elsewhere(plan.config), **STYLE)
            with written_at_once(out / names[-1]) as temporary:
                temporary.write_text(HEAD + text, encoding="utf-8")
    return names


def versions(timings: pd.DataFrame) -> str:
    """Of all runs, e.g. ``torch 2.13.0, fairseq 0.12.3, plugin 0.1.0 and 0.2.0``."""
    found = {name: sorted(timings[name].dropna().astype(str).unique()) for name in VERSIONS}
    return ", ".join(f"{name} {' and '.join(values)}" for name, values in found.items() if values)


def _elsewhere(value: object) -> object:
    """The same with folders and files of this machine by their names alone: a report is made to be shown."""
    if isinstance(value, dict):
        return {key: _elsewhere(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_elsewhere(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        return f"/path/to/{Path(value).name}"
    return value
