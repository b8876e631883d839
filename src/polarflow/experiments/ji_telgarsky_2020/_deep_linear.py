"""Proposition 4.4: a three-layer linear network on separable data, to a loss of e^-1e10."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .._base import Claim
from .._flow import finished

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution

EXAMPLES, DIMENSION, WIDTH, LOG_LOSS = 30, 4, 5, -1e10


@dataclass(frozen=True)
class Setting:
    """Gaussian inputs labelled by a hyperplane; a Gaussian start of standard deviation 0.3."""

    seed: int

    def problem(self, seed: int) -> "Problem":
        """The problem for one seed."""
        from ...data import Data
        from ...flow import problem
        from ...losses import Exponential
        from ...networks import Activation, Deep, gaussian

        rng = np.random.default_rng([seed, 3])
        x = rng.standard_normal((EXAMPLES, DIMENSION))
        y = np.sign(x @ rng.standard_normal(DIMENSION))
        network = Deep((WIDTH, WIDTH), (Activation("linear"),) * 2)
        initial = gaussian(network, DIMENSION, scale=0.3, seed=seed)
        return problem(Data(x, y, name="a hyperplane"), network, initial, loss=Exponential("mean"))

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        from ... import Stop, gradient_flow

        problem = self.problem(self.seed)
        stop = Stop(log_loss=LOG_LOSS)
        solution = gradient_flow(problem, stop=stop, rtol=1e-8, points=200, progress=progress)
        return Evidence(self, problem, finished(solution))


@dataclass(frozen=True)
class Evidence:
    """The flow, and the SVM."""

    setting: Setting
    problem: "Problem"
    solution: "Solution"

    @cached_property
    def _program(self) -> tuple[ndarray, ndarray, float]:
        """The unit vector of largest margin, the dual's weights with sum 1, and the margin.

        min |w|^2 with z w >= 1 is a problem of least distance (Lawson & Hanson, 1974).
        """
        from scipy.optimize import nnls

        z = self._signed
        matrix = np.vstack([z.T, np.ones(len(z))])
        target = np.append(np.zeros(DIMENSION), 1.0)
        weight, _ = nnls(matrix, target)
        residual = matrix @ weight - target
        w = np.asarray(-residual[:-1] / residual[-1])
        size = float(np.linalg.norm(w))
        return w / size, weight / weight.sum(), 1.0 / size

    @property
    def _signed(self) -> ndarray:
        return np.asarray(self.problem.data.y[:, None] * self.problem.data.x)

    @property
    def svm(self) -> ndarray:
        """The unit vector of largest margin."""
        return self._program[0]

    @cached_property
    def rate(self) -> float:
        r"""The limit of the angle to the SVM times -ln loss.

        The residual's distribution tends to the dual's weights p. With the end-to-end vector
        $|u| (v + D/|u|)$ it is proportional to $e^{-z_k \cdot D}$ on the support vectors, so that
        $z_k \cdot D = c - \ln p_k$, D orthogonal to the SVM's v (Soudry et al., 2018),
        and -ln loss is |u| times the margin. There are as many support vectors as dimensions.
        """
        v, p, margin = self._program
        on = p > 1e-12
        system = np.column_stack([self._signed[on], -np.ones(on.sum())])
        system = np.vstack([system, np.append(v, 0.0)])
        found, *_ = np.linalg.lstsq(system, np.append(-np.log(p[on]), 0.0), rcond=None)
        return margin * float(np.linalg.norm(found[:-1]))

    def matrices(self, k: int) -> list[ndarray]:
        """The three matrices, of the unit direction, at one time of the trajectory."""
        return self.problem.network.matrices(  # type: ignore[union-attr]
            self.solution.trajectory.direction[k, 0], DIMENSION
        )

    def angle(self, k: int) -> float:
        """The angle of the end-to-end vector and the SVM, in radians."""
        first, second, last = self.matrices(k)
        product = (last @ second @ first)[0]
        unit = product / np.linalg.norm(product)
        half = float(np.linalg.norm(unit - self.svm)) / 2.0
        return 2.0 * float(np.arcsin(min(half, 1.0)))

    def second_values(self, k: int) -> list[float]:
        """The second singular value over the first, of the two hidden matrices."""
        values = [np.linalg.svd(m, compute_uv=False) for m in self.matrices(k)[:2]]
        return [float(v[1] / v[0]) for v in values]

    def misalignment(self, k: int) -> float:
        """1 minus the least cosine between the top singular vectors of neighbouring layers."""
        found = []
        matrices = self.matrices(k)
        for low, high in zip(matrices[:-1], matrices[1:], strict=True):
            u = np.linalg.svd(low)[0][:, 0]
            v = np.linalg.svd(high)[2][0]
            found.append(1.0 - abs(float(u @ v)))
        return max(found)

    def parameters(self) -> dict[str, Any]:
        return {
            "network": f"linear, {DIMENSION}-{WIDTH}-{WIDTH}-1",
            "data": f"{EXAMPLES} Gaussian inputs labelled by a random hyperplane",
            "initial_scale": 0.3,
            "loss": "exponential, mean",
            "log_loss": LOG_LOSS,
            "rtol": 1e-8,
            "seed": self.setting.seed,
        }

    def comparison(self) -> list[dict[str, Any]]:
        return []

    def work(self) -> dict[str, Any]:
        return dict(self.solution.summary()["work"])


SETTING = Setting(seed=0)


def svm_direction(e: Evidence) -> Claim:
    """The end-to-end direction is that of the hard-margin SVM."""
    return Claim(
        name="svm-direction",
        statement="The angle of the end-to-end vector and the SVM at the end, in radians.",
        measured=e.angle(-1),
        bound=1e-9,
        relation="<=",
        reason="The angle falls like a constant over -ln loss: see the rate.",
    )


def svm_rate(e: Evidence) -> Claim:
    """The angle falls like the known constant over -ln loss."""
    fall = -float(e.solution.trajectory.log_loss[-1])
    return Claim(
        name="svm-rate",
        statement="The angle times -ln loss at the end, over the limit given by the SVM's dual "
        "(Soudry et al., 2018), less 1.",
        measured=abs(e.angle(-1) * fall / e.rate - 1.0),
        bound=1e-3,
        relation="<=",
        reason="Corrections are smaller by |w|^-2; the angle itself is known to some 1e-16.",
    )


def rank_one(e: Evidence) -> Claim:
    """The layers become rank one."""
    return Claim(
        name="rank-one",
        statement="The largest ratio of the second singular value to the first at the end.",
        measured=max(e.second_values(-1)),
        bound=1e-1,
        relation="<=",
        reason="What is conserved, W W^T - W^T W, is of order one against |w|^2 of the order 1e7.",
    )


def aligned(e: Evidence) -> Claim:
    """Neighbouring layers are aligned."""
    return Claim(
        name="layers-aligned",
        statement="1 minus the least cosine of neighbouring layers' top singular vectors.",
        measured=e.misalignment(-1),
        bound=1e-3,
        relation="<=",
        reason="The same quantity, divided by |w|^2, squared.",
    )


CLAIMS = (svm_direction, svm_rate, rank_one, aligned)


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """The angle to the SVM and the second singular values against -ln loss."""
    from ...plotting.style import COLUMN, new_figure, save, style

    fall = -e.solution.trajectory.log_loss
    late = np.flatnonzero(fall > 1.0).tolist()
    figure, axes = new_figure(2 * COLUMN, 2.5, 1, 2)
    with style():
        axes[0].plot(fall[late], [e.angle(k) for k in late], color="black")
        axes[0].plot(fall[late], e.rate / fall[late], color="black", linestyle=":", label="limit")
        axes[0].legend()
        axes[0].set_ylabel("angle to the SVM [rad]")
        axes[1].plot(fall[late], [e.second_values(k) for k in late], label=["$W_1$", "$W_2$"])
        axes[1].set_ylabel(r"$\sigma_2/\sigma_1$")
        axes[1].legend()
        for ax in axes:
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel(r"$-\ln$ loss")
    return save(figure, folder, "deep-linear")
