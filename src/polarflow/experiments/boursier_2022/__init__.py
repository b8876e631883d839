"""Figures 2 to 7 of Boursier, Pillaud-Vivien & Flammarion (2022), arXiv:2206.00939v3."""

from typing import Any

from .._base import Experiment
from . import _drawing as drawing
from . import _five_points as five_points
from . import _high_dimension as high_dimension
from . import _high_dimension_claims as high_claims
from . import _high_dimension_drawing as high_drawing
from . import _lazy as lazy
from . import _timeline as timeline
from . import _two_point_loss as two_point_loss
from . import _two_points as two_points

PAPER = "Boursier, Pillaud-Vivien & Flammarion 2022, arXiv:2206.00939v3"

EXPERIMENTS: tuple[Experiment[Any], ...] = (
    Experiment(
        name="orthogonal-relu-fig2",
        title="two orthogonal points: neurons align, then grow in two groups",
        paper=f"{PAPER}, figure 2",
        setting=two_points.SETTING,
        claims=two_points.CLAIMS,
        draw=drawing.two_point_states,
        deviations=two_points.DEVIATIONS,
    ),
    Experiment(
        name="orthogonal-relu-fig3",
        title="two orthogonal points: the loss goes from saddle to saddle",
        paper=f"{PAPER}, figure 3",
        setting=two_points.SETTING,
        claims=two_point_loss.CLAIMS,
        draw=drawing.two_point_loss,
    ),
    Experiment(
        name="orthogonal-relu-fig4",
        title="five points that are not orthogonal: neurons turn while they grow",
        paper=f"{PAPER}, figure 4",
        setting=five_points.SETTING,
        claims=five_points.CLAIMS,
        draw=drawing.five_point_states,
        deviations=five_points.DEVIATIONS,
    ),
    Experiment(
        name="orthogonal-relu-fig5",
        title="five points from a large initialisation: the lazy regime",
        paper=f"{PAPER}, figure 5",
        setting=lazy.SETTING,
        claims=lazy.CLAIMS,
        draw=drawing.lazy_states,
    ),
    Experiment(
        name="orthogonal-relu-fig6",
        title="nearly orthogonal data in high dimension: two clusters grow in turn",
        paper=f"{PAPER}, figure 6",
        setting=high_dimension.SETTING,
        claims=high_claims.STATES,
        draw=high_drawing.states,
        deviations=high_claims.STATE_DEVIATIONS,
    ),
    Experiment(
        name="orthogonal-relu-fig7",
        title="nearly orthogonal data in high dimension: loss and principal components",
        paper=f"{PAPER}, figure 7",
        setting=high_dimension.SETTING,
        claims=high_claims.LOSS,
        draw=high_drawing.loss_and_variance,
        deviations=high_claims.LOSS_DEVIATIONS,
    ),
    Experiment(
        name="orthogonal-relu-timeline",
        title="orthonormal inputs: the phases' times as the initialisation vanishes",
        paper=f"{PAPER}, lemmas 2 to 5 and theorem 1",
        setting=timeline.SETTING,
        claims=timeline.CLAIMS,
        draw=timeline.draw,
    ),
)
