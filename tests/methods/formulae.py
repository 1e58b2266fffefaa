"""The formulae of the methods once more, in plain NumPy and mostly in loops, as slow and as literal as can be.

Nothing here calls the code under test. Maps are (n, c, h, w) float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / Σ exp(x)."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def kl(p: Array, q: Array) -> float:
    """Σ p log(p / q) of two distributions."""
    return float(np.sum(p * np.log(p / q)))


def cosine(a: Array, b: Array) -> float:
    """⟨a, b⟩ / (‖a‖ ‖b‖)."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def nearest(labels: Labels, height: int, width: int) -> Labels:
    """Nearest resize: the source pixel at floor(i · H / h)."""
    rows = [int(i * labels.shape[1] / height) for i in range(height)]
    columns = [int(j * labels.shape[2] / width) for j in range(width)]
    return labels[:, rows][:, :, columns]


def pixels(x: Array) -> list[tuple[int, int, int]]:
    n, _, h, w = x.shape
    return [(b, i, j) for b in range(n) for i in range(h) for j in range(w)]


# --- kd, pixel_kd, fitnet, at, skd, cwd, ka ---------------------------------------------------------------------------


def kd(s: Array, t: Array, tau: float, valid: Array | None = None) -> float:
    """τ² KL(softmax(T/τ) ‖ softmax(S/τ)), mean over the pixels that count."""
    total, count = 0.0, 0
    for b, i, j in pixels(s):
        if valid is not None and not valid[b, i, j]:
            continue
        p, q = softmax(t[b, :, i, j] / tau, 0), softmax(s[b, :, i, j] / tau, 0)
        total += kl(p, q)
        count += 1
    return tau**2 * total / max(count, 1)


def pixel_cross_entropy(s: Array, t: Array) -> float:
    """−Σ softmax(T) log softmax(S) / (h·w), over all images."""
    total = 0.0
    for b, i, j in pixels(s):
        total -= float(np.sum(softmax(t[b, :, i, j], 0) * np.log(softmax(s[b, :, i, j], 0))))
    return total / (s.shape[2] * s.shape[3])


def hint(s: Array, t: Array) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(s.ravel(), t.ravel(), strict=True)) / s.size)


def attention(s: Array, t: Array) -> float:
    """Mean over images and positions of the squared difference of unit attention maps."""
    total = 0.0
    for b in range(len(s)):
        a_s, a_t = ((x[b] ** 2).mean(axis=0).ravel() for x in (s, t))
        total += float(np.sum((a_s / np.linalg.norm(a_s) - a_t / np.linalg.norm(a_t)) ** 2))
    return total / (len(s) * s.shape[2] * s.shape[3])


def max_pool(x: Array, window: tuple[int, int]) -> Array:
    """Windows side by side; those at the edges may be smaller."""
    n, c, h, w = x.shape
    kh, kw = window
    rows, columns = range(0, h, kh), range(0, w, kw)
    out = np.empty((n, c, len(rows), len(columns)))
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            out[:, :, a, b] = x[:, :, i : i + kh, j : j + kw].max(axis=(2, 3))
    return out


