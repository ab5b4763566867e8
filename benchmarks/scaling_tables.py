"""Print the tables of docs/scaling.md: memory and time of training on N devices, by arithmetic.

    python benchmarks/scaling_tables.py

Nothing is measured here. Memory comes from `tinyllm.model.sizing`; the speed of a device and the
share of it that training reaches are assumptions, named below.
"""

from tinyllm.config.model import ModelConfig, ModelSpec
from tinyllm.model.presets import resolve_model
from tinyllm.model.sizing import (
    TrainingMemory,
    count_parameters,
    parted,
    training_flops_per_token,
    training_memory,
)

BF16_BYTES = 2
DEVICE_FLOPS = 989e12
"""Dense bfloat16 products of an H100 SXM, from its data sheet."""
REACHED_SHARE = 0.4
"""Assumed share of that (MFU); well-kept trainers report 0.35 to 0.5."""
TOKENS_PER_PARAMETER = 20
_GB = 1e9

# name -> (shape, rows of a micro-batch)
SHAPES: dict[str, tuple[ModelConfig, int]] = {
    "100M": (resolve_model(ModelSpec(preset="100m"), 32_000), 8),
    "1B": (
        ModelConfig(
            vocab_size=32_000,
            hidden_size=2048,
            n_layers=18,
            n_heads=16,
            n_kv_heads=8,
            intermediate_size=6144,
            context_length=2048,
            tie_embeddings=False,
        ),
        4,
    ),
    "8B": (
        ModelConfig(
            vocab_size=128_256,
            hidden_size=4096,
            n_layers=32,
            n_heads=32,
            n_kv_heads=8,
            intermediate_size=14_336,
            context_length=2048,
            tie_embeddings=False,
        ),
        1,
    ),
}


def memory_of(config: ModelConfig, rows: int, n_devices: int) -> TrainingMemory:
    """Return what one of n devices holds, the network being parted between them."""
    whole = training_memory(
        config, rows, config.context_length, activation_bytes=BF16_BYTES, on_accelerator=True
    )
    return parted(whole, config, n_devices, weight_bytes=BF16_BYTES)


def memory_table() -> str:
    """Write the memory of one device, in GB, by size and number of devices."""
    head = (
        "| size | parameters | rows x tokens | devices | weights + gradients + optimizer "
        "| borrowed | activations | logits | a device holds |"
    )
    lines = [head, "|---|---:|---|---:|---:|---:|---:|---:|---:|"]
    for name, (config, rows) in SHAPES.items():
        n_parameters = count_parameters(config).total / 1e6
        for n_devices in (1, 2, 8, 64):
            memory = memory_of(config, rows, n_devices)
            parts = (memory.state, memory.gathered, memory.activations, memory.logits, memory.total)
            figures = " | ".join(f"{part / _GB:.1f}" for part in parts)
            lines.append(
                f"| {name} | {n_parameters:,.0f}M | {rows} x {config.context_length:,} "
                f"| {n_devices} | {figures} GB |"
            )
    return "\n".join(lines)


def time_table() -> str:
    """Write the expected speed and the length of a training, by size and number of devices."""
    lines = [
        "| size | FLOPs a token | devices | tokens/s | 20 tokens a parameter | take |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, (config, _) in SHAPES.items():
        flops = training_flops_per_token(config)
        n_tokens = TOKENS_PER_PARAMETER * count_parameters(config).total
        for n_devices in (1, 8, 64):
            speed = n_devices * DEVICE_FLOPS * REACHED_SHARE / flops
            lines.append(
                f"| {name} | {flops / 1e9:.2f}G | {n_devices} | {speed:,.0f} "
                f"| {n_tokens / 1e9:.1f}B | {n_tokens / speed / 3600:,.1f} h |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(memory_table(), time_table(), sep="\n\n")
