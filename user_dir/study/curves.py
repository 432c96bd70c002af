"""What a run's log says of its validations: one point for each, in the order of the updates."""

import json
import re

# Speeds are no results, and the best so far is known from the rest.
_LEFT_OUT = ("wps", "ups", "wpb", "bsz", "num_updates", "epoch", "wall", "train_wall")
_VALID = re.compile(r"\| INFO \| valid \| (.*)$", re.MULTILINE)


def learning_curve(log: str) -> list[dict[str, float]]:
    """``epoch``, ``update`` and every metric of each validation of the subset ``valid``.

    Reads fairseq's log formats simple and json. Of an update that was validated twice, as after a resumption, the last
    counts.
    """
    points = {}
    for match in _VALID.finditer(log):
        point = _point(match[1])
        if point:
            points[point["update"]] = point
    return [points[update] for update in sorted(points)]


def _point(line: str) -> dict[str, float] | None:
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:  # a log cut off in the middle of a line
            return None
        fields = {name.removeprefix("valid_"): value for name, value in fields.items()}
    else:
        pairs = (part.strip().partition(" ") for part in line.split("|"))
        fields = {name: value for name, _, value in pairs}
    values = {name: _number(value) for name, value in fields.items()}
    if values.get("num_updates") is None:
        return None
    metrics = {
        name: value
        for name, value in values.items()
        if value is not None and name not in _LEFT_OUT and not name.startswith("best_")
    }
    return {"epoch": int(values.get("epoch") or 0), "update": int(values["num_updates"]), **metrics}


def _number(value: object) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
