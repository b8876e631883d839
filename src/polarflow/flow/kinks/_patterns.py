"""Activation patterns of neurons and what happens to them on a kink, in compiled loops.

A neuron is theta = (a, w) with C output weights a. Its pattern says for every hyperplane on which
side it is: `ON` (w.e > 0), `OFF` (w.e < 0), `SLIDE` (held on w.e = 0 by a multiplier strictly
inside Clarke's interval), `REST` (on w.e = 0 to rounding and switched off: the convention
relu'(0) = 0) or `REST_ON` (on w.e = 0 and switched on: only where dependent normals hold it).
Inside a pattern theta' = A(t) theta with A = [[0, D], [D^T, 0]] and D (C x q) a sum over
hyperplanes, projected on the kinks on which the neuron slides: D is smooth.

On hyperplane h the velocity w' gets `pull_on` e_h or `pull_off` e_h, the forces of the two sides
weighted with a. The kink is concave for the neuron's NCF if pull_on < pull_off: only then can it
hold the neuron.
"""

from typing import Any

import numpy as np
from numba import njit

from ...ncf._clarke import LOWER, UPPER, minimum_norm

ON, OFF, SLIDE, REST, REST_ON = 1, -1, 0, -2, 2
NONE, HIT, LEAVE, WAKE, TURN = 0, 1, 2, 3, 4
UNCHANGED, CROSSED, SLID, BRANCHED, CAPPED = 0, 1, 2, 3, 4
BRANCH_OFF, BRANCH_ON, BRANCH_STAY, BRANCH_STOP = 0, 1, 2, 3
#: A neuron of unit norm may overshoot a kink by this much before its pattern changes.
KINK_WIDTH = 1e-13
#: A neuron this near lies on a kink whose normal depends on those that it slides on.
_NEAR = 1e-11
#: A speed across a kink that is none, in units of the forces that meet there.
REST_WIDTH = 1e-12
#: Convex kinks that may meet in one point, each side of each of which is tried.
_MOST_CONVEX = 12
#: Sums may be taken in any order, so that they vectorise.
FAST = {"reassoc", "contract", "nsz", "arcp"}
#: Inner loops that allocate nothing: a view of an array needs no count of references to it, which
#: would take longer than a sum over a short row.
LEAN: dict[str, Any] = {"_nrt": False}
# Loops compile once more for an argument that starts as a literal 0; np.int64(0) is none.


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def dot(u, v):
    """The inner product of two vectors."""
    t = 0.0
    for c in range(len(u)):
        t += u[c] * v[c]
    return t


@njit(cache=True, inline="always", error_model="numpy", fastmath=FAST)
def add(u, factor, v):
    """u += factor v."""
    for c in range(len(u)):
        u[c] += factor * v[c]


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def list_near(normals, anchor, reach, near):
    """List the hyperplanes within reach of a weight; returns their number."""
    count = 0
    for h in range(len(normals)):
        if abs(dot(normals[h], anchor)) <= reach:
            near[count] = h
            count += 1
    return count


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def accumulate(u, factor, v):
    """u += factor v where it is done rarely: `add` without being compiled in each place."""
    for c in range(len(u)):
        u[c] += factor * v[c]


@njit(cache=True, error_model="numpy", **LEAN)
def assign(out, source):
    """Copy a vector; an assignment of slices compiles a message on lengths that differ."""
    for c in range(len(out)):
        out[c] = source[c]


@njit(cache=True, error_model="numpy", **LEAN)
def copy_matrix(source, out):
    """Copy a matrix; assigning slices compiles a message for every number of dimensions."""
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[i, c] = source[i, c]


