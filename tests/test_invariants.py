"""What the gradient flow conserves, and the symmetries that carry a flow to a flow, on random
problems of every kind: a transformed problem must give the transformed answer."""

from dataclasses import replace

import numpy as np
from follow import follow
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.problems import KINDS, LONG, Case, case

import polarflow as pf

RTOL = 1e-9
CLOSE = 1e-7

#: Where three kinks share a line, the flow may branch.
UNIQUE = sorted(set(KINDS) - LONG - {"three kinks on a line"})


def problems(names: list[str] = UNIQUE) -> st.SearchStrategy[Case]:
    def random(name: str, seed: int) -> Case:
        whole = case(seed, **KINDS[name])
        return replace(whole, times=whole.times[1:])

    return st.builds(random, st.sampled_from(names), st.integers(0, 10_000))


def blocks(case: Case) -> pf.Trajectory:
    solution = follow(case, RTOL)
    assert solution.status == "ok"
    return solution.recorded


def apart(one: pf.Trajectory, log_norm: np.ndarray, direction: np.ndarray) -> float:
    """The largest difference of two neurons relative to their norm."""
    ratio = np.exp(log_norm - one.log_norm)[..., None]
    return float(np.abs(ratio * direction - one.direction).max())


@settings(max_examples=16, deadline=None, derandomize=True)
@given(problems())
def test_loss_never_rises_and_balance_is_kept(case: Case) -> None:
    solution = follow(case, RTOL)
    path = solution.trajectory
    assert (np.diff(path.loss) <= 10 * RTOL * np.abs(path.loss[:-1])).all()
    squares = path.direction**2
    difference = squares[..., : case.outputs].sum(-1) - squares[..., case.outputs :].sum(-1)
    size = np.exp(2 * (path.log_norm - path.log_norm[0]))
    assert np.abs(difference * size - difference[0]).max(axis=0).max() < CLOSE * size.max()
    assert solution.balancedness_drift < CLOSE


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems(), st.randoms(use_true_random=False))
def test_neurons_and_examples_may_be_permuted(case: Case, random) -> None:
    base = blocks(case)
    neurons = random.sample(range(len(case.theta)), len(case.theta))
    examples = random.sample(range(len(case.x)), len(case.x))
    moved = replace(
        case,
        theta=case.theta[neurons],
        log_scale=case.log_scale[neurons],
        x=case.x[examples],
        y=case.y[examples],
    )
    found = blocks(moved)
    back = np.argsort(neurons)
    assert apart(base, found.log_norm[:, back], found.direction[:, back]) < CLOSE


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems(), st.integers(0, 1000))
def test_the_data_may_be_rotated_and_reflected(case: Case, seed: int) -> None:
    d, c = case.x.shape[1], case.outputs
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    theta = np.concatenate([case.theta[:, :c], case.theta[:, c:] @ q], axis=1)
    theta /= np.linalg.norm(theta, axis=1)[:, None]
    base, found = blocks(case), blocks(replace(case, x=case.x @ q, theta=theta))
    direction = found.direction.copy()
    direction[..., c:] = direction[..., c:] @ q.T
    assert apart(base, found.log_norm, direction) < CLOSE


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems(), st.floats(0.1, 10.0))
def test_time_scales_with_the_loss(case: Case, factor: float) -> None:
    base = blocks(case)
    times = tuple(t / factor for t in case.times)
    found = blocks(replace(case, scale=case.scale * factor, times=times))
    assert apart(base, found.log_norm, found.direction) < CLOSE


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems(), st.floats(0.1, 10.0))
def test_inputs_may_be_rescaled(case: Case, factor: float) -> None:
    # Positive homogeneity: (c x, theta / sqrt(c), t / c) has the predictions of (x, theta, t).
    base = blocks(case)
    times = tuple(t / factor for t in case.times)
    shift = 0.5 * np.log(factor)
    found = blocks(replace(case, x=factor * case.x, log_scale=case.log_scale - shift, times=times))
    assert apart(base, found.log_norm + shift, found.direction) < CLOSE


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems([name for name in UNIQUE if "loss" not in KINDS[name]]), st.floats(0.1, 10.0))
def test_labels_of_the_square_loss_may_be_rescaled(case: Case, factor: float) -> None:
    # h, r and theta^2 scale with y, and everything runs faster by the same factor.
    base = blocks(case)
    times = tuple(t / factor for t in case.times)
    shift = 0.5 * np.log(factor)
    found = blocks(replace(case, y=factor * case.y, log_scale=case.log_scale + shift, times=times))
    assert apart(base, found.log_norm - shift, found.direction) < CLOSE


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems([name for name in UNIQUE if KINDS[name].get("loss") != "cross_entropy"]))
def test_output_signs_may_be_flipped(case: Case) -> None:
    base, c = blocks(case), case.outputs
    sign = np.concatenate([-np.ones(c), np.ones(case.x.shape[1])])
    found = blocks(replace(case, y=-case.y, theta=case.theta * sign))
    assert apart(base, found.log_norm, found.direction * sign) < CLOSE


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems())
def test_a_neuron_may_be_split_and_an_example_repeated(case: Case) -> None:
    # Two neurons theta / sqrt(2) move as one, and two examples of half the weight as one.
    base = blocks(case)
    split = replace(
        case,
        theta=np.concatenate([case.theta, case.theta[:1]]),
        log_scale=np.append(case.log_scale, case.log_scale[0]),
        x=np.concatenate([case.x, case.x]),
        y=np.concatenate([case.y, case.y]),
        reduction="sum",
        scale=0.5 * case.factor,
    )
    split.log_scale[[0, -1]] -= 0.5 * np.log(2.0)
    found = blocks(split)
    log_norm = found.log_norm[:, :-1].copy()
    log_norm[:, 0] += 0.5 * np.log(2.0)
    assert apart(base, log_norm, found.direction[:, :-1]) < CLOSE
    np.testing.assert_allclose(found.log_norm[:, 0], found.log_norm[:, -1], atol=CLOSE)
