"""Time labels of a scan's slices from a network's logits: flarenet's way against torch's interpolate and argmax.

    python benchmarks/prediction/upsample.py [--repeats 15] [--cases 224:512 273:512]

Both work on the same logits: 14 channels of blobs as large as abdominal organs and 2 of one small lesion, with a little
noise, like the output of a trained network. "once": each network slice serves one slice of the scan, and its one-off
work is included; "again": another slice of the scan between the same network slices. Noise in place of blobs is the
worst case: no cell has one label. One thread.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from flarenet.inference.upsample import NetworkSlice, labels_between

CHANNELS = {"organ": 14, "cancer": 2}


def blobs(size, shift):
    draw = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    planes = {}
    for group, channels in CHANNELS.items():
        centre = 0.2 + 0.6 * torch.rand((2, channels, 1, 1), generator=draw)
        radius = 0.03 + (0.15 if group == "organ" else 0.02) * torch.rand((channels, 1, 1), generator=draw)
        logits = 10 - 6 * (((y - centre[0] - shift) / radius) ** 2 + ((x - centre[1]) / radius) ** 2)
        logits[0] = 4
        planes[group] = logits.clamp(min=-12) + 0.1 * torch.randn(logits.shape, generator=draw)
    return planes


def noise(size, shift):
    draw = torch.Generator().manual_seed(int(shift * 1000))
    return {group: torch.randn((channels, size, size), generator=draw) for group, channels in CHANNELS.items()}


def by_torch(lower, upper, share, size):
    labels = {}
    for group in CHANNELS:
        logits = lower[group] if share == 0 else torch.lerp(lower[group], upper[group], share)
        full = F.interpolate(logits[None], size=(size, size), mode="bilinear", align_corners=False)
        labels[group] = full[0].argmax(0).to(torch.uint8).numpy()
    return labels


def median_ms(work, repeats):
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e3


def rows(source, size, repeats):
    for name, make in (("organs", blobs), ("noise", noise)):
        planes = make(source, 0.0), make(source, 0.004)
        for share in (0.0, 0.3):
            kept = [NetworkSlice(logits, (size, size)) for logits in planes]
            used = planes[: 1 if share == 0 else 2]

            def once(used=used, share=share):
                fresh = [NetworkSlice(logits, (size, size)) for logits in used]
                labels_between(fresh[0], fresh[-1], share)

            ours, theirs = labels_between(*kept, share), by_torch(*planes, share, size)
            other = max(float((ours[group] != theirs[group]).mean()) for group in CHANNELS)
            times = (
                median_ms(once, repeats),
                median_ms(lambda kept=kept, share=share: labels_between(*kept, share), repeats),
                median_ms(lambda planes=planes, share=share: by_torch(*planes, share, size), max(3, repeats // 5)),
            )
            shown = " | ".join(f"{ms:.2f}" for ms in times)
            print(f"| {source} to {size} | {name} | {share:g} | {shown} | {times[2] / times[0]:.0f} | {other:.1e} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--cases", nargs="+", default=["224:512", "273:512", "512:512"], metavar="FROM:TO")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| pixels a side | logits | upper slice | once, ms | again, ms | torch, ms | torch / once | other labels |")
    print("|---|---|---|---|---|---|---|---|")
    for case in arguments.cases:
        rows(*map(int, case.split(":")), arguments.repeats)


if __name__ == "__main__":
    main()
