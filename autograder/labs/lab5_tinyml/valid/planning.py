"""Right answers to memory planning: other ways to count lifetimes, other orders of placing."""

from __future__ import annotations

from autograder.proof.mutants import valid

PEAK_MEMORY = valid(
    "peak_memory",
    freed_by_counting_readers="""
        def peak_memory(operators, sizes):
            readers = {}
            for row in operators:
                for name in set(row["inputs"]):
                    readers[name] = readers.get(name, 0) + 1
            held, peaks = {}, []
            for row in operators:
                held[row["output"]] = sizes.get(row["output"], 0)
                peaks.append(sum(held.values()))
                for name in set(row["inputs"]):
                    readers[name] -= 1
                held = {name: n for name, n in held.items() if readers.get(name, 0) > 0}
            return peaks
        """,
    sums_of_differences="""
        import numpy as np

        def peak_memory(operators, sizes):
            change = np.zeros(len(operators) + 1, dtype=np.int64)
            for name, nbytes in sizes.items():
                uses = [
                    i for i, row in enumerate(operators)
                    if name == row["output"] or name in row["inputs"]
                ]
                change[uses[0]] += nbytes
                change[uses[-1] + 1] -= nbytes
            return np.cumsum(change)[:-1].tolist()
        """,
    tuple_of_sums="""
        def peak_memory(operators, sizes):
            def touches(name, rows):
                return any(name == row["output"] or name in row["inputs"] for row in rows)

            return tuple(
                sum(
                    size for name, size in sizes.items()
                    if touches(name, operators[: i + 1]) and touches(name, operators[i:])
                )
                for i in range(len(operators))
            )
        """,
    array="""
        import numpy as np

        def peak_memory(operators, sizes):
            held = np.zeros(len(operators), dtype=np.int32)
            for name, size in sizes.items():
                uses = np.array([name in (row["output"], *row["inputs"]) for row in operators])
                first, last = np.flatnonzero(uses)[[0, -1]]
                held[first : last + 1] += size
            return held
        """,
    tensors="""
        import torch

        def peak_memory(operators, sizes):
            names = list(sizes)
            used = torch.tensor(
                [[n == row["output"] or n in row["inputs"] for n in names] for row in operators]
            )
            used = used.reshape(len(operators), len(names)).long()
            alive = used.cumsum(0).clamp(max=1) * used.flip(0).cumsum(0).flip(0).clamp(max=1)
            return list(alive @ torch.tensor([sizes[n] for n in names]))
        """,
    table_of_tensors_and_operators="""
        import numpy as np

        def peak_memory(operators, sizes):
            names = list(sizes)
            touched = np.zeros((len(names), len(operators)), dtype=bool)
            for i, row in enumerate(operators):
                for name in (row["output"], *row["inputs"]):
                    if name in sizes:
                        touched[names.index(name), i] = True
            since = np.logical_or.accumulate(touched, axis=1)
            until = np.logical_or.accumulate(touched[:, ::-1], axis=1)[:, ::-1]
            return list(np.array([sizes[name] for name in names]) @ (since & until))
        """,
)

