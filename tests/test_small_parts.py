"""Deep networks past saddles that parts of their weights below rounding decide about."""

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from scipy.integrate import solve_ivp

import polarflow as pf
from polarflow.losses import Square
from polarflow.networks import Activation, Deep, block_state, gaussian, sphere

LINEAR = Activation("linear")


def riccati(target: np.ndarray, first: np.ndarray, second: np.ndarray, time: float) -> np.ndarray:
    """W_2 W_1 at a time under |W_2 W_1 - Y|^2/2, from a balanced start (Fukumizu, 1998).

    With Q = (W_1^T; W_2) and F = ((0, Y^T), (Y, 0)),
    QQ^T(t) = e^{Ft} Q_0 (1 + Q_0^T (e^{Ft} F^-1 e^{Ft} - F^-1) Q_0 / 2)^-1 Q_0^T e^{Ft}.
    """
    k, d = target.shape
    q = mpmath.matrix(np.vstack([first.T, second]).tolist())
    f = mpmath.zeros(k + d)
    for i in range(k):
        for j in range(d):
            f[d + i, j] = f[j, d + i] = mpf(target[i, j])
    values, vectors = mpmath.eigsy(f)
    grown = vectors * mpmath.diag([mpmath.exp(v * mpf(time)) for v in values]) * vectors.T
    middle = mpmath.diag([(mpmath.exp(2 * v * mpf(time)) - 1) / v for v in values])
    middle = q.T * vectors * middle * vectors.T * q / 2
    whole = grown * q * mpmath.inverse(mpmath.eye(q.cols) + middle) * q.T * grown
    return np.array([[float(whole[d + i, j]) for j in range(d)] for i in range(k)])


@pytest.mark.parametrize("log10_scale", [-12, -30])
def test_all_escapes_of_a_two_layer_linear_network_against_its_closed_form(log10_scale):
    """Three modes, learned one after the other: each leaving time is right."""
    rng = np.random.default_rng(2)
    left, right, first, second = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(4))
    strengths = np.array([2.0, 1.2, 0.7])
    target = left @ np.diag(strengths) @ right.T
    if np.linalg.det(second @ first) * np.linalg.det(target) < 0:
        first[0] *= -1.0
    network = Deep((3,), (LINEAR,), outputs=3)
    unit = np.concatenate([first.ravel(), second.ravel()])[None] / np.sqrt(6.0)
    scale = log10_scale * np.log(10.0)
    initial = block_state(np.array([scale + 0.5 * np.log(6.0)]), unit)
    problem = pf.problem(pf.Data(np.eye(3), target.T.copy()), network, initial, loss=Square("sum"))
    # Mode k has grown to about half at t = -ln(delta)/s_k.
    around = np.add.outer(-scale / strengths, [-0.5, 0.5, 1.5]).ravel()
    flow = pf.gradient_flow(
        problem, stop=pf.Stop(time=float(around[-1])), rtol=1e-9, record_times=around
    )
    # From 1e-12 the smaller modes are not below rounding yet: floats do.
    assert flow.status == "ok" and any("bits" in n for n in flow.notes) == (log10_scale == -30)
    assert [s.active_blocks for s in flow.saddles] == [0, 1, 1]
    half = 0.5 * strengths**2
    fitted = [half.sum(), half[1:].sum(), half[2]]
    assert [s.loss for s in flow.saddles] == pytest.approx(fitted, rel=1e-6)
    with mpmath.workdps(160):
        start = mpf(10) ** log10_scale
        for time, h in zip(around, flow.recorded.prediction, strict=True):
            exact = riccati(target, start * _exact(first), start * _exact(second), time)
            assert np.abs(h.T - exact).max() < 1e-6
    assert np.all(np.diff(flow.trajectory.loss) <= 1e-9 * flow.trajectory.loss[:-1])


def _exact(matrix: np.ndarray) -> np.ndarray:
    return np.array([[mpf(v) for v in row] for row in matrix.tolist()], dtype=object)


