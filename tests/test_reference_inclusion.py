"""The general reference solver is itself proved here: enumeration of faces, closed forms, the
older solver for balanced ReLU flows, and gradient descent on problems of every kind."""

import mpmath
import numpy as np
import pytest
from reference import located
from reference.arrangement import Arrangement, distance_to_hull
from reference.descent import descend, flow
from reference.gauss import Gauss
from reference.inclusion import solve
from reference.losses import Loss
from reference.problems import KINDS, LONG, case
from scipy.linalg import expm
from scipy.optimize import lsq_linear

LD = np.longdouble

# ------------------------------------------------------------------ parts


def test_gauss_tables_integrate_and_interpolate_polynomials():
    for stages in (5, 16):
        g = Gauss(stages)
        for p in (0, 1, 2 * stages - 1):
            assert abs(g.weights @ g.nodes**p - LD(1) / (p + 1)) < 1e-18
        p = stages - 1
        assert np.abs(g.quad @ g.nodes**p - g.nodes**stages / stages).max() < 1e-18
        assert abs(g.row(LD(0.3)) @ g.points**p - LD(0.3) ** p) < 1e-17


def test_faces_are_counted_as_in_zaslavskys_theorem():
    """n central hyperplanes in general position: 2n cells in the plane, n(n-1) + 2 in space."""
    rng = np.random.default_rng(0)
    for n in (3, 4):
        plane, space = Arrangement(rng.standard_normal((n, 2))), rng.standard_normal((n, 3))
        every = tuple(range(n))
        assert len(plane.cells(every)) == 2 * n
        assert len(plane.faces(every)) == 2 * n + 2 * n + 1
        space = Arrangement(space)
        assert len(space.cells(every)) == n * (n - 1) + 2
        # Euler: cells - edges + rays = 2 on the sphere
        dims = [space.rank(np.nonzero(f == 0)[0]) for f in space.faces(every)]
        assert dims.count(0) - dims.count(1) + dims.count(2) == 2
    pencil = rng.standard_normal((3, 2)) @ rng.standard_normal((2, 3))
    arr = Arrangement(pencil)
    assert arr.closure((0, 1)) == (0, 1, 2)
    assert len(arr.cells((0, 1, 2))) == 6 and len(arr.faces((0, 1, 2))) == 13
    both = Arrangement([[1, 0], [0, 0], [-2, 0], [0, 3]])
    assert both.plane.tolist() == [0, -1, 0, 1] and both.height.tolist() == [1, 0, -2, 3]


def test_distance_to_hull_and_the_box_of_multipliers():
    """For independent kinks the hull of the adjacent gradients is the box of multipliers; for
    three kinks through a line it can be smaller."""
    assert distance_to_hull([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]) < 1e-14
    assert distance_to_hull([[1.0, 1.0], [2.0, 0.0]]) > 0.5
    rng = np.random.default_rng(1)
    inside = smaller = 0
    for trial in range(60):
        x = rng.standard_normal((3, 3))
        if trial % 2:
            x[2] = x[:2].T @ rng.uniform(-1.5, 1.5, 2)
        arr, c = Arrangement(x), rng.standard_normal(3)
        base = rng.uniform(-1, 1, 3) @ x
        q = np.linalg.svd(x)[2][: arr.rank((0, 1, 2))]
        points = [q @ (base + ((cell > 0) * c) @ x) for cell in arr.cells((0, 1, 2))]
        hull = distance_to_hull(points) < 1e-9
        found = lsq_linear(q @ (x.T * c), -q @ base, bounds=(0, 1), method="bvls")
        box = found.cost < 1e-18
        inside += hull
        if trial % 2:
            assert box or not hull
            smaller += box and not hull
        else:
            assert hull == box
    assert inside > 3 and smaller > 0


@pytest.mark.parametrize("kind", ["square", "logistic", "exponential", "correlation"])
def test_residuals_are_derivatives(kind):
    rng = np.random.default_rng(2)
    y, h = rng.standard_normal((2, 4, 2)).astype(LD)
    check_residual(Loss(kind, y, 0.3), h)


def test_cross_entropy_and_its_residual():
    rng = np.random.default_rng(3)
    loss = Loss("cross_entropy", np.eye(3)[[0, 2, 1, 1]], 0.25)
    h = rng.standard_normal((4, 3)).astype(LD)
    check_residual(loss, h)
    assert abs(loss.residual(h).sum(1)).max() < 1e-18
    # two classes are the logistic loss of the difference
    two, y = Loss("cross_entropy", np.eye(2)[[0, 1]], 1), np.array([[1.0], [-1.0]])
    h = rng.standard_normal((2, 2)).astype(LD)
    z = h[:, :1] - h[:, 1:]
    assert abs(two.value(h) - Loss("logistic", y, 1).value(z)) < 1e-18


