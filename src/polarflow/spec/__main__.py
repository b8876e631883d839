"""`python -m polarflow.spec` prints the reference page of the spec."""

from ._pages import reference

print(reference(), end="")
