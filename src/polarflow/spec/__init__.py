"""The spec of one flow: a TOML file, checked as a whole before anything else."""

from ._load import load_spec as load_spec
from ._load import parse_spec as parse_spec
from ._models import PathSpec as PathSpec
from ._models import ProblemSpec as ProblemSpec
from ._models import Spec as Spec
from ._ncf import NcfPlan as NcfPlan
from ._ncf import assemble_ncf as assemble_ncf
from ._pages import example as example
from ._pages import reference as reference
from ._plan import Plan as Plan
from ._plan import assemble as assemble