@njit(cache=True, error_model="numpy", **LEAN)
def plane_forces(residual, plane, plus, minus, on_force, jump):
    """Sum a residual (n, C) over the examples of each hyperplane: its on side, and on - off."""
    on_force[:] = 0.0
    jump[:] = 0.0
    outputs = residual.shape[1]
    for k in range(len(residual)):
        h = plane[k]
        if h >= 0:
            for c in range(outputs):
                on_force[h, c] += plus[k] * residual[k, c]
                jump[h, c] += (plus[k] - minus[k]) * residual[k, c]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def pseudo_inverse(side, normals, inverse):
    """The matrix N with mu = -N D^T the multipliers that hold a neuron on the kinks it slides on.

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
        assign(basis[i], normals[h])
        for _ in range(2):
            for b in range(i):
                t = dot(basis[b], basis[i])
                tri[b, i] += t
                add(basis[i], -t, basis[b])
        t = np.sqrt(dot(basis[i], basis[i]))
        if t < 1e-7:
            t = np.inf
        tri[i, i] = t
        for c in range(q):
            basis[i, c] /= t
        i += 1
    for i in range(s - 1, -1, -1):
        assign(inverse[i], basis[i])
        for b in range(i + 1, s):
            if tri[b, b] != np.inf:
                add(inverse[i], -tri[i, b], inverse[b])
        for c in range(q):
            inverse[i, c] /= tri[i, i]
    return s


@njit(cache=True, error_model="numpy")
def _slot_of(side, keys, known, found, table):
    """Where in a hash table a pattern's sliding kinks belong: at themselves, or at a free slot."""
    code = np.int64(0)
    for h in range(len(side)):
        if side[h] == SLIDE:
            code += keys[h]
    slot = (code ^ (code >> 29)) & (len(table) - 1)
    while table[slot] >= 0:
        i = table[slot]
        other = known[i] if i < len(known) else found[i - len(known)]
        same = True
        for h in range(len(side)):
            if (side[h] == SLIDE) != (other[h] == SLIDE):
                same = False
                break
        if same:
            break
        slot = (slot + 1) & (len(table) - 1)
    return slot


@njit(cache=True, error_model="numpy")
def sliding_inverses(group_side, normals, keys, known_side, known_slides, known_inverse):
    """The pseudo-inverses of every pattern's sliding kinks, and their numbers.

    Those of the `known` patterns are taken over where the same kinks slide; `keys` are random
    numbers, one for each hyperplane.
    """
    groups, p = group_side.shape
    known = len(known_side)
    slides = np.zeros(groups, np.int64)
    most = 1
    for g in range(groups):
        for h in range(p):
            slides[g] += group_side[g, h] == SLIDE
        most = max(most, slides[g])
    size = 4
    while size < 2 * (known + groups):
        size *= 2
    table = np.full(size, -1, np.int64)
    for i in range(known):
        if known_slides[i]:
            table[_slot_of(known_side[i], keys, known_side, group_side, table)] = i
    inverse = np.empty((groups, most, normals.shape[1]))
    for g in range(groups):
        if slides[g] == 0:
            continue
        slot = _slot_of(group_side[g], keys, known_side, group_side, table)
        i = table[slot]
        if i >= 0:
            source = known_inverse[i] if i < known else inverse[i - known]
            for b in range(slides[g]):
                assign(inverse[g, b], source[b])
            continue
        table[slot] = known + g
        pseudo_inverse(group_side[g], normals, inverse[g])
    return slides, inverse


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def project_force(side, normals, inverse, slides, force, mu):
    """Take from the rows of D (C, q) their part across the sliding kinks.

    `mu` (slides, C) are the multipliers that do so, counted from the off side.
    """
    if slides == 0:
        return
    for o in range(len(force)):
        for i in range(slides):
            mu[i, o] = -dot(inverse[i], force[o])
        i = 0
        for h in range(len(side)):
            if side[h] == SLIDE:
                add(force[o], mu[i, o], normals[h])
                i += 1