def check_residual(loss, h):
    e = LD(1e-6)
    for k, c in np.ndindex(h.shape):
        step = np.zeros_like(h)
        step[k, c] = e
        slope = (loss.value(h + step) - loss.value(h - step)) / (2 * e)
        assert abs(slope + loss.residual(h)[k, c]) < 1e-11


# ------------------------------------------------------------------ closed forms


@pytest.mark.parametrize(
    ("kind", "log10"), [("square", -2), ("logistic", -2), ("exponential", -2), ("logistic", -1000)]
)
def test_one_aligned_neuron(kind, log10):
    """h' = 2 |x| h r(h) on one example: the time to reach h is an integral over h."""
    x, factor = np.array([[0.6, -0.8, 1.5]]), 0.7
    xn = np.sqrt((x.astype(LD) ** 2).sum())
    log_w = LD(log10) * np.log(LD(10))
    theta = np.r_[1, (x[0] / xn)][None].astype(LD)
    h0, goal = xn * np.exp(2 * log_w), 0.6
    with mpmath.workdps(30):
        rate = {
            "square": lambda h: factor * (1 - h),
            "logistic": lambda h: factor / (1 + mpmath.exp(h)),
            "exponential": lambda h: factor * mpmath.exp(-h),
        }[kind]
        norm, log_h0 = mpmath.mpf(str(xn)), 2 * mpmath.mpf(str(log_w)) + mpmath.log(str(xn))
        cuts = [log_h0, -60, -8, mpmath.log(goal)] if log10 < -50 else [log_h0, mpmath.log(goal)]
        time = mpmath.quad(lambda s: 1 / (2 * norm * rate(mpmath.exp(s))), cuts)
        end = LD(mpmath.nstr(time, 25))
    path = solve(x, Loss(kind, [[1.0]], factor), 0, theta, [log_w], [end])
    w = path.weights()[0, 0]
    assert abs(w[0] * (w[1:] @ x[0]) / goal - 1) < 1e-14
    assert h0 < goal and not path.events


def test_constant_residual_and_several_outputs_is_a_matrix_exponential():
    """The correlation loss keeps r; while no kink is met theta' = A theta."""
    rng = np.random.default_rng(4)
    x, y = np.abs(rng.standard_normal((4, 3))), np.abs(rng.standard_normal((4, 2)))
    theta = np.c_[rng.standard_normal((1, 2)), np.abs(rng.standard_normal((1, 3)))]
    theta[0, :2] = np.abs(theta[0, :2])
    d = 0.5 * (y.T @ x)
    a = np.block([[np.zeros((2, 2)), d], [d.T, np.zeros((3, 3))]])
    path = solve(x, Loss("correlation", y, 0.5), 0.1, theta, [0.0], [0.7, 2.0], outputs=2)
    for t, w in zip(path.time, path.weights(), strict=True):
        exact = expm(t * a) @ theta[0]
        assert np.abs(w[0] - exact).max() < 1e-13 * np.abs(exact).max()
    assert not path.events


def test_the_output_weight_passes_zero():
    """a = sinh(t - 1), w.x = cosh(t - 1) > 0: no kink is met, and nothing happens at a = 0."""
    theta = np.array([[-np.sinh(1.0), np.cosh(1.0), 0.3]])
    path = solve([[1.0, 0.0]], Loss("correlation", [[1.0]], 1), 0, theta, [0.0], [1.0, 2.5])
    exact = [[[0, 1, 0.3]], [[np.sinh(1.5), np.cosh(1.5), 0.3]]]
    assert np.abs(path.weights() - exact).max() < 1e-15
    assert not path.events


def test_where_the_output_weight_passes_zero_a_slide_branches():
    """Constant residual, slope 1/2, x_1 = (1, 0) and x_2 = (0, 1): a = -1 is attracted to the
    kink of x_1, D = (0, 1) there, and a = sinh(t - t0) beyond; then the kink repels."""
    x = np.array([[1.0, 0.0], [-1.0, 0.3], [0.0, 1.0]])
    loss = Loss("correlation", [[2.0], [1.2], [1.0]], 1)
    theta = np.array([[-np.sinh(1.0), 0.0, np.cosh(1.0)]])
    ends = {}
    for branching in ("off", "on", "stay"):
        path = solve(x, loss, 0.0, theta, [0.0], [0.5, 1.5], branching=branching)
        # held: the multiplier of x_1 balances x_2's pull, D = (0, 1 + 0.36)
        ends[branching] = path.weights()[-1, 0, 1]
        assert path.side[0, 0, 0] == 0 and path.count("branch") >= 1
    assert ends["off"] < 0 < ends["on"] and ends["stay"] == 0


