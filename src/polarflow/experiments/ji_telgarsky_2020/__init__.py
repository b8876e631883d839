"""Ji & Telgarsky (2020), Directional convergence and alignment in deep learning."""

from typing import Any

from .._base import Experiment
from . import _deep_linear as deep_linear
from . import _local_guarantee as local_guarantee
from . import _mexican_hat as mexican_hat
from . import _surfaces as surfaces

PAPER = "Ji & Telgarsky 2020, arXiv:2006.06657"

EXPERIMENTS: tuple[Experiment[Any], ...] = (
    Experiment(
        name="directional-fig1",
        title="prediction surfaces of a wide network: its NTK, at first perfect accuracy, and late",
        paper=f"{PAPER}, figure 1",
        setting=surfaces.SETTING,
        claims=surfaces.CLAIMS,
        draw=surfaces.draw,
    ),
    Experiment(
        name="directional-deep-linear",
        title="a deep linear network becomes rank one and aligned, in the direction of the SVM",
        paper=f"{PAPER}, proposition 4.4",
        setting=deep_linear.SETTING,
        claims=deep_linear.CLAIMS,
        draw=deep_linear.draw,
    ),
    Experiment(
        name="directional-local-guarantee",
        title="squared ReLU: the limit margin is the best of its own directions",
        paper=f"{PAPER}, proposition 4.6",
        setting=local_guarantee.SETTING,
        claims=local_guarantee.CLAIMS,
        draw=local_guarantee.draw,
    ),
    Experiment(
        name="directional-mexican-hat",
        title="a smooth homogeneous function on which the direction winds without end",
        paper=f"{PAPER}, section 1.1, after Lyu & Li 2020, appendix J",
        setting=mexican_hat.SETTING,
        claims=mexican_hat.CLAIMS,
        draw=mexican_hat.draw,
    ),
)
