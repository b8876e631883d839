"""Activation patterns of neurons and what happens to them on a kink, in compiled loops.

A neuron's pattern says for every hyperplane on which side it is: `ON` (w.e > 0), `OFF`
(w.e < 0), `SLIDE` (held on w.e = 0 by a multiplier strictly inside Clarke's interval) or `REST`
(on w.e = 0 to rounding and switched off: the convention relu'(0) = 0). Inside a pattern the
velocity D of the neuron is smooth: a' = w.D and w' = a D, with D a sum over hyperplanes of
`on_force` e or `off_force` e, projected on the kinks on which it slides.
"""

import numpy as np
from numba import njit

from ...ncf._clarke import LOWER, UPPER, minimum_norm

ON, OFF, SLIDE, REST = 1, -1, 0, -2
UNCHANGED, CROSSED, SLID, BRANCHED, CAPPED = 0, 1, 2, 3, 4
BRANCH_OFF, BRANCH_ON, BRANCH_STAY, BRANCH_STOP = 0, 1, 2, 3
#: A neuron of unit norm may overshoot a kink by this much before its pattern changes.
KINK_WIDTH = 1e-13


@njit(cache=True, error_model="numpy")
def plane_forces(residual, plane, plus, minus, on_force, off_force):
    """Sum the residual over the examples of each hyperplane, for its two sides."""
    on_force[:] = 0.0
    off_force[:] = 0.0
    for k in range(len(residual)):
        if plane[k] >= 0:
            on_force[plane[k]] += plus[k] * residual[k]
            off_force[plane[k]] += minus[k] * residual[k]


@njit(cache=True, error_model="numpy")
def pseudo_inverse(side, normals, inverse):
    """The matrix N with nu = -N D0 the multipliers that hold a neuron on the kinks it slides on.

    Rows of the output follow the sliding hyperplanes in order. **Returns** their number.
    """
    q = normals.shape[1]
    s = 0
    for h in range(len(side)):
        if side[h] == SLIDE:
            s += 1
    if s == 0:
        return 0
    basis = np.empty((s, q))
    tri = np.zeros((s, s))
    i = 0
    for h in range(len(side)):
        if side[h] != SLIDE:
            continue
        for c in range(q):
            basis[i, c] = normals[h, c]
        for _ in range(2):
            for b in range(i):
                t = 0.0
                for c in range(q):
                    t += basis[b, c] * basis[i, c]
                tri[b, i] += t
                for c in range(q):
                    basis[i, c] -= t * basis[b, c]
        t = 0.0
        for c in range(q):
            t += basis[i, c] ** 2
        t = np.sqrt(t)
        if t < 1e-7:
            tri[i, i] = np.inf
            t = np.inf
        else:
            tri[i, i] = t
        for c in range(q):
            basis[i, c] /= t
        i += 1
    for i in range(s - 1, -1, -1):
        for c in range(q):
            t = basis[i, c]
            for b in range(i + 1, s):
                if tri[b, b] != np.inf:
                    t -= tri[i, b] * inverse[b, c]
            inverse[i, c] = t / tri[i, i]
    return s


@njit(cache=True, error_model="numpy")
def project_force(side, normals, inverse, slides, force, nu):
    """Take from a force its part across the sliding kinks; `nu` are the multipliers that do so."""
    if slides == 0:
        return
    q = normals.shape[1]
    step = np.empty(slides)
    nu[:slides] = 0.0
    for _ in range(2):
        for i in range(slides):
            t = 0.0
            for c in range(q):
                t += inverse[i, c] * force[c]
            step[i] = -t
            nu[i] -= t
        i = 0
        for h in range(len(side)):
            if side[h] == SLIDE:
                for c in range(q):
                    force[c] += step[i] * normals[h, c]
                i += 1


@njit(cache=True, error_model="numpy")
def project_weight(side, normals, w):
    """Put a weight exactly on the kinks on which it slides or rests."""
    q = normals.shape[1]
    s = 0
    for h in range(len(side)):
        if side[h] == SLIDE or side[h] == REST:
            s += 1
    if s == 0:
        return
    basis = np.empty((s, q))
    i = 0
    for h in range(len(side)):
        if side[h] != SLIDE and side[h] != REST:
            continue
        for c in range(q):
            basis[i, c] = normals[h, c]
        for _ in range(2):
            for b in range(i):
                t = 0.0
                for c in range(q):
                    t += basis[b, c] * basis[i, c]
                for c in range(q):
                    basis[i, c] -= t * basis[b, c]
        t = 0.0
        for c in range(q):
            t += basis[i, c] ** 2
        if t < 1e-14:
            continue
        t = np.sqrt(t)
        for c in range(q):
            basis[i, c] /= t
        i += 1
    for _ in range(2):
        for b in range(i):
            t = 0.0
            for c in range(q):
                t += basis[b, c] * w[c]
            for c in range(q):
                w[c] -= t * basis[b, c]


