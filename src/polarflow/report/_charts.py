"""The numbers behind the report's charts, few and round enough to travel in one file.

Coordinates of a logarithmic axis are base-10 logarithms, so that a loss or a norm beyond the range
of a float is drawn like any other.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from ..plotting import states, style
from ..plotting.clock import LN10, TimeAxis, frame_log_times, time_axis, visits
from ..plotting.curves import visit_name
from ..plotting.neurons import (
    CORE,
    function_points,
    largest_projection,
    line_window,
)
from ._numbers import exponential, number

if TYPE_CHECKING:
    from xarray import Dataset

FRAMES = 60
MOST_LINES = 160
MOST_STARS = 500
MOST_POINTS = 400


def rounded(values: Any, steps: int = 20000) -> Any:
    """Nested lists, rounded to a `steps`-th of their range or finer; what is not finite is None."""
    array = np.asarray(values, dtype=float)
    finite = np.isfinite(array)
    if not finite.any():
        return np.full(array.shape, None).tolist()
    seen = array[finite]
    reach = float(np.ptp(seen)) or abs(float(seen.max())) or 1.0
    decimals = int(np.clip(np.ceil(np.log10(steps / reach)), -300, 300))
    near = np.round(array, decimals) + 0.0
    if finite.all():
        return near.tolist()
    gaps = near.astype(object)
    gaps[~finite] = None
    return gaps.tolist()


def payload(dataset: "Dataset") -> dict[str, Any]:
    """All that the page's script draws."""
    axis = time_axis(dataset)
    times = states.chosen_times(dataset, MOST_POINTS)
    log_time = states.values(dataset, "log_time")[times]
    return {
        "colours": {
            "positive": style.POSITIVE,
            "negative": style.NEGATIVE,
            "function": style.FUNCTION,
            "band": style.BAND,
        },
        "axis": _axis(axis),
        "time": rounded(axis.point(log_time)),
        "timeText": [time_text(t) for t in log_time],
        "loss": _loss(dataset, times),
        "visits": [
            {
                "name": visit_name(v),
                "start": float(axis.position(v.log_time_enter)),
                "end": float(axis.position(v.log_time_leave)),
            }
            for v in visits(dataset)
        ],
        "norms": _norms(dataset, times),
        "frames": _frames(dataset, axis) if states.has_neurons(dataset) else None,
    }


def script_literal(value: Any) -> str:
    """The value as JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def time_text(log_time: float) -> str:
    """A flow time, given by its natural logarithm, as HTML text."""
    return "0" if np.isneginf(log_time) else exponential(float(log_time))


def _axis(axis: TimeAxis) -> dict[str, Any]:
    ticks = power_ticks(axis.start, axis.end) if axis.logarithmic else None
    return {"label": "flow time t", "range": [axis.start, axis.end], "ticks": ticks}


def power_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks of an axis whose coordinate is log10 of the quantity, with HTML texts."""
    places = style.power_places(low, high)
    if style.wants_powers(places):
        texts = [f"10<sup>{p:.0f}</sup>".replace("-", "\N{MINUS SIGN}") for p in places]
    else:
        texts = [exponential(p * LN10, 3) for p in places]
    return {"values": places, "texts": texts}


