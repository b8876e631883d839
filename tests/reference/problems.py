"""Random problems of every kind that the engine claims, each from its name and a seed."""

from dataclasses import dataclass

import numpy as np

from .inclusion import Path, solve
from .losses import Loss


@dataclass(frozen=True)
class Case:
    """Data x (n, d) and y (n, C), a loss, a slope, and blocks exp(log_scale_j) theta_j."""

    x: np.ndarray
    y: np.ndarray
    loss: str
    reduction: str
    scale: float
    slope: float
    theta: np.ndarray
    log_scale: np.ndarray
    times: tuple[float, ...]

    @property
    def factor(self) -> float:
        return self.scale / len(self.x) if self.reduction == "mean" else self.scale

    @property
    def outputs(self) -> int:
        return self.y.shape[1]

    def weights(self) -> np.ndarray:
        """The start as numbers, (m, C + d)."""
        return self.theta * np.exp(self.log_scale)[:, None]

    def within_reach_of_descent(self) -> bool:
        return bool(self.log_scale.max() > -20 and self.times[-1] < 100)

    def balanced(self) -> bool:
        a, w = self.theta[:, : self.outputs], self.theta[:, self.outputs :]
        return bool(np.abs((a**2).sum(1) - (w**2).sum(1)).max() < 1e-12)

    def start(self) -> np.ndarray:
        """theta in 80-bit floats; a start that is balanced to rounding is balanced."""
        theta = self.theta.astype(np.longdouble)
        if self.balanced():
            a, w = theta[:, : self.outputs], theta[:, self.outputs :]
            a *= (np.sqrt((w**2).sum(1)) / np.sqrt((a**2).sum(1)))[:, None]
        return theta

    def reference(self, times=None, **options) -> Path:
        """The event-located flow in 80-bit floats."""
        return solve(
            self.x,
            Loss(self.loss, self.y, self.factor),
            self.slope,
            self.start(),
            self.log_scale,
            self.times if times is None else times,
            self.outputs,
            **options,
        )


DATA = ("gaussian", "orthogonal", "repeated", "opposite", "zero", "coplanar", "crowded")
STARTS = ("balanced", "unbalanced", "dominated")


