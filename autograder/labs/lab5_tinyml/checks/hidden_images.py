"""Images that no firmware can know: held-out ones as a camera sees them again, and some of no set.

Who knows the images of a data set by heart (those of CIFAR-10 are public) or guesses classes well
without the lab's network does not have its logits on blends, textures and noise.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from autograder.contract.checking import Cases

CAMERA, OTHERS = 40, 10  # images of each kind
_STARTS = {"blends of two images": 40, "textures": 50, "noise": 60}
KINDS = {"images with labels": slice(0, CAMERA)} | {
    kind: slice(start, start + OTHERS) for kind, start in _STARTS.items()
}


def drawn(cases: Cases) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of every kind, uint8 ``[N, 3, H, W]`` in the order of ``KINDS``, and labels.

    Only the first images, those of the camera, have a label.
    """
    picked = torch.randperm(len(cases.images), generator=cases.generator)[: CAMERA + 2 * OTHERS]
    seen = camera(cases, cases.images.images[picked])
    first, second = seen[CAMERA:].double().chunk(2)
    share = 0.3 + 0.4 * torch.rand(OTHERS, 1, 1, 1, generator=cases.generator, dtype=torch.float64)
    others = [share * first + (1 - share) * second, _textures(cases), _noise(cases)]
    images = [seen[:CAMERA], *(one.round().clamp(0, 255).to(torch.uint8) for one in others)]
    return torch.cat(images), cases.images.labels[picked[:CAMERA]]


def camera(cases: Cases, images: torch.Tensor) -> torch.Tensor:
    """Images as a camera would see them again: shifted a little, with noise."""
    padded = functional.pad(images.float(), (2, 2, 2, 2), mode="replicate")
    shifts = cases.randint(0, 5, (len(images), 2)).tolist()
    moved = [
        image[:, down : down + images.shape[2], right : right + images.shape[3]]
        for image, (down, right) in zip(padded, shifts, strict=True)
    ]
    noise = cases.randint(-3, 4, tuple(images.shape)).float()
    return (torch.stack(moved) + noise).clamp(0, 255).to(torch.uint8)


def _textures(cases: Cases) -> torch.Tensor:
    """Sums of two waves a channel, of any direction, length and brightness."""
    rows = torch.arange(32.0).reshape(32, 1)
    waves = torch.zeros(OTHERS, 3, 32, 32)
    for _ in range(2):
        down, right, phase = torch.rand(3, OTHERS, 3, 1, 1, generator=cases.generator) * 2.0
        waves += torch.sin(down * rows + right * rows.T + 6.0 * phase)
    middle, height = torch.rand(2, OTHERS, 3, 1, 1, generator=cases.generator)
    return 60 + 135 * middle + 60 * height * waves


def _noise(cases: Cases) -> torch.Tensor:
    """Random pixels: half of the images smooth, half not, two of them black and white alone."""
    found = cases.randint(0, 256, (OTHERS, 3, 32, 32)).float()
    found[1::2] = functional.avg_pool2d(found[1::2], 3, 1, 1, count_include_pad=False)
    found[:2] = 255 * (found[:2] > 127).float()
    return found
