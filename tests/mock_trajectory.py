"""Trajectory Datasets made by a few lines of gradient descent, to draw pictures from."""

import json
from typing import Any

import numpy as np
import xarray as xr


def two_points(scale: float = 1e-6, steps: int = 15000, width: int = 60) -> xr.Dataset:
    """The two-point example of Boursier et al. 2022, fig. 2, with its saddles."""
    x = np.array([[-0.5, 1.0], [2.0, 1.0]])
    return descend(x, np.array([-1.0, 1.0]), width, scale / width**0.5, steps, bias=True)


def many_inputs(steps: int = 6000) -> xr.Dataset:
    """Ten inputs, no bias, labels of a small teacher."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 10))
    teacher = rng.normal(size=(3, 10)) / np.sqrt(10)
    y = np.maximum(x @ teacher.T, 0) @ np.array([1.5, -1.5, 1.0])
    return descend(x, y, 80, 1e-8, steps, bias=False, step=5e-3)


def descend(
    x: np.ndarray,
    y: np.ndarray,
    width: int,
    scale: float,
    steps: int,
    *,
    bias: bool,
    step: float = 1e-3,
) -> xr.Dataset:
    """Gradient descent on the mean squared error, recorded densely where the state moves."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(width, x.shape[1])) * scale
    sign = np.where(np.arange(width) % 2 == 0, 1.0, -1.0)
    a = sign * np.linalg.norm(w, axis=1)
    rows: list[tuple[Any, ...]] = []
    last = None
    for k in range(steps + 1):
        z = x @ w.T
        hidden = np.maximum(z, 0)
        h = hidden @ a
        r = 2 * (y - h) / len(y)
        grad_a, grad_w = r @ hidden, ((r[:, None] * (z > 0)) * a).T @ x
        moved = np.inf if last is None else np.abs(h - last).max()
        if moved > 0.01 or k % (steps // 200 or 1) == 0 or k == steps:
            last = h.copy()
            grad = np.sqrt((grad_a**2).sum() + (grad_w**2).sum())
            rows.append((k * step, a.copy(), w.copy(), h.copy(), np.mean((h - y) ** 2), grad))
        a, w = a + step * grad_a, w + step * grad_w
    return _dataset(x, y, rows, sign, bias)


def _dataset(
    x: np.ndarray, y: np.ndarray, rows: list[tuple[Any, ...]], sign: np.ndarray, bias: bool
) -> xr.Dataset:
    time, a, w, h, loss, grad = (np.array(column) for column in zip(*rows, strict=True))
    block = np.concatenate([a[..., None], w], axis=-1)
    norm = np.linalg.norm(block, axis=-1)
    with np.errstate(divide="ignore"):
        log_time, log_loss = np.log(time), np.log(loss)
    still = grad < 0.05 * grad.max()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(int)))
    spans = [(s, e - 1) for s, e in zip(edges[::2], edges[1::2], strict=True)]
    leave = [log_time[e] if e < len(time) - 1 else np.nan for _, e in spans]
    units = {"loss": "1", "log_loss": "nat", "log_norm": "nat"}
    dataset = xr.Dataset(
        {
            "loss": ("time", loss),
            "log_loss": ("time", log_loss),
            "grad_norm": ("time", grad),
            "log_norm": (("time", "block"), np.log(norm)),
            "direction": (("time", "block", "parameter"), block / norm[..., None]),
            "prediction": (("time", "example"), h),
            "x": (("example", "input"), x),
            "y": ("example", y),
            "sign": ("block", sign),
            "saddle_log_time_enter": ("saddle", np.array([log_time[s] for s, _ in spans])),
            "saddle_log_time_leave": ("saddle", np.array(leave)),
            "saddle_loss": ("saddle", np.array([loss[s] for s, _ in spans])),
            "saddle_kkt_residual": ("saddle", np.full(len(spans), 1e-9)),
            "saddle_active_blocks": ("saddle", 10 * np.arange(len(spans))),
            "saddle_grad_norm": ("saddle", np.array([grad[s] for s, _ in spans])),
            "saddle_residual_norm": ("saddle", np.array([loss[s] ** 0.5 for s, _ in spans])),
        },
        coords={
            "time": time,
            "log_time": ("time", log_time),
            "parameter": ["a", *(f"w{k}" for k in range(x.shape[1]))],
        },
        attrs={
            "title": "A flow <to> draw & report",
            "spec": json.dumps(spec(x, y, len(sign), bias)),
            "polarflow_version": "0.1.0",
            "bias": int(bias),
            "loss_kind": "square",
            "loss_scale": 2.0 / len(y),
            "stop_reason": "time",
            "status": "ok",
        },
    )
    for name, unit in units.items():
        dataset[name].attrs["units"] = unit
    return dataset