def whole_windows(x: Array, side: int) -> Array:
    """The part that whole windows cover."""
    return x[:, :, : x.shape[2] // side * side, : x.shape[3] // side * side]


def cosines(x: Array) -> Array:
    """(c, h, w) -> (m, m): cosine of the feature vectors of every pair of positions."""
    v = x.reshape(len(x), -1).T
    m = len(v)
    a = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            a[i, j] = cosine(v[i], v[j])
    return a


def pairwise(s: Array, t: Array) -> float:
    """Mean over images and pairs of the squared difference of cosines."""
    return float(np.mean([np.mean((cosines(s[b]) - cosines(t[b])) ** 2) for b in range(len(s))]))


def affinity_rows(s: Array, t: Array) -> float:
    """Σ_i ‖row_i(A_s − A_t)‖₂, mean over images."""
    return float(np.mean([sum(np.linalg.norm(row) for row in cosines(s[b]) - cosines(t[b])) for b in range(len(s))]))


def norm(v: Array, p: float) -> float:
    return float(np.sum(np.abs(v) ** p) ** (1 / p))


def adaptation(s: Array, t: Array, p: float, q: float) -> float:
    """Mean over images and positions of ‖ s/‖s‖_q − t/‖t‖_q ‖_p."""
    found = []
    for b, i, j in pixels(s):
        u, v = s[b, :, i, j], t[b, :, i, j]
        found.append(norm(u / norm(u, q) - v / norm(v, q), p))
    return float(np.mean(found))


def map_adaptation(s: Array, t: Array, p: float, q: float) -> float:
    """One norm over the whole map; p = 1 is a mean over elements."""
    found = []
    for u, v in zip(s, t, strict=True):
        d = u.ravel() / norm(u.ravel(), q) - v.ravel() / norm(v.ravel(), q)
        found.append(float(np.mean(np.abs(d))) if p == 1 else norm(d, p))
    return float(np.mean(found))


def channel_affinity(s: Array, t: Array) -> float:
    """Σ_c ‖ s_c s_cᵀ − t_c t_cᵀ ‖_F / (h·w), mean over images, s_c of unit length."""
    total = 0.0
    for b in range(len(s)):
        for c in range(s.shape[1]):
            u, v = s[b, c].ravel(), t[b, c].ravel()
            u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
            total += float(np.linalg.norm(np.outer(u, u) - np.outer(v, v)))
    return total / (len(s) * s.shape[2] * s.shape[3])


def channel_divergence(s: Array, t: Array, tau: float) -> float:
    """τ² KL(φ(T) ‖ φ(S)) of every channel over positions, mean over images and channels."""
    found = []
    for b in range(len(s)):
        for c in range(s.shape[1]):
            p, q = softmax(t[b, c].ravel() / tau, 0), softmax(s[b, c].ravel() / tau, 0)
            found.append(kl(p, q))
    return tau**2 * float(np.mean(found))


# --- ifvd ------------------------------------------------------------------------------------------------------------


def class_cosines(features: Array, labels: Labels, classes: int) -> Array:
    """Cosine of each pixel's vector with its class's mean in the image; 1 for pixels of no class."""
    batch, _, height, width = features.shape
    result = np.ones((batch, height, width))
    for b in range(batch):
        for k in range(classes):
            where = np.argwhere(labels[b] == k)
            if len(where) == 0:
                continue
            mean = np.mean([features[b, :, i, j] for i, j in where], axis=0)
            for i, j in where:
                result[b, i, j] = cosine(features[b, :, i, j], mean)
    return result


def ifv(student: Array, teacher: Array, labels: Labels, classes: int) -> float:
    """Mean squared difference of the class cosines."""
    resized = nearest(labels, *student.shape[2:])
    return float(np.mean((class_cosines(student, resized, classes) - class_cosines(teacher, resized, classes)) ** 2))


# --- dsd -------------------------------------------------------------------------------------------------------------


def psd(student: list[Array], teacher: list[Array]) -> float:
    """Residual attention maps of all pairs of layers, one image at a time; all maps on one grid."""
    squares = []
    for n in range(len(student)):
        for m in range(n + 1, len(student)):
            for b in range(student[0].shape[0]):
                squares.append(_residual(student, n, m, b) - _residual(teacher, n, m, b))
    return float(np.mean(np.square(squares)))


def _residual(maps: list[Array], n: int, m: int, b: int) -> Array:
    def attention(x: Array) -> Array:
        energy = np.mean(x[b] ** 2, axis=0).reshape(-1)
        return energy / np.linalg.norm(energy)

    difference = attention(maps[m]) - attention(maps[n])
    return difference / np.linalg.norm(difference)


def csd(student: Array, teacher: Array, tau: float, pool: int) -> float:
    """Inner products of the classes' softmax over positions, after average pooling with partial windows."""

    def similarity(x: Array, b: int) -> Array:
        rows = []
        for channel in x[b]:
            height, width = channel.shape
            pooled = [
                np.mean(channel[i : i + pool, j : j + pool])
                for i in range(0, height, pool)
                for j in range(0, width, pool)
            ]
            rows.append(softmax(np.array(pooled) / tau, 0))
        return np.array([[a @ c for c in rows] for a in rows])

    return float(np.mean([(similarity(student, b) - similarity(teacher, b)) ** 2 for b in range(student.shape[0])]))


# --- cirkd -----------------------------------------------------------------------------------------------------------


def positions(features: Array) -> list[Array]:
    """Unit vectors (m, C) of each image."""
    return [np.array([v / np.linalg.norm(v) for v in image.reshape(image.shape[0], -1).T]) for image in features]


def batch_relations(student: Array, teacher: Array, tau: float) -> float:
    """Mean over ordered pairs of images and rows of KL of similarity rows."""
    s, t = positions(student), positions(teacher)
    values = []
    for i in range(len(s)):
        for j in range(len(s)):
            for a in range(len(s[i])):
                values.append(kl(softmax(t[j] @ t[i][a] / tau, 0), softmax(s[j] @ s[i][a] / tau, 0)))
    return float(np.mean(values))


def memory_relation(student: Array, teacher: Array, keys: Array, labelled: Labels, tau: float) -> float:
    """Mean over labelled positions of KL of similarities to keys; student is projected already."""
    s, t = positions(student), positions(teacher)
    values = []
    for b in range(len(s)):
        for a, counts in enumerate(labelled[b].reshape(-1)):
            if counts:
                values.append(kl(softmax(keys @ t[b][a] / tau, 0), softmax(keys @ s[b][a] / tau, 0)))
    return float(np.mean(values))


# --- mgd and afdcd ---------------------------------------------------------------------------------------------------


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    """3×3 (or 1×1) cross-correlation that keeps the grid."""
    reach = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    height, width = x.shape[2:]
    result = np.zeros((x.shape[0], weight.shape[0], height, width))
    for i in range(height):
        for j in range(width):
            window = padded[:, :, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
            result[:, :, i, j] = np.tensordot(window, weight, axes=([1, 2, 3], [1, 2, 3])) + bias
    return result


def summed_square(generated: Array, teacher: Array) -> float:
    """Σ (G − T)² / B."""
    return float(np.sum((generated - teacher) ** 2) / teacher.shape[0])


def omni(student: Array, teacher: Array, tau: float, groups: int, patch: int, pool: int) -> float:
    """Contrast inside patches, summed over the batch and divided by the pooled positions."""
    s, t = (max_pool(whole_windows(x, pool), (pool, pool)) for x in (student, teacher))
    batch, width, height, breadth = s.shape
    size, total, counted = width // groups, 0.0, (height // patch * patch) * (breadth // patch * patch)
    for b in range(batch):
        for top in range(0, height - patch + 1, patch):
            for left in range(0, breadth - patch + 1, patch):
                places = [(top + i, left + j) for i in range(patch) for j in range(patch)]
                for place in places:
                    for g in range(groups):
                        anchor = s[b, g * size : (g + 1) * size, place[0], place[1]]

                        def score(q: tuple[int, int], h: int, anchor: Array = anchor, b: int = b) -> float:
                            other = t[b, h * size : (h + 1) * size, q[0], q[1]]
                            return float(-np.sum(np.abs(anchor - other)) / tau)

                        scores = [score(place, g)]
                        scores += [score(q, h) for q in places for h in range(groups) if h != g]
                        top_score = max(scores)
                        total += top_score + np.log(np.sum(np.exp(np.array(scores) - top_score))) - scores[0]
    return total / counted


# --- dist ------------------------------------------------------------------------------------------------------------


def dist(student: Array, teacher: Array, tau: float) -> tuple[float, float]:
    """(inter, intra): τ² (1 − mean correlation) over the classes of pixels, and over the pixels of classes."""
    classes = student.shape[1]
    p = softmax(student / tau, 1).transpose(0, 2, 3, 1).reshape(-1, classes)
    q = softmax(teacher / tau, 1).transpose(0, 2, 3, 1).reshape(-1, classes)
    inter = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return float(tau**2 * (1 - inter)), float(tau**2 * (1 - intra))


# --- maskd -----------------------------------------------------------------------------------------------------------


def masks(tokens: Array, logits: Array) -> Array:
    """(B, N, h, w)."""
    return np.array([[1 / (1 + np.exp(-np.einsum("c,chw->hw", token, image))) for token in tokens] for image in logits])


def maskd(student: Array, teacher: Array, tokens: Array) -> float:
    """½ mean over images, masks, classes of Σ ((S − T) m)² / (Σ m + 1e-5)."""
    m = masks(tokens, teacher)
    values = []
    for b in range(student.shape[0]):
        for n in range(tokens.shape[0]):
            for k in range(student.shape[1]):
                values.append(np.sum(((student[b, k] - teacher[b, k]) * m[b, n]) ** 2) / (np.sum(m[b, n]) + 1e-5))
    return 0.5 * float(np.mean(values))


def dice(tokens: Array, logits: Array) -> float:
    """Mean Dice of pairs of different masks."""
    m = masks(tokens, logits).reshape(logits.shape[0], tokens.shape[0], -1)
    values = [
        2 * np.sum(x[i] * x[j]) / (np.sum(x[i] ** 2) + np.sum(x[j] ** 2) + 1e-12)
        for x in m
        for i in range(len(x))
        for j in range(len(x))
        if i != j
    ]
    return float(np.mean(values))


def token_task(tokens: Array, logits: Array, tau: float) -> float:
    """τ² × mean over pixels of KL between the teacher's classes and those of the masked logits."""
    masked = np.zeros_like(logits)
    for n in range(tokens.shape[0]):
        masked += logits * masks(tokens, logits)[:, n : n + 1]
    return kd(masked, logits, tau)
