"""Homogeneous activations."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import PolarflowError

Name = Literal["linear", "relu", "leaky_relu", "relu_power", "polynomial"]


@dataclass(frozen=True)
class Activation:
    """A positively homogeneous function of one number, of the order `power`.

    `linear`: z; `relu`: max(z, 0); `leaky_relu`: max(z, slope z)^power; `relu_power`:
    max(z, 0)^power; `polynomial`: z^power.

    **Arguments:**

    - `name`: one of these.
    - `power`: at least 1; a whole number for `leaky_relu` and `polynomial`; 1 for `linear` and
      `relu`.
    - `slope`: in [0, 1), for `leaky_relu` only.
    """

    name: Name = "relu"
    power: float = 1.0
    slope: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            allowed = ", ".join(f'"{name}"' for name in get_args(Name))
            raise PolarflowError(
                f"network.activation is {self.name!r}; it must be one of {allowed}."
            )
        if not self.power >= 1.0:
            raise PolarflowError(f"network.power is {self.power}; it must be at least 1.")
        if self.name in ("linear", "relu") and self.power != 1.0:
            raise PolarflowError(
                f'network.power is {self.power:g}; "{self.name}" has power 1, "relu_power" and '
                '"polynomial" take others.'
            )
        if self.name in ("leaky_relu", "polynomial") and self.power != round(self.power):
            raise PolarflowError(
                f'network.power is {self.power:g}; it must be a whole number for "{self.name}".'
            )
        if not 0.0 <= self.slope < 1.0 or (self.slope and self.name != "leaky_relu"):
            raise PolarflowError(
                f'network.slope is {self.slope:g}; it must lie in [0, 1), and is for "leaky_relu".'
            )

    @property
    def kinks(self) -> bool:
        """Whether the derivative jumps at zero."""
        return self.power == 1.0 and self.name not in ("linear", "polynomial")

    @property
    def pieces(self) -> bool:
        """Whether it is one polynomial on each side of zero, with a continuous derivative."""
        return (
            self.name in ("leaky_relu", "relu_power")
            and self.power > 1.0
            and self.power == round(self.power)
        )

    def piece(self, z: Any, side: Any) -> Any:
        """The polynomial of a side, 1 where z > 0 is meant and 0 elsewhere, whatever z is."""
        return (side + (1.0 - side) * self.slope ** int(self.power)) * z ** int(self.power)

    def __call__(self, z: Any, width: Any = None) -> Any:
        """The function, written with JAX; its derivative at a kink is that of the negative side.

        With a width kinks are rounded off over it: max(z, 0) becomes (z + sqrt(z^2 + width^2))/2.
        """
        import jax.numpy as jnp

        if width is not None and self.kinks:
            bend = 0.5 * (z + jnp.sqrt(z * z + width**2))
            return self.slope * z + (1.0 - self.slope) * bend
        if self.name == "leaky_relu":
            z = jnp.where(z > 0.0, z, self.slope * z)
        elif self.name in ("relu", "relu_power"):
            z = jnp.where(z > 0.0, z, 0.0)
        if self.power == 1.0:
            return z
        if self.power == round(self.power):
            return z ** int(self.power)
        # The power's derivative is taken at one where z = 0, so that no infinity arises.
        return jnp.where(z > 0.0, jnp.where(z > 0.0, z, 1.0) ** self.power, 0.0)
