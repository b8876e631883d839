"""The neural correlation function on the sphere of hidden weights, with its KKT points.

Drawing functions take given Axes; `draw_ncf` chooses what applies and writes files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..ncf import KKTPoint, KKTSet
    from ..networks import Network, TwoLayer

MARKERS = {"maximum": ("^", style.POSITIVE), "saddle": ("o", "white"), "minimum": ("v", style.GREY)}
_NAMES = {"maximum": "maximum", "saddle": "saddle", "minimum": "minimum"}
_SAMPLES = 4001
_MANY_KINKS = 80


@dataclass(frozen=True, eq=False)
class Profile:
    """N as a function of the unit vector u of a block's hidden weights.

    **Attributes:**

    - `label`: of the profile.
    - `of`: N for unit vectors, `(m, d)` to `(m,)`.
    - `points`: the KKT points that it shows.
    - `hidden`: their unit vectors u, shape `(points, d)`.
    """

    label: str
    of: Callable[[ndarray], ndarray]
    points: "Sequence[KKTPoint]"
    hidden: Float[ndarray, "points d"]


def profiles(
    found: "KKTSet", network: "Network | TwoLayer", x: ndarray, z: ndarray
) -> list[Profile]:
    """N on the sphere of hidden weights, for blocks that are a neuron or a unit.

    A two-layer neuron is shown balanced, |a| = |w|, once for each sign of a; its KKT points with
    a = 0 stand on both, those with w = 0 on neither.
    """
    from ..networks import SquaredRelu, TwoLayer

    if isinstance(network, TwoLayer) and z.ndim == 1:
        slope = network.slope

        def values(u: ndarray) -> ndarray:
            t = u @ x.T
            return np.asarray(np.maximum(t, slope * t) @ z) / 2

        made = []
        for sign in (1.0, -1.0):
            mine = [p for p in found.points if sign * p.direction[0] >= 0 and p.direction[1:].any()]
            hidden = np.array([p.direction[1:] for p in mine]).reshape(len(mine), x.shape[1])
            hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
            label = "a = +|w|" if sign > 0 else "a = \N{MINUS SIGN}|w|"
            made.append(Profile(label, lambda u, s=sign: s * values(u), mine, hidden))  # type: ignore[misc]
        return made
    if isinstance(network, SquaredRelu):
        made = []
        for unit in sorted({p.sign or 1 for p in found.points}, reverse=True):
            mine = [p for p in found.points if (p.sign or 1) == unit]
            hidden = np.array([p.direction for p in mine])
            label = "s = +1" if unit > 0 else "s = \N{MINUS SIGN}1"
            made.append(
                Profile(
                    label,
                    lambda u, s=unit: s * (np.maximum(u @ x.T, 0.0) ** 2 @ z),  # type: ignore[misc]
                    mine,
                    hidden,
                )
            )
        return made
    return []


def draw_circle(ax: "Axes", profile: Profile, kinks: ndarray | None = None) -> None:
    """N over the angle of u in the plane, its KKT points, and the basins of its maxima.

    The strip below the curve has the colour of the maximum that the flow climbs to.

    **Arguments:**

    - `ax`: where to draw.
    - `profile`: of unit vectors in the plane.
    - `kinks`: angles of kinks to mark.
    """
    angle = np.linspace(-np.pi, np.pi, _SAMPLES)
    value = profile.of(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    if kinks is not None and len(kinks) <= _MANY_KINKS:
        for at in kinks:
            ax.axvline(at, color=style.BAND, lw=0.6, zorder=0)
    ax.axhline(0.0, color=style.GREY, lw=0.5, zorder=0)
    ax.plot(angle, value, color=style.LOSS, lw=1.0)
    _basins(ax, angle, value)
    mark(ax, np.arctan2(profile.hidden[:, 1], profile.hidden[:, 0]), profile.points)
    ax.set_xlim(-np.pi, np.pi)
    ax.set_xticks(
        [-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi],
        ["\N{MINUS SIGN}π", "\N{MINUS SIGN}π/2", "0", "π/2", "π"],
    )
    ax.set_xlabel("angle of the hidden weight")
    ax.set_ylabel("N")


def mark(ax: "Axes", place: ndarray, points: "Sequence[KKTPoint]") -> None:
    """KKT points at the given abscissae, by type; one of a flat set is drawn hollow."""
    small = 14 if len(points) > 60 else 26
    for kind, (marker, colour) in MARKERS.items():
        mine = [i for i, p in enumerate(points) if p.type == kind]
        if not mine:
            continue
        face = ["none" if points[i].dimension else colour for i in mine]
        ax.scatter(
            place[mine],
            [points[i].value for i in mine],
            marker=marker,
            s=small,
            facecolors=face,
            edgecolors=style.LOSS,
            linewidths=0.6,
            zorder=3,
            label=_NAMES[kind],
            clip_on=False,
        )


def _basins(ax: "Axes", angle: ndarray, value: ndarray) -> None:
    """A strip of one colour for every maximum, from minimum to minimum; none where N is flat."""
    from matplotlib import colormaps
    from matplotlib.transforms import blended_transform_factory

    y = value[:-1]
    scale = np.abs(y).max()
    rise = np.roll(y, -1) - y
    rise[np.abs(rise) <= 1e-12 * scale] = 0.0
    moving = np.sign(rise)
    # A basin begins where N turns from falling or flat to rising.
    n = len(y)
    starts = [i for i in range(n) if moving[i] > 0 and moving[i - 1] <= 0]
    place = blended_transform_factory(ax.transData, ax.transAxes)
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    step = angle[1] - angle[0]
    for number, first in enumerate(starts):
        last = first
        while moving[last % n] > 0:
            last += 1
        while moving[last % n] < 0:
            last += 1
        for left, right in ((first, min(last, n)), (0, last - n)):
            if right > left:
                ax.fill_between(
                    [angle[0] + left * step, angle[0] + right * step],
                    0.0,
                    0.035,
                    color=colours[number % 20],
                    lw=0,
                    transform=place,
                )


def draw_sphere(ax: Any, profile: Profile, elevation: float, azimuth: float) -> Any:
    """N on the unit sphere of R^3 seen from one side, with the KKT points on that side."""
    from matplotlib import colormaps
    from matplotlib.colors import TwoSlopeNorm

    theta, phi = np.meshgrid(np.linspace(0, np.pi, 61), np.linspace(0, 2 * np.pi, 121))
    grid = np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1
    )
    value = profile.of(grid.reshape(-1, 3)).reshape(theta.shape)
    size = np.abs(value).max() or 1.0
    norm = TwoSlopeNorm(0.0, -size, size)
    ax.plot_surface(
        *grid.transpose(2, 0, 1),
        facecolors=colormaps["RdBu"](norm(value)),
        rstride=1,
        cstride=1,
        shade=False,
        antialiased=False,
        rasterized=True,
    )
    level = np.deg2rad(elevation)
    turn = np.deg2rad(azimuth)
    eye = np.array([np.cos(level) * np.cos(turn), np.cos(level) * np.sin(turn), np.sin(level)])
    for kind, (marker, colour) in MARKERS.items():
        mine = [
            i
            for i, p in enumerate(profile.points)
            if p.type == kind and profile.hidden[i] @ eye > 0.0
        ]
        if mine:
            at = 1.03 * profile.hidden[mine]
            face = ["none" if profile.points[i].dimension else colour for i in mine]
            ax.scatter(
                *at.T,
                marker=marker,
                s=22,
                facecolors=face,
                edgecolors=style.LOSS,
                linewidths=0.6,
                depthshade=False,
                zorder=10,
            )
    ax.view_init(elevation, azimuth)
    ax.set_box_aspect((1, 1, 1), zoom=1.5)
    ax.set_axis_off()
    return norm


def draw_shares(ax: "Axes", found: "KKTSet") -> None:
    """The value of each KKT point against the share of random directions that end there."""
    points = [p for p in found.points if p.share is not None]
    for kind, (marker, colour) in MARKERS.items():
        mine = [p for p in points if p.type == kind]
        if mine:
            ax.scatter(
                [p.value for p in mine],
                [p.share or 0.0 for p in mine],
                marker=marker,
                s=22,
                facecolors=["none" if p.dimension else colour for p in mine],
                edgecolors=style.LOSS,
                linewidths=0.6,
                label=_NAMES[kind],
                clip_on=False,
            )
    ax.set_xlabel("N at the KKT point")
    ax.set_ylabel("share of starts")
    ax.set_ylim(bottom=0.0)
    ax.legend(loc="best")


def draw_field(ax: "Axes", profile: Profile) -> None:
    """The gradient of N in the plane of hidden weights, for a block of order two.

    A balanced two-layer neuron moves along it too, with |a| = |w|. Arrows have the length of the
    gradient; the unit circle and the KKT directions stand out.
    """
    grid = np.linspace(-1.3, 1.3, 21)
    w = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    def value(at: ndarray) -> ndarray:
        size = np.linalg.norm(at, axis=1)
        safe = np.where(size > 0, size, 1.0)
        return np.asarray(size**2 * profile.of(at / safe[:, None]))

    step = 1e-6
    shift = step * np.eye(2)
    right, up = ((value(w + s) - value(w - s)) / (2 * step) for s in shift)
    ax.quiver(w[:, 0], w[:, 1], right, up, color=style.GREY, angles="xy", width=0.003)
    turn = np.linspace(0, 2 * np.pi, 400)
    ax.plot(np.cos(turn), np.sin(turn), color=style.LOSS, lw=0.6)
    for kind, (marker, colour) in MARKERS.items():
        mine = [i for i, p in enumerate(profile.points) if p.type == kind]
        face = ["none" if profile.points[i].dimension else colour for i in mine]
        if mine:
            ax.scatter(
                profile.hidden[mine, 0],
                profile.hidden[mine, 1],
                marker=marker,
                s=26,
                facecolors=face,
                edgecolors=style.LOSS,
                linewidths=0.6,
                zorder=3,
            )
    ax.set_aspect("equal")
    ax.set_xlabel("$w_1$")
    ax.set_ylabel("$w_2$")


def ncf_figures(
    found: "KKTSet", network: "Network | TwoLayer", x: ndarray, z: ndarray
) -> "dict[str, Figure]":
    """The figures that apply, by name.

    `circle` and `field` for a neuron or unit on inputs in the plane, `sphere` in R^3, and `shares`
    where flows were followed.
    """
    figures: dict[str, Figure] = {}
    shown = profiles(found, network, x, z)
    dimension = x.shape[1]
    if shown and dimension == 2:
        figures["circle"] = _circle(shown, x, z)
        figures["field"] = _field(shown)
    elif shown and dimension == 3:
        figures["sphere"] = _sphere(shown[0])  # the other is its negative
    if any(p.share is not None for p in found.points):
        figure, (ax,) = style.new_figure()
        with style.style():
            draw_shares(ax, found)
        figures["shares"] = figure
    elif not figures:
        figures["values"] = _values(found)
    return figures


def draw_ncf(
    found: "KKTSet", network: "Network | TwoLayer", x: ndarray, z: ndarray, folder: str | Path
) -> list[Path]:
    """Draw all figures that apply and write them to `folder` as PDF and PNG; returns the paths."""
    return [
        path
        for name, figure in ncf_figures(found, network, x, z).items()
        for path in style.save(figure, folder, name)
    ]


def _circle(shown: Sequence[Profile], x: ndarray, z: ndarray) -> "Figure":
    bent = x[(z != 0) & x.any(axis=1)]
    normal = np.arctan2(bent[:, 1], bent[:, 0])
    kinks = np.concatenate([normal + np.pi / 2, normal - np.pi / 2])
    kinks = (kinks + np.pi) % (2 * np.pi) - np.pi
    figure, axes = style.new_figure(style.COLUMN * 1.25, 2.2 * len(shown) + 0.4, rows=len(shown))
    with style.style():
        for ax, profile in zip(axes, shown, strict=True):
            draw_circle(ax, profile, kinks)
            if len(shown) > 1:
                ax.set_title(profile.label)
            if ax is not axes[-1]:
                ax.set_xlabel("")
        handles = {h.get_label(): h for ax in axes for h in ax.get_legend_handles_labels()[0]}
        figure.legend(handles=list(handles.values()), loc="outside upper right", ncols=len(handles))
    return figure


def _field(shown: Sequence[Profile]) -> "Figure":
    figure, axes = style.new_figure(3.1 * len(shown), 3.0, columns=len(shown))
    with style.style():
        for ax, profile in zip(axes, shown, strict=True):
            draw_field(ax, profile)
            ax.set_title(profile.label)
    return figure


def _sphere(profile: Profile) -> "Figure":
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    kw = {"projection": "3d", "computed_zorder": False}
    figure, axes = style.new_figure(5.6, 2.7, columns=2, subplot_kw=kw)
    with style.style():
        for ax, (elevation, azimuth) in zip(axes, ((25.0, -60.0), (-25.0, 120.0)), strict=True):
            norm = draw_sphere(ax, profile, elevation, azimuth)
        figure.colorbar(
            ScalarMappable(norm, colormaps["RdBu"]),
            ax=axes,
            shrink=0.7,
            label=f"N, {profile.label}",
        )
    return figure


def _values(found: "KKTSet") -> "Figure":
    """The values alone, in order."""
    figure, (ax,) = style.new_figure()
    with style.style():
        mark(ax, np.arange(1.0, len(found.points) + 1), found.points)
        ax.set_xlabel("KKT point, by falling value")
        ax.set_ylabel("N")
        ax.legend(loc="best")
    return figure
