"""The hyperplanes {w : w.x_k = 0} of the examples, and the faces of their arrangement.

At w the gradients of the realisable patterns next to w span Clarke's subdifferential. Where w
lies on the hyperplanes K, those patterns are the cells of the central arrangement of K, and a
motion that starts there runs along one of its faces. Both are enumerated here, a sign vector
being accepted if a linear program finds a point with those signs; nothing is assumed of how
the normals depend on each other. Examples that are parallel or opposite share a hyperplane.
"""

from functools import cached_property

import numpy as np
from scipy.optimize import linprog, nnls

SAME = 1e-10  # sine of an angle below which two directions are one


class Arrangement:
    """Hyperplanes of examples x (n, d).

    `normals` (H, d) are unit vectors; `plane` (n,) gives the hyperplane of an example, -1 for
    x = 0; `height` (n,) is x_k . normal, negative where x_k points to the other side.
    """

    def __init__(self, x) -> None:
        x = np.asarray(x, np.longdouble)
        self.plane = np.full(len(x), -1)
        normals = []
        for k, v in enumerate(x):
            norm = np.sqrt(v @ v)
            if norm == 0:
                continue
            u = v / norm
            for h, n in enumerate(normals):
                if np.abs(u - (u @ n) * n).max() < SAME:
                    self.plane[k] = h
            if self.plane[k] < 0:
                self.plane[k] = len(normals)
                normals.append(u)
        self.normals = np.array(normals, np.longdouble).reshape(len(normals), x.shape[1])
        self.height = np.array(
            [v @ normals[h] if h >= 0 else 0 for v, h in zip(x, self.plane, strict=True)],
            np.longdouble,
        )
        self.faces_of: dict[tuple, list] = {}
        self.cells_of: dict[tuple, np.ndarray] = {}

    @cached_property
    def unit(self):
        return self.normals.astype(float)

    def rank(self, planes) -> int:
        return np.linalg.matrix_rank(self.unit[list(planes)], SAME) if len(planes) else 0

    def closure(self, planes) -> tuple[int, ...]:
        """All hyperplanes that hold the intersection of the given ones."""
        planes = sorted(planes)
        if not planes:
            return ()
        _, s, vt = np.linalg.svd(self.unit[planes], full_matrices=False)
        span = vt[s > SAME]
        left = self.unit - (self.unit @ span.T) @ span
        return tuple(int(h) for h in np.nonzero(np.linalg.norm(left, axis=1) < 10 * SAME)[0])

    def cells(self, planes: tuple[int, ...]) -> np.ndarray:
        """Signs (cells, planes) of the open cells of the arrangement of the given hyperplanes."""
        if planes not in self.cells_of:
            self.cells_of[planes] = np.array(_cells(self.unit[list(planes)]), int)
        return self.cells_of[planes]

    def faces(self, planes: tuple[int, ...]) -> list[np.ndarray]:
        """Signs, zeros included, of all faces of the arrangement of a closed set."""
        if planes not in self.faces_of:
            flats = {(), *((h,) for h in planes)}
            while True:
                more = {self.closure({*f, h}) for f in flats for h in planes} | flats
                if more == flats:
                    break
                flats = more
            found = []
            for flat in sorted(f for f in flats if f == self.closure(f)):
                free = [h for h in planes if h not in flat]
                normals = self.unit[free]
                if flat:
                    _, s, vt = np.linalg.svd(self.unit[list(flat)], full_matrices=False)
                    span = vt[s > SAME]
                    normals = normals - (normals @ span.T) @ span
                for signs in _cells(normals):
                    face = np.zeros(len(planes), int)
                    face[[planes.index(h) for h in free]] = signs
                    found.append(face)
            self.faces_of[planes] = found
        return self.faces_of[planes]


def _cells(normals) -> list[tuple[int, ...]]:
    """Sign vectors of the cells of a central arrangement, one hyperplane after the other."""
    cells: list[tuple[int, ...]] = [()]
    for count in range(1, len(normals) + 1):
        cells = [
            (*cell, sign)
            for cell in cells
            for sign in (-1, 1)
            if _realisable(normals[:count], (*cell, sign))
        ]
    return cells


def _realisable(normals, signs) -> bool:
    """Whether some u has sign(normals . u) = signs: the largest margin of |u| <= 1 is positive."""
    scaled = np.array(signs)[:, None] * normals / np.linalg.norm(normals, axis=1)[:, None]
    d = normals.shape[1]
    found = linprog(
        [0.0] * d + [-1.0],
        A_ub=np.c_[-scaled, np.ones(len(scaled))],
        b_ub=np.zeros(len(scaled)),
        bounds=[(-1, 1)] * d + [(None, 1)],
    )
    return bool(found.status == 0 and -found.fun > 1e-9)


def distance_to_hull(points) -> float:
    """About the distance of the origin from the convex hull of points (c, q): 0 if inside."""
    p = np.asarray(points, float).T
    return float(nnls(np.vstack([p, np.ones(p.shape[1])]), np.eye(len(p) + 1)[-1])[1])