@njit(cache=True, error_model="numpy", fastmath=FAST)
def project_weight(side, normals, w):
    """Put a weight exactly on the kinks on which it slides or rests."""
    q = normals.shape[1]
    s = 0
    for h in range(len(side)):
        if side[h] != ON and side[h] != OFF:
            s += 1
    if s == 0:
        return
    basis = np.empty((min(s, q), q))
    rest = np.empty(q)
    i = 0
    for h in range(len(side)):
        if side[h] == ON or side[h] == OFF or i == q:
            continue
        assign(rest, normals[h])
        for _ in range(2):
            for b in range(i):
                add(rest, -dot(basis[b], rest), basis[b])
        t = dot(rest, rest)
        if t < 1e-14:
            continue
        t = np.sqrt(t)
        for c in range(q):
            basis[i, c] = rest[c] / t
        i += 1
    for _ in range(2):
        for b in range(i):
            add(w, -dot(basis[b], w), basis[b])


@njit(cache=True, error_model="numpy")
def rest_width(side, on, jump):
    """The force across a kink up to which a neuron may rest on it, for |a| = 1.

    `on` and `jump` (p, C) are the hyperplanes' forces. It is twice what `meet_kink` counts as
    none, so that a neuron that was left at rest isn't woken at once.
    """
    scale = 0.0
    rests = False
    for h in range(len(side)):
        if abs(side[h]) == 1:
            continue
        rests = rests or side[h] != SLIDE
        for o in range(on.shape[1]):
            scale += max(abs(on[h, o]), abs(on[h, o] - jump[h, o])) ** 2
    return 2.0 * REST_WIDTH * np.sqrt(scale) if rests else 0.0


@njit(inline="always", error_model="numpy")
def _least_norm(index, count, normals, pull_on, pull_off, velocity, nu, status):
    """Add to a velocity the multipliers of the first `count` kinks in `index` that make it least.

    **Returns** False if the solver's cap was met.
    """
    sub = np.empty((count, normals.shape[1]))
    lower = np.empty(count)
    upper = np.empty(count)
    for i in range(count):
        h = index[i]
        assign(sub[i], normals[h])
        lower[i] = min(pull_on[h], pull_off[h])
        upper[i] = max(pull_on[h], pull_off[h])
    ok = minimum_norm(velocity, sub, lower, upper, nu[:count], status[:count])
    for i in range(count):
        accumulate(velocity, nu[i], sub[i])
    return ok


@njit(inline="always", error_model="numpy")
def _side_of(status, pull_on, pull_off, speed, tolerance):
    """The side of a concave kink from the status of its multiplier and the speed across it."""
    if status != LOWER and status != UPPER:
        return SLIDE
    if (status == LOWER) == (pull_on < pull_off):
        return REST_ON if speed <= tolerance else ON
    return REST if speed >= -tolerance else OFF


@njit(cache=True, error_model="numpy")
def dependent_kinks(side, candidate, w, normals):
    """Mark as candidates the kinks under w whose normals depend on those of the candidates.

    **Returns** whether the candidates' normals are dependent.
    """
    p, q = normals.shape
    basis = np.empty((q, q))
    rest = np.empty(q)
    s = 0
    dependent = False
    for h in range(p):
        if not candidate[h]:
            continue
        assign(rest, normals[h])
        for _ in range(2):
            for b in range(s):
                add(rest, -dot(basis[b], rest), basis[b])
        t = np.sqrt(dot(rest, rest))
        if t < 1e-7 or s == q:
            dependent = True
            continue
        for c in range(q):
            basis[s, c] = rest[c] / t
        s += 1
    if s < 2:
        return dependent
    for h in range(p):
        if candidate[h] or abs(dot(normals[h], w)) > _NEAR:
            continue
        assign(rest, normals[h])
        for _ in range(2):
            for b in range(s):
                add(rest, -dot(basis[b], rest), basis[b])
        if dot(rest, rest) < 1e-14:
            candidate[h] = True
            dependent = True
    return dependent


