"""python run_onnx.py FOLDER IMAGE.npy Z,Y,X LABELS.npy: a label map by what `flarenet_model onnx` wrote.

IMAGE.npy holds HU [Z, Y, X], counted to superior, anterior and right; Z,Y,X is its spacing in mm.
"""

import itertools
import json
import sys

import numpy as np
import onnxruntime


def resample(image, shape):  # the last three axes, linearly; the outer edges of both grids coincide
    for axis, wanted in zip((-2, -1, -3), (shape[1], shape[2], shape[0])):
        place = np.clip((np.arange(wanted) + 0.5) * image.shape[axis] / wanted - 0.5, 0, image.shape[axis] - 1)
        weights = np.maximum(0, 1 - abs(place - np.arange(image.shape[axis])[:, None])).astype(np.float32)
        image = np.moveaxis(np.moveaxis(image, axis, -1) @ weights, -1, axis)
    return image


def own_window(image, percentiles):  # of what is above the lowest value: padding must not count
    for voxels in (image[image > image.min()], image):
        low, high = np.percentile(voxels, percentiles) if voxels.size else (0, 0)
        if high - low > 1e-30:
            return low, high
    return low, low + 1  # an image of one value has no width


def run(session, frame, p):  # [C, *S] -> the logits [1 + n, *S] of each group; windows are blended by a Gaussian
    patch, size = p["patch"], frame.shape[1:]
    margins = [(max(0, m - n) // 2, (max(0, m - n) + 1) // 2) for m, n in zip(patch, size)]
    frame = np.pad(frame, [(0, 0), *margins])
    lines = [np.exp(-(((np.arange(n) - (n - 1) / 2) / (p["sigma_share"] * n)) ** 2) / 2) for n in patch]
    weight = np.maximum(np.prod(np.meshgrid(*lines, indexing="ij"), axis=0), p["least_weight"]).astype(np.float32)
    starts = [[*range(0, n - m, max(1, int(m * (1 - p["overlap"])))), n - m] for n, m in zip(frame.shape[1:], patch)]
    sums = [np.zeros((1 + n, *frame.shape[1:]), np.float32) for n in (0, *map(len, p["outputs"].values()))]
    for corner in itertools.product(*starts):
        window = (slice(None), *(slice(a, a + n) for a, n in zip(corner, patch)))
        logits = session.run(list(p["outputs"]), {p["input"]: frame[window][None]})
        for total, one in zip(sums, [np.ones((1, 1, *patch), np.float32), *logits]):
            total[window] += one[0] * weight
    image = (slice(None), *(slice(before, before + n) for (before, _), n in zip(margins, size)))
    return [(total / sums[0])[image] for total in sums[1:]]


def label_map(session, p, hu, spacing):
    assert p["interpolation"] == "linear" and p["fusion"]["rule"] == "overlay" and not p["fusion"]["flips"]
    low, high = p["clip_hu"] or own_window(hu, p["percentiles"])
    box = tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(hu > low)) if (hu > low).any() else np.s_[:, :, :]
    image = (np.clip(hu[box], low, high).astype(np.float32) - low) * (p["levels"] / (high - low))
    keeps = [p["never_finer_z"] and spacing[0] >= (p["spacing_mm"][0] or 0), False, False]  # thick slices stay
    wanted = [s if keep else w or s for s, w, keep in zip(spacing, p["spacing_mm"], keeps)]
    shape = [max(1, round(round(n * s / w, 4))) for n, s, w in zip(image.shape, spacing, wanted)]
    image = (np.clip(np.rint(resample(image, shape)), 0, p["levels"]) / p["levels"]).astype(np.float32)
    if len(p["patch"]) == 3:
        answers = run(session, image[None], p)
    else:
        places = np.clip(np.add.outer(range(len(image)), np.arange(p["channels"]) - p["neighbours"]), 0, len(image) - 1)
        answers = [np.stack(slices, axis=1) for slices in zip(*(run(session, image[at], p) for at in places))]
    labels = np.zeros(hu.shape, np.uint8)
    for values, logits in zip(p["outputs"].values(), answers):  # a later group lies over the earlier ones
        best = np.array([0, *values], np.uint8)[resample(logits, labels[box].shape).argmax(0)]
        labels[box] = np.where(best, best, labels[box])
    return labels


if __name__ == "__main__":
    network = onnxruntime.InferenceSession(f"{sys.argv[1]}/network.onnx", providers=["CPUExecutionProvider"])
    processing, spacing_mm = json.load(open(f"{sys.argv[1]}/processing.json")), map(float, sys.argv[3].split(","))
    np.save(sys.argv[4], label_map(network, processing, np.load(sys.argv[2]), list(spacing_mm)))
