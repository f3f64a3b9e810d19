"""Wrong magnitude masks, wrong sensitivity scans."""

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
        multiplies_in_place=(
            "    return mask.reshape(weight.shape)",
            "    weight.mul_(mask.reshape(weight.shape))\n    return weight != 0",
        ),
        masks_in_place=(
            "    return mask.reshape(weight.shape)",
            "    weight.mul_(mask.reshape(weight.shape))\n    return mask.reshape(weight.shape)",
        ),
        zero_weights_go_as_well=(
            "    return mask.reshape(weight.shape)",
            "    return mask.reshape(weight.shape) & (weight != 0)",
        ),
        never_all=("    mask = ", "    zeros = min(zeros, weight.numel() - 1)\n    mask = "),
        nothing_below_one_weight_in_four=(
            "    mask = ",
            "    if weight.numel() < 4:\n        zeros = 0\n    mask = ",
        ),
        every_row_alone=(
            "    mask[weight.abs().flatten().argsort()[:zeros]] = False\n",
            "    rows = weight.abs().reshape(len(weight), -1)\n"
            "    order = (rows / rows.amax(1, keepdim=True).clamp(min=1e-9)).flatten().argsort()\n"
            "    mask[order[:zeros]] = False\n",
        ),
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
        last_layer_never_restored=(
            "        weight.copy_(original)\n",
            "        if name != list(masks)[-1]:\n            weight.copy_(original)\n",
        ),
        leaves_the_model_pruned=(
            "    return found",
            "    for name, listed in masks.items():\n"
            "        layers[name].weight.data.mul_(listed[-1])\n"
            "    return found",
        ),
        leaves_training_mode=("    return found", "    model.train()\n    return found"),
        leaves_one_layer_in_training_mode=(
            "    return found",
            "    model.features.bn0.train()\n    return found",
        ),
        leaves_it_frozen=("    return found", "    model.requires_grad_(False)\n    return found"),
        masks_changed=(
            "            weight.copy_(original * mask)\n",
            "            weight.copy_(original * mask)\n            mask.fill_(True)\n",
        ),
        restores_all_but_the_last_digits=(
            "        weight.copy_(original)\n",
            "        weight.copy_(original.half().float())\n",
        ),
        every_layer_is_asked_for=("in masks.items():", "in ((n, masks[n]) for n in layers):"),
        three_masks_a_layer=("in listed:", "in listed[:3]:"),
        one_mask_is_none=("in listed:", "in listed[: len(listed) if len(listed) > 1 else 0]:"),
        masks_of_other_layers_stay=(
            "        weight.copy_(original)\n    return found",
            "        if len(masks) > 2:\n            weight.copy_(original)\n    return found",
        ),
        percent=("accuracy(model, images, labels)", "100 * accuracy(model, images, labels)"),
        mask_inverted=("original * mask", "original * ~mask"),
        order_reversed=("in listed:", "in reversed(listed):"),
        loss_of_accuracy_instead=(
            "    return found",
            "    base = accuracy(model, images, labels)\n"
            "    return {name: [base - a for a in values] for name, values in found.items()}",
        ),
    ),
]

MUTANTS = [*FINE_GRAINED, *SCAN]
