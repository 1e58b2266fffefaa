"""The formulae of the methods once more, in plain NumPy and mostly in loops, as slow and as literal as can be.

Nothing here calls the code under test. Maps are (n, c, h, w) float64.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray


def softmax(x: ndarray, axis: int) -> ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def pixels(x: ndarray) -> list[tuple[int, int, int]]:
    n, _, h, w = x.shape
    return [(b, i, j) for b in range(n) for i in range(h) for j in range(w)]


def kd(s: ndarray, t: ndarray, tau: float, valid: ndarray | None = None) -> float:
    """τ² KL(softmax(T/τ) ‖ softmax(S/τ)), mean over the pixels that count."""
    total, count = 0.0, 0
    for b, i, j in pixels(s):
        if valid is not None and not valid[b, i, j]:
            continue
        p, q = softmax(t[b, :, i, j] / tau, 0), softmax(s[b, :, i, j] / tau, 0)
        total += float(np.sum(p * np.log(p / q)))
        count += 1
    return tau**2 * total / max(count, 1)


def pixel_cross_entropy(s: ndarray, t: ndarray) -> float:
    """−Σ softmax(T) log softmax(S) / (h·w), over all images."""
    total = 0.0
    for b, i, j in pixels(s):
        total -= float(np.sum(softmax(t[b, :, i, j], 0) * np.log(softmax(s[b, :, i, j], 0))))
    return total / (s.shape[2] * s.shape[3])


def hint(s: ndarray, t: ndarray) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(s.ravel(), t.ravel(), strict=True)) / s.size)


def attention(s: ndarray, t: ndarray) -> float:
    """Mean over images and positions of the squared difference of unit attention maps."""
    total = 0.0
    for b in range(len(s)):
        a_s, a_t = ((x[b] ** 2).mean(axis=0).ravel() for x in (s, t))
        total += float(np.sum((a_s / np.linalg.norm(a_s) - a_t / np.linalg.norm(a_t)) ** 2))
    return total / (len(s) * s.shape[2] * s.shape[3])


def max_pool(x: ndarray, window: tuple[int, int]) -> ndarray:
    """Windows side by side; those at the edges may be smaller."""
    n, c, h, w = x.shape
    kh, kw = window
    rows, columns = range(0, h, kh), range(0, w, kw)
    out = np.empty((n, c, len(rows), len(columns)))
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            out[:, :, a, b] = x[:, :, i : i + kh, j : j + kw].max(axis=(2, 3))
    return out


def cosines(x: ndarray) -> ndarray:
    """(c, h, w) -> (m, m): cosine of the feature vectors of every pair of positions."""
    v = x.reshape(len(x), -1).T
    m = len(v)
    a = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            a[i, j] = v[i] @ v[j] / (np.linalg.norm(v[i]) * np.linalg.norm(v[j]))
    return a


def pairwise(s: ndarray, t: ndarray) -> float:
    """Mean over images and pairs of the squared difference of cosines."""
    return float(np.mean([np.mean((cosines(s[b]) - cosines(t[b])) ** 2) for b in range(len(s))]))


def affinity_rows(s: ndarray, t: ndarray) -> float:
    """Σ_i ‖row_i(A_s − A_t)‖₂, mean over images."""
    return float(np.mean([sum(np.linalg.norm(row) for row in cosines(s[b]) - cosines(t[b])) for b in range(len(s))]))


def norm(v: ndarray, p: float) -> float:
    return float(np.sum(np.abs(v) ** p) ** (1 / p))


def adaptation(s: ndarray, t: ndarray, p: float, q: float) -> float:
    """Mean over images and positions of ‖ s/‖s‖_q − t/‖t‖_q ‖_p."""
    found = []
    for b, i, j in pixels(s):
        u, v = s[b, :, i, j], t[b, :, i, j]
        found.append(norm(u / norm(u, q) - v / norm(v, q), p))
    return float(np.mean(found))


def map_adaptation(s: ndarray, t: ndarray, p: float, q: float) -> float:
    """One norm over the whole map; p = 1 is a mean over elements."""
    found = []
    for u, v in zip(s, t, strict=True):
        d = u.ravel() / norm(u.ravel(), q) - v.ravel() / norm(v.ravel(), q)
        found.append(float(np.mean(np.abs(d))) if p == 1 else norm(d, p))
    return float(np.mean(found))


def channel_affinity(s: ndarray, t: ndarray) -> float:
    """Σ_c ‖ s_c s_cᵀ − t_c t_cᵀ ‖_F / (h·w), mean over images, s_c of unit length."""
    total = 0.0
    for b in range(len(s)):
        for c in range(s.shape[1]):
            u, v = s[b, c].ravel(), t[b, c].ravel()
            u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
            total += float(np.linalg.norm(np.outer(u, u) - np.outer(v, v)))
    return total / (len(s) * s.shape[2] * s.shape[3])


def channel_divergence(s: ndarray, t: ndarray, tau: float) -> float:
    """τ² KL(φ(T) ‖ φ(S)) of every channel over positions, mean over images and channels."""
    found = []
    for b in range(len(s)):
        for c in range(s.shape[1]):
            p, q = softmax(t[b, c].ravel() / tau, 0), softmax(s[b, c].ravel() / tau, 0)
            found.append(float(np.sum(p * np.log(p / q))))
    return tau**2 * float(np.mean(found))
