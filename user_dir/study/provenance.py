"""What a report says of how its numbers came to be: the configs, with all overrides, and the versions."""

from pathlib import Path

import pandas as pd
import yaml

from .job import VERSIONS
from .plan import Plan

STYLE = {"sort_keys": False, "default_flow_style": None, "allow_unicode": True, "width": 120}
HEAD = """\
# The config of this study, with all overrides. Folders were where it was made: put in your own.
"""


def config_texts(plans: list[Plan]) -> dict[str, str]:
    """A YAML file, by its name, for each plan that has recorded its config."""
    return {
        f"{plan.name}.yaml": HEAD + yaml.safe_dump(_elsewhere(plan.config), **STYLE) for plan in plans if plan.config
    }


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
