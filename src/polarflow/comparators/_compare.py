"""What a network is, next to the answers that it might have been."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..networks import BlockState
from ._answers import ANSWERS
from ._end import End

#: The choice of all answers that take a second or so.
QUICK = "quick"
ALL = "all"
NONE = "none"


@dataclass(frozen=True)
class Comparison:
    """A network next to comparators.

    **Attributes:**

    - `entries`: one table for each comparator, see `compare`.
    - `notes`: a sentence for each comparator that could have been there and isn't.
    - `interrupted`: whether an interruption kept it from being complete.
    """

    entries: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    interrupted: bool = False


def compare(
    problem: Problem,
    state: BlockState,
    answers: str | Sequence[str] = ALL,
    *,
    inputs: Float[ndarray, "q d"] | None = None,
) -> Comparison:
    r"""The norm or the margin of a network of one output, next to those of the comparators.

    For labels that are fitted (square loss): the variation norm $\sum_j |a_j||w_j|$ of a two-layer
    network against the least one among interpolants of any width (`least_variation_norm`), and the
    NTK's interpolant at the initial weights (`ntk_interpolant`), whose norm is how far the weights
    moved; $\sum_j |u_j|^L + |v_j|^L$ of a diagonal linear network against the least l1 norm of a
    linear interpolant (`least_l1_norm`).

    For two classes: the normalised margin $\min_k y_k h(x_k) / \|\theta\|^2$ of a two-layer network
    against the largest one of any width (`most_margin`); that of squared ReLU against the largest
    one with the network's own directions (`local_margin`) and with all (`global_margin`); and, for
    any network, the NTK's largest margin at initialisation (`ntk_margin`) and the hard-margin SVM
    (`hard_margin`), whose margins are in norms of their own and have no ratio.

    **Arguments:**

    - `problem`, `state`: the network, and the weights that are compared.
    - `answers`: names; `"all"` that apply, `"quick"` for those among them that take a second or so,
      or `"none"`.
    - `inputs`: where the functions are compared besides the examples, bias included.

    **Returns:** entries with

    - `name`; `value` of the comparator, and `dual_value`, a bound that certifies it if `exact`: the
      least norm is at least, the largest margin at most that;
    - `flow`, the network's own norm or margin, and `ratio`, flow/value, where both are of one kind;
    - `angle` between the predictions at the examples, in radians: for fitted labels that between
      the network's and the labels; and `angle_at_inputs`;
    - `margin_ratio`, for two classes: $\min_k y_k h(x_k) / |h(X)|$ of the network over the
      comparator's;
    - `fitted`, for the square loss: whether the labels are fitted so well that the least norm for
      the network's own predictions is that for the labels to $10^{-6}$ (for the NTK's interpolant:
      whether $|y - h| \le 10^{-6} |y|$). Only then does `ratio` set one fit against another;
    - `loss` of the comparator, for fitted labels, and `lower_loss`: whether it is below the
      network's, which is then no global minimum;
    - `neurons`: how many the comparator has, where it is a network;
    - `statement`: what that says of the network, in a sentence.

    What doesn't exist is None.
    """
    end = End(problem, state, inputs)
    chosen = [name for name, each in ANSWERS.items() if each.applies(end)]
    notes, entries = [], []
    if answers == NONE:
        chosen = []
    elif answers == QUICK:
        slow = [name for name in chosen if not ANSWERS[name].quick(end)]
        chosen = [name for name in chosen if name not in slow]
        if slow:
            notes.append(f"Not compared with {', '.join(slow)}, which may take long.")
    elif answers != ALL:
        for name in answers:
            if name not in ANSWERS:
                raise PolarflowError(
                    f"comparators: {name!r} is none; allowed are {', '.join(ANSWERS)}."
                )
            if name not in chosen:
                notes.append(f"Not compared with {name}: {ANSWERS[name].why}")
        chosen = [name for name in chosen if name in answers]
    interrupted = False
    for name in chosen:
        try:
            entries.append({"name": name, **ANSWERS[name].entry(end)})
        except KeyboardInterrupt:
            interrupted = True
            notes.append(f"Not compared with {', '.join(chosen[len(entries) :])}: interrupted.")
            break
        except PolarflowError as error:
            notes.append(f"Not compared with {name}: {error}")
        except Exception as error:  # a solver that fails must not cost the flow
            notes.append(f"Not compared with {name}: {type(error).__name__}, {error}")
    return Comparison(tuple(entries), tuple(notes), interrupted)
