"""Data sets: arrays given by hand, read from a file, or known by name."""

from ._base import Data as Data
from ._base import append_one as append_one
from ._files import load as load
from ._files import read_npz as read_npz
from ._named import NAMED as NAMED
from ._named import digits as digits
from ._named import named as named
from ._named import teacher_student as teacher_student
