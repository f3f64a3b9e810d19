"""Wrong answers to the assembly of an integer network, which its accuracy hardly shows."""

from __future__ import annotations

from textwrap import dedent

from autograder.proof.mutants import changed

NETWORK = dedent("""
    def quantize_network(layers, image, thresholds, bits, axis):
        scale, zero_point = quantization_parameters(image, 8, symmetric=False)
        stored = {"input.scale": scale.reshape(1), "input.zero_point": zero_point.reshape(1)}
        for name, (weight, bias) in layers.items():
            own_axis = None if name == "classifier" else axis
            w_scale, zero = quantization_parameters(weight, bits, symmetric=True, axis=own_axis)
            stored[f"{name}.weight"] = linear_quantize(weight, w_scale, zero, bits, own_axis)
            sums_scale = scale.double() * w_scale.double().expand(len(bias))
            stored[f"{name}.bias"] = (bias / sums_scale).round().int()
            if name != "classifier":
                scale = torch.tensor(thresholds[name] / (2**bits - 1))
                mantissa, shift = fixed_point(sums_scale / scale.double())
                stored |= {f"{name}.mantissa": mantissa, f"{name}.shift": shift.to(torch.int8)}
                stored[f"{name}.zero_point"] = torch.tensor([-(2 ** (bits - 1))], dtype=torch.int32)
        return stored
    """)
ROUNDED = "(bias / sums_scale).round().int()"

MUTANTS = changed(
    "quantize_network",
    NETWORK,
    one_scale_a_tensor=('None if name == "classifier" else axis', "None"),
    channels_always=(
        'None if name == "classifier" else axis',
        'None if name == "classifier" else 0',
    ),
    channels_of_the_inputs=(
        'None if name == "classifier" else axis',
        'None if name == "classifier" or axis is None else 1',
    ),
    bias_forgotten=(ROUNDED, "torch.zeros(len(bias)).int()"),
    bias_of_the_classifier_forgotten=(
        ROUNDED,
        "(bias * (name != 'classifier') / sums_scale).round().int()",
    ),
    bias_of_the_first_forgotten=(ROUNDED, "(bias * (name != 'conv0') / sums_scale).round().int()"),
    bias_rounded_down=(ROUNDED, "(bias / sums_scale).floor().int()"),
    bias_by_the_weight_scale=(ROUNDED, "(bias / w_scale).round().int()"),
    bias_in_float=(ROUNDED, "bias / sums_scale"),
    bias_of_16_bits=(ROUNDED, "(bias / sums_scale).round().clamp(-(2**15), 2**15 - 1).int()"),
    scale_of_the_image_everywhere=(
        "sums_scale = scale.double()",
        'sums_scale = stored["input.scale"].double()',
    ),
    image_of_4_bits=("parameters(image, 8,", "parameters(image, bits,"),
    image_symmetric=("symmetric=False", "symmetric=True"),
    weights_affine=("symmetric=True", "symmetric=False"),
    weights_of_8_bits=(
        "linear_quantize(weight, w_scale, zero, bits,",
        "linear_quantize(3 * weight, w_scale, zero, 8,",
    ),
    outputs_of_127_levels=("2**bits - 1)", "2 ** (bits - 1) - 1)"),
    outputs_of_8_bits=("thresholds[name] / (2**bits - 1)", "thresholds[name] / 255"),
    zero_point_of_zero=("[-(2 ** (bits - 1))]", "[0]"),
    zero_point_of_8_bits=("[-(2 ** (bits - 1))]", "[-128]"),
    zero_point_of_int64=(", dtype=torch.int32", ""),
    shift_of_int32=("shift.to(torch.int8)", "shift"),
    multiplier_upside_down=("sums_scale / scale.double()", "scale.double() / sums_scale"),
    one_multiplier_a_layer=(
        "fixed_point(sums_scale / scale.double())",
        "fixed_point((sums_scale / scale.double()).mean().expand(len(bias)))",
    ),
    scale_of_no_dimension=("scale.reshape(1)", "scale"),
    thresholds_ignored=("thresholds[name] /", "max(thresholds.values()) /"),
    alters_the_layers=("    return stored", "    layers.clear()\n    return stored"),
    alters_a_bias=("    return stored", "    bias.zero_()\n    return stored"),
    classifier_left_out=("in layers.items():", "in [*layers.items()][:-1]:"),
    multiplier_of_the_classifier=(
        "    return stored",
        '    stored["classifier.zero_point"] = torch.zeros(1).int()\n    return stored',
    ),
)
