"""The examples of Kumar & Haupt (2024) on deep homogeneous networks, arXiv:2403.08121."""

from .._base import Experiment
from . import _drawing as drawing
from . import _example as example
from . import _near_saddle as near_saddle
from . import _rescaling as rescaling

PAPER = "Kumar & Haupt 2024, deep homogeneous networks"

EXPERIMENTS = (
    Experiment(
        name="deep-homogeneous-fig1",
        title="a 4-homogeneous network aligns with its NCF while the loss hardly changes",
        paper=f"{PAPER}, figure 1",
        setting=example.SETTING,
        claims=example.ALIGNMENT,
        draw=drawing.alignment,
        deviations=example.DEVIATIONS,
    ),
    Experiment(
        name="deep-homogeneous-fig2",
        title="rows of both matrices at start and end: the direction becomes low rank",
        paper=f"{PAPER}, figure 2",
        setting=example.SETTING,
        claims=example.LOW_RANK,
        draw=drawing.rows,
    ),
    Experiment(
        name="deep-homogeneous-fig3",
        title="singular values of both matrices at start and end",
        paper=f"{PAPER}, figure 3",
        setting=example.SETTING,
        claims=example.LOW_RANK,
        draw=drawing.singular_values,
    ),
    Experiment(
        name="deep-homogeneous-fig4",
        title="a deep ReLU network aligns with its NCF while the loss hardly changes",
        paper=f"{PAPER}, figure 4",
        setting=example.RELU_SETTING,
        claims=example.RELU_ALIGNMENT,
        draw=drawing.alignment,
        deviations=example.DEVIATIONS,
    ),
    Experiment(
        name="deep-homogeneous-fig5",
        title="rows of the three matrices at the end: the direction becomes low rank",
        paper=f"{PAPER}, figure 5",
        setting=example.RELU_SETTING,
        claims=example.RELU_LOW_RANK,
        draw=drawing.final_rows,
    ),
    Experiment(
        name="deep-homogeneous-rescaling",
        title="the flow, rescaled, tends to the NCF flow as the start shrinks",
        paper=f"{PAPER}, theorem 5.1",
        setting=rescaling.SETTING,
        claims=rescaling.CLAIMS,
        draw=rescaling.draw,
    ),
    Experiment(
        name="deep-homogeneous-saddle",
        title="near a saddle the small weights follow the NCF flow of its residual",
        paper=f"{PAPER}, theorem 5.3",
        setting=near_saddle.SETTING,
        claims=near_saddle.CLAIMS,
        draw=near_saddle.draw,
    ),
)
