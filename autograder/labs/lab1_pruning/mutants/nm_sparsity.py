"""Wrong N:M masks and wrongly packed 2:4 tensors."""

from __future__ import annotations

from autograder.proof.mutants import changed, wrong

_MASK = """
def nm_prune(weight, n, m):
    groups = weight.abs().reshape(-1, m)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    return mask.scatter(1, groups.topk(n, dim=1).indices, True).reshape(weight.shape)
"""

_PACK = """
def nm_pack(weight, mask):
    lead = weight.shape[:-1]
    values = weight[mask].reshape(*lead, -1)
    positions = mask.reshape(-1, 4).nonzero()[:, 1].reshape(*lead, -1, 4)
    metadata = (positions * torch.tensor([1, 4, 16, 64])).sum(-1)
    return values, metadata.to(torch.uint8)
"""

MUTANTS = [
    *wrong(
        "nm_prune",
        along_the_first_dimension="""
            def nm_prune(weight, n, m):
                groups = weight.abs().transpose(0, -1).reshape(-1, m)
                mask = torch.zeros_like(groups, dtype=torch.bool)
                mask.scatter_(1, groups.topk(n, dim=1).indices, True)
                return mask.reshape(weight.transpose(0, -1).shape).transpose(0, -1)
            """,
    ),
    *changed(
        "nm_prune",
        _MASK,
        keeps_the_smallest=("dim=1", "dim=1, largest=False"),
        removes_n=("topk(n,", "topk(m - n,"),
        signed_order=(".abs()", ""),
        threshold_with_ties=(
            "mask.scatter(1, groups.topk(n, dim=1).indices, True)",
            "(groups >= groups.topk(n, dim=1).values[:, -1:])",
        ),
        nonzeros_only=(".reshape(weight.shape)", ".reshape(weight.shape) & (weight != 0)"),
        always_two_of_four=("reshape(-1, m)", "reshape(-1, 4)"),
        always_n_of_four=("reshape(-1, m)", "reshape(-1, 4 if m > 2 else m)"),
        matrices_only=(
            "weight.abs().reshape(-1, m)",
            "weight.abs().reshape(weight.shape[0], -1, m).flatten(0, 1)[: weight.shape[0] * "
            "weight.shape[1] // m]",
        ),
        prunes_in_place=(
            "reshape(weight.shape)",
            "reshape(weight.shape).logical_and(weight.copy_(weight.mul(0)) == 0)",
        ),
        never_all=("topk(n,", "topk(min(n, max(1, m - 1)),"),
    ),
    *wrong(
        "nm_prune",
        no_op="""
            def nm_prune(weight, n, m):
                return torch.ones_like(weight, dtype=torch.bool)
            """,
    ),
    *changed(
        "nm_prune",
        _PACK,
        "solution_nm_pack",
        first_position_in_the_high_bits=("[1, 4, 16, 64]", "[64, 16, 4, 1]"),
        one_position_a_byte=(
            "(positions * torch.tensor([1, 4, 16, 64])).sum(-1)",
            "positions.reshape(*lead, -1)",
        ),
        matrices_only=(
            "    lead = weight.shape[:-1]\n",
            "    rows, columns = weight.shape\n    lead = (rows,)\n",
        ),
        at_most_a_matrix=(
            "    lead = weight.shape[:-1]",
            "    lead = (weight[..., 0].numel(),) if weight.ndim > 1 else ()",
        ),
        nonzeros_only=("weight[mask]", "weight[weight * mask != 0]"),
        positions_of_nonzeros=(
            "mask.reshape(-1, 4).nonzero()",
            "(weight * mask != 0).reshape(-1, 4).nonzero()",
        ),
        larger_one_first=(
            "    metadata =",
            "    pairs = values.reshape(*lead, -1, 2)\n"
            "    order = pairs.abs().argsort(-1, descending=True)\n"
            "    values = pairs.gather(-1, order).reshape(*lead, -1)\n"
            "    positions = positions.reshape(*lead, -1, 2).gather(-1, order)\n"
            "    positions = positions.reshape(*lead, -1, 4)\n"
            "    metadata =",
        ),
        pruned_in_place=("    lead =", "    weight.mul_(mask)\n    lead ="),
        signed_metadata=("torch.uint8", "torch.int8"),
        values_in_half_precision=("return values,", "return values.half(),"),
        magnitudes=("weight[mask]", "weight[mask].abs()"),
        zeros_kept=("weight[mask].reshape(*lead, -1)", "weight * mask"),
    ),
]
