"""Figures: the mathematics they show, the axes they show it on, and files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mock_trajectory as mock
import numpy as np
import pytest
import xarray as xr

from polarflow import BlockState, PolarflowError, TwoLayer, plotting
from polarflow.plotting import states, style

Change = Callable[[xr.Dataset], xr.Dataset]


def unchanged(dataset: xr.Dataset) -> xr.Dataset:
    return dataset


@pytest.fixture(scope="module")
def line() -> xr.Dataset:
    """Two points on the line, with a bias."""
    return mock.two_points()


@pytest.fixture(scope="module")
def many() -> xr.Dataset:
    """Ten inputs, no bias."""
    return mock.many_inputs()


def random_state(width: int, dimension: int, seed: int = 0) -> BlockState:
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(width, 1 + dimension))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return BlockState(rng.normal(size=width), direction)


# States between recorded times.


def test_state_at_a_recorded_time_is_the_recorded_one(line: xr.Dataset) -> None:
    for i in (0, 7, -1):
        state = plotting.state_at(line, float(line["time"][i]))
        np.testing.assert_allclose(state.log_norm, line["log_norm"][i], rtol=1e-9)
        np.testing.assert_allclose(state.direction, line["direction"][i], atol=1e-9)


def test_log_norms_are_linear_in_time_and_directions_are_unit(line: xr.Dataset) -> None:
    i = 40
    time = line["time"].values
    middle = plotting.state_at(line, 0.75 * time[i] + 0.25 * time[i + 1])
    expected = 0.75 * line["log_norm"][i] + 0.25 * line["log_norm"][i + 1]
    np.testing.assert_allclose(middle.log_norm, expected, rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(middle.direction, axis=1), 1.0, rtol=1e-14)


def test_times_outside_the_run_are_its_ends(line: xr.Dataset) -> None:
    np.testing.assert_array_equal(plotting.state_at(line, 1e9).log_norm, line["log_norm"][-1])
    assert plotting.loss_at(line) == float(line["loss"][-1])
    with pytest.raises(PolarflowError, match="time is -1"):
        plotting.state_at(line, -1.0)


def test_times_beyond_a_float(line: xr.Dataset) -> None:
    log_time = np.array([-np.inf, 1000.0, 1000.0 + np.log(3.0)])
    late = line.isel(time=slice(0, 3)).assign_coords(log_time=("time", log_time))
    state = plotting.state_at(late, log_time=1000.0 + np.log(2.0))
    expected = 0.5 * (line["log_norm"][1] + line["log_norm"][2])
    np.testing.assert_allclose(state.log_norm, expected, rtol=1e-9)


# What a neuron looks like.


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_function_on_a_line_is_the_network(slope: float) -> None:
    state = random_state(50, 2)
    state.direction[0, 1] = 0.0
    state.log_norm[1] = -np.inf
    x = np.linspace(-3, 3, 101)
    network = TwoLayer(50, "leaky_relu" if slope else "relu", slope)
    expected = network.predict(state, np.stack([x, np.ones_like(x)], axis=1))
    np.testing.assert_allclose(plotting.function_on_line(state, x, slope), expected, atol=1e-10)


def test_kinks_and_heights() -> None:
    state = BlockState(np.log([2.0, 3.0]), np.array([[0.6, 0.0, 0.8], [-0.8, 0.48, -0.36]]))
    kinks, heights = plotting.kinks_and_heights(state)
    assert np.isinf(kinks[0])
    assert kinks[1] == pytest.approx(0.75)
    np.testing.assert_allclose(heights, [1.6, -1.8])


def test_a_vanishing_neuron_lies_on_the_core_and_shows_its_direction(many: xr.Dataset) -> None:
    onto = plotting.plane(many)
    state = BlockState(np.full(5, -2300.0), random_state(5, 10).direction)
    place = states.polar_positions(state, onto, core=0.3)
    np.testing.assert_allclose(np.linalg.norm(place, axis=1), 0.3)
    np.testing.assert_allclose(
        np.arctan2(*place.T), np.arctan2(*(state.direction[:, 1:] @ onto.basis).T)
    )


def test_the_plane_of_two_weights_is_their_own(line: xr.Dataset) -> None:
    np.testing.assert_array_equal(plotting.plane(line).basis, np.eye(2))


def test_the_principal_plane_does_not_depend_on_the_scale(many: xr.Dataset) -> None:
    onto = plotting.plane(many)
    np.testing.assert_allclose(onto.basis.T @ onto.basis, np.eye(2), atol=1e-12)
    assert 0.5 < onto.share <= 1.0
    tiny = plotting.plane(many.assign(log_norm=many["log_norm"] - 2300.0))
    np.testing.assert_allclose(tiny.basis, onto.basis, atol=1e-8)


# The axis of time.


def test_the_axis_is_linear_while_the_loss_falls_late(line: xr.Dataset) -> None:
    axis = plotting.time_axis(line)
    assert not axis.logarithmic
    np.testing.assert_allclose(axis.position(line["log_time"]), line["time"], rtol=1e-12)


def test_the_axis_is_logarithmic_when_the_loss_falls_early(line: xr.Dataset) -> None:
    rested = xr.concat(
        [line, line.isel(time=-1).assign_coords(log_time=9.0)], "time", data_vars="minimal"
    )
    axis = plotting.time_axis(rested)
    assert axis.logarithmic
    assert axis.position(-np.inf) == axis.start
    assert np.isnan(axis.point(-np.inf))
    assert axis.log_time(axis.position(5.0)) == pytest.approx(5.0)


def test_the_axis_is_logarithmic_when_two_saddles_are_left_early(line: xr.Dataset) -> None:
    last = line.isel(time=-1)
    late = [last.assign_coords(log_time=9.0), last.assign_coords(log_time=9.01)]
    slow = xr.concat([line, *late], "time", data_vars="minimal")
    # Most of the loss falls at the end.
    slow["loss"] = slow["loss"] + np.where(slow["log_time"] < 9.005, 3.0, 0.0)
    assert plotting.time_axis(slow).logarithmic
    left = slow["saddle_log_time_leave"].copy()
    left[1:] = 8.9
    assert not plotting.time_axis(slow.assign_coords(saddle_log_time_leave=left)).logarithmic


def test_an_axis_can_count_iterations(line: xr.Dataset) -> None:
    axis = plotting.time_axis(line, "linear", unit=1e-3, label="iterations")
    assert axis.end == pytest.approx(15000)
    with pytest.raises(PolarflowError, match="unit is 0"):
        plotting.time_axis(line, unit=0.0)
    with pytest.raises(PolarflowError, match="scale is 'cubic'"):
        plotting.time_axis(line, "cubic")  # type: ignore[arg-type]


def test_frames_go_forward_from_start_to_end(line: xr.Dataset) -> None:
    frames = plotting.frame_log_times(line, 40)
    assert frames[0] == -np.inf
    assert frames[-1] == float(line["log_time"][-1])
    assert (np.diff(np.exp(frames)) > 0).all()


def test_key_moments_are_the_leavings(line: xr.Dataset) -> None:
    names = [moment.name for moment in plotting.key_moments(line)]
    assert names == ["start", "leaving saddle 0", "leaving saddle 1", "end"]
    assert len(plotting.key_moments(mock.without_saddles(line))) == 4
    assert len(plotting.key_moments(line, most=3)) == 3


@pytest.mark.parametrize(
    ("low", "high"), [(-1000.0, 0.2), (-7.3, 0.1), (-0.2, 1.1), (0.02, 0.35), (2.0, 2.6)]
)
def test_ticks_of_a_power_axis_lie_on_it(low: float, high: float) -> None:
    places = style.power_places(low, high)
    assert 2 <= len(places) <= 9 and low <= min(places) and max(places) <= high


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (1234.0, "1230"),
        (4.1e-5, r"$4.1\cdot 10^{-5}$"),
        (1e-6, "$10^{-6}$"),
    ],
)
def test_numbers_in_titles(value: float, text: str) -> None:
    assert style.number_label(value) == text


# Figures.


@pytest.mark.parametrize(
    "change", [unchanged, mock.deepened, mock.without_saddles, mock.first_instant]
)
@pytest.mark.parametrize("which", ["line", "many"])
def test_every_figure_can_be_drawn(
    which: str, change: Change, request: pytest.FixtureRequest
) -> None:
    dataset = change(request.getfixturevalue(which))
    drawn = plotting.figures(dataset)
    last = ["angles", "neurons"] if which == "line" else ["alignment", "projection"]
    assert list(drawn) == ["loss", "log_norms", *last]
    for figure in drawn.values():
        figure.draw_without_rendering()


def test_a_wide_network_is_drawn_in_part(many: xr.Dataset) -> None:
    wide = many.isel(block=np.arange(3000) % many.sizes["block"])
    assert len(states.chosen_blocks(wide, 400)) == 400
    figure, (ax,) = plotting.new_figure()
    plotting.draw_log_norms(ax, wide)
    assert ax.get_title(loc="right") == "400 of 3000 neurons shown"
    assert all(bundle.get_rasterized() for bundle in ax.collections)


def test_the_loss_is_drawn_as_it_is(line: xr.Dataset) -> None:
    figure, axes = plotting.new_figure(rows=2)
    plotting.draw_loss(axes[0], line)
    plotting.draw_loss(axes[1], line, scale="log", saddles=False)
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), line["loss"])
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), np.log10(line["loss"]))
    assert [text.get_text() for text in axes[0].texts] == ["saddle 0", "saddle 1", "not left"]


def test_rest_is_where_the_loss_stands_still(line: xr.Dataset) -> None:
    time = line["time"].to_numpy()
    still = line["loss"].where(time < 14.6, float(line["loss"][-1]))
    figure, (ax,) = plotting.new_figure()
    plotting.draw_loss(ax, line.assign(loss=still))
    assert [text.get_text() for text in ax.texts] == ["saddle 0", "saddle 1", "at rest"]


def test_stars_are_the_neurons(line: xr.Dataset) -> None:
    figure, (ax,) = plotting.new_figure()
    plotting.draw_neurons(ax, line, 9.0)
    kinks, heights = plotting.kinks_and_heights(plotting.state_at(line, 9.0))
    np.testing.assert_allclose(
        np.asarray(ax.collections[0].get_offsets()), np.column_stack([kinks, heights])
    )


def test_a_figure_that_does_not_apply_says_which_does(line: xr.Dataset, many: xr.Dataset) -> None:
    figure, (ax,) = plotting.new_figure()
    with pytest.raises(PolarflowError, match="use draw_projection"):
        plotting.draw_neurons(ax, many)
    with pytest.raises(PolarflowError, match="use draw_alignment"):
        plotting.draw_angles(ax, many)
    with pytest.raises(PolarflowError, match="no variable 'nonsense'"):
        states.values(line, "nonsense")


def test_files_are_the_same_bytes_each_time(line: xr.Dataset, tmp_path: Path) -> None:
    written = [
        plotting.save(
            plotting.figures(line)["loss"], tmp_path / name, "loss", ("pdf", "png", "svg")
        )
        for name in ("first", "second")
    ]
    assert [path.name for path in written[0]] == ["loss.pdf", "loss.png", "loss.svg"]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with pytest.raises(PolarflowError, match="saved as 'bmp'"):
        plotting.save(plotting.new_figure()[0], tmp_path, "loss", ("bmp",))


def test_draw_all_writes_every_figure_twice(many: xr.Dataset, tmp_path: Path) -> None:
    paths = plotting.draw_all(many, tmp_path / "figures")
    assert sorted(path.name for path in paths) == sorted(
        f"{name}.{kind}"
        for name in ("loss", "log_norms", "alignment", "projection")
        for kind in ("pdf", "png")
    )
    assert all(path.stat().st_size > 1000 for path in paths)


def test_no_global_style_is_left_behind(line: xr.Dataset) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    plotting.figures(line)
    assert dict(matplotlib.rcParams) == before


def test_the_package_is_light() -> None:
    program = (
        "import sys, polarflow.plotting, polarflow.report; "
        "assert not {'matplotlib', 'plotly', 'xarray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# Films.


@pytest.mark.parametrize("which", ["line", "many"])
def test_a_gif_has_its_frames(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from PIL import Image

    path = plotting.animate(request.getfixturevalue(which), tmp_path / "film.gif", frames=4)
    with Image.open(path) as film:
        assert film.n_frames == 4


def test_a_film_without_an_ending_is_an_mp4_where_it_can_be(
    line: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    path = plotting.animate(line, tmp_path / "film", frames=3)
    assert path.name == "film.mp4" and path.read_bytes()[4:8] == b"ftyp"
    monkeypatch.setattr("polarflow.plotting.animation.find_spec", lambda name: None)
    assert plotting.animate(line, tmp_path / "film", frames=2).name == "film.gif"
    with pytest.raises(PolarflowError, match=r"polarflow\[animation\]"):
        plotting.animate(line, tmp_path / "film.mp4")
    with pytest.raises(PolarflowError, match="'.avi'"):
        plotting.animate(line, tmp_path / "film.avi")
    with pytest.raises(PolarflowError, match="frames is 1"):
        plotting.animate(line, tmp_path / "film", frames=1)