@njit(cache=True, error_model="numpy")
def settle(side, candidate, normals, pull_on, pull_off, velocity):
    """Choose the sides of kinks that meet under a neuron, where their normals may be dependent.

    Along the span of their normals the neuron's NCF is a linear function plus, for every kink, a
    convex or a concave one. It is the largest, over the sides of the convex kinks, of concave
    functions, whose steepest ascent is a least-norm problem with bounds. The neuron leaves along
    the steepest of them all, or is held if none ascends.

    `velocity` is that of all other hyperplanes on entry, and the neuron's on return.
    **Returns** `UNCHANGED`, `BRANCHED` if it could leave in several ways, or `CAPPED`.
    """
    p, q = normals.shape
    total = 0
    for h in range(p):
        if candidate[h]:
            total += 1
    concave = np.empty(total, np.int64)
    convex = np.empty(total, np.int64)
    down, up = 0, 0
    scale = dot(velocity, velocity)
    for h in range(p):
        if candidate[h]:
            scale += max(abs(pull_on[h]), abs(pull_off[h])) ** 2
            if pull_on[h] < pull_off[h]:
                concave[down] = h
                down += 1
            else:
                convex[up] = h
                up += 1
    if up > _MOST_CONVEX:
        return CAPPED
    # The part of a velocity in the span of the normals is what tells holding from leaving.
    basis = np.empty((min(total, q), q))
    rest = np.empty(q)
    rank = 0
    for h in range(p):
        if not candidate[h] or rank == len(basis):
            continue
        assign(rest, normals[h])
        for _ in range(2):
            for b in range(rank):
                accumulate(rest, -dot(basis[b], rest), basis[b])
        t = np.sqrt(dot(rest, rest))
        if t > 1e-7:
            for c in range(q):
                basis[rank, c] = rest[c] / t
            rank += 1
    tolerance = 1e-11 * np.sqrt(scale)
    trial = np.empty(q)
    inside = np.empty(q)
    best_velocity = velocity.copy()
    best_nu = np.zeros(max(down, 1))
    nu = np.empty(max(down, 1))
    status = np.empty(max(down, 1), np.int8)
    best_status = np.zeros(max(down, 1), np.int8)
    best, best_choice, ways = -1.0, 0, 0
    for choice in range(1 << up):
        assign(trial, velocity)
        for i in range(up):
            h = convex[i]
            accumulate(trial, pull_on[h] if (choice >> i) & 1 else pull_off[h], normals[h])
        if down > 0:
            if not _least_norm(concave, down, normals, pull_on, pull_off, trial, nu, status):
                return CAPPED
        inside[:] = 0.0
        for b in range(rank):
            accumulate(inside, dot(basis[b], trial), basis[b])
        size = np.sqrt(dot(inside, inside))
        if size > tolerance:
            consistent = True
            for i in range(up):
                t = dot(normals[convex[i]], inside)
                if ((choice >> i) & 1 and t < -tolerance) or (
                    not (choice >> i) & 1 and t > tolerance
                ):
                    consistent = False
            if consistent:
                ways += 1
        if size > best + tolerance:
            best, best_choice = size, choice
            assign(best_velocity, trial)
            assign(best_nu, nu)
            assign(best_status, status)
    assign(velocity, best_velocity)
    inside[:] = 0.0
    for b in range(rank):
        accumulate(inside, dot(basis[b], velocity), basis[b])
    for i in range(up):
        h = convex[i]
        t = dot(normals[h], inside)
        if t > tolerance:
            side[h] = ON
        elif t < -tolerance:
            side[h] = OFF
        else:
            side[h] = REST_ON if (best_choice >> i) & 1 else REST
    for i in range(down):
        h = concave[i]
        t = dot(normals[h], inside)
        side[h] = _side_of(best_status[i], pull_on[h], pull_off[h], t, tolerance)
    return BRANCHED if ways > 1 else UNCHANGED


