"""Alignment angles and path lengths against closed forms."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from polarflow.flow._path import PathMeter, unit_vector
from polarflow.margins import Late, alignment_angle
from polarflow.networks import BlockState, block_state


@dataclass
class Line:
    """An engine and a window at once: weights of two blocks as functions of the offset."""

    weights: Any
    log_scale: float = 0.0
    length: float = 1.0
    rtol: float = 1e-10

    def states(self, offsets: np.ndarray) -> list[float]:
        assert np.all(np.diff(offsets) > 0)
        return list(offsets)

    def blocks(self, offset: float) -> BlockState:
        w = self.weights(offset)
        norm = np.linalg.norm(w, axis=1) + 1e-300
        unit = np.where(norm[:, None] > 1e-290, w / norm[:, None], np.array([1.0, 0.0]))
        return block_state(np.log(norm) + self.log_scale * offset, unit)


def length(curve: Line, ends: list[float]) -> PathMeter:
    meter = PathMeter(curve, 0.0)  # type: ignore[arg-type]
    assert meter.extend(curve, np.array(ends))[-1] == meter.length  # type: ignore[arg-type]
    return meter


@pytest.mark.parametrize("scale", [0.0, -5000.0])
def test_the_path_of_a_great_circle_is_its_angle(scale: float) -> None:
    """Of any speed and at any scale; a common factor of all weights doesn't count."""
    quick = np.array([[1.0, 0.0], [0.0, 1.0]])

    def turn(t: float) -> np.ndarray:
        phi = 1.3 * t**3
        return quick * np.array([[np.cos(phi)], [np.sin(phi)]])

    meter = length(Line(turn, scale), [0.2, 1.0])
    assert meter.length == pytest.approx(1.3, rel=1e-8)
    assert abs(meter.length - 1.3) <= meter.error + 1e-13


def test_corners_of_a_path_are_found() -> None:
    """A direction that turns by a right angle in the middle of nowhere, as at a kink."""

    def corner(t: float) -> np.ndarray:
        a, b = (np.tan(min(t, 0.37)), np.tan(max(t - 0.37, 0.0)))
        return np.array([[1.0, a], [b * np.hypot(1.0, a), 0.0]])

    meter = length(Line(corner), [1.0])
    assert meter.length == pytest.approx(1.0, rel=1e-5)
    assert abs(meter.length - 1.0) <= meter.error + 1e-13


def test_the_unit_vector_of_no_weights_is_zero() -> None:
    zero = BlockState(np.full(2, -np.inf), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert not unit_vector(zero).any()


@pytest.mark.parametrize("scale", [0.0, -3000.0, 400.0])
@pytest.mark.parametrize("angle", [0.0, 1e-13, 1e-9, 1e-4, 0.3, 1.6, 3.0])
@pytest.mark.parametrize("order", [2, 3])
def test_angles_of_any_size(angle: float, order: int, scale: float) -> None:
    """Three blocks, and a gradient at a known angle to them; with 1 - cos it would be lost."""
    rng = np.random.default_rng(2)
    w = rng.standard_normal((3, 4))
    across = rng.standard_normal((3, 4))
    across -= np.sum(w * across) / np.sum(w * w) * w
    across *= np.linalg.norm(w) / np.linalg.norm(across)
    gradient = np.cos(angle) * w + np.sin(angle) * across
    rho = np.log(np.linalg.norm(w, axis=1))
    v = w / np.exp(rho)[:, None]
    force = gradient / np.exp((order - 1) * rho)[:, None]
    value = np.sum(force * v, axis=1) / order
    # Formed from the two parts of the gradient, so that it is small by itself where the angle is.
    part = np.cos(angle) * w + np.sin(angle) * across - np.sum(gradient * v, axis=1)[:, None] * v
    distance = np.linalg.norm(part, axis=1) / np.exp((order - 1) * rho)
    if angle == 0.0:
        distance[:] = 0.0
    found = alignment_angle(rho + scale, order, value, distance)
    assert found == pytest.approx(angle, rel=1e-12, abs=2e-15 * (1.0 + abs(scale)))


def test_blocks_that_rest_have_no_part_in_the_gradient() -> None:
    log_norm = np.array([0.0, np.log(2.0), -np.inf])
    found = alignment_angle(log_norm, 2, np.array([1.0, np.nan, 1.0]), np.array([0.0, np.nan, 0.0]))
    assert found == pytest.approx(np.arctan(2.0), rel=1e-15)
    assert np.isnan(alignment_angle(log_norm, 2, np.full(3, np.nan), np.full(3, np.nan)))


def test_the_fall_of_the_smoothed_margin_counts_once_fitted() -> None:
    values = np.array([0.5, 0.1, 0.2, 0.19, 0.3])
    fitted = np.array([False, False, True, True, True])
    late = Late(np.zeros((5, 1)), values, values, values, 0.0, fitted)
    assert late.smoothed_margin_drop == pytest.approx(0.05, rel=1e-12)
    assert Late(np.zeros((5, 1)), values, values, values, 0.0, ~fitted | fitted).fitted.all()
    assert Late(np.zeros((1, 1)), *[values[:1]] * 3, 0.0, fitted[:1]).smoothed_margin_drop is None
