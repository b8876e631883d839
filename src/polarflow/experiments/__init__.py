"""Published figures, reproduced: each experiment is data, claims that can fail, and a drawing.

`names()` lists them, `reproduce(name, out)` follows the flow, measures every claim that the paper
makes of the figure and draws it.
"""

from ._base import Claim as Claim
from ._base import Deviation as Deviation
from ._base import Evidence as Evidence
from ._base import Experiment as Experiment
from ._base import Setting as Setting
from ._flow import FlowEvidence as FlowEvidence
from ._flow import FlowSetting as FlowSetting
from ._registry import describe as describe
from ._registry import experiment as experiment
from ._registry import names as names
from ._reproduce import reproduce as reproduce
