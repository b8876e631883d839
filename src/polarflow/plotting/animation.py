"""A film of a run: neurons and learned function beside the loss.

Its frames are those of `frame_log_times`. Only what moves is drawn anew for each frame, over a
background drawn once.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from ..errors import PolarflowError
from . import states, style
from .clock import TimeAxis, frame_log_times, time_axis
from .curves import draw_loss
from .neurons import (
    CORE,
    draw_neurons,
    draw_projection,
    function_points,
    largest_projection,
    line_window,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import Dataset

Frame = UInt8[ndarray, "height width 3"]
WIDTH, HEIGHT, DPI = 8.0, 3.4, 120


def animate(
    dataset: "Dataset", path: str | Path, *, frames: int = 120, per_second: int = 24
) -> Path:
    """Write a film of the neurons and the loss.

    **Arguments:**

    - `dataset`: a trajectory.
    - `path`: ends in `.mp4` (needs the extra `animation`, which brings ffmpeg) or `.gif`; without
      an ending, mp4 is chosen when it can be written, gif otherwise.
    - `frames`: their number, at least 2.
    - `per_second`: frames shown in a second.

    **Returns:** the path written, with its ending.

    **Raises:** `PolarflowError` for another ending, mp4 without ffmpeg, or fewer than 2 frames.
    """
    if frames < 2:
        raise PolarflowError(f"frames is {frames}; a film has at least 2.")
    if per_second < 1:
        raise PolarflowError(f"per_second is {per_second}; it must be at least 1.")
    has_ffmpeg = find_spec("imageio_ffmpeg") is not None
    target = Path(path)
    if not target.suffix:
        target = target.with_suffix(".mp4" if has_ffmpeg else ".gif")
    if target.suffix not in (".mp4", ".gif"):
        raise PolarflowError(f"A film cannot end in {target.suffix!r}; allowed are .mp4 and .gif.")
    if target.suffix == ".mp4" and not has_ffmpeg:
        raise PolarflowError(
            f"{target.name} needs ffmpeg: install polarflow[animation], or choose .gif."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    write = _write_mp4 if target.suffix == ".mp4" else _write_gif
    with style.style():
        write(target, _frames(dataset, frames), per_second)
    return target


def _frames(dataset: "Dataset", count: int) -> Iterator[Frame]:
    axis = time_axis(dataset)
    figure, (left, right) = style.new_figure(WIDTH, HEIGHT, 1, 2, width_ratios=[1.25, 1])
    figure.set_dpi(DPI)
    first = states.values(dataset, "log_time")[0]
    move_neurons = _line(left, dataset) if states.on_a_line(dataset) else _wheel(left, dataset)
    move_loss = _loss(right, dataset, axis)
    moving = [*move_neurons(float(first)), *move_loss(float(first))]
    for artist in moving:
        artist.set_animated(True)
    style.settle(figure)
    canvas: Any = figure.canvas
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    for log_time in frame_log_times(dataset, count):
        canvas.restore_region(background)
        for artist in [*move_neurons(float(log_time)), *move_loss(float(log_time))]:
            artist.axes.draw_artist(artist)
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _line(ax: "Axes", dataset: "Dataset") -> Callable[[float], list[Any]]:
    """Draw neurons and function at the start, and return what moves them to another time."""
    window = line_window(dataset)
    slope = states.activation_slope(dataset)
    draw_neurons(ax, dataset, 0.0, window=window, function=False, note=False)
    stars = ax.collections[-1]
    (curve,) = ax.plot([], [], color=style.FUNCTION, linewidth=1.6, zorder=2)
    ax.set_xlabel("input $x$, neurons' kinks")
    ax.set_ylabel(r"$h(x)$, neurons $s_j\|w_j\|$")

    def move(log_time: float) -> list[Any]:
        state = states.state_at(dataset, log_time=log_time)
        kinks, heights = states.kinks_and_heights(state)
        stars.set_offsets(np.column_stack([np.where(np.isfinite(kinks), kinks, np.nan), heights]))
        x = function_points(window[0], kinks)
        curve.set_data(x, states.function_on_line(state, x, slope))
        return [curve, stars]

    return move


def _wheel(ax: "Axes", dataset: "Dataset") -> Callable[[float], list[Any]]:
    """The same for the polar layout of projected weights."""
    onto = states.plane(dataset)
    largest = largest_projection(dataset, onto)
    draw_projection(ax, dataset, 0.0, onto=onto, largest=largest)
    stars = ax.collections[-1]
    ax.set_title("hidden weights on their plane", loc="center")

    def move(log_time: float) -> list[Any]:
        state = states.state_at(dataset, log_time=log_time)
        stars.set_offsets(states.polar_positions(state, onto, CORE * largest))
        return [stars]

    return move


def _loss(ax: "Axes", dataset: "Dataset", axis: TimeAxis) -> Callable[[float], list[Any]]:
    """Draw the loss, and return what moves the marker of the time and its caption."""
    draw_loss(ax, dataset, axis=axis)
    (marker,) = ax.plot([], [], "o", color=style.NEGATIVE, markersize=6, clip_on=False, zorder=5)
    caption = ax.text(0.97, 0.95, "", transform=ax.transAxes, ha="right", va="top")

    def move(log_time: float) -> list[Any]:
        loss = states.loss_at(dataset, log_time=log_time)
        marker.set_data([float(axis.position(log_time))], [loss])
        caption.set_text(f"$t$ = {style.time_label(log_time)}\nloss {style.number_label(loss)}")
        return [marker, caption]

    return move


def _write_mp4(path: Path, frames: Iterator[Frame], per_second: int) -> None:
    from imageio_ffmpeg import write_frames

    first = next(frames)
    height, width = (side - side % 2 for side in first.shape[:2])
    writer = write_frames(
        str(path),
        (width, height),
        fps=per_second,
        codec="libx264",
        macro_block_size=2,
        output_params=["-crf", "20", "-preset", "fast", "-movflags", "+faststart"],
    )
    writer.send(None)
    try:
        for frame in (first, *frames):
            writer.send(np.ascontiguousarray(frame[:height, :width]))
    finally:
        writer.close()


def _write_gif(path: Path, frames: Iterator[Frame], per_second: int) -> None:
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    palette = pictures[-1].quantize(64)
    indexed = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    indexed[0].save(
        path,
        save_all=True,
        append_images=indexed[1:],
        duration=max(20, round(1000 / per_second)),
        loop=0,
        optimize=False,
    )
