"""The field and the flows of the two examples in the plane."""

from pathlib import Path

import numpy as np

from . import _branching as branching
from . import _escape as escaping
from ._plane import descended

VIEW = 1.6


def field_and_family(e: branching.Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 2: the gradient field with flows from the circle; the family that waits at (1, 0)."""
    from ...plotting.style import FUNCTION, GREY, NEGATIVE, PAGE, POSITIVE, new_figure, save, style

    figure, (left, right) = new_figure(PAGE, 3.0, 1, 2, width_ratios=(1.0, 1.15))
    with style():
        grid = np.linspace(-VIEW, VIEW, 16)
        first, second = np.meshgrid(grid, grid)
        left.quiver(
            first, second, np.abs(second), first * np.sign(second), color=GREY, angles="xy",
            width=0.0035, alpha=0.65,
        )  # fmt: skip
        for start, flow in zip(e.starts[::4], e.flows["off"][::4], strict=True):
            if abs(start[1]) < 1e-3:
                continue
            left.plot(flow[:, 0], flow[:, 1], color=POSITIVE, linewidth=0.7)
            left.plot(*start, ".", color=POSITIVE, markersize=2.5)
        for choice in ("on", "off"):
            flow = e.flows[choice][int(np.flatnonzero(e.exceptional)[0])]
            left.plot(flow[:, 0], flow[:, 1], color=NEGATIVE, linewidth=1.3)
        left.plot([-VIEW, 0.0], [0.0, 0.0], color=FUNCTION, linewidth=1.6, label="at rest")
        left.plot([0.0, VIEW], [0.0, 0.0], color=NEGATIVE, linewidth=0.9, linestyle=(0, (2, 2)))
        left.plot(1.0, 0.0, "o", color=NEGATIVE, markersize=4, label="branching at $(1,0)$")
        left.set_xlim(-VIEW, VIEW)
        left.set_ylim(-VIEW, VIEW)
        left.set_aspect("equal")
        left.set_xlabel("$u_1$")
        left.set_ylabel("$u_2$")
        left.set_title("(a) gradient field of $u_1|u_2|$ and flows")
        left.legend(loc="upper left", fontsize=7, frameon=True, framealpha=1.0, edgecolor="none")
        for k, (wait, (time, states)) in enumerate(e.family.items()):
            shade = 1.0 - 0.16 * k
            right.plot(
                time, states[:, 1], color=NEGATIVE, alpha=shade, label=f"waits until {wait:g}"
            )
        right.plot(
            e.time, np.zeros_like(e.time), color=FUNCTION, linewidth=1.6, label="stays for ever"
        )
        right.set_ylim(-0.3, 6.0)
        right.set_xlabel("time")
        right.set_ylabel("$u_2$")
        right.set_title("(b) flows from $(1,0)$: all are solutions")
        right.legend(loc="upper left", fontsize=7)
    return save(figure, folder, "fig2")


def escape(e: escaping.Evidence, folder: Path, quick: bool) -> list[Path]:
    """The distance from the saddle over time, and at the lemma's time against delta."""
    from ...plotting.style import GREY, NEGATIVE, PAGE, POSITIVE, new_figure, save, style

    figure, (left, right) = new_figure(PAGE, 2.6, 1, 2)
    with style():
        shown = e.deltas >= 1e-3
        shown[-1] = True
        for delta, distance, seen in zip(e.deltas, e.distance, shown, strict=True):
            if seen:
                shade = 0.35 + 0.65 * min(1.0, -np.log10(delta) / 5.0)
                left.plot(e.time, distance, color=POSITIVE, alpha=shade, linewidth=1.0)
        ends = f"{e.deltas[0]:g}", f"10^{{{np.log10(e.deltas[-1]):.0f}}}"
        left.plot([], [], color=POSITIVE, label=rf"flow, $\delta={ends[0]}$ to ${ends[1]}$")
        exact = np.linalg.norm(descended(0.0, e.time) - escaping.SADDLE, axis=1)
        left.plot(
            e.time, exact, color=NEGATIVE, linestyle=(0, (1.0, 2.0)),
            label=r"closed form, $\delta\to0$",
        )  # fmt: skip
        left.plot(escaping.LEMMA_TIME, escaping.LEMMA_DISTANCE, "k+", markersize=7, label="lemma")
        left.set_xlim(0.0, e.time[-1])
        left.set_ylim(0.0, None)
        left.set_xlabel("time")
        left.set_ylabel(r"$\|u(t)-(1,0)\|$")
        left.set_title("(a) leaving the saddle")
        left.legend(loc="lower right")
        right.plot(-np.log10(e.deltas), e.at_lemma_time, "o-", color=POSITIVE, markersize=3.5)
        right.axhline(escaping.LEMMA_DISTANCE, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
        right.text(
            0.98, escaping.LEMMA_DISTANCE, "0.09, the lemma's bound", ha="right", va="bottom",
            fontsize=7, color=GREY, transform=right.get_yaxis_transform(),
        )  # fmt: skip
        right.set_xscale("log")
        right.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
        right.minorticks_off()
        right.set_ylim(0.0, 1.2 * float(e.at_lemma_time.max()))
        right.set_xlabel(r"$-\log_{10}\delta$")
        right.set_ylabel(r"$\|u(0.1)-(1,0)\|$")
        right.set_title("(b) at time 0.1")
    return save(figure, folder, "escape")
