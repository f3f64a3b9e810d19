"""Wrong proposals of NetAdapt, wrong rounds."""

from __future__ import annotations

from autograder.proof.mutants import changed, wrong

_CELL = "solution_netadapt_proposals"

_PROPOSALS = """
def netadapt_proposals(widths, table, target_s, step):
    def network_s(widths):
        index = [0, *(width // step - 1 for width in widths)]
        return sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))

    def widest(layer):
        for width in range(widths[layer] - step, 0, -step):
            if network_s([*widths[:layer], width, *widths[layer + 1 :]]) <= target_s:
                return width
        return None

    return [widest(layer) for layer in range(len(widths))]
"""

_FROM_THE_WIDEST = _PROPOSALS[
    _PROPOSALS.index("        for width") : _PROPOSALS.index("    return [")
]
_FROM_THE_NARROWEST = """\
        best = None  # right only where time grows with width
        for width in range(step, widths[layer], step):
            if network_s([*widths[:layer], width, *widths[layer + 1 :]]) > target_s:
                break
            best = width
        return best

"""

PROPOSALS = [
    *wrong(
        "netadapt",
        _CELL,
        one_step_narrower="""
            def netadapt_proposals(widths, table, target_s, step):
                return [width - step for width in widths]
            """,
    ),
    *changed(
        "netadapt",
        _PROPOSALS,
        _CELL,
        narrowest_width=(
            "range(widths[layer] - step, 0, -step)",
            "range(step, widths[layer], step)",
        ),
        own_latency_only=(
            "network_s([*widths[:layer], width, *widths[layer + 1 :]])",
            "network_s(widths) - float(table[layer, ([step, *widths])[layer] // step - 1, "
            "widths[layer] // step - 1] - table[layer, ([step, *widths])[layer] // step - 1, "
            "width // step - 1])",
        ),
        index_off_by_one=("width // step - 1", "min(width // step, table.shape[2] - 1)"),
    ),
    *wrong(
        "netadapt",
        _CELL,
        proportional_to_width="""
            def netadapt_proposals(widths, table, target_s, step):
                index = [0, *(width // step - 1 for width in widths)]
                total = sum(float(table[i, index[i], index[i + 1]]) for i in range(len(widths)))
                return [max(step, int(w * target_s / total) // step * step) for w in widths]
            """,
    ),
    *changed(
        "netadapt",
        _PROPOSALS,
        _CELL,
        never_none=("return None", "return step"),
        keeps_the_present_width=(
            "range(widths[layer] - step, 0, -step)",
            "range(widths[layer], 0, -step)",
        ),
        never_one_step=(
            "range(widths[layer] - step, 0, -step)",
            "range(widths[layer] - step, step, -step)",
        ),
        below_the_budget=("<= target_s", "< target_s"),
        steps_of_eight=(
            "    def widest",
            "    step = 8\n\n    def widest",
        ),
        last_layer_keeps_its_width=(
            "for layer in range(len(widths))]",
            "for layer in range(len(widths) - 1)] + [None]",
        ),
        next_layer_reads_the_old_width=(
            "network_s([*widths[:layer], width, *widths[layer + 1 :]])",
            "network_s(widths) + float(table[layer, ([step, *widths])[layer] // step - 1, "
            "width // step - 1] - table[layer, ([step, *widths])[layer] // step - 1, "
            "widths[layer] // step - 1]) * (layer > 0) + 0 * float(table[0, 0, 0])",
        ),
        widths_changed=(
            "    return [widest",
            "    found = [widest(layer) for layer in range(len(widths))]\n"
            "    widths.append(0)\n"
            "    return found\n"
            "    return [widest",
        ),
        proposals_add_up=(
            "                return width\n",
            "                widths[layer] = width\n                return width\n",
        ),
        nothing_where_the_budget_is_met=(
            "    return [widest",
            "    if network_s(widths) <= target_s:\n        return [None] * len(widths)\n"
            "    return [widest",
        ),
        stops_at_the_first_slower=(_FROM_THE_WIDEST, _FROM_THE_NARROWEST),
    ),
]

_ROUND = """
def netadapt_round(widths, table, target_s, step, candidate, score):
    proposals = netadapt_proposals(widths, table, target_s, step)
    candidates = [candidate(layer, width) for layer, width in enumerate(proposals) if width]
    return max(candidates, key=score, default=None)
"""

ROUND = [
    *changed(
        "netadapt",
        _ROUND,
        "solution_netadapt_round",
        least_accurate=("max(", "min("),
        first_proposal=(
            "max(candidates, key=score, default=None)",
            "next(iter(candidates), None)",
        ),
        raises_without_proposals=(", default=None", ""),
        none_is_a_width=(" if width]", "]"),
        most_accurate_of_two=("max(candidates,", "max(candidates[:2],"),
        trains_all_twice=(
            "    return max(",
            "    candidates += [candidate(i, w) for i, w in enumerate(proposals) if w]\n"
            "    return max(",
        ),
        present_budget=("widths, table, target_s, step)", "widths, table, 0.9 * target_s, step)"),
        layer_instead_of_the_candidate=(
            "return max(candidates, key=score, default=None)",
            "best = max(candidates, key=score, default=None)\n"
            "    return candidates.index(best) if best else None",
        ),
        one_step_of_every_layer=(
            "    candidates",
            "    proposals = [w - step if w > step else None for w in widths]\n    candidates",
        ),
        narrowest=("key=score", "key=lambda found: -found[1]"),
    ),
    *wrong(
        "netadapt",
        "solution_netadapt_round",
        no_round="""
            def netadapt_round(widths, table, target_s, step, candidate, score):
                return None
            """,
    ),
]

MUTANTS = [*PROPOSALS, *ROUND]
