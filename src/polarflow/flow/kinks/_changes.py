"""How the residual of a window deviates from its series once neurons have had events.

The series r(tau) has frozen patterns. After an event the true residual is r + dr; dr is known from
the neurons that rode through their events, and what it moves changes it in its turn.
"""

import numpy as np
from numba import njit
from numpy import ndarray

from ._field import plane_values
from ._motion import evaluate_rows
from ._patterns import add, assign, copy_matrix, dot
from ._residual import SQUARE, extend_residual, scaled_residual

#: Numbers of times at which dr is known, taken one after the other until they suffice; between
#: them it is taken as linear. A quarter of the times are those of events that change it most.
TIMES = (13, 25, 49, 97)
#: Sweeps at each of the times for what dr does to itself.
_SWEEPS = 40


@njit(inline="always", error_model="numpy")
def _insert(times, count, place, t):
    for i in range(count, place, -1):
        times[i] = times[i - 1]
    times[place] = t


@njit(cache=True, error_model="numpy")
def change_times(length, start, size, times, halves):
    """Times, from the first event of a window to its end, at which to know how r deviates.

    dr is about piecewise linear, with kinks at the events: the strongest are among the times. All
    gaps between those are halved, and then, in turn, the longest one and the one across which a
    line may be off by most because of the events inside.

    **Arguments:**

    - `start`: the times of the events, in order.
    - `size`: how much each changes the slope of dr.
    - `times`: gets the times, in order.
    - `halves`: gets which of them halve a gap.
    """
    halves[:] = False
    times[0] = start[0]
    shortest = 1e-6 * (length - times[0])
    times[1] = length
    count = 2
    for _ in range((len(times) - 3) // 4):
        best, largest, spot = 0.0, 0.0, 0
        for i in range(len(start)):
            if size[i] * (length - start[i]) <= largest:
                continue
            place = 1
            while times[place] < start[i]:
                place += 1
            if min(times[place] - start[i], start[i] - times[place - 1]) > shortest:
                best, largest, spot = start[i], size[i] * (length - start[i]), place
        if largest == 0.0:
            break
        _insert(times, count, spot, best)
        count += 1
    for spot in range(count - 1, 0, -1):
        halves[2 * spot - 1] = True
        times[2 * spot] = times[spot]
        times[2 * spot - 1] = 0.5 * (times[spot - 1] + times[spot])
    count = 2 * count - 1
    off = np.empty(len(times))
    while count < len(times):
        off[:] = 0.0
        if count % 2 == 1:
            place = 1
            for i in range(len(start)):
                while place < count - 1 and times[place] <= start[i]:
                    place += 1
                if start[i] > times[place - 1] and times[place] - times[place - 1] > shortest:
                    off[place] += size[i] * (times[place] - times[place - 1]) ** 2
        spot = int(np.argmax(off))
        if off[spot] == 0.0:
            for i in range(1, count):
                off[i] = times[i] - times[i - 1]
            spot = int(np.argmax(off))
        for i in range(count, spot, -1):
            halves[i] = halves[i - 1]
        halves[spot] = True
        _insert(times, count, spot, 0.5 * (times[spot - 1] + times[spot]))
        count += 1


def unseen_change(times: ndarray, halves: ndarray, changes: ndarray) -> float:
    """About what the integral of dr lacks where it is linear between the times, as a norm.

    A time that halves a gap shows by how much dr deviates from a line across the gap; across its
    halves that is a quarter, or half if it has a kink there.
    """
    middle = np.flatnonzero(halves)
    low, high = times[middle - 1], times[middle + 1]
    part = ((times[middle] - low) / (high - low))[:, None, None]
    chord = (1.0 - part) * changes[middle - 1] + part * changes[middle + 1]
    lacks = ((high - low) / 3.0)[:, None] * (changes[middle] - chord).reshape(len(middle), -1)
    # Of events that differ in sign and kind parts cancel.
    return float(np.linalg.norm(lacks.sum(axis=0)) + np.linalg.norm(lacks))


@njit(cache=True, error_model="numpy")
def residual_changes(
    times, riders, group, active, first, mix, lumped, k, weight, output, order, share,
    neuron_base, neuron_count, segment_start, segment_w, segment_a, segment_order, normals, plane,
    plus, minus, kind, label, factor, unit, prediction, changes, frozen_residual,
):  # fmt: skip
    """How the residual deviates from its series, at times from its first event on.

    `riders` are the neurons whose events matter; `prediction` (orders, n, C) are the Taylor
    coefficients of the predictions that the residual's series belongs to; `changes` and
    `frozen_residual`, the residual of those, both divided by exp(unit), have shape (times, n, C);
    the latter is not formed for the square loss.
    """
    count, _, q = weight.shape
    p = len(normals)
    n, outputs = label.shape
    now_w = np.empty((count, q))
    now_a = np.empty((count, outputs))
    ready = np.empty(count, np.bool_)
    row_w = np.empty((2 * len(riders), q))
    row_a = np.empty((2 * len(riders), outputs))
    owner = np.empty(len(riders), np.int64)
    on_value = np.empty((p, outputs))
    value = np.empty((p, outputs))
    before = np.empty((n, outputs))
    after = np.empty((n, outputs))
    changes[:] = 0.0
    for part in range(1, len(times)):
        t = times[part]
        change = changes[part]
        rows = 0
        ready[:] = False
        for j in riders:
            base = neuron_base[j]
            if segment_start[base + 1] >= t:
                continue
            s = base + neuron_count[j] - 1
            while segment_start[s] > t:
                s -= 1
            owner[rows] = j
            evaluate_rows(segment_w[s], segment_order[s], t - segment_start[s], row_w[2 * rows])
            evaluate_rows(segment_a[s], segment_order[s], t - segment_start[s], row_a[2 * rows])
            row_w[2 * rows + 1] = 0.0
            row_a[2 * rows + 1] = 0.0
            for b in range(k if lumped[group[j]] >= 0 else 1):
                i = first[j] + b
                if not ready[i]:
                    evaluate_rows(weight[i], order, t, now_w[i])
                    evaluate_rows(output[i], order, t, now_a[i])
                    ready[i] = True
                add(row_w[2 * rows + 1], mix[j, b], now_w[i])
                add(row_a[2 * rows + 1], mix[j, b], now_a[i])
            rows += 1
        if rows == 0:
            continue
        z = np.dot(row_w[: 2 * rows], normals.T)
        on_value[:] = 0.0
        value[:] = 0.0
        for r in range(rows):
            frozen = active[group[owner[r]]]
            for o in range(outputs):
                own = share[owner[r]] * row_a[2 * r, o]
                was = share[owner[r]] * row_a[2 * r + 1, o]
                for h in range(p):
                    u = own * z[2 * r, h]
                    v = was * z[2 * r + 1, h]
                    value[h, o] += u - v
                    on_value[h, o] += (u if z[2 * r, h] > 0.0 else 0.0) - frozen[h] * v
        plane_values(on_value, value, plane, plus, minus, change)
        if kind == SQUARE:
            for i in range(n):
                for o in range(outputs):
                    change[i, o] *= -factor
            continue
        for i in range(n):
            for o in range(outputs):
                before[i, o] = prediction[order, i, o]
                for b in range(order - 1, -1, -1):
                    before[i, o] = before[i, o] * t + prediction[b, i, o]
                change[i, o] += before[i, o]
        now = np.exp(scaled_residual(kind, change, label, factor, after) - unit)
        then = np.exp(scaled_residual(kind, before, label, factor, change) - unit)
        for i in range(n):
            for o in range(outputs):
                frozen_residual[part, i, o] = change[i, o] * then
                change[i, o] = after[i, o] * now - frozen_residual[part, i, o]


@njit(cache=True, error_model="numpy")
def _respond(kind, kernel, integral, label, factor, unit, prediction, residual, rate):
    """Into residual[1], how the residual changes where r had an integral more: -B K integral."""
    n, outputs = label.shape
    for k in range(n):
        for o in range(outputs):
            prediction[1, k, o] = dot(kernel[k * outputs + o], integral)
    extend_residual(kind, np.int64(0), prediction, label, factor, unit, residual, rate)


@njit(cache=True, error_model="numpy")
def feed_back(
    times, changes, frozen_residual, kernel, kind, label, factor, unit, rate_bound
):  # fmt: skip
    """Let changes dr (times, n, C) of the residual act on themselves, in place.

    What has moved changes the residual in its turn: dr = dr_0 - B int K dr, with the kernel K
    (n C, n C) and B the derivative of -r by the predictions; a Volterra equation, solved for a
    piecewise linear dr. `rate_bound` is at least the largest eigenvalue of B K.
    """
    n, outputs = label.shape
    integral = np.zeros(n * outputs)
    trial = np.empty(n * outputs)
    prediction = np.zeros((2, n, outputs))
    residual = np.zeros((2, n, outputs))
    rate = np.zeros((1, n, outputs))
    flat = changes.reshape((len(times), n * outputs))
    answer = residual[1].reshape(n * outputs)
    given = np.empty(n * outputs)
    for i in range(1, len(times)):
        half = 0.5 * (times[i] - times[i - 1])
        copy_matrix(frozen_residual[i], residual[0])
        add(integral, half, flat[i - 1])
        assign(given, flat[i])
        relax = 1.0 / (1.0 + 0.5 * half * rate_bound)
        assign(flat[i], flat[i - 1])
        for _ in range(_SWEEPS):
            for k in range(n * outputs):
                trial[k] = integral[k] + half * flat[i, k]
            _respond(kind, kernel, trial, label, factor, unit, prediction, residual, rate)
            moved, size = 0.0, 0.0
            for k in range(n * outputs):
                step = relax * (given[k] + answer[k] - flat[i, k])
                flat[i, k] += step
                moved = max(moved, abs(step))
                size = max(size, abs(flat[i, k]))
            if moved <= 1e-3 * size:
                break
        add(integral, half, flat[i])
