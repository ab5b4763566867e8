"""Parameter, FLOP and memory arithmetic of a network's shape, without building it.

A model's name says little ("TinyStories-1M" holds 0.4M to 3.8M, as one counts), so sizes are
always given as total, embedding and non-embedding parameters. FLOPs count a multiplication and an
addition as two. Memory figures are estimates; what a run really takes is measured by training.
"""

from dataclasses import dataclass, replace
from typing import Literal

from tinyllm.config.model import ModelConfig
from tinyllm.kernels.chunks import rows_at_once
from tinyllm.reporting import format_count

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters by what they are for; embedding + non_embedding = total.

    `embedding` holds every matrix that grows with vocabulary or context: token embedding, learned
    positions, and an untied head. A tied head is counted once.
    """

    embedding: int
    non_embedding: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.non_embedding

    def __str__(self) -> str:
        return (
            f"{format_count(self.total)} parameters "
            f"({format_count(self.embedding)} embedding, "
            f"{format_count(self.non_embedding)} non-embedding)"
        )


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that one training process holds at its peak, by part."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    """A chunk of logits on its way to the loss, and the loss's gradients."""
    gathered: int = 0
    """Whole weights that a process borrows from the others while it uses them (FSDP)."""

    @property
    def state(self) -> int:
        """Bytes of weights, gradients and optimizer: what FSDP parts between processes."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """All bytes."""
        return self.state + self.activations + self.logits + self.gathered


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count the parameters of a shape exactly."""
    width = config.hidden_size
    n_tables = 1 if config.tie_embeddings else 2
    embedding = n_tables * config.vocab_size * width
    if config.family == "gpt-neo":
        embedding += config.context_length * width
    layers = config.n_layers * (_matrix_parameters(config) + _vector_parameters(config))
    return ParameterCount(embedding, layers + _norm_size(config))


def forward_flops_per_token(config: ModelConfig, n_tokens: int | None = None) -> float:
    """FLOPs of reading one token, averaged over a row of n_tokens (the whole context if None).

    Products only: 2 per weight of every matrix, the head included, and 4 E per pair of query head
    and visible key.
    """
    n_tokens = n_tokens or config.context_length
    products = 2 * (config.n_layers * _matrix_parameters(config) + _head_parameters(config))
    n_local = config.n_layers // 2 if config.family == "gpt-neo" else 0
    visible = (config.n_layers - n_local) * _mean_visible(n_tokens, n_tokens)
    visible += n_local * _mean_visible(n_tokens, config.attention_window)
    return products + 4 * config.n_heads * config.head_dim * visible


def training_flops_per_token(config: ModelConfig, n_tokens: int | None = None) -> float:
    """FLOPs of learning from one token: the forward pass, and twice as much backwards."""
    return 3 * forward_flops_per_token(config, n_tokens)


def kv_cache_bytes(
    config: ModelConfig, batch_size: int, n_tokens: int, bytes_per_value: int = _FLOAT32_BYTES
) -> int:
    """Bytes of keys and values of batch_size rows of n_tokens."""
    per_token = 2 * config.n_layers * config.n_kv_heads * config.head_dim * bytes_per_value
    return batch_size * n_tokens * per_token


def checkpoint_bytes(config: ModelConfig, bytes_per_value: int = _FLOAT32_BYTES) -> int:
    """Bytes of the weights in a checkpoint; its tokenizer and records come on top."""
    return count_parameters(config).total * bytes_per_value


