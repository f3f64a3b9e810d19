"""Right kernels in other styles: other requantization, loads, dialect and use of registers."""

from __future__ import annotations

from autograder.proof.mutants import Forge, accepted, edited

HIGH = "int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);"
CODE = "(((high >> (c->shift - 33)) + 1) >> 1)"
ASSEMBLY = (
    "static inline int32_t {0}_add(uint32_t x, uint32_t w, int32_t sum) {{\n"
    '    asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(w));\n'
    "    return sum;\n}}\n"
)
FIRST = {  # of each function's body
    "conv1x1": "    uint32_t zero =",
    "depthwise": "    int wide =",
    "conv3x3": "    uint32_t *ring = (",
}
DOUBLE = 'uint32_t low, high; asm volatile("vmov %0, %1, d15" : "=r"(low), "=r"(high));\n'


def _styles(name: str) -> dict[str, Forge]:
    include = "#include <arm_acle.h>\n"
    return {
        "half_a_code_added_before": edited(
            name, (CODE, "((high + (1 << (c->shift - 33))) >> (c->shift - 32))")
        ),
        "types_inferred": edited(
            name, (HIGH, "typeof(sum) high = (int64_t)sum * c->mantissa >> 32;")
        ),
        "clamped_by_comparing": edited(
            name,
            ("return (int8_t)__ssat(", "int32_t code = "),
            (
                " + zero_out, 8);",
                " + zero_out; return code < -128 ? -128 : code > 127 ? 127 : code;",
            ),
        ),
        "assembly_inline": edited(
            name,
            (include, include + ASSEMBLY.format(name)),
            ("__smlad(", f"{name}_add("),
        ),
        "two_registers_of_a_double": edited(name, (FIRST[name], f"    {DOUBLE}{FIRST[name]}")),
        "table_in_flash": edited(
            name,
            (include, f"{include}static const int32_t {name}_half[] = {{1, 1}};\n"),
            ("- 33)) + 1)", f"- 33)) + {name}_half[c->shift & 1])"),
        ),
    }


KERNELS = {name: _styles(name) for name in ("conv1x1", "depthwise", "conv3x3")}
VALID = [one for name, styles in KERNELS.items() for one in accepted(name, **styles)]