class Squares:
    """H(x) = 1^T max(W_2 W_1 x, 0)^2 in multiple precision, its flow by extrapolated midpoints."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = _exact(x), _exact(y[:, None])[:, 0]

    def field(self, w: list[np.ndarray]) -> list[np.ndarray]:
        first, second = w
        hidden = first @ self.x.T
        on = np.where(second @ hidden > 0, second @ hidden, mpf(0))
        pull = 2 * on * ((self.y - np.sum(on * on, axis=0)) / len(self.y))
        return [second.T @ pull @ self.x, pull @ hidden.T]

    def loss(self, w: list[np.ndarray]) -> mpf:
        on = np.maximum(w[1] @ w[0] @ self.x.T, mpf(0))
        return np.sum((self.y - np.sum(on * on, axis=0)) ** 2) / (2 * len(self.y))

    def step(self, w: list[np.ndarray], h: mpf) -> tuple[list[np.ndarray], float]:
        """Gragg's method with 2, 4, 6, 8 and 10 parts, and the last change of the table."""
        table: list[list[list[np.ndarray]]] = []
        for k in range(1, 6):
            parts = 2 * k
            old, new = w, [a + h / parts * f for a, f in zip(w, self.field(w), strict=True)]
            for _ in range(parts - 1):
                slope = self.field(new)
                old, new = new, [a + 2 * h / parts * f for a, f in zip(old, slope, strict=True)]
            row = [[(a + b + h / parts * f) / 2
                    for a, b, f in zip(old, new, self.field(new), strict=True)]]  # fmt: skip
            for j, before in enumerate(table[-1] if table else []):
                ratio = mpf(k) ** 2 / mpf(k - 1 - j) ** 2 - 1
                row.append([a + (a - b) / ratio for a, b in zip(row[j], before, strict=True)])
            table.append(row)
        last, close = table[-1][-1], table[-1][-2]
        # Each row on its own: those that are nearly zero as well.
        error = max(
            float(sum((p - q) ** 2) / sum(p * p)) ** 0.5
            for a, b in zip(last, close, strict=True)
            for p, q in zip(a, b, strict=True)
        )
        return last, error

    def follow(self, w: list[np.ndarray], loss: float, tolerance: float) -> tuple[list, mpf, list]:
        """To a loss: weights, time, and the times and losses of all steps."""
        time, way = mpf(0), []
        size = sum(np.sum(a * a) for a in w)
        h = mpf("0.01") / size
        while True:
            # A time of order 1/|w|^2 is that of motion; no step is much longer.
            size = sum(np.sum(a * a) for a in w)
            h = min(h, mpf("1.5") / size)
            new, error = self.step(w, h)
            if error < tolerance:
                value = self.loss(new)
                if value < loss and h * size > 1e-7:
                    h = h / 4
                    continue
                w, time = new, time + h
                way.append((time, value))
                if value < loss:
                    return w, time, way
            h = h * mpf(min(2.0, max(0.2, 0.8 * (tolerance / max(error, 1e-30)) ** (1 / 9))))