def training_memory(
    config: ModelConfig,
    batch_size: int,
    n_tokens: int,
    *,
    optimizer: Literal["adamw", "muon"] = "adamw",
    activation_bytes: int = _FLOAT32_BYTES,
    on_accelerator: bool = False,
) -> TrainingMemory:
    """Estimate the memory of training on batch_size rows of n_tokens per process.

    Weights, gradients and optimizer state are float32. Activations count what the backward pass
    keeps of a layer: both norms' input and output, q k v and the mixed heads, and what the
    feed-forward layer makes. Attention keeps no (T, T) matrix but for the short rows that it
    writes out, where it is small; native kernels keep up to a quarter less. Logits are made a chunk
    of rows at a time, and a chunk is held as it comes, widened if it is narrow, and as its softmax;
    the loss keeps its gradients by hidden states and head until the backward pass.
    """
    parameters = count_parameters(config)
    matrices = config.n_layers * _matrix_parameters(config)
    states = parameters.total if optimizer == "adamw" else parameters.total - matrices // 2
    tokens = batch_size * n_tokens
    heads = (2 * config.n_heads + 2 * config.n_kv_heads) * config.head_dim
    inner = (4 if config.family == "llama" else 2) * config.intermediate_size
    per_token = config.n_layers * (6 * config.hidden_size + heads + inner)
    return TrainingMemory(
        weights=parameters.total * _FLOAT32_BYTES,
        gradients=parameters.total * _FLOAT32_BYTES,
        optimizer=2 * states * _FLOAT32_BYTES,
        activations=tokens * per_token * activation_bytes,
        logits=_logits_bytes(config, tokens, activation_bytes, on_accelerator),
    )


def _logits_bytes(
    config: ModelConfig, n_tokens: int, activation_bytes: int, on_accelerator: bool
) -> int:
    rows = min(n_tokens, rows_at_once(config.vocab_size, on_accelerator=on_accelerator))
    n_wide = 1 if activation_bytes == _FLOAT32_BYTES else 2
    chunk = rows * config.vocab_size * (activation_bytes + n_wide * _FLOAT32_BYTES)
    d_hidden = n_tokens * config.hidden_size * activation_bytes
    return chunk + d_hidden + _head_parameters(config) * _FLOAT32_BYTES


def parted(
    memory: TrainingMemory, config: ModelConfig, n_processes: int, *, weight_bytes: int
) -> TrainingMemory:
    """Estimate what is left of a process's memory when n_processes part the network (FSDP).

    Activations and logits stay. Borrowed whole, in the precision of the products, are embedding
    and head for the length of a pass, and two layers, the one at work and the next; the gradients
    of a layer and of embedding and head are whole, in float32, until they are exchanged.
    """
    if n_processes == 1:
        return memory
    ends = count_parameters(config).embedding
    layer = _matrix_parameters(config)
    return replace(
        memory,
        weights=-(-memory.weights // n_processes),
        gradients=-(-memory.gradients // n_processes),
        optimizer=-(-memory.optimizer // n_processes),
        gathered=(ends + 2 * layer) * weight_bytes + (ends + layer) * _FLOAT32_BYTES,
    )


def _matrix_parameters(config: ModelConfig) -> int:
    """Weights of one layer's matrices: q k v o, and two (gpt-neo) or three (llama) in the MLP."""
    n_heads = config.n_heads + config.n_kv_heads
    attention = 2 * config.hidden_size * n_heads * config.head_dim
    n_matrices = 2 if config.family == "gpt-neo" else 3
    return attention + n_matrices * config.hidden_size * config.intermediate_size


def _vector_parameters(config: ModelConfig) -> int:
    """Norms and biases of one layer."""
    biases = 2 * config.hidden_size + config.intermediate_size
    of_heads = 2 * config.head_dim if config.qk_norm else 0
    if config.qkv_bias:
        of_heads += (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
    return 2 * _norm_size(config) + of_heads + (biases if config.family == "gpt-neo" else 0)


def _norm_size(config: ModelConfig) -> int:
    return config.hidden_size * (2 if config.family == "gpt-neo" else 1)


def _head_parameters(config: ModelConfig) -> int:
    return config.vocab_size * config.hidden_size


def _mean_visible(n_tokens: int, window: int) -> float:
    """Keys that a token sees on average in a row of n_tokens, at most `window` of them."""
    window = min(window, n_tokens)
    return (window * (window + 1) / 2 + (n_tokens - window) * window) / n_tokens
