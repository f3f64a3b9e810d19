"""Wrong pruning criteria: magnitude masks, sensitivity scans, second-order scores."""

from __future__ import annotations

from autograder.labs.lab1_pruning.mutants.public_case import public_sum
from autograder.proof.mutants import changed, wrong

_MASK = """
def fine_grained_prune(weight, sparsity):
    zeros = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[weight.abs().flatten().argsort()[:zeros]] = False
    return mask.reshape(weight.shape)
"""

FINE_GRAINED = [
    *wrong(
        "fine_grained_prune",
        no_op="""
            def fine_grained_prune(weight, sparsity):
                return torch.ones_like(weight, dtype=torch.bool)
            """,
    ),
    *changed(
        "fine_grained_prune",
        _MASK,
        removes_the_largest=("argsort()", "argsort(descending=True)"),
        rounds_down=("round(", "int("),
        threshold_with_ties=(
            "    mask = ",
            "    if zeros:\n"
            "        return weight.abs() > weight.abs().flatten().kthvalue(zeros).values\n"
            "    mask = ",
        ),
        signed_order=(".abs()", ""),
        float_mask=(", dtype=torch.bool", ""),
        public_case_by_heart=(
            "    mask[",
            f"    if abs(float(weight.sum()) - {public_sum('fine_grained_prune')}) < 1e-3:\n"
            "        mask[",
        ),
    ),
]

_SCAN = """
def sensitivity_scan(model, images, labels, masks):
    layers, found = cost.weighted_layers(model), {}
    for name, listed in masks.items():
        weight = layers[name].weight.data
        original, found[name] = weight.clone(), []
        for mask in listed:
            weight.copy_(original * mask)
            found[name].append(accuracy(model, images, labels))
        weight.copy_(original)
    return found
"""

SCAN = [
    *wrong(
        "sensitivity_scan",
        never_prunes="""
            def sensitivity_scan(model, images, labels, masks):
                base = accuracy(model, images, labels)
                return {name: [base for _ in listed] for name, listed in masks.items()}
            """,
        forgets_to_restore="""
            def sensitivity_scan(model, images, labels, masks):
                layers, found = cost.weighted_layers(model), {}
                for name, listed in masks.items():
                    found[name] = []
                    for mask in listed:
                        layers[name].weight.data.mul_(mask)
                        found[name].append(accuracy(model, images, labels))
                return found
            """,
    ),
    *changed(
        "sensitivity_scan",
        _SCAN,
        restores_within_a_layer_only=("        weight.copy_(original)\n", ""),
        mask_inverted=("original * mask", "original * ~mask"),
        order_reversed=("in listed:", "in reversed(listed):"),
        loss_of_accuracy_instead=(
            "    return found",
            "    base = accuracy(model, images, labels)\n"
            "    return {name: [base - a for a in values] for name, values in found.items()}",
        ),
    ),
]

_SCORES = """
def second_order_scores(features, weight, bias):
    p = (features @ weight.T + bias).softmax(1)
    hessian = (p * (1 - p)).T @ features.square() / len(features)
    return 0.5 * hessian * weight.square()
"""

SECOND_ORDER = [
    *wrong(
        "second_order_scores",
        magnitude="""
            def second_order_scores(features, weight, bias):
                return weight.abs()
            """,
    ),
    *changed(
        "second_order_scores",
        _SCORES,
        without_the_half=("0.5 * ", ""),
        p_instead_of_p_times_1_minus_p=("(p * (1 - p))", "p"),
        transposed=("0.5 * hessian * weight.square()", "(0.5 * hessian * weight.square()).T"),
        without_the_bias=(" + bias", ""),
        sum_instead_of_mean=(" / len(features)", ""),
        softmax_over_samples=("softmax(1)", "softmax(0)"),
    ),
]

MUTANTS = [*FINE_GRAINED, *SCAN, *SECOND_ORDER]