@njit(inline="always", error_model="numpy")
def meet_kink(side, hit, w, normals, pull_on, pull_off, velocity):
    """Change the pattern of a neuron that meets hyperplane `hit`.

    A concave kink holds the neuron or lets it through: the least-norm element of Clarke's
    subdifferential, over this kink and those on which the neuron slides already, tells which. A
    convex kink is crossed. Where normals are dependent, `settle` decides.

    `velocity` is that of all hyperplanes but `hit` and the sliding ones on entry; `pull_on` and
    `pull_off` are needed for all kinks under the neuron.
    **Returns** `CROSSED`, `SLID`, `UNCHANGED`, `BRANCHED` or `CAPPED`.
    """
    p = len(normals)
    before = side[hit]
    candidate = np.zeros(p, np.bool_)
    count = 0
    for h in range(p):
        candidate[h] = side[h] == SLIDE or side[h] == REST_ON
        if candidate[h]:
            count += 1
    candidate[hit] = True
    dependent = False
    if count >= 1:
        dependent = dependent_kinks(side, candidate, w, normals)
    for h in range(p):
        if candidate[h] and h != hit and side[h] != SLIDE:
            accumulate(velocity, -(pull_on[h] if side[h] > 0 else pull_off[h]), normals[h])
    if dependent:
        outcome = settle(side, candidate, normals, pull_on, pull_off, velocity)
        if outcome != UNCHANGED:
            return outcome
        project_weight(side, normals, w)
        if side[hit] == SLIDE or side[hit] == REST_ON:
            return SLID
        return CROSSED if (before > 0) != (side[hit] > 0) else UNCHANGED
    if not pull_on[hit] < pull_off[hit]:
        candidate[hit] = False
        side[hit] = OFF if before > 0 else ON
        accumulate(velocity, pull_on[hit] if side[hit] == ON else pull_off[hit], normals[hit])
    else:
        count += 1
    if count > 0:
        index = np.empty(count, np.int64)
        i = 0
        scale = dot(velocity, velocity)
        for h in range(p):
            if candidate[h]:
                index[i] = h
                scale += max(abs(pull_on[h]), abs(pull_off[h])) ** 2
                i += 1
        nu = np.empty(count)
        status = np.empty(count, np.int8)
        if not _least_norm(index, count, normals, pull_on, pull_off, velocity, nu, status):
            return CAPPED
        tolerance = REST_WIDTH * np.sqrt(scale)
        for i in range(count):
            h = index[i]
            t = dot(normals[h], velocity)
            side[h] = _side_of(status[i], pull_on[h], pull_off[h], t, tolerance)
            if side[h] == REST_ON:
                side[h] = ON
    project_weight(side, normals, w)
    if side[hit] == SLIDE:
        return SLID
    return CROSSED if (before > 0) != (side[hit] > 0) else UNCHANGED


@njit(cache=True, error_model="numpy")
def start_on_kink(side, hit, w, normals, pull_on, pull_off, velocity, branching):
    """Choose the side of a neuron that lies on hyperplane `hit` at the start.

    A kink that repels from both sides is a branching: the flow may leave on either side or stay
    for any time. Clarke's least-norm element stays; relu'(0) = 0 leaves on the off side.
    `velocity` is that of all hyperplanes but `hit` and the sliding ones.

    **Returns** `BRANCHED`, or what `meet_kink` returns.
    """
    side[hit] = OFF
    if pull_on[hit] < pull_off[hit]:
        return meet_kink(side, hit, w, normals, pull_on, pull_off, velocity)
    scale = 0.0
    for h in range(len(normals)):
        scale += max(abs(pull_on[h]), abs(pull_off[h]))
    across = dot(normals[hit], velocity)
    tol = 1e-12 * scale
    if across + pull_off[hit] > tol:
        side[hit] = ON
    elif across + pull_off[hit] >= -tol:
        side[hit] = REST
    elif across + pull_on[hit] > tol:
        side[hit] = branch_side(branching)
        project_weight(side, normals, w)
        return BRANCHED
    project_weight(side, normals, w)
    return UNCHANGED


@njit(cache=True, error_model="numpy")
def branch_side(branching):
    """The side that is taken at a kink that repels from both sides."""
    if branching == BRANCH_ON:
        return ON
    if branching == BRANCH_STAY:
        return SLIDE
    return OFF