@pytest.mark.slow
def test_the_second_escape_of_a_homogeneous_network_of_order_four_in_multiple_precision():
    """The saddle is left after the right time, by the right weights, from 1e-12."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((5, 2)), np.abs(rng.standard_normal(5))
    network = Deep((2, 3), (LINEAR, Activation("relu_power", 2.0)), readout="ones")
    initial = sphere(network, 2, log10_scale=-12.0, seed=3)
    problem = pf.problem(pf.Data(x, y), network, initial)
    flow = pf.gradient_flow(problem, stop=pf.Stop(loss=0.0205), rtol=1e-9)
    assert flow.status == "ok" and len(flow.saddles) == 2
    assert any("bits" in note for note in flow.notes)
    with mpmath.workdps(60):
        other = Squares(x, y)
        scale = mpmath.exp(mpf(float(initial.log_norm[0])))
        unit = _exact(initial.direction)[0]
        scale = scale / mpmath.sqrt(sum(unit * unit))
        start = [scale * unit[:4].reshape(2, 2), scale * unit[4:].reshape(3, 2)]
        weights, end, way = other.follow(start, 0.0205, 1e-8)
        found = np.concatenate([w.ravel() for w in weights]).astype(float)
        assert np.abs(flow.final.weights()[0, 0] - found).max() < 1e-5
        assert float(end) == pytest.approx(flow.final.time[0], rel=1e-7)
        # The time at the saddle, far below what a float of the whole time could tell.
        early = next(float(t - end) for t, value in way if value < 0.03)
    assert early < -10.0


@pytest.mark.slow
def test_the_time_at_the_second_saddle_grows_as_theory_says():
    r"""With -(1 - mu / (L N(v*))) ln(delta) / lambda.

    On the way out of the origin w is about |w| v*, d ln|w| = |w|^2 L N(v*) dt, and a part z across
    it grows by d ln z = |w|^2 mu dt, mu = z . N''(v*) z: it has the size delta^{1 - mu/(L N)} when
    w is of order one. At the saddle it grows at the rate lambda of the loss's steepest descent.
    """
    import jax
    import jax.numpy as jnp
    from flint import arb_mat

    from polarflow.flow.smooth._digit_steps import DigitSession
    from polarflow.flow.smooth._digits import Digits, bits_for

    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((5, 2)), np.abs(rng.standard_normal(5))
    network = Deep((2, 3), (LINEAR, Activation("relu_power", 2.0)), readout="ones")

    def predict(w):
        return jnp.sum(jnp.maximum(w[4:].reshape(3, 2) @ w[:4].reshape(2, 2) @ x.T, 0) ** 2, axis=0)

    def loss(w):
        return jnp.mean((predict(w) - y) ** 2) / 2

    scales, stays = np.array([-12.0, -20.0, -30.0]), []
    aligned = saddle = np.zeros(10)
    rate = 3.0 * float(np.linalg.norm(y))
    for log10_scale in scales:
        initial = sphere(network, 2, log10_scale=log10_scale, seed=3)
        problem = pf.problem(pf.Data(x, y), network, initial)
        digits = Digits(problem, 0.0, bits_for(problem))
        session = DigitSession(digits, digits.start(initial), 1e-9, rate)
        levels = [0.03, 0.0205]
        while levels:
            step = session.step()
            vector = digits.vector(step.new)
            w = np.exp(vector[0]) * vector[1:]
            if vector[0] < -5.0:
                aligned = vector[1:]
            if 1e-9 < session.speed < 1e-6 and len(levels) == 1:
                saddle = w
            if loss(w) > levels[0]:
                continue
            low, high = step.start, step.end
            for _ in range(50):
                middle = 0.5 * (low + high)
                vector = digits.vector(step.at(middle))
                above = loss(np.exp(vector[0]) * vector[1:]) > levels[0]
                low, high = (middle, high) if above else (low, middle)
            there = step.at(high)
            levels.pop(0)
            if levels:
                # The clock is set to zero: the time until here would swallow what follows.
                there = [*there[:-1], arb_mat(1, 1, [0])]
                session = DigitSession(digits, there, 1e-9, rate)
        stays.append(float(digits.time(there)))
    slope = np.diff(stays) / np.diff(-scales * np.log(10.0))
    assert slope[0] == pytest.approx(slope[1], rel=1e-4)
    rates, vectors = np.linalg.eigh(-np.asarray(jax.hessian(loss)(saddle)))
    z = vectors[:, -1]
    bend = np.asarray(jax.hessian(lambda v: jnp.mean(y * predict(v)))(aligned))
    exponent = 1.0 - (z @ bend @ z) / (4.0 * float(jnp.mean(y * predict(aligned))))
    assert slope[1] == pytest.approx(exponent / rates[-1], rel=1e-3)


@pytest.mark.parametrize("seed", [0, 9, 39])
def test_a_slow_valley_that_is_left_slowly_is_followed_in_floats(seed: int) -> None:
    # The force falls below e^-12 of what it could be, but what grows there grows as slowly.
    rng, square = np.random.default_rng(seed), Activation("relu_power", power=2)
    x, y = rng.standard_normal((6, 2)), np.abs(rng.standard_normal(6))
    network = Deep((3, 3), (square, square), readout="ones")
    start = gaussian(network, 2, scale=0.4, seed=seed)
    times = [30.0, 100.0, 300.0]
    flow = pf.gradient_flow(
        pf.problem(pf.Data(x, y), network, start, loss=Square()),
        stop=pf.Stop(time=times[-1]), rtol=1e-9, record_times=times, points=10,
    )  # fmt: skip

    def layers(w: np.ndarray) -> tuple[np.ndarray, ...]:
        first, second = w[:6].reshape(3, 2), w[6:].reshape(3, 3)
        z = np.maximum(x @ first.T, 0.0)
        u = np.maximum(z**2 @ second.T, 0.0)
        return second, z, u, y - np.sum(u**2, axis=1)

    def velocity(_: float, w: np.ndarray) -> np.ndarray:
        second, z, u, r = layers(w)
        back = 2.0 * u * r[:, None] / 6.0
        return np.concatenate(
            [((2.0 * z * (back @ second)).T @ x).ravel(), (back.T @ z**2).ravel()]
        )

    w = np.exp(start.log_norm[0]) * start.direction[0]
    exact = solve_ivp(velocity, (0, 300), w, "DOP853", times, rtol=3e-13, atol=1e-18).y.T
    losses = [np.mean(layers(each)[3] ** 2) / 2.0 for each in exact]
    assert flow.status == "ok" and not flow.notes
    np.testing.assert_allclose(np.exp(flow.recorded.log_loss), losses, rtol=1e-7)