@njit(cache=True, error_model="numpy")
def _hold(side, candidate, normals, on_force, off_force, force):
    """Minimum-norm velocity over the multipliers of the kinks in `candidate`; sets their sides.

    `force` holds the sum over all other hyperplanes on entry and the velocity on return.
    **Returns** False if the solver's cap was met.
    """
    p, q = normals.shape
    s = 0
    for h in range(p):
        if candidate[h]:
            s += 1
    if s == 0:
        return True
    index = np.empty(s, np.int64)
    sub = np.empty((s, q))
    lower = np.empty(s)
    upper = np.empty(s)
    nu = np.empty(s)
    status = np.empty(s, np.int8)
    scale = 0.0
    for c in range(q):
        scale += force[c] ** 2
    i = 0
    for h in range(p):
        if candidate[h]:
            index[i] = h
            for c in range(q):
                sub[i, c] = normals[h, c]
            lower[i] = min(on_force[h], off_force[h])
            upper[i] = max(on_force[h], off_force[h])
            scale += max(abs(lower[i]), abs(upper[i])) ** 2
            i += 1
    ok = minimum_norm(force, sub, lower, upper, nu, status)
    for i in range(s):
        for c in range(q):
            force[c] += nu[i] * sub[i, c]
    for i in range(s):
        h = index[i]
        if status[i] != LOWER and status[i] != UPPER:
            side[h] = SLIDE
        elif (status[i] == LOWER) == (on_force[h] < off_force[h]):
            side[h] = ON
        else:
            t = 0.0
            for c in range(q):
                t += sub[i, c] * force[c]
            side[h] = REST if abs(t) <= 1e-12 * np.sqrt(scale) else OFF
    return ok


@njit(cache=True, error_model="numpy")
def _force_without(side, candidate, normals, on_force, off_force, force):
    """Sum the forces of all hyperplanes but the candidates."""
    p, q = normals.shape
    force[:] = 0.0
    for h in range(p):
        if not candidate[h]:
            f = on_force[h] if side[h] == ON else off_force[h]
            for c in range(q):
                force[c] += f * normals[h, c]


@njit(cache=True, error_model="numpy")
def meet_kink(side, hit, a, w, normals, on_force, off_force):
    """Change the pattern of a neuron that meets hyperplane `hit`.

    The kink is concave for the neuron's NCF if sign(a) (on_force - off_force) < 0: then it can
    hold the neuron, and the least-norm element of Clarke's subdifferential, over this kink and
    those on which the neuron slides already, tells whether it does. A convex kink is crossed.

    **Returns** `CROSSED`, `SLID`, `UNCHANGED` or `CAPPED`.
    """
    p, q = normals.shape
    before = side[hit]
    candidate = np.zeros(p, np.bool_)
    for h in range(p):
        candidate[h] = side[h] == SLIDE
    if a * (on_force[hit] - off_force[hit]) < 0.0:
        candidate[hit] = True
    else:
        side[hit] = OFF if before == ON else ON
    force = np.empty(q)
    _force_without(side, candidate, normals, on_force, off_force, force)
    if not _hold(side, candidate, normals, on_force, off_force, force):
        return CAPPED
    project_weight(side, normals, w)
    if side[hit] == SLIDE:
        return SLID
    return CROSSED if (before == ON) != (side[hit] == ON) else UNCHANGED


@njit(cache=True, error_model="numpy")
def start_on_kink(side, hit, a, w, normals, on_force, off_force, branching):
    """Choose the side of a neuron that lies on hyperplane `hit` at the start.

    A kink that repels from both sides is a branching: the flow may leave on either side or stay
    for any time. Clarke's least-norm element stays; relu'(0) = 0 leaves on the off side.

    **Returns** `BRANCHED`, or what `meet_kink` returns.
    """
    p, q = normals.shape
    side[hit] = OFF
    jump = on_force[hit] - off_force[hit]
    if a * jump < 0.0:
        return meet_kink(side, hit, a, w, normals, on_force, off_force)
    candidate = np.zeros(p, np.bool_)
    for h in range(p):
        candidate[h] = side[h] == SLIDE
    force = np.empty(q)
    _force_without(side, candidate, normals, on_force, off_force, force)
    scale = 0.0
    for h in range(p):
        scale += max(abs(on_force[h]), abs(off_force[h]))
    off_speed = 0.0
    for c in range(q):
        off_speed += normals[hit, c] * force[c]
    on_speed = off_speed + jump
    if a < 0.0:
        off_speed, on_speed = -off_speed, -on_speed
    tol = 1e-12 * scale
    if off_speed > tol:
        side[hit] = ON
    elif off_speed >= -tol:
        side[hit] = REST
    elif on_speed > tol:
        if branching == BRANCH_ON:
            side[hit] = ON
        elif branching == BRANCH_STAY:
            side[hit] = SLIDE
        project_weight(side, normals, w)
        return BRANCHED
    project_weight(side, normals, w)
    return UNCHANGED
