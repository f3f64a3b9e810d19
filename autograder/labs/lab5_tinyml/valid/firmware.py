"""Right answers to the generator: C that looks different and calls the same operators."""

from __future__ import annotations

from autograder.proof.mutants import valid

VALID = valid(
    "generate",
    named_pointers="""
        def generate(operators, shapes, zeros, offsets):
            text = "void infer(const int8_t *image, int32_t *logits) {\\n"
            number = {name: n for n, name in enumerate(offsets)}
            for name, n in number.items():
                text += "    int8_t *const t%d = &arena[%d];\\n" % (n, offsets[name])
            for i, row in enumerate(operators):
                first, out = row["inputs"][0], row["output"]
                x = "t%d" % number[first] if first in offsets else "image"
                y = "t%d" % number[out] if out in offsets else "logits"
                h, w, c = shapes[first]
                o = shapes[out][-1]
                zx, zy = zeros[first], zeros[out]
                tables = ["weight%d" % i, "channel%d" % i, zx, zy]
                kind = row["kind"]
                if kind == "depthwise" and offsets[first] != offsets[out]:
                    text += "    copy(%s, %s, %d);\\n" % (x, y, h * w * c)
                arguments = {
                    "four_channels": [x, h * w, zx, y],
                    "conv1x1": [x, h * w, c, *tables, y, o, "scratch"],
                    "conv3x3": [x, h, w, c, *tables, y, o, "scratch"],
                    "depthwise": [y, h, w, c, row.get("stride"), *tables, "scratch"],
                    "mean": [x, h * w, c, "channel%d" % i, zx, zy, y],
                    "linear": [x, c, "weight%d" % i, "bias%d" % i, zx, y, o],
                }
                if kind == "add":
                    other = "t%d" % number[row["inputs"][1]]
                    constants = [*row["by"], row["offset"], row["shift"]]
                    arguments["add"] = [x, other, y, h * w * c, *constants]
                text += "    %s(%s);\\n" % (kind, ", ".join(map(str, arguments[kind])))
            return text + "}\\n"
        """,
    templates_and_a_declared_table="""
        def generate(operators, shapes, zeros, offsets):
            def place(name, outside):
                return "&arena[0x%x]" % offsets[name] if name in offsets else outside

            body = ["(void)arena, (void)scratch;"]
            for i in range(len(operators)):
                row = dict(operators[i])
                kind, inputs = row["kind"], row["inputs"]
                h, w, c = shapes[inputs[0]]
                known = {
                    "i": i, "h": h, "w": w, "c": c, "o": shapes[row["output"]][2],
                    "x": place(inputs[0], "image"), "x2": place(inputs[len(inputs) - 1], "image"),
                    "y": place(row["output"], "logits"),
                    "zx": zeros[inputs[0]], "zy": "(%d)" % zeros[row["output"]],
                    "by": row.get("by", (0, 0)), "offset": row.get("offset", 0),
                    "shift": row.get("shift", 0), "stride": row.get("stride", 1),
                }
                lines = [CALLS[kind]]
                if kind == "depthwise":
                    lines = [CALLS["copy"]] * (known["x"] != known["y"]) + lines
                body += ["/* operator %d */" % i] + [line.format_map(known) for line in lines]
            head = "extern int never_used;\\nvoid infer(const int8_t image[], int32_t logits[]) {"
            return "\\n".join([head, *body, "}", ""])
        """,
    a_function_for_each_operator="""
        import re

        def generate(operators, shapes, zeros, offsets):
            functions, calls = [], []
            for i, row in enumerate(operators):
                places = [*row["inputs"], row["output"]]
                pointers = ["(arena + %d)" % offsets.get(name, 0) for name in places]
                if row["kind"] == "four_channels":
                    pointers[0] = "image"
                if row["kind"] == "linear":
                    pointers[-1] = "logits"
                height, width, channels = shapes[places[0]]
                values = {
                    "i": i, "h": height, "w": width, "c": channels, "o": shapes[places[-1]][2],
                    "x": pointers[0], "x2": pointers[-2], "y": pointers[-1],
                    "zx": zeros[places[0]], "zy": zeros[places[-1]],
                    "stride": row.get("stride"), "offset": row.get("offset"),
                    "shift": row.get("shift"),
                    "by[0]": row.get("by", [0])[0], "by[1]": row.get("by", [0])[-1],
                }
                wanted = [CALLS[row["kind"]]]
                if row["kind"] == "depthwise":
                    wanted.insert(0, "if ({x} != {y}) " + CALLS["copy"])
                body = " ".join(wanted)
                body = re.sub(r"\\{([^}]+)\\}", lambda found: str(values[found.group(1)]), body)
                functions.append(
                    f"static void step{i}(const int8_t *image, int32_t *logits) {{"
                    f" (void)image; (void)logits; {body} }}"
                )
                calls.append(f"step{i}(image, logits);")
            main = "void infer(const int8_t *image, int32_t *logits) { " + " ".join(calls) + " }"
            return "\\n".join([*functions, main])
        """,
)
