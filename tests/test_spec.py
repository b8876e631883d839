"""The spec: defaults, overrides, plans, and errors as sentences."""

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarflow import SpecError
from polarflow.spec import Plan, assemble, example, load_spec, parse_spec, reference

ROOT = Path(__file__).parents[1]
SMALL = '[data]\nname = "two-points"\n[flow]\ntime = 1.0\n'


def plan(folder: Path, text: str, *overrides: str) -> Plan:
    path = folder / "spec.toml"
    path.write_text(text, encoding="utf-8")
    return assemble(load_spec(path, overrides), path)


def errors(folder: Path, text: str, *overrides: str) -> tuple[str, ...]:
    """The messages of a wrong spec, without the file's name, which each must begin with."""
    with pytest.raises(SpecError) as caught:
        plan(folder, text, *overrides)
    start = f"{folder / 'spec.toml'}: "
    assert all(message.startswith(start) for message in caught.value.messages)
    assert not any("\n" in message for message in caught.value.messages)
    return tuple(message.removeprefix(start) for message in caught.value.messages)


def test_the_resolved_spec_records_every_default(tmp_path: Path) -> None:
    assert plan(tmp_path, SMALL).spec.given() == {
        "seed": 0,
        "data": {"name": "two-points", "bias": True},
        "network": {"kind": "two_layer", "width": 60, "activation": "relu"},
        "init": {"kind": "balanced", "scale": 1e-6, "seed": 0},
        "loss": {"kind": "square", "reduction": "mean", "scale": 1.0},
        "flow": {"rtol": 1e-8, "branching": "off", "time": 1.0},
        "record": {"points": 400},
        "compare": {"answers": "quick"},
    }


def test_a_resolved_spec_says_the_same_again(tmp_path: Path) -> None:
    spec = plan(tmp_path, SMALL, "seed=3", "record.log_times=[0.5]").spec
    assert parse_spec(spec.given(), "again") == spec


def test_one_seed_serves_all_draws_that_have_none(tmp_path: Path) -> None:
    text = 'seed = 7\n[data]\nname = "digits"\ncount = 4\n[flow]\ntime = 1\n'
    given_ = plan(tmp_path, text).spec.given()
    assert given_["data"]["seed"] == given_["init"]["seed"] == 7
    given_ = plan(tmp_path, text, "init.seed=1", "data.seed=2").spec.given()
    assert (given_["seed"], given_["data"]["seed"], given_["init"]["seed"]) == (7, 2, 1)


def test_different_seeds_start_elsewhere(tmp_path: Path) -> None:
    first = plan(tmp_path, SMALL).problem.initial
    same = plan(tmp_path, SMALL, "seed=0").problem.initial
    other = plan(tmp_path, SMALL, "seed=1").problem.initial
    np.testing.assert_array_equal(first.direction, same.direction)
    assert not np.array_equal(first.direction, other.direction)


def test_a_start_may_be_as_small_as_one_likes(tmp_path: Path) -> None:
    near = plan(tmp_path, SMALL, "init.log10_scale=0").problem.initial
    far = plan(tmp_path, SMALL, "init.log10_scale=-1000").problem.initial
    np.testing.assert_allclose(
        near.log_norm - far.log_norm, 1000 * math.log(10), rtol=1e-12, atol=0.0
    )


@given(st.floats(1e-300, 1e300), st.integers(1, 10**9))
def test_an_override_is_a_toml_value(tmp_path_factory, scale: float, width: int) -> None:
    path = tmp_path_factory.getbasetemp() / "override.toml"
    path.write_text(SMALL)
    spec = load_spec(path, [f"init.scale={scale!r}", f"network.width = {width}"])
    assert spec.init.scale == scale and spec.network.width == width


def test_overrides_replace_tables_words_and_alternatives(tmp_path: Path) -> None:
    spec = plan(
        tmp_path,
        SMALL + "[init]\nscale = 0.1\n[record]\ntimes = [1]\n",
        "init.log10_scale=-3",
        "record.log_times=[0]",
        "data.name=five-points",
        "data.bias=false",
        'network={width=5, activation="leaky_relu", slope=0.1}',
    ).spec
    assert spec.init.log10_scale == -3 and spec.init.scale is None
    assert spec.record.log_times == (0.0,) and spec.record.times is None
    assert spec.given()["data"] == {"name": "five-points", "bias": False}
    assert spec.network.slope == 0.1
    assert spec.flow.time == 1.0


def test_an_override_may_give_other_data(tmp_path: Path) -> None:
    data = plan(tmp_path, SMALL, "data.x=[[1, 2], [3, 4]]", "data.y=[1, 2]").problem.data
    np.testing.assert_array_equal(data.x, [[1, 2], [3, 4]])


