"""The formulae of ifvd, dsd, cirkd, mgd, dist, maskd and afdcd, evaluated with NumPy in plain loops.

Nothing here calls the code under test. Arrays are float64.
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


def pixel_kd(student: Array, teacher: Array) -> float:
    """Mean over pixels of KL of class distributions."""
    p, q = softmax(teacher, 1), softmax(student, 1)
    return float(np.mean(np.sum(p * np.log(p / q), axis=1)))


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


def cwd(student: Array, teacher: Array, tau: float) -> float:
    """τ² × mean over images and channels of KL over positions."""
    batch, width = student.shape[:2]
    s, t = student.reshape(batch, width, -1) / tau, teacher.reshape(batch, width, -1) / tau
    values = [kl(softmax(t[b, c], 0), softmax(s[b, c], 0)) for b in range(batch) for c in range(width)]
    return float(np.mean(values)) * tau**2


def omni(student: Array, teacher: Array, tau: float, groups: int, patch: int, pool: int) -> float:
    """Contrast inside patches, summed over the batch and divided by the pooled positions."""
    s, t = _max_pool(student, pool), _max_pool(teacher, pool)
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


def _max_pool(x: Array, side: int) -> Array:
    height, width = x.shape[2] // side, x.shape[3] // side
    result = np.zeros((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            result[:, :, i, j] = x[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side].max(axis=(2, 3))
    return result


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
    return pixel_kd(masked / tau, logits / tau) * tau**2