def inputs(kind: str, n: int, d: int, rng) -> np.ndarray:
    """n inputs in R^d. "coplanar": triples in planes of R^3, so that three kinks share a line;
    "crowded": more inputs than dimensions on few directions, both signs."""
    x = rng.standard_normal((n, d))
    if kind == "orthogonal":
        q = np.linalg.qr(rng.standard_normal((max(n, d), max(n, d))))[0]
        x = q[:n, :d] * rng.uniform(0.5, 2.0, n)[:, None]
    elif kind == "repeated":
        x[n // 2 :] = x[: n - n // 2] * rng.uniform(0.5, 2.0, n - n // 2)[:, None]
    elif kind == "opposite":
        x[n // 2 :] = -x[: n - n // 2] * rng.uniform(0.5, 2.0, n - n // 2)[:, None]
    elif kind == "zero":
        x[0] = 0.0
    elif kind == "coplanar":
        for first in range(0, n - 2, 3):
            x[first + 2] = x[first : first + 2].T @ rng.uniform(-1.5, 1.5, 2)
    elif kind == "crowded":
        x = rng.standard_normal((d + 1, d))[rng.integers(0, d + 1, n)]
        x *= (rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 2.0, n))[:, None]
    return x


def labels(kind: str, loss: str, n: int, outputs: int, rng) -> np.ndarray:
    """Labels (n, C); classes as +-1, or one-hot for the cross-entropy."""
    if loss == "cross_entropy":
        return np.eye(outputs)[rng.integers(0, outputs, n)]
    y = rng.standard_normal((n, outputs))
    if loss in ("logistic", "exponential"):
        y = np.sign(y)
    if kind == "one sign":
        y = np.abs(y)
    elif kind == "a zero":
        y[0] = 0.0
    return y


def start(kind: str, m: int, d: int, outputs: int, rng) -> np.ndarray:
    """Blocks (m, C + d): |a| = |w|, independent Gaussians, or |a| at most a fifth of |w|."""
    w = rng.standard_normal((m, d))
    a = rng.standard_normal((m, outputs))
    size = np.linalg.norm(w, axis=1) / np.linalg.norm(a, axis=1)
    if kind == "balanced":
        a *= size[:, None]
    elif kind == "dominated":
        a *= (size * rng.uniform(0.02, 0.2, m))[:, None]
    return np.concatenate([a, w], axis=1)


def case(
    seed: int,
    *,
    n: int = 5,
    d: int = 3,
    m: int = 8,
    data: str = "gaussian",
    label: str = "any",
    loss: str = "square",
    slope: float = 0.0,
    begin: str = "balanced",
    outputs: int = 1,
    log10_scale: float = -2.0,
    times: tuple[float, ...] = (1.0, 3.0, 8.0),
) -> Case:
    """A random problem. Directions of the start are rounded to unit vectors of floats."""
    rng = np.random.default_rng([seed, n, d, outputs])
    x = inputs(data, n, d, rng)
    y = labels(label, loss, n, outputs, rng)
    theta = start(begin, m, d, outputs, rng)
    norm = np.linalg.norm(theta, axis=1)
    log_scale = np.log(norm) + log10_scale * np.log(10.0)
    reduction = "mean" if seed % 2 else "sum"
    scale = 1.0 if reduction == "mean" else 1.0 / n
    return Case(x, y, loss, reduction, scale, slope, theta / norm[:, None], log_scale, times)


#: Kinds of problems by name: keywords of `case`.
KINDS: dict[str, dict] = {
    "Gaussian, n > d": dict(n=6),
    "Gaussian, n < d": dict(n=3, d=6),
    "orthogonal": dict(data="orthogonal", n=4, d=6),
    "repeated inputs": dict(data="repeated", n=6),
    "opposite inputs": dict(data="opposite", n=6),
    "a zero input": dict(data="zero"),
    "many kinks in the plane": dict(data="crowded", n=8, d=2),
    "many kinks in space": dict(data="crowded", n=8, d=3),
    "three kinks on a line": dict(data="coplanar", n=6),
    "twenty kinks held at once": dict(n=16, d=24, m=12, times=(2.0, 6.0, 12.0)),
    "labels of one sign": dict(label="one sign"),
    "a zero label": dict(label="a zero"),
    "leaky, slope 0.3": dict(slope=0.3),
    "leaky, slope 0.9": dict(slope=0.9),
    "leaky, opposite inputs": dict(slope=0.3, data="opposite", n=6),
    "absolute value": dict(slope=-1.0),
    "from 1e-40": dict(log10_scale=-40.0, times=(60.0, 140.0, 200.0)),
    "dominated": dict(begin="dominated", log10_scale=-0.5),
    "unbalanced": dict(begin="unbalanced", log10_scale=-0.5),
    "unbalanced, leaky": dict(begin="unbalanced", slope=0.2, log10_scale=-0.5),
    "unbalanced, opposite inputs": dict(begin="unbalanced", data="opposite", n=6, log10_scale=-0.5),
    "correlation": dict(loss="correlation", times=(1.0, 3.0, 5.0)),
    "logistic": dict(loss="logistic"),
    "logistic, leaky, unbalanced": dict(
        loss="logistic", slope=0.3, begin="unbalanced", log10_scale=-0.5
    ),
    "logistic, to time 1e40": dict(
        loss="logistic", n=3, d=5, m=16, log10_scale=-1.0, times=(1e2, 1e15, 1e40)
    ),
    "exponential": dict(loss="exponential"),
    "exponential, to time 1e40": dict(
        loss="exponential", n=3, d=5, m=16, log10_scale=-1.0, times=(1e2, 1e15, 1e40)
    ),
    "two outputs": dict(outputs=2),
    "three outputs, unbalanced": dict(outputs=3, begin="unbalanced", log10_scale=-0.5),
    "two outputs, leaky, repeated": dict(outputs=2, slope=0.3, data="repeated", n=6),
    "cross-entropy": dict(loss="cross_entropy", outputs=3),
    "cross-entropy, to time 1e40": dict(
        loss="cross_entropy", outputs=3, n=3, d=5, m=12, log10_scale=-1.0, times=(1e2, 1e15, 1e40)
    ),
    "cross-entropy, unbalanced": dict(
        loss="cross_entropy", outputs=3, begin="unbalanced", log10_scale=-0.5
    ),
}

#: Kinds whose reference takes more than a few seconds.
LONG = {name for name in KINDS if "1e40" in name or "at once" in name}