def test_paths_are_relative_to_the_spec(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "points.csv").write_text("1,2,3\n4,5,6\n")
    monkeypatch.chdir(tmp_path)
    text = '[data]\nfile = "points.csv"\nbias = true\n[flow]\ntime = 1\n'
    found = plan(folder, text)
    np.testing.assert_array_equal(found.problem.data.x, [[1, 2, 1], [4, 5, 1]])
    assert found.spec.given()["data"]["file"] == str(folder.resolve() / "points.csv")


def test_a_start_is_read_from_a_file(tmp_path: Path) -> None:
    a = math.sqrt(0.5)
    direction = np.array([[a, a, 0.0], [-a, 0.0, a], [a, -0.3, math.sqrt(0.41)]])
    log_norm = np.array([-2302.0, -5.0, 1.0])
    np.savez(tmp_path / "init.npz", log_norm=log_norm, direction=direction)
    found = plan(tmp_path, SMALL, "init.file=init.npz")
    assert found.spec.network.width == 3
    np.testing.assert_array_equal(found.problem.initial.log_norm, log_norm)
    np.testing.assert_allclose(found.problem.initial.direction, direction, rtol=1e-15)


@pytest.mark.parametrize(
    ("log_norm", "direction", "words"),
    [
        ([0.0], [[1.0, 1.0, 0.0]], "direction[0] has norm 1.41421; every row must be a unit"),
        ([np.nan], [[0.5**0.5, 0.5**0.5, 0.0]], "log_norm holds nan"),
        ([0.0, 0.0], [[0.5**0.5, 0.5**0.5, 0.0]], "log_norm has shape (2,)"),
    ],
)
def test_a_wrong_start_is_named(tmp_path: Path, log_norm, direction, words: str) -> None:
    np.savez(tmp_path / "init.npz", log_norm=log_norm, direction=direction)
    (message,) = errors(tmp_path, SMALL, "init.file=init.npz")
    assert message.startswith("init.file: ") and words in message


def test_a_start_of_another_shape_is_named(tmp_path: Path) -> None:
    a = math.sqrt(0.5)
    np.savez(tmp_path / "init.npz", log_norm=[0.0], direction=[[a, a, 0.0]])
    (message,) = errors(tmp_path, SMALL, "init.file=init.npz", "network.width=2")
    assert "(1, 3)" in message and "(2, 3)" in message
    (message,) = errors(tmp_path, SMALL, "init.file=nowhere.npz")
    assert message.startswith("init.file: ") and message.endswith("there is no such file.")


def test_log_times_are_times(tmp_path: Path) -> None:
    found = plan(tmp_path, SMALL, "record.log_times=[-1, 0, 2000]")
    assert found.record_times == () and found.record_log_times == (-1.0, 0.0, 2000.0)