def spec(x: np.ndarray, y: np.ndarray, width: int, bias: bool) -> dict[str, Any]:
    """A resolved spec as it is stored with a run."""
    return {
        "data": {"x": x[:, : x.shape[1] - bias].tolist(), "y": y.tolist(), "bias": bias},
        "network": {"kind": "two_layer", "width": width, "activation": "relu"},
        "init": {"kind": "balanced", "scale": 1e-6, "seed": 0},
        "loss": {"kind": "square", "reduction": "mean", "scale": 2.0},
        "flow": {"rtol": 1e-8, "branching": "off", "time": 15.0},
        "record": {"times": [], "points": 400},
    }


def summary(dataset: xr.Dataset) -> dict[str, Any]:
    """The summary that goes with a mock trajectory."""
    finite = {
        name: [None if not np.isfinite(v) else float(v) for v in dataset[f"saddle_{name}"].values]
        for name in ("log_time_enter", "log_time_leave", "loss", "grad_norm", "residual_norm")
    }
    saddles = [
        {
            "index": k,
            **{name: column[k] for name, column in finite.items()},
            "active_blocks": 10 * k,
            "kkt_residual": 1e-9 if finite["log_time_leave"][k] is not None else None,
        }
        for k in range(dataset.sizes["saddle"])
    ]
    log_time, loss = float(dataset["log_time"][-1]), float(dataset["loss"][-1])
    return {
        "status": dataset.attrs["status"],
        "stop_reason": dataset.attrs["stop_reason"],
        "spec": json.loads(dataset.attrs["spec"]),
        "versions": {"polarflow": "0.1.0", "numpy": np.__version__},
        "seed": 0,
        "final": {
            "time": float(dataset["time"][-1]),
            "log_time": log_time if np.isfinite(log_time) else None,
            "loss": loss,
            "log_loss": float(np.log(loss)) if loss > 0 else None,
            "param_norm": 2.3,
            "log_param_norm": 0.83,
            "grad_norm": float(dataset["grad_norm"][-1]),
            "predictions": dataset["prediction"].values[-1].tolist(),
            "outputs": [],
        },
        "recorded": [],
        "saddles": saddles,
        "conserved": {"balancedness_drift": 2.2e-16},
        "events": {"crossings": 41, "slides": 3, "branchings": 0},
        "late": None,
        "work": {
            "field_evaluations": 1234,
            "jacobian_products": 0,
            "steps": 400,
            "seconds": 0.043,
            "compile_seconds": 0.0,
        },
    }


def deepened(dataset: xr.Dataset, factor: float = 170.0) -> xr.Dataset:
    """The same pictures from far smaller weights: log-norms below -1 are stretched downwards."""
    rho = dataset["log_norm"]
    return dataset.assign(log_norm=rho.where(rho > -1.0, -1.0 + factor * (rho + 1.0)))


def without_saddles(dataset: xr.Dataset) -> xr.Dataset:
    """The same run with an empty list of saddles."""
    return dataset.isel(saddle=slice(0, 0))


def first_instant(dataset: xr.Dataset) -> xr.Dataset:
    """A run interrupted before its first step: one recorded time, the origin not left."""
    one = dataset.isel(time=slice(0, 1), saddle=slice(0, 1)).copy()
    one["saddle_log_time_leave"] = ("saddle", np.array([np.nan]))
    return one.assign_attrs(status="interrupted", stop_reason="interrupted")
