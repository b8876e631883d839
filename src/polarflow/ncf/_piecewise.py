"""The faces on which the NCF of one neuron is smooth, as the enumerations need them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._arrangement import INDEPENDENT, Faces, complement, count_cells, faces, simple_count
from ._bends import Bends

CHUNK = 50_000


@dataclass(frozen=True, eq=False)
class Pieces:
    """The faces of the bends' hyperplanes in R^d.

    **Attributes:**

    - `bends`: where the NCF bends.
    - `faces`: in coordinates of the span of the normals.
    - `span`: an orthonormal basis of that span, shape `(r, d)`.
    - `free`: an orthonormal basis of the directions in which no bend is met, shape `(d - r, d)`.
    """

    bends: Bends
    faces: Faces
    span: Float[ndarray, "r d"]
    free: Float[ndarray, "l d"]

    @property
    def dimension(self) -> ndarray:
        """Of each face as a cone in R^d."""
        return self.faces.dimension + len(self.free)

    def proof(self) -> dict[str, Any]:
        """The two counts of cells, one from the faces listed and one from the matroid."""
        h, r = self.faces.sign.shape[1], len(self.span)
        return {
            "hyperplanes": h,
            "rank": r,
            "faces": len(self.faces.sign),
            "cells": self.faces.cells,
            "cells_by_deletion_restriction": count_cells(self.bends.normal),
            "cells_in_general_position": simple_count(h, r),
            "general_position": self.faces.general,
            "narrowest": self.faces.margin,
        }


def pieces(bends: Bends) -> Pieces:
    """The faces of the bends.

    **Raises:** `PolarflowError` if there are too many.
    """
    normal = bends.normal
    if len(normal) == 0:
        d = bends.smooth.shape[0]
        return Pieces(bends, faces(np.zeros((0, 0))), np.zeros((0, d)), np.eye(d))
    _, singular, vectors = np.linalg.svd(normal, full_matrices=False)
    span = vectors[singular > INDEPENDENT * singular[0]]
    inside = normal @ span.T
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    return Pieces(bends, faces(inside), span, complement(span))


def complete(proof: Mapping[str, Any]) -> bool:
    """Whether the two counts agree and every face has a point inside."""
    return bool(proof["cells"] == proof["cells_by_deletion_restriction"] and proof["narrowest"] > 0)


class Components:
    """Pieces of flat sets, joined where one touches another."""

    def __init__(self) -> None:
        self._up: dict[Any, Any] = {}

    def find(self, node: Any) -> Any:
        """The piece that stands for the whole set."""
        self._up.setdefault(node, node)
        while self._up[node] != node:
            self._up[node] = self._up[self._up[node]]
            node = self._up[node]
        return node

    def join(self, one: Any, other: Any) -> None:
        """Make two pieces one set."""
        self._up[self.find(one)] = self.find(other)

    def groups(self, nodes: Iterable[Any]) -> list[list[Any]]:
        """The sets among these pieces."""
        found: dict[Any, list[Any]] = {}
        for node in nodes:
            found.setdefault(self.find(node), []).append(node)
        return list(found.values())
