"""Appendix G: symmetric data, for which the KKT points of the NCF are known in closed form."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base import Claim

if TYPE_CHECKING:
    from ... import Progress
    from ...ncf import KKTSet

ROUNDING = 1e-12
SLOPE = 0.2


@dataclass(frozen=True)
class Symmetric:
    """Half of the inputs is Gaussian, the other half its negative.

    **Attributes:**

    - `half`: the number of inputs drawn.
    - `dimension`: their length.
    - `seed`: of the draws.
    """

    half: int
    dimension: int
    seed: int

    def gather(
        self, quick: bool, progress: "Callable[[Progress], None] | None"
    ) -> "SymmetricEvidence":
        """Enumerate the KKT points of the three NCFs."""
        from ...ncf import squared_points, two_layer_points

        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal((self.half, self.dimension))
        y = rng.standard_normal(self.half)
        basis = np.linalg.qr(rng.standard_normal((self.dimension, self.dimension)))[0]
        repeated = np.array([2.0, *[1.0] * (self.dimension - 1)])
        both, even, odd = np.concatenate([x, -x]), np.tile(y, 2), np.concatenate([y, -y])
        return SymmetricEvidence(
            self,
            x,
            y,
            squared_points(both, even),
            squared_points(np.concatenate([basis, -basis]), np.tile(repeated, 2)),
            {slope: two_layer_points(both, odd, slope) for slope in (0.0, SLOPE)},
        )


@dataclass(frozen=True, eq=False)
class SymmetricEvidence:
    """The KKT points.

    **Attributes:**

    - `setting`, `x`, `y`: the inputs and labels drawn; the data are x and -x.
    - `even`: one squared-ReLU unit on y(-x) = y(x).
    - `repeated`: the same on an orthonormal basis with labels 2, 1, ..., 1.
    - `odd`: one two-layer neuron on y(-x) = -y(x), for each slope.
    """

    setting: Symmetric
    x: np.ndarray
    y: np.ndarray
    even: "KKTSet"
    repeated: "KKTSet"
    odd: "dict[float, KKTSet]"

    @property
    def matrix(self) -> np.ndarray:
        """sum_k y_k x_k x_k^T over half of the data."""
        return (self.x * self.y[:, None]).T @ self.x

    def parameters(self) -> dict[str, Any]:
        """The data."""
        return {
            "x": self.x.tolist(),
            "y": self.y.tolist(),
            "data": "x and -x, with labels y and y, or y and -y",
            "slopes": list(self.odd),
            "seed": self.setting.seed,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """Nothing is compared."""
        return []

    def work(self) -> dict[str, Any]:
        """How many faces were looked at."""
        sets = (self.even, self.repeated, *self.odd.values())
        return {"faces": sum(found.proof["faces"] for found in sets)}


SETTING = Symmetric(half=6, dimension=3, seed=0)


def eigenvectors(e: SymmetricEvidence) -> Claim:
    """G.1: the KKT points are the eigenvectors."""
    values, vectors = np.linalg.eigh(e.matrix)
    expected = [(v, s * q) for v, q in zip(values, vectors.T, strict=True) for s in (1.0, -1.0)]
    points = e.even.points
    worst = max(
        min(np.linalg.norm(p.direction - q) + abs(p.value - v) / np.abs(values).max()
            for p in points)
        for v, q in expected
    )  # fmt: skip
    return Claim(
        name="even-labels-eigenvectors",
        statement=(
            "Equal labels at x and -x, one squared-ReLU unit: every eigenvector +-q of "
            "sum_k y_k x_k x_k^T is a KKT point and its value the eigenvalue; the largest distance."
        ),
        measured=float(worst),
        bound=ROUNDING,
        relation="<=",
        reason="rounding",
    )


def no_others(e: SymmetricEvidence) -> Claim:
    """G.1: there are no others."""
    return Claim(
        name="even-labels-no-others",
        statement="There are no other KKT points: their number, all cells enumerated.",
        measured=float(len(e.even.points) if e.even.complete else np.nan),
        bound=float(2 * e.setting.dimension),
        relation="==",
        reason="2 d eigenvectors, as the eigenvalues of Gaussian data are distinct",
    )


def eigenspace(e: SymmetricEvidence) -> Claim:
    """G.1 with a repeated eigenvalue."""
    flat = [p for p in e.repeated.points if abs(p.value - 1.0) < ROUNDING]
    whole = len(flat) == 1 and len(e.repeated.points) == 3 and e.repeated.complete
    return Claim(
        name="repeated-eigenvalue-flat",
        statement=(
            "A repeated eigenvalue gives the unit sphere of its eigenspace, one flat set: its "
            "dimension."
        ),
        measured=float(flat[0].dimension if whole else np.nan),
        bound=float(e.setting.dimension - 2),
        relation="==",
        reason="d - 1 equal eigenvalues, a sphere of dimension d - 2",
    )


def odd_points(e: SymmetricEvidence) -> Claim:
    """G.2: four points with N != 0."""
    worst = 0.0
    for slope, found in e.odd.items():
        q = (1.0 + slope) * e.y @ e.x
        size = float(np.linalg.norm(q))
        expected = [
            (0.5 * a * s * size, np.append(a, s * q / size) / np.sqrt(2.0))
            for a in (1.0, -1.0)
            for s in (1.0, -1.0)
        ]
        moving = [p for p in found.points if p.value != 0.0]
        if len(moving) != 4 or not found.complete:
            worst = np.nan
            break
        worst = max(
            worst,
            *(
                min(
                    float(np.linalg.norm(p.direction - v)) + abs(p.value - n) / size for p in moving
                )
                for n, v in expected
            ),
        )
    return Claim(
        name="odd-labels-four-points",
        statement=(
            "Opposite labels at x and -x, one two-layer (leaky) ReLU neuron: the KKT points with "
            "N != 0 are (+-1, +-q/|q|)/sqrt(2), and no others; the largest distance."
        ),
        measured=float(worst),
        bound=ROUNDING,
        relation="<=",
        reason="rounding",
    )


def odd_flat(e: SymmetricEvidence) -> Claim:
    """G.2: the flat set."""
    dimensions = set()
    for found in e.odd.values():
        q = e.y @ e.x
        rest = [p for p in found.points if p.value == 0.0]
        on = all(
            p.direction[0] == 0.0 and abs(p.direction[1:] @ q) <= ROUNDING * np.linalg.norm(q)
            for p in rest
        )
        dimensions.add(rest[0].dimension if on and len(rest) == 1 else np.nan)
    return Claim(
        name="odd-labels-flat-set",
        statement=(
            "The other KKT points are those with v = 0 and u orthogonal to q, one flat set: its "
            "dimension."
        ),
        measured=float(dimensions.pop() if len(dimensions) == 1 else np.nan),
        bound=float(e.setting.dimension - 2),
        relation="==",
        reason="the unit sphere of a hyperplane of R^d",
    )


CLAIMS = (eigenvectors, no_others, eigenspace, odd_points, odd_flat)


def draw(e: SymmetricEvidence, folder: Path, quick: bool) -> list[Path]:
    """N on the sphere, both cases; the flat set is the equator of the second."""
    from ...networks import SquaredRelu, TwoLayer
    from ...plotting import style
    from ...plotting.correlation import draw_sphere, profiles

    both = np.concatenate([e.x, -e.x])
    (even,) = profiles(e.even, SquaredRelu(1), both, np.tile(e.y, 2))
    odd, _ = profiles(e.odd[0.0], TwoLayer(1), both, np.concatenate([e.y, -e.y]))
    kw = {"projection": "3d", "computed_zorder": False}
    figure, axes = style.new_figure(style.PAGE, 2.1, columns=4, subplot_kw=kw)
    with style.style():
        sides = ((25.0, -60.0), (-25.0, 120.0))
        for pair, profile, title in (
            (axes[:2], even, "equal labels, squared ReLU"),
            (axes[2:], odd, "opposite labels, two layers, a = |w|"),
        ):
            for ax, (elevation, azimuth) in zip(pair, sides, strict=True):
                draw_sphere(ax, profile, elevation, azimuth)
            pair[0].set_title(title)
    return style.save(figure, folder, "symmetric")
