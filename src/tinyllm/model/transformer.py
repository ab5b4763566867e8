"""The network: two families of decoder-only transformer on one page.

    llama    RoPE, RMSNorm, SwiGLU, grouped key/value heads, optional QK-norm; no biases, or those
             of q, k and v (Qwen2)
    gpt-neo  learned positions, LayerNorm, GELU; attention unscaled, global in even layers and
             local (a window) in odd ones; biases everywhere but on q, k and v. With those, scaled
             attention and a window as long as the context, it is GPT-2

    ids -> embed -> n_layers x [ x + attention(norm(x)), then x + mlp(norm(x)) ] -> norm -> head

B batch, T new tokens, S key positions, D hidden, F feed-forward, H query heads, K key/value heads,
E head dim, V vocabulary. Norms, softmax and logits are float32, under autocast too. Parameter names
are Hugging Face Llama's in both families; what others call them is in `hf_weights.py`, positions
and masks are in `places.py`, what is kept of tokens in `kv_cache.py`, norms and feed-forward in
`blocks.py`, how values mix is in `attention.py`, and natively, norms and rotation included, in
`kernels/attention.py`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from tinyllm.config.model import ModelConfig
from tinyllm.kernels import attention as native
from tinyllm.kernels.cross_entropy import linear_cross_entropy
from tinyllm.kernels.elementwise import product_dtype
from tinyllm.model.attention import attend
from tinyllm.model.blocks import GeluMLP, LayerNorm, RMSNorm, SwiGLU, add_and_norm
from tinyllm.model.kv_cache import KVCache
from tinyllm.model.places import Places, apply_rope

IGNORE_TARGET = -100
"""The target of a token that is not learnt; the data's loader uses the same number."""
_INIT_STD = 0.02


class Attention(nn.Module):
    """Causal self-attention, its heads in groups that share keys and values (arXiv:2305.13245)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        is_neo, width, bias = config.family == "gpt-neo", config.head_dim, config.qkv_bias
        self.layer = layer
        self.head_dim = width
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.is_local = is_neo and layer % 2 == 1
        self.scale = 1 / math.sqrt(width) if config.scale_attention else 1.0
        self.dropout = config.dropout
        self.q_proj = nn.Linear(config.hidden_size, config.n_heads * width, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, config.n_kv_heads * width, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, config.n_kv_heads * width, bias=bias)
        self.o_proj = nn.Linear(config.n_heads * width, config.hidden_size, bias=is_neo)
        self.eps = config.norm_eps
        self.q_norm = RMSNorm(width, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, places: Places, cache: KVCache | None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        is_plain = cache is not None or dropout > 0
        if is_plain or not native.can_attend(x.device.type, self.head_dim, product_dtype(x)):
            projected = (project(x) for project in (self.q_proj, self.k_proj, self.v_proj))
            q, k, v = (x.unflatten(-1, (-1, self.head_dim)) for x in projected)  # (B,T,H or K,E)
            mixed = self._attend_plainly(q, k, v, places, cache, dropout)
        else:
            mixed = native.attend(
                self._queries_keys_values(x),
                self.n_heads,
                self.n_kv_heads,
                scale=self.scale,
                starts=places.local_starts if self.is_local else places.global_starts,
                rotation=places.rotation,
                norm_weights=self._norm_weights(),
                eps=self.eps,
            )
        out: Tensor = self.o_proj(mixed.flatten(2))  # (B, T, D)
        return out

    def _queries_keys_values(self, x: Tensor) -> Tensor:
        """Return (B, T, (H + 2 K) E): one product where all three are plain matrices."""
        three = (self.q_proj, self.k_proj, self.v_proj)
        if not all(type(project) is nn.Linear for project in three):
            return torch.cat([project(x).to(product_dtype(x)) for project in three], dim=-1)
        weights: list[Tensor] = [project.weight for project in three]
        biases: list[Tensor] = [p.bias for p in three if p.bias is not None]
        return functional.linear(x, torch.cat(weights), torch.cat(biases) if biases else None)

    def _norm_weights(self) -> tuple[Tensor, Tensor] | None:
        q_norm, k_norm = self.q_norm, self.k_norm
        if isinstance(q_norm, RMSNorm) and isinstance(k_norm, RMSNorm):
            return q_norm.weight, k_norm.weight
        return None

    def _attend_plainly(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        places: Places,
        cache: KVCache | None,
        dropout: float,
    ) -> Tensor:
        q, k = self.q_norm(q), self.k_norm(k)
        if places.wide_rotation is not None:
            q, k = apply_rope(q, *places.wide_rotation), apply_rope(k, *places.wide_rotation)
        if cache is not None:
            k, v = (past.to(q.dtype) for past in cache.write(self.layer, places.positions, k, v))
        mixed = attend(
            q.transpose(1, 2),  # (B, H, T, E)
            k.transpose(1, 2),  # (B, K, S, E)
            v.transpose(1, 2),
            places.local_mask if self.is_local else places.global_mask,
            scale=self.scale,
            dropout=dropout,
        )
        return mixed.transpose(1, 2)  # (B, T, H, E)


class Layer(nn.Module):
    """Attention and feed-forward, each on a normed copy of the stream (pre-norm)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = _norm(config)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = _norm(config)
        self.mlp = GeluMLP(config) if config.family == "gpt-neo" else SwiGLU(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, delta: Tensor | None, places: Places, cache: KVCache | None
    ) -> tuple[Tensor, Tensor]:
        """Take the stream and what the layer before adds to it; return both of this layer.

        Each sum is left to the norm behind it: the two are one pass over memory.
        """
        x, normed = add_and_norm(self.input_layernorm, x, delta)
        delta = self.dropout(self.self_attn(normed, places, cache))
        x, normed = add_and_norm(self.post_attention_layernorm, x, delta)
        return x, self.dropout(self.mlp(normed))