def test_recorded_inputs_get_the_bias_of_the_data(tmp_path: Path) -> None:
    inputs = plan(tmp_path, SMALL, "record.inputs=[[3], [4]]").inputs
    np.testing.assert_array_equal(inputs, [[3, 1], [4, 1]])
    inputs = plan(tmp_path, SMALL, "record.inputs=[[3, 5]]", "data.x=[[1, 2]]", "data.y=[1]").inputs
    np.testing.assert_array_equal(inputs, [[3, 5]])
    (message,) = errors(tmp_path, SMALL, "record.inputs=[[3, 4]]")
    assert message == (
        "record.inputs[0] = [3.0, 4.0]: must have the 1 number of an input before bias"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.width=0", "network.width = 0: must be a whole number of at least 1"),
        ("network.width=2.5", "network.width = 2.5: must be a whole number of at least 1"),
        (
            'network.kind="depe"',
            'network.kind = "depe": must be "two_layer", "squared_relu", "deep", "diagonal", '
            '"convolutional" or "parallel"; did you mean "deep"?',
        ),
        (
            'network.activation="rleu"',
            'network.activation = "rleu": must be "relu", "leaky_relu", "abs", "linear", '
            '"relu_power" or "polynomial"; did you mean "relu"?',
        ),
        ("network.depth=2", 'network.depth = 2: is not a key here; did you mean "width"?; allowed'),
        ('network={kind="deep"}', "network.widths is missing: must be a list, each a whole number"),
        ('network={kind="diagonal", depth=1}', "network.depth = 1: must be a whole number of at"),
        (
            'network={kind="parallel", networks=[{kind="diagonal"}, {kind="deep", widths=[0]}]}',
            "network.networks[1].widths[0] = 0: must be a whole number of at least 1",
        ),
        (
            'network={kind="parallel", networks=[{kind="depe"}]}',
            'network.networks[0].kind = "depe": must be "two_layer", "squared_relu", "deep"',
        ),
        (
            'network={kind="parallel", networks=[{kind="diagonal", width=3}]}',
            'network.networks[0].width = 3: is not a key here; did you mean "depth"?; allowed',
        ),
        ('init.kind="normal"', 'init.kind = "normal": must be "balanced", "dominated", "gaus'),
        ("init.scale=-1", "init.scale = -1: must be a number greater than 0"),
        ("init.scale=nan", "init.scale = nan: must be a number greater than 0"),
        ("init.seed=-1", "init.seed = -1: must be a whole number of at least 0"),
        ("init.seed=true", "init.seed = true: must be a whole number of at least 0"),
        (
            'loss.kind="logistics"',
            'loss.kind = "logistics": must be "square", "logistic", "exponential", '
            '"cross_entropy" or "correlation"; did you mean "logistic"?',
        ),
        ('loss.reduction="total"', 'loss.reduction = "total": must be "mean" or "sum"'),
        ("flow.rtol=1", "flow.rtol = 1: must be a number from 1e-12 to 0.001"),
        ('flow.rtol="1e-8"', 'flow.rtol = "1e-8": must be a number from 1e-12 to 0.001'),
        ('flow.branching="both"', 'flow.branching = "both": must be "off", "on", "stay" or "stop"'),
        ("flow.time=inf", "flow.time = inf: must be a number greater than 0"),
        ("flow.max_saddles=0", "flow.max_saddles = 0: must be a whole number of at least 1"),
        ("record.points=1", "record.points = 1: must be a whole number of at least 2"),
        ("record.times=[1, -1]", "record.times[1] = -1: must be a number of at least 0"),
        ("record.times=3", "record.times = 3: must be a list, each a number of at least 0"),
        ("data.bias=1", "data.bias = 1: must be true or false"),
        ('data.name="two-pionts"', 'data.name = "two-pionts": must be "two-points", "five-points"'),
        ("network=3", "network = 3: must be a table of keys"),
        ("seed=0.5", "seed = 0.5: must be a whole number of at least 0"),
    ],
)
def test_a_wrong_value_says_what_is_allowed(tmp_path: Path, override: str, message: str) -> None:
    (found,) = errors(tmp_path, SMALL, override)
    assert found.startswith(f"--set {message}")
    key, value = override.split("=", 1)
    tables = tomllib.loads(SMALL)
    table = tables
    for section in key.split(".")[:-1]:
        table = table.setdefault(section, {})
    table[key.split(".")[-1]] = tomllib.loads(f"value = {value}")["value"]
    with pytest.raises(SpecError) as caught:
        parse_spec(tables, "file")
    assert caught.value.messages[0].startswith(f"file: {message}")


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "",
            ("data is missing: must be x and y, file, or name", "flow has no stop: at least one"),
        ),
        (SMALL + "tmie = 2\n", ('flow.tmie = 2: is not a key here; did you mean "time"?',)),
        (SMALL + "[netwrok]\n", ('netwrok = {}: is not a key here; did you mean "network"?',)),
        (SMALL + "[data2]\n", ('data2 = {}: is not a key here; did you mean "data"?',)),
        (
            '[data]\nx = [[1], [2]]\nfile = "a.csv"\n[flow]\ntime = 1\n',
            ("data.x = [[1], [2]]: is not a key here; allowed are file, bias (data are given by",),
        ),
        (
            "[data]\nx = [[1], [2]]\n[flow]\ntime = 1\n",
            ("data.y is missing: must be a list of numbers, or a list of lists of numbers",),
        ),
        (
            '[data]\nx = [[1], ["b"]]\ny = [1, true]\n[flow]\ntime = 1\n',
            ('data.x[1][0] = "b": must be a number', "data.y[1] = true: must be a number"),
        ),
        (
            "[data]\nx = [[1], [2, 3]]\ny = [1, 2]\n[flow]\ntime = 1\n",
            ("data: x is not an array of real numbers with rows of equal length",),
        ),
        (
            "[data]\nx = [[1], [2]]\ny = [1, 2, 3]\n[flow]\ntime = 1\n",
            ("data: x has 2 rows and y has 3 labels",),
        ),
        (
            SMALL + '[network]\nactivation = "leaky_relu"\n',
            ('network.slope is missing: activation = "leaky_relu" needs a number in [0, 1)',),
        ),
        (
            SMALL + "[network]\nslope = 0.5\n",
            ('network.slope = 0.5: is for activation = "leaky_relu" alone',),
        ),
        (
            SMALL + "[network]\npower = 2\n",
            ('network.power = 2: is for activation = "relu_power", "polynomial" or "leaky_relu"',),
        ),
        (
            SMALL + '[network]\nactivation = "polynomial"\n',
            ('network.power is missing: activation = "polynomial" needs a number of at least 1',),
        ),
        (
            SMALL + "[init]\nscale = 1\nlog10_scale = 2\n",
            ("init.scale = 1 and init.log10_scale = 2: exactly one of them is allowed",),
        ),
        (
            SMALL + '[init]\nscale = 1\nfile = "a.npz"\n',
            ('init.file = "a.npz" and init.scale = 1: a start is read or drawn, not both',),
        ),
        (
            SMALL + "[record]\ntimes = [1]\nlog_times = [1]\n",
            ("record.times and record.log_times are both given: at most one is allowed",),
        ),
        (
            "[flow]\nrtol = 1e-8\n[data]\nname = 3\n",
            ("data.name = 3: must be", "flow has no stop"),
        ),
        (
            # Rules among keys are tried on what is right, whatever else is wrong in their section.
            SMALL + '[network]\nwidth = 0\nactivation = "leaky_relu"\n'
            "[init]\nseed = -1\nscale = 1\nlog10_scale = 2\n[loss]\nscale = 0\n",
            (
                "network.width = 0: must be a whole number",
                "init.seed = -1: must be",
                "loss.scale = 0: must be",
                "network.slope is missing",
                "init.scale = 1 and init.log10_scale = 2",
            ),
        ),
        (
            '[data]\nname = "two-points"\n[flow]\ntime = -1\n[network]\nslope = 2\n',
            ("network.slope = 2: must be", "flow.time = -1: must be"),
        ),
        ("[data\n", ("is not TOML: ",)),
        (
            '[data]\nfile = "none.csv"\n[flow]\ntime = 1\n',
            ("data.file: ",),
        ),
        (
            '[data]\nname = "digits"\ncount = 999\n[flow]\ntime = 1\n',
            ("data.count is 999, which asks for 500 images of the digit 0; there are 178",),
        ),
    ],
)
def test_everything_wrong_is_said_at_once(
    tmp_path: Path, text: str, messages: tuple[str, ...]
) -> None:
    found = errors(tmp_path, text)
    assert len(found) == len(messages)
    assert all(f.startswith(m) for f, m in zip(found, messages, strict=True))


