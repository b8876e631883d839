"""Figures and examples of Kumar & Haupt (2024) on two-homogeneous networks, arXiv:2402.09226.

The paper has two versions with different numbers of lemmas. The formulas of u_1|u_2| are lemma E.1
and those of (u_1|u_2| - 1)^2 lemma F.2 of version 1; that all other points are non-branching is
lemma E.2 of version 3.
"""

from typing import Any

from .._base import Experiment
from . import _angles as angles
from . import _branching as branching
from . import _drawing as drawing
from . import _escape as escape
from . import _first_figure as first_figure
from . import _near_saddle as near_saddle
from . import _symmetric as symmetric

PAPER = "Kumar & Haupt 2024, arXiv:2402.09226"

EXPERIMENTS: tuple[Experiment[Any], ...] = (
    Experiment(
        name="two-homogeneous-fig1",
        title="squared ReLU units settle on KKT directions while the loss hardly changes",
        paper=f"{PAPER}, figure 1",
        setting=first_figure.SETTING,
        claims=first_figure.CLAIMS,
        draw=first_figure.draw,
        deviations=first_figure.DEVIATIONS,
    ),
    Experiment(
        name="two-homogeneous-fig2",
        title="the flow of u_1|u_2|: a point that can be left at any time",
        paper=f"{PAPER}, figure 2, lemmas E.1 (v1) and E.2 (v3)",
        setting=branching.SETTING,
        claims=branching.CLAIMS,
        draw=drawing.field_and_family,
    ),
    Experiment(
        name="two-homogeneous-fig3",
        title="squared ReLU in the plane: every angle goes to a KKT point of the NCF",
        paper=f"{PAPER}, figure 3 (v1) with the data of figure 1",
        setting=angles.SETTING,
        claims=angles.CLAIMS,
        draw=angles.draw,
        deviations=angles.DEVIATIONS,
    ),
    Experiment(
        name="two-homogeneous-fig4",
        title="near a saddle the small units go to KKT points of the residual's NCF",
        paper=f"{PAPER}, figure 4 (v3) with the data of figure 1",
        setting=near_saddle.SETTING,
        claims=near_saddle.CLAIMS,
        draw=near_saddle.draw,
        deviations=near_saddle.DEVIATIONS,
    ),
    Experiment(
        name="two-homogeneous-escape",
        title="the flow of (u_1|u_2| - 1)^2 leaves a saddle in constant time",
        paper=f"{PAPER}, lemmas F.1 and F.2 (v1)",
        setting=escape.SETTING,
        claims=escape.CLAIMS,
        draw=drawing.escape,
    ),
    Experiment(
        name="two-homogeneous-symmetric",
        title="symmetric data: the KKT points of the NCF in closed form",
        paper=f"{PAPER}, appendix G (v3)",
        setting=symmetric.SETTING,
        claims=symmetric.CLAIMS,
        draw=symmetric.draw,
    ),
)
