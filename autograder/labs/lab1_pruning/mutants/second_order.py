"""Wrong second-order scores."""

from __future__ import annotations

from autograder.proof.mutants import changed, wrong

_SCORES = """
def second_order_scores(features, weight, bias):
    p = (features @ weight.T + bias).softmax(1)
    hessian = (p * (1 - p)).T @ features.square() / len(features)
    return 0.5 * hessian * weight.square()
"""

MUTANTS = [
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
        divided_by_the_features=("len(features)", "features.shape[1]"),
        one_over_n_minus_one=(" / len(features)", " / max(1, len(features) - 1)"),
        square_of_the_mean=(
            "features.square() / len",
            "features.mean(0).square().expand_as(features) / len",
        ),
        weight_not_squared=("weight.square()", "weight.abs()"),
        mean_over_classes_too=("0.5 * hessian", "0.5 * hessian.mean(0)"),
        features_squared_in_place=("features.square()", "features.square_()"),
        weight_changed=("    p = (", "    weight.mul_(1 + 1e-6)\n    p = ("),
        more_than_one_class=(
            "    p = (",
            "    if len(weight) == 1:\n        return weight.square()\n    p = (",
        ),
    ),
]
