"""Figures and examples of Kumar & Haupt (2024) on two-homogeneous networks, arXiv:2402.09226.

The paper has two versions with different numbers of lemmas. The formulas of u_1|u_2| are lemma E.1
and those of (u_1|u_2| - 1)^2 lemma F.2 of version 1; that all other points are non-branching is
lemma E.2 of version 3.
"""

from typing import Any

from .._base import Experiment
from . import _branching as branching
from . import _drawing as drawing
from . import _escape as escape

PAPER = "Kumar & Haupt 2024, arXiv:2402.09226"

EXPERIMENTS: tuple[Experiment[Any], ...] = (
    Experiment(
        name="two-homogeneous-fig2",
        title="the flow of u_1|u_2|: a point that can be left at any time",
        paper=f"{PAPER}, figure 2, lemmas E.1 (v1) and E.2 (v3)",
        setting=branching.SETTING,
        claims=branching.CLAIMS,
        draw=drawing.field_and_family,
    ),
    Experiment(
        name="two-homogeneous-escape",
        title="the flow of (u_1|u_2| - 1)^2 leaves a saddle in constant time",
        paper=f"{PAPER}, lemmas F.1 and F.2 (v1)",
        setting=escape.SETTING,
        claims=escape.CLAIMS,
        draw=drawing.escape,
    ),
)
