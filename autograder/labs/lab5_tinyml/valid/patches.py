"""Right answers to the patch schedule: by marks, by recursion, by windows of single rows."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "patch_schedule",
    marked_rows="""
        import numpy as np

        def patch_schedule(layers, size, patches):
            heights = [size]
            for k, s, p in layers:
                heights.append(1 + (heights[-1] + 2 * p - k) // s)
            schedule = []
            for strip in range(patches):
                marked = np.zeros(heights[-1], dtype=bool)
                marked[strip * heights[-1] // patches : (strip + 1) * heights[-1] // patches] = True
                found = []
                for i in reversed(range(len(layers))):
                    k, s, p = layers[i]
                    padded = np.zeros(heights[i] + 2 * p, dtype=bool)
                    for row in np.flatnonzero(marked):
                        padded[row * s : row * s + k] = True
                    before = padded[:p].sum()
                    after = padded[p + heights[i] :].sum()
                    marked = padded[p : p + heights[i]]
                    rows = np.flatnonzero(marked)
                    found.insert(0, (rows[0], rows[-1] + 1, before, after))
                schedule.append(found)
            return schedule
        """,
    arrays="""
        import numpy as np

        def patch_schedule(layers, size, patches):
            rows = [size]
            for k, s, p in layers:
                rows.append((rows[-1] + 2 * p - k + s) // s)
            cuts = np.arange(patches + 1) * rows[-1] // patches
            low, high = cuts[:-1], cuts[1:]
            table = np.zeros((patches, len(layers), 4), dtype=np.int64)
            for i in range(len(layers) - 1, -1, -1):
                k, s, p = layers[i]
                start, stop = low * s - p, high * s - s - p + k
                low, high = start.clip(min=0), stop.clip(max=rows[i])
                table[:, i] = np.stack([low, high, low - start, stop - high], axis=1)
            return table
        """,
    recursive="""
        def patch_schedule(layers, size, patches):
            def rows_after(depth):
                if depth == 0:
                    return size
                kernel, stride, padding = layers[depth - 1]
                return (rows_after(depth - 1) + 2 * padding - kernel) // stride + 1

            def needed(depth, start, stop):
                if depth == 0:
                    return []
                kernel, stride, padding = layers[depth - 1]
                low = start * stride - padding
                high = stop * stride - stride + kernel - padding
                above = -low if low < 0 else 0
                below = high - rows_after(depth - 1) if high > rows_after(depth - 1) else 0
                inside = (low + above, high - below)
                return needed(depth - 1, *inside) + [[*inside, above, below]]

            end = rows_after(len(layers))
            cuts = [end * i // patches for i in range(patches + 1)]
            return [needed(len(layers), a, b) for a, b in zip(cuts, cuts[1:])]
        """,
    windows_of_single_rows="""
        def patch_schedule(layers, size, patches):
            rows, windows = size, []
            for kernel, stride, padding in layers:
                starts = range(-padding, rows + padding - kernel + 1, stride)
                windows.append((rows, [(at, at + kernel) for at in starts]))
                rows = len(starts)
            result = []
            for patch in range(patches):
                first = patch * rows // patches
                final = (patch + 1) * rows // patches - 1
                layers_of_patch = []
                for height, spans in reversed(windows):
                    low, high = spans[first][0], spans[final][1]
                    first, final = max(low, 0), min(high, height) - 1
                    layers_of_patch.append((first, final + 1, first - low, high - final - 1))
                layers_of_patch.reverse()
                result.append(layers_of_patch)
            return result
        """,
)
