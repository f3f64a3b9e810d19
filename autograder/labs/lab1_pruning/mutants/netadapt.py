"""Wrong proposals of NetAdapt."""

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

MUTANTS = [
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
        stops_at_the_first_slower=(_FROM_THE_WIDEST, _FROM_THE_NARROWEST),
    ),
]
