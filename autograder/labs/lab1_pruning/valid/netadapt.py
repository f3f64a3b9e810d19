"""Right proposals of NetAdapt by every width, two blocks or arrays; right rounds in any order."""

from __future__ import annotations

from autograder.proof.mutants import valid

PROPOSALS = valid(
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

ROUND = valid(
    "netadapt",
    "solution_netadapt_round",
    best_so_far="""
        def netadapt_round(widths, table, target_s, step, candidate, score):
            best, highest = None, -1.0
            for layer, width in enumerate(netadapt_proposals(widths, table, target_s, step)):
                if width is None:
                    continue
                network = candidate(layer, width)
                found = score(network)
                if found > highest:
                    best, highest = network, found
            return best
        """,
    sorted_by_score="""
        def netadapt_round(widths, table, target_s, step, candidate, score):
            proposals = netadapt_proposals(list(widths), table.clone(), target_s, step)
            layers = [i for i in range(len(widths)) if proposals[i] is not None]
            scored = []
            for i in reversed(layers):
                network = candidate(i, proposals[i])
                scored.append((score(network), i, network))
            return sorted(scored, key=lambda entry: entry[:2])[-1][2] if scored else None
        """,
    largest_of_a_tensor="""
        def netadapt_round(widths, table, target_s, step, candidate, score):
            proposals = netadapt_proposals(widths, table, target_s, step)
            pairs = filter(lambda pair: pair[1], enumerate(proposals))
            networks = [candidate(*pair) for pair in pairs]
            if not networks:
                return None
            return networks[int(torch.tensor([score(n) for n in networks]).argmax())]
        """,
)

VALID = [*PROPOSALS, *ROUND]