class Backbone(nn.Module):
    """Everything but the head: ids to hidden states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = _embedding(config.vocab_size, config.hidden_size)
        if config.family == "gpt-neo":
            self.embed_positions = _embedding(config.context_length, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = _norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.recomputes = False
        """Whether the backward pass computes a layer again rather than keep what it held."""

    def forward(self, input_ids: Tensor, places: Places, cache: KVCache | None) -> Tensor:
        x = self.embed_tokens(input_ids)  # (B, T, D)
        if places.rotation is None:
            x = x + self.embed_positions(places.positions)
        x = self.dropout(x)
        delta = None
        for layer in self.layers:
            if self.recomputes and self.training:
                x, delta = recomputed(layer, x, delta, places, cache, use_reentrant=False)
            else:
                x, delta = layer(x, delta, places, cache)
        return add_and_norm(self.norm, x, delta)[1]


class Transformer(nn.Module):
    """A decoder-only language model of either family, built on the CPU with weights of seed 0."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        device = torch.get_default_device()
        with torch.device("meta"):  # so that nothing is drawn from torch's global generator
            self.model = Backbone(config)
            if not config.tie_embeddings:
                self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if device.type != "meta":  # drawing there would import torch's compiler, for a second
            self.to_empty(device=device)
            self.init_weights(torch.Generator().manual_seed(0))

    def forward(
        self,
        input_ids: Tensor,
        *,
        document_ids: Tensor | None = None,
        cache: KVCache | None = None,
        targets: Tensor | None = None,
        by_row: bool = False,
    ) -> Tensor:
        """Return logits (B, T, V) float32 for ids (B, T) int64.

        With targets (B, T) int64, return the summed loss in nats () float32 instead, without
        holding the logits; those of IGNORE_TARGET count nothing. `by_row` sums each row for
        itself, (B,).

        With document_ids (B, T) int64, several documents share a row: positions restart where the
        id changes and no token sees another document. With a cache, row b's tokens follow the
        `cache.lengths[b]` tokens that it holds. Raises ValueError for rows that are too long.
        """
        hidden = self.hidden_states(input_ids, document_ids=document_ids, cache=cache)
        if targets is None:
            return self.head(hidden)
        if by_row:
            return torch.stack([self._loss(*row) for row in zip(hidden, targets, strict=True)])
        return self._loss(hidden.flatten(0, 1), targets.flatten())

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss () of hidden states (N, D) and targets (N,)."""
        wide = hidden.to(product_dtype(hidden))
        return linear_cross_entropy(wide, self.head_weight, targets, IGNORE_TARGET)

    def hidden_states(
        self, input_ids: Tensor, *, document_ids: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Return what the head reads, (B, T, D) after the last norm; arguments as in forward."""
        self._require_room(input_ids, document_ids, cache)
        past = None if cache is None or cache.is_even else cache.lengths
        longest = 0 if cache is None else cache.longest
        places = Places.of(self.config, input_ids, document_ids, past, longest)
        out: Tensor = self.model(input_ids, places, cache)  # (B, T, D)
        return out

    def head(self, hidden: Tensor) -> Tensor:
        """Return logits (…, V) float32 for hidden states (…, D)."""
        return functional.linear(hidden, self.head_weight).float()

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, D); the token embedding itself when tied."""
        return self.model.embed_tokens.weight if self.config.tie_embeddings else self.lm_head.weight

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw new weights as GPT-2 does.

        norms             1 (bias 0)
        biases            0
        o_proj down_proj  normal, std 0.02 / sqrt(2 n_layers): their sum over layers stays 0.02
        all else          normal, std 0.02: q k v, gate and up, embeddings, head
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                std = _INIT_STD / math.sqrt(2 * self.config.n_layers)
                parameter.normal_(0.0, std, generator=generator)
            else:
                parameter.normal_(0.0, _INIT_STD, generator=generator)

    def _require_room(
        self, input_ids: Tensor, document_ids: Tensor | None, cache: KVCache | None
    ) -> None:
        shape = tuple(input_ids.shape)
        if input_ids.ndim != 2:
            raise ValueError(f"input_ids must be (B, T), found shape {shape}")
        if document_ids is not None and (cache or document_ids.shape != input_ids.shape):
            found = tuple(document_ids.shape)
            raise ValueError(f"document_ids {found} must have shape {shape} and no cache with them")
        if shape[1] > self.config.context_length:
            raise ValueError(
                f"{shape[1]} tokens exceed context_length {self.config.context_length}"
            )
        if cache is not None and cache.longest + shape[1] > cache.keys.shape[2]:
            held = cache.keys.shape[2]
            raise ValueError(f"{cache.longest} + {shape[1]} tokens exceed the cache's {held}")


def _embedding(n: int, size: int) -> nn.Embedding:
    """Make a table without first values: drawing them on "meta" imports torch's compiler (1 s)."""
    return nn.Embedding(n, size, _weight=torch.empty(n, size), _freeze=False)


def _norm(config: ModelConfig) -> RMSNorm | LayerNorm:
    kind = LayerNorm if config.family == "gpt-neo" else RMSNorm
    return kind(config.hidden_size, config.norm_eps)
