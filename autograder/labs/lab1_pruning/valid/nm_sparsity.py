"""Right N:M masks by sorting, ranking and removing, and 2:4 packing by loops, shifts and sums."""

from __future__ import annotations

from autograder.proof.mutants import valid

MASK = valid(
    "nm_prune",
    plain_loops="""
        def nm_prune(weight, n, m):
            flat = weight.flatten().tolist()
            mask = [False] * len(flat)
            for start in range(0, len(flat), m):
                group = range(start, start + m)
                for i in sorted(group, key=lambda i: abs(flat[i]), reverse=True)[:n]:
                    mask[i] = True
            return torch.tensor(mask).view(weight.shape)
        """,
    rank_within_the_group="""
        def nm_prune(weight, n, m):
            groups = weight.abs().unflatten(-1, (-1, m))
            rank = groups.argsort(dim=-1, descending=True).argsort(dim=-1)
            return (rank < n).flatten(-2)
        """,
    removes_one_at_a_time="""
        def nm_prune(weight, n, m):
            left = weight.detach().abs().clone().reshape(-1, m)
            rows = torch.arange(len(left))
            for _ in range(m - n):
                left[rows, left.argmin(dim=1)] = float("inf")
            return ~torch.isinf(left).reshape(weight.shape)
        """,
    numpy="""
        def nm_prune(weight, n, m):
            groups = np.abs(weight.detach().numpy()).reshape(-1, m)
            order = np.argsort(groups, axis=1, kind="stable")
            mask = np.zeros(groups.shape, dtype=bool)
            np.put_along_axis(mask, order[:, m - n :], True, axis=1)
            return torch.from_numpy(mask).reshape(weight.shape)
        """,
)

PACK = valid(
    "nm_prune",
    "solution_nm_pack",
    plain_loops="""
        def nm_pack(weight, mask):
            values, positions = [], []
            for i, (w, kept) in enumerate(zip(weight.flatten().tolist(), mask.flatten().tolist())):
                if kept:
                    values.append(w)
                    positions.append(i % 4)
            metadata = []
            for i in range(0, len(positions), 4):
                q0, q1, q2, q3 = positions[i : i + 4]
                metadata.append(q0 | q1 << 2 | q2 << 4 | q3 << 6)
            *lead, size = weight.shape
            return (
                torch.tensor(values, dtype=weight.dtype).reshape(*lead, size // 2),
                torch.tensor(metadata, dtype=torch.uint8).reshape(*lead, size // 8),
            )
        """,
    sorts_the_mask="""
        def nm_pack(weight, mask):
            groups = mask.unflatten(-1, (-1, 4))
            kept = groups.int().sort(dim=-1, descending=True, stable=True).indices[..., :2]
            values = weight.unflatten(-1, (-1, 4)).gather(-1, kept).flatten(-2)
            q = kept.flatten(-2).unflatten(-1, (-1, 4))
            metadata = q[..., 0] + 4 * q[..., 1] + 16 * q[..., 2] + 64 * q[..., 3]
            return values, metadata.to(torch.uint8)
        """,
    numpy="""
        def nm_pack(weight, mask):
            w, m = weight.detach().numpy(), mask.numpy()
            lead = w.shape[:-1]
            where = (np.flatnonzero(m) % 4).astype(np.uint8).reshape(-1, 4)
            packed = np.bitwise_or.reduce(where << np.array([0, 2, 4, 6], dtype=np.uint8), axis=1)
            values = torch.from_numpy(w[m].reshape(*lead, -1))
            return values, torch.from_numpy(packed.reshape(*lead, -1))
        """,
)

VALID = [*MASK, *PACK]
