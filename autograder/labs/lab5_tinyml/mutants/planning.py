"""Mutants of memory planning: what is alive is miscounted, or tensors overlap or waste memory."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed, wrong

PEAK = dedent("""
    def peak_memory(operators, sizes):
        peaks = []
        for i, row in enumerate(operators):
            written = {before["output"] for before in operators[:i]}
            read = {name for later in operators[i:] for name in later["inputs"]}
            alive = written & read | {row["output"]}
            peaks.append(sum(sizes.get(name, 0) for name in alive))
        return peaks
    """)
PLAN = dedent("""
    def plan_memory(operators, sizes, in_place):
        first, last, home = {}, {}, {}
        for i, row in enumerate(operators):
            name = row["output"]
            home[name] = home[row["inputs"][0]] if i in in_place else name
            for touched in [name, *row["inputs"]]:
                if touched in sizes:
                    first.setdefault(home[touched], i)
                    last[home[touched]] = i
        size = {h: max(n for t, n in sizes.items() if home[t] == h) for h in first}
        at = {}
        for one in sorted(size, key=lambda h: -size[h]):
            taken = sorted(
                (at[o], at[o] + (size[o] + 3) // 4 * 4)
                for o in at
                if first[o] <= last[one] and last[o] >= first[one]
            )
            start = 0
            for low, high in taken:
                if start + size[one] <= low:
                    break
                start = max(start, high)
            at[one] = start
        return {name: at[home[name]] for name in sizes}
    """)

MUTANTS = [
    *changed(
        "peak_memory",
        PEAK,
        input_not_counted=("operators[i:]", "operators[i + 1 :]"),
        output_not_counted=('| {row["output"]}', ""),
        never_freed=("written & read", "written"),
        inputs_and_output_only=("written & read", "set(row['inputs'])"),
        one_operator_longer=("operators[i:]", "operators[max(i - 1, 0) :]"),
        floats=("peaks.append(sum(", "peaks.append(1.0 * sum("),
        a_tensor_twice=(
            "sum(sizes.get(name, 0) for name in alive)",
            "sum(sizes.get(n, 0) for n in [*(alive - set(row['inputs'])), *row['inputs']])",
        ),
        unread_is_kept=(
            'for name in later["inputs"]}',
            'for name in later["inputs"]} | (written - {n for o in operators '
            'for n in o["inputs"]})',
        ),
        unread_not_counted=('| {row["output"]}', '| ({row["output"]} & read)'),
        first_input_alone=('for name in later["inputs"]}', 'for name in later["inputs"][:1]}'),
        next_operator_alone=("operators[i:]", "operators[i : i + 2]"),
        as_text=("return peaks", "return [str(peak) for peak in peaks]"),
        largest_tensor=("sum(sizes.get(name, 0) for name in alive)", "max(sizes.values())"),
    ),
    *wrong(
        "peak_memory",
        the_peak_alone="""
            def peak_memory(operators, sizes):
                return sum(sorted(sizes.values())[-2:])
            """,
        returns_none="""
            def peak_memory(operators, sizes):
                pass
            """,
    ),
    *changed(
        "plan_memory",
        PLAN,
        one_byte_overlap=("at[o] + (size[o] + 3) // 4 * 4", "at[o] + max(size[o] - 1, 1)"),
        not_in_words=("(size[o] + 3) // 4 * 4", "size[o]"),
        ends_at_its_last_reader=("first[o] <= last[one]", "first[o] < last[one]"),
        nothing_in_place=(
            'home[row["inputs"][0]] if i in in_place else name',
            "name",
        ),
        everything_in_place=(
            "if i in in_place else name",
            "if i and row['inputs'][0] in sizes else name",
        ),
        second_input_dead=('[name, *row["inputs"]]', '[name, *row["inputs"][:1]]'),
        in_place_ends_with_its_input=(
            "last[home[touched]] = i",
            "last[home[touched]] = max(i, last.get(home[touched], 0)) if touched == home[touched]"
            " else last[home[touched]]",
        ),
        size_of_the_last=(
            "max(n for t, n in sizes.items() if home[t] == h)",
            "[n for t, n in sizes.items() if home[t] == h][-1]",
        ),
        two_buffers=(
            "at[one] = start",
            "at[one] = (first[one] % 2) * (max(sizes.values()) + 3 & ~3)",
        ),
        offsets_in_words=("at[home[name]] for", "at[home[name]] // 4 for"),
        all_at_zero=("at[one] = start", "at[one] = 0"),
        behind_each_other=("if first[o] <= last[one] and last[o] >= first[one]", ""),
        as_they_come=("sorted(size, key=lambda h: -size[h])", "size"),
        smallest_first=("-size[h]", "size[h]"),
        inputs_are_dead=('[name, *row["inputs"]]', "[name]"),
        one_missing=(
            "return {name: at[home[name]] for name in sizes}",
            "return {name: at[home[name]] for name in list(sizes)[1:]}",
        ),
        negative=("at[home[name]] for", "at[home[name]] - 4 for"),
    ),
]