def _power_range(values: ndarray) -> dict[str, Any]:
    seen = values[np.isfinite(values)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (-1.0, 0.0)
    margin = max(0.04 * (high - low), 0.25 - 0.5 * (high - low), 0.02)
    return {
        "range": [low - margin, high + margin],
        "ticks": power_ticks(low - margin, high + margin),
    }


def _loss(dataset: "Dataset", times: ndarray) -> dict[str, Any]:
    loss = states.values(dataset, "loss")[times]
    logarithm = states.values(dataset, "log_loss")[times] / LN10
    return {
        "linear": rounded(loss),
        "log": rounded(logarithm),
        "text": [number(float(v)) for v in loss],
        "top": 1.06 * (float(np.max(loss[np.isfinite(loss)], initial=0.0)) or 1.0),
        "power": _power_range(logarithm),
    }


def _norms(dataset: "Dataset", times: ndarray) -> dict[str, Any]:
    blocks = states.chosen_blocks(dataset, MOST_LINES)
    log_norm = states.values(dataset, "log_norm")[np.ix_(times, blocks)] / LN10
    return {
        "block": blocks.tolist(),
        "total": dataset.sizes["block"],
        "sign": np.sign(states.values(dataset, "sign")[blocks]).astype(int).tolist(),
        "name": "neuron" if states.has_neurons(dataset) else "block",
        "strong": states.prominent(dataset)[blocks].tolist(),
        "lines": rounded(log_norm.T, 5000),
        "power": _power_range(log_norm),
    }


def _frames(dataset: "Dataset", axis: TimeAxis) -> dict[str, Any]:
    log_times = frame_log_times(dataset, FRAMES if dataset.sizes["time"] > 1 else 1)
    blocks = states.chosen_blocks(dataset, MOST_STARS)
    losses = [states.loss_at(dataset, log_time=float(t)) for t in log_times]
    picture = _line if states.on_a_line(dataset) else _wheel
    return {
        "position": rounded(axis.position(log_times)),
        "time": [time_text(t) for t in log_times],
        "loss": rounded(losses),
        "logLoss": rounded([np.log10(v) if v > 0 else np.nan for v in losses]),
        "lossText": [number(v) for v in losses],
        "visit": [_visit_at(dataset, float(t)) for t in log_times],
        "block": blocks.tolist(),
        "total": dataset.sizes["block"],
        "sign": np.sign(states.values(dataset, "sign")[blocks]).astype(int).tolist(),
        **picture(dataset, log_times, blocks),
    }


def _visit_at(dataset: "Dataset", log_time: float) -> str:
    for visit in visits(dataset):
        if visit.log_time_enter <= log_time <= visit.log_time_leave:
            return visit_name(visit)
    return "between saddles" if visits(dataset) else ""


def _line(dataset: "Dataset", log_times: ndarray, blocks: ndarray) -> dict[str, Any]:
    across, upright = line_window(dataset)
    slope = states.activation_slope(dataset)
    final_kinks, _ = states.kinks_and_heights(states.state_at(dataset))
    x = function_points(across, final_kinks, 60)
    stars_x, stars_y, function = [], [], []
    for log_time in log_times:
        state = states.state_at(dataset, log_time=float(log_time))
        kinks, heights = states.kinks_and_heights(state)
        far = 10 * max(abs(across[0]), abs(across[1]))
        stars_x.append(np.where(np.abs(kinks) <= far, kinks, np.nan)[blocks])
        stars_y.append(heights[blocks])
        function.append(states.function_on_line(state, x, slope))
    return {
        "kind": "line",
        "window": [list(across), list(upright)],
        "data": {
            "x": rounded(states.values(dataset, "x")[:, 0]),
            "y": rounded(states.values(dataset, "y")),
        },
        "grid": rounded(x),
        "x": rounded(stars_x),
        "y": rounded(stars_y),
        "function": rounded(function),
    }


def _wheel(dataset: "Dataset", log_times: ndarray, blocks: ndarray) -> dict[str, Any]:
    onto = states.plane(dataset)
    largest = largest_projection(dataset, onto)
    # In units of the largest norm, so that microscopic networks are drawn as well.
    log_largest = float(np.log(largest))
    places = []
    for log_time in log_times:
        state = states.state_at(dataset, log_time=float(log_time))
        relative = type(state)(state.log_norm[blocks] - log_largest, state.direction[blocks])
        places.append(states.polar_positions(relative, onto, CORE))
    drawn = np.stack(places)
    return {
        "kind": "wheel",
        "core": CORE,
        "rings": [[CORE + f, number(f * largest, 2)] for f in (0.5, 1.0)],
        "share": number(100 * onto.share, 2),
        "inputs": dataset.sizes["input"],
        "x": rounded(drawn[..., 0], 5000),
        "y": rounded(drawn[..., 1], 5000),
    }