def test_labels_start_and_inputs_are_told_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "init.npz", log_norm=[np.nan], direction=[[1.0, 0.0, 0.0]])
    found = errors(
        tmp_path, SMALL, "loss.kind=logistic", "data.x=[[0], [1]]", "data.y=[1, 2]",
        "record.inputs=[[1, 2, 3]]", "init.file=init.npz",
    )  # fmt: skip
    assert len(found) == 3
    assert found[0].startswith('data.y[1] is 2; the loss "logistic" needs labels -1 and 1')
    assert found[1].startswith("record.inputs[0] = [1.0, 2.0, 3.0]: must have the 1 number ")
    assert found[2].startswith("init.file: init: log_norm holds nan")


@pytest.mark.parametrize(("outputs", "code"), [(4, None), (2, "the labels need 3 at least")])
def test_outputs_may_be_more_than_the_classes_seen(
    tmp_path: Path, outputs: int, code: str | None
) -> None:
    text = (
        "[data]\nx = [[1], [2], [3]]\ny = [0, 1, 2]\n[flow]\ntime = 1\n"
        f'[loss]\nkind = "cross_entropy"\n[network]\noutputs = {outputs}\n'
    )
    if code is None:
        assert plan(tmp_path, text).problem.prediction_shape == (3, outputs)
    else:
        (message,) = errors(tmp_path, text)
        assert code in message


@pytest.mark.parametrize(
    "override", ["flow.time", "=1", "a.b.c=1", "flow.time=1,2", "flow.time=", "flow.time=1\nx=2"]
)
def test_a_malformed_override_is_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan(tmp_path, SMALL, override)
    (message,) = caught.value.messages
    assert f"--set {override}: " in message


