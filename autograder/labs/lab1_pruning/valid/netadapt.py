"""Right proposals of NetAdapt: every width tried, only the two blocks that change, or arrays."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "netadapt",
    "solution_netadapt_proposals",
    every_width_tried="""
        def netadapt_proposals(widths, table, target_s, step):
            proposals = []
            for layer in range(len(widths)):
                fitting = []
                for width in range(step, widths[layer], step):
                    changed = list(widths)
                    changed[layer] = width
                    total, c_in = 0.0, 0
                    for i, c_out in enumerate(changed):
                        total += table[i][c_in][c_out // step - 1].item()
                        c_in = c_out // step - 1
                    if total <= target_s:
                        fitting.append(width)
                proposals.append(max(fitting) if fitting else None)
            return proposals
        """,
    only_the_blocks_that_change="""
        def netadapt_proposals(widths, table, target_s, step):
            i = [w // step - 1 for w in widths]
            before = [0] + i[:-1]
            own = [float(table[n, a, b]) for n, (a, b) in enumerate(zip(before, i))]
            proposals = []
            for n, width in enumerate(widths):
                last = n + 1 == len(widths)
                rest = sum(own) - own[n] - (0.0 if last else own[n + 1])
                choice = None
                while choice is None and width > step:
                    width -= step
                    new = width // step - 1
                    after = 0.0 if last else float(table[n + 1, new, i[n + 1]])
                    if rest + float(table[n, before[n], new]) + after <= target_s:
                        choice = width
                proposals.append(choice)
            return proposals
        """,
    numpy="""
        def netadapt_proposals(widths, table, target_s, step):
            seconds, i = table.numpy(), np.array(widths) // step - 1
            c_in = np.concatenate([[0], i[:-1]])
            layers = np.arange(len(i))
            total = seconds[layers, c_in, i].sum()
            proposals = []
            for n in layers:
                change = seconds[n, c_in[n], : i[n]] - seconds[n, c_in[n], i[n]]
                if n + 1 < len(i):
                    change = change + seconds[n + 1, : i[n], i[n + 1]]
                    change = change - seconds[n + 1, i[n], i[n + 1]]
                fits = np.flatnonzero(total + change <= target_s)
                proposals.append(int(fits[-1] + 1) * step if len(fits) else None)
            return proposals
        """,
)