PLAN_MEMORY = valid(
    "plan_memory",
    map_of_words_and_operators="""
        import numpy as np

        def plan_memory(operators, sizes, in_place):
            root = {}
            for i, row in enumerate(operators):
                root[row["output"]] = root[row["inputs"][0]] if i in in_place else row["output"]
            words, life = {}, {}
            for name, nbytes in sizes.items():
                one = root[name]
                words[one] = max(words.get(one, 0), (nbytes + 3) // 4)
                for i, row in enumerate(operators):
                    if name == row["output"] or name in row["inputs"]:
                        first, last = life.get(one, (i, i))
                        life[one] = min(first, i), max(last, i)
            used = np.zeros((len(operators), sum(words.values())), dtype=bool)
            start = {}
            for one in sorted(words, key=words.get, reverse=True):
                first, last = life[one]
                column = used[first : last + 1].any(axis=0)
                at = 0
                while column[at : at + words[one]].any():
                    at += 1 + int(np.flatnonzero(column[at : at + words[one]])[-1])
                used[first : last + 1, at : at + words[one]] = True
                start[one] = 4 * at
            return {name: start[root[name]] for name in sizes}
        """,
    numpy_offsets_upside_down="""
        import numpy as np

        def plan_memory(operators, sizes, in_place):
            names = list(sizes)
            group = {name: i for i, name in enumerate(names)}
            for i in in_place:
                group[operators[i]["output"]] = group[operators[i]["inputs"][0]]
            nbytes = np.zeros(len(names), dtype=np.int64)
            alive = np.zeros((len(names), len(operators)), dtype=bool)
            for name in names:
                uses = [i for i, row in enumerate(operators)
                        if name == row["output"] or name in row["inputs"]]
                alive[group[name], uses[0] : uses[-1] + 1] = True
                nbytes[group[name]] = max(nbytes[group[name]], sizes[name])
            nbytes = (nbytes + 3) // 4 * 4
            at = np.full(len(names), -1, dtype=np.int64)
            order = sorted({*group.values()}, key=lambda g: (-nbytes[g], -alive[g].sum()))
            for one in order:
                near = [o for o in order if at[o] >= 0 and (alive[o] & alive[one]).any()]
                starts = np.unique([0, *(at[o] + nbytes[o] for o in near)])
                at[one] = min(
                    s for s in starts
                    if not any(s < at[o] + nbytes[o] and at[o] < s + nbytes[one] for o in near)
                )
            return {name: at[group[name]] for name in names}
        """,
    best_of_random_orders="""
        import random

        def plan_memory(operators, sizes, in_place):
            group = {}
            for i, row in enumerate(operators):
                group[row["output"]] = group[row["inputs"][0]] if i in in_place else row["output"]
            nbytes, times = {}, {}
            for i, row in enumerate(operators):
                for name in [row["output"]] + row["inputs"]:
                    if name in sizes:
                        nbytes[group[name]] = max(nbytes.get(group[name], 0), sizes[name])
                        times.setdefault(group[name], []).append(i)

            def together(a, b):
                return min(times[a]) <= max(times[b]) and min(times[b]) <= max(times[a])

            rivals = {a: [b for b in times if together(a, b)] for a in times}

            def placed(order):
                at = {}
                for one in order:
                    offset = 0
                    for low, high in sorted(
                        (at[o], at[o] + nbytes[o]) for o in rivals[one] if o in at
                    ):
                        if offset + nbytes[one] <= low:
                            break
                        offset = max(offset, -(-high // 4) * 4)
                    at[one] = offset
                return at

            def arena(at):
                return max(at[one] + nbytes[one] for one in at)

            draw = random.Random(1)
            orders = [draw.sample(sorted(times), len(times)) for _ in range(500)]
            best = min(map(placed, orders), key=arena)
            return {name: best[group[name]] for name in sizes}
        """,
    better_of_two_orders="""
        def plan_memory(operators, sizes, in_place):
            count = len(operators)
            home = {name: name for name in sizes}
            for i in in_place:
                home[operators[i]["output"]] = home[operators[i]["inputs"][0]]
            need, alive = {}, [set() for _ in range(count)]
            for name in sizes:
                need[home[name]] = max(need.get(home[name], 0), (sizes[name] + 3) & ~3)
            for one in need:
                uses = [
                    i for i in range(count)
                    for name in {operators[i]["output"], *operators[i]["inputs"]}
                    if home.get(name) == one
                ]
                for i in range(min(uses), max(uses) + 1):
                    alive[i].add(one)

            def placed(order):
                at = {}
                for one in order:
                    beside = {o for row in alive if one in row for o in row if o in at}
                    free = [0] + sorted(at[o] + need[o] for o in beside)
                    at[one] = next(
                        a for a in free
                        if all(a + need[one] <= at[o] or at[o] + need[o] <= a for o in beside)
                    )
                return at

            by_size = sorted(need, key=need.get, reverse=True)
            breadth = [sum(map(need.get, row)) for row in alive]
            busiest = sorted(range(count), key=breadth.__getitem__, reverse=True)
            by_breadth = dict.fromkeys(o for i in busiest for o in by_size if o in alive[i])
            plans = [placed(by_size), placed(by_breadth)]
            best = min(plans, key=lambda at: max(at[one] + need[one] for one in at))
            return {name: best[home[name]] for name in sizes}
        """,
)

VALID = [*PEAK_MEMORY, *PLAN_MEMORY]