def test_a_spec_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml: there is no such file"):
        load_spec(tmp_path / "none.toml")
    with pytest.raises(SpecError, match="is a folder"):
        load_spec(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    with pytest.raises(SpecError, match="not a text in UTF-8"):
        load_spec(tmp_path / "latin.toml")


def test_the_example_has_every_key_with_its_default() -> None:
    written = tomllib.loads(example())
    spec = parse_spec(written, "example")
    assert {**spec.given(), "data": written["data"]} == {
        **written,
        "init": {"kind": "balanced", **written["init"], "seed": 0},
    }
    for key in ("log10_scale", "max_saddles", "slope", "teacher_width", "inputs", "depth", "signs"):
        assert f"# {key} = " in example()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_example_is_a_plan(path: Path) -> None:
    assert assemble(load_spec(path), path).problem.data.examples > 1


def test_the_reference_page_is_the_one_in_docs() -> None:
    assert (ROOT / "docs" / "spec.md").read_text(encoding="utf-8") == reference()


def test_networks_of_every_kind(tmp_path: Path) -> None:
    """The keys become the network that they name; starts other than a file are gaussian."""
    spec = "[data]\nx = [[1, 2, 3], [4, 5, 6]]\ny = [1, 2]\n[flow]\ntime = 1\n[network]\n"

    def made(text: str, *overrides: str) -> Plan:
        return plan(tmp_path, spec + text, *overrides)

    found = made('kind = "squared_relu"\nsigns = [1, -1]')
    assert found.spec.given()["network"]["width"] == 2
    assert found.spec.init.kind == "gaussian"
    assert found.problem.network.signs == (1, -1)
    network = made('kind = "deep"\nwidths = [4, 5]\nfrozen = [2]').problem.network
    assert network.layers == 3 and network.order == 2 and network.frozen[2].shape == (5, 4)
    text = 'kind = "deep"\nwidths = [4, 5]\nreadout = "ones"\npower = 2\n'
    network = made(text + 'activation = ["linear", "relu_power"]').problem.network
    assert network.order == 4
    found = made('kind = "diagonal"', "init.kind=balanced", "init.log10_scale=-100")
    weights = found.problem.initial.weights()
    np.testing.assert_allclose(weights, 1e-100, rtol=1e-12)
    text = 'kind = "convolutional"\nimage = [1, 1, 3]\nchannels = [2]\nkernel = 1\npool = 1'
    assert made(text).problem.initial.direction.shape == (1, 8)
    text = 'kind = "parallel"\nnetworks = [{kind = "squared_relu", width = 2}, '
    assert made(text + '{kind = "diagonal"}]').problem.initial.direction.shape == (5, 3)
    assert made('activation = "polynomial"\npower = 3').problem.network.kind == "two_layer"
    text = 'kind = "deep"\nwidths = [4]\n'
    assert "frozen holds all 2 layers" in errors(tmp_path, spec + text + "frozen = [1, 2]")[0]
    assert "layers are counted from 1" in errors(tmp_path, spec + text + "frozen = [3]")[0]


def test_starts_of_other_networks_from_a_file(tmp_path: Path) -> None:
    """Signs and frozen matrices come from the file; shapes that don't fit are told."""
    rng = np.random.default_rng(0)
    base = '[data]\nx = [[1, 2], [3, 4]]\ny = [1, 2]\n[flow]\ntime = 1\n[init]\nfile = "i.npz"\n'

    def save(rows: np.ndarray, **others: np.ndarray) -> None:
        norm = np.linalg.norm(rows, axis=1)
        arrays = {"log_norm": np.log(norm), "direction": rows / norm[:, None], **others}
        np.savez(tmp_path / "i.npz", **arrays)

    u = rng.standard_normal((3, 2))
    save(u, signs=np.array([1, -1, 1]))
    problem = plan(tmp_path, base + '[network]\nkind = "squared_relu"\n').problem
    assert problem.network.width == 3 and problem.network.signs == (1, -1, 1)
    np.testing.assert_allclose(problem.initial.weights(), u)
    (message,) = errors(tmp_path, base + '[network]\nkind = "squared_relu"\nwidth = 2\n')
    assert "network.signs has 3 numbers; 2 are needed" in message

    first, second, last = (rng.standard_normal(s) for s in ((3, 2), (4, 3), (1, 4)))
    save(np.concatenate([first.ravel(), second.ravel(), last.ravel()])[None, :])
    text = base + '[network]\nkind = "deep"\nwidths = [3, 4]\nactivation = "linear"\n'
    whole = plan(tmp_path, text).problem
    frozen = plan(tmp_path, text + "frozen = [1, 3]\n").problem
    x = whole.data.x
    expected = (x @ (last @ second @ first).T)[:, 0]
    assert frozen.initial.direction.shape == (1, 12)
    np.testing.assert_allclose(whole.network.predict(whole.initial, x), expected)
    np.testing.assert_allclose(frozen.network.predict(frozen.initial, x), expected)
    (message,) = errors(tmp_path, text.replace("[3, 4]", "[3, 5]"))
    assert "directions have shape (1, 22)" in message
