"""What an experiment is: what is followed, the claims about it, and how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from .. import Progress

Relation = Literal["<=", ">=", "==", "in"]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, measured.

    **Attributes:**

    - `name`, `statement`: what is claimed, in words.
    - `measured`, `bound`: numbers; `bound` is an interval for the relation `"in"`.
    - `relation`: how `measured` must stand to `bound`.
    - `reason`: where the bound comes from.
    """

    name: str
    statement: str
    measured: float
    bound: float | tuple[float, float]
    relation: Relation
    reason: str

    @property
    def holds(self) -> bool:
        """Whether it does; nothing that is not a number holds."""
        if isinstance(self.bound, tuple):
            low, high = self.bound
            return self.relation == "in" and bool(low <= self.measured <= high)
        if self.relation == "<=":
            return bool(self.measured <= self.bound)
        if self.relation == ">=":
            return bool(self.measured >= self.bound)
        return self.relation == "==" and bool(self.measured == self.bound)

    def to_dict(self) -> dict[str, Any]:
        """The claim as it stands in summary.json."""
        return {
            "name": self.name,
            "statement": self.statement,
            "measured": float(self.measured),
            "bound": list(self.bound) if isinstance(self.bound, tuple) else float(self.bound),
            "relation": self.relation,
            "holds": self.holds,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Deviation:
    """A statement of the paper that does not hold as printed, and what was found instead.

    **Attributes:**

    - `name`, `printed`, `found`: what the paper says and what is the case.
    - `evidence`: the numbers.
    """

    name: str
    printed: str
    found: str
    evidence: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The deviation as it stands in summary.json."""
        return {
            "name": self.name,
            "printed": self.printed,
            "found": self.found,
            "evidence": self.evidence,
        }


class Evidence(Protocol):
    """What claims and drawings look at: the flows that were followed, and what was beside them."""

    def parameters(self) -> dict[str, Any]:
        """All that was followed, the choices that the paper leaves open among it."""

    def comparison(self) -> list[dict[str, Any]]:
        """How far other methods are from the flow; empty where none is compared."""

    def work(self) -> dict[str, Any]:
        """What the flows cost."""


E = TypeVar("E", bound=Evidence)
E_co = TypeVar("E_co", bound=Evidence, covariant=True)


class Setting(Protocol[E_co]):
    """The parameters of an experiment, which know how to follow what they describe."""

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> E_co:
        """Follow all that the claims and the drawing need; `quick` leaves out what takes minutes.

        Every claim can be measured on quick evidence too.

        **Raises:** `PolarflowError` if a flow could not go on; `KeyboardInterrupt` if it was
        interrupted.
        """


@dataclass(frozen=True)
class Experiment(Generic[E]):
    """A published figure.

    **Attributes:**

    - `name`: what `polarflow reproduce` calls it.
    - `title`: one line.
    - `paper`: where the figure is.
    - `setting`: its parameters.
    - `claims`, `deviations`: each measures one statement on the evidence; a deviation is None
      where the statement holds after all.
    - `draw`: writes the figures into a folder, and the animation unless `quick`; returns paths.
    """

    name: str
    title: str
    paper: str
    setting: Setting[E]
    claims: tuple[Callable[[E], Claim], ...]
    draw: Callable[[E, Path, bool], list[Path]]
    deviations: tuple[Callable[[E], Deviation | None], ...] = ()