def test_dead_on_a_kink_stays_dead():
    """Orthogonal examples: neuron 0 is pushed to its kink by neuron 1, which overshoots, and must
    stay off when neuron 2 later turns the residual round (relu'(0) = 0)."""
    q = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    x, y = q * np.array([1.0, 1.3, 0.7])[:, None], np.array([1.0, -3.0, 0.8])
    u = np.array([0.1 * q[0] + q[2], q[0] + 0.2 * q[2], q[0] + 0.4 * q[1]])
    a = np.array([1, 1, -1]) * np.linalg.norm(u, axis=1)
    size = np.log(np.array([0.5, 1.4, 0.3]) / np.abs(a))
    path = solve(x, Loss("square", y[:, None], 1), 0, np.c_[a, u], size, np.arange(1, 61) / 4)
    dead = path.side[:, 0, 0] == -2
    died = int(np.argmax(dead))
    assert dead[died:].all() and np.abs(path.theta[died:, 0, 1:] @ x[0]).max() < 1e-16
    assert path.residual[died - 1, 0, 0] < 0 and (path.residual[died:, 0, 0] > 0.01).any()
    assert path.count("branch") == 0


# ------------------------------------------------------------------ three solvers


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "d"), [(4, 5), (8, 3), (6, 2)])
def test_both_reference_solvers_agree(n, d, seed):
    c = case(seed, n=n, d=d, m=10, log10_scale=-3, times=(2.0, 8.0))
    w = c.theta[:, 1:].astype(LD)
    size = np.sqrt((w * w).sum(1))
    theta = np.c_[np.sign(c.theta[:, 0]) * size, w]
    path = solve(c.x, Loss("square", c.y, c.factor), 0, theta, c.log_scale, c.times)
    other = located.solve(
        c.x, c.y[:, 0], np.sign(theta[:, 0]), np.log(size) + c.log_scale, w, c.factor, c.times
    )
    exact = np.exp(other["log_w"])[..., None] * other["u"]
    error = np.abs(path.weights()[..., 1:] - exact).max(-1) / np.exp(other["log_w"])
    assert error.max() < 1e-16
    for kind in ("cross", "slide", "leave"):
        assert path.count(kind) == [e[3] for e in other["events"]].count(kind)
    assert path.count("branch") == 0


@pytest.mark.parametrize(
    "name",
    [n for n in KINDS if case(0, **KINDS[n]).within_reach_of_descent() and n not in LONG],
)
def test_gradient_descent_tends_to_the_reference(name):
    c = case(0, **KINDS[name])
    theta = c.weights()
    exact = c.reference().weights()
    errors = []
    for h in (1e-2, 1e-3, 1e-4):
        found, _ = flow(c.x, c.y, c.loss, c.factor, c.slope, theta, c.times, h)
        errors.append(float(np.abs(found - exact).max()))
    assert errors[0] < 2e-1 and errors[1] < 2e-3 and errors[2] < 1e-4
    assert errors[2] < errors[0] / 10


@pytest.mark.parametrize("loss", ["square", "logistic"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_loss_falls_and_the_invariants_hold(loss, outputs):
    c = case(
        7,
        data="coplanar",
        n=6,
        begin="unbalanced",
        loss=loss,
        outputs=outputs,
        log10_scale=-0.5,
        times=tuple(np.linspace(0.2, 10, 20)),
    )
    path = c.reference()
    assert (np.diff(path.loss) < 0).all() and len(path.events) > 3
    a, w = path.weights()[..., :outputs], path.weights()[..., outputs:]
    balance = (a**2).sum(-1) - (w**2).sum(-1)
    assert np.abs(balance - balance[0]).max() < 1e-17
    held = np.isin(path.side, (-2, 0, 2))
    z = np.einsum("tjd,hd->tjh", path.theta[..., outputs:], Arrangement(c.x).normals)
    assert np.abs(z[held]).max(initial=0) < 1e-17
    assert (z[path.side == 1] > -1e-16).all() and (z[path.side == -1] < 1e-16).all()


def test_three_kinks_on_a_line_can_branch_on_the_way():
    """A neuron that reaches the common line of three kinks may die there or be thrown off: two
    solutions, and gradient descent takes one or the other by its step."""
    c = case(23, data="coplanar", n=6, m=12, log10_scale=-1, times=(4.0,))
    ends = {b: c.reference(branching=b).weights()[0] for b in ("off", "on")}
    assert np.abs(ends["off"] - ends["on"]).max() > 0.05
    assert c.reference().count("branch") > 0
    theta = c.theta * np.exp(c.log_scale)[:, None]
    taken = set()
    for h in (1e-3, 5e-4, 2e-4, 1e-4, 5e-5):
        found = descend(c.x, c.y, c.loss, c.factor, c.slope, theta, c.times, h)[0]
        gaps = {b: float(np.abs(found - end).max()) for b, end in ends.items()}
        nearest = min(gaps, key=gaps.__getitem__)
        assert gaps[nearest] < 5e-3
        taken.add(nearest)
    assert len(taken) == 2
