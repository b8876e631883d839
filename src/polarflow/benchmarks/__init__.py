"""The engine against its rivals, measured in one run by anyone: `polarflow bench`."""

from ._drawing import draw as draw
from ._run import names as names
from ._run import run as run
from ._table import table as table
