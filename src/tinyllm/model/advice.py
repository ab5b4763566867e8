"""Shapes that train badly, each named with its reason.

Nothing here is refused: a strange shape may be what somebody wants to study. The bounds lie far
outside what published models use, so that a warning means something.
"""

from tinyllm.config.model import ModelConfig
from tinyllm.model.sizing import count_parameters

_DEEP = 4
_SHALLOW = 2048
_EMBEDDING_SHARE = 0.7
_HEAD_DIMS = (8, 256)


def warnings_for(config: ModelConfig) -> list[str]:
    """Return a sentence for everything about a shape that is unlikely to be meant."""
    said = []
    width, layers, head_dim = config.hidden_size, config.n_layers, config.head_dim
    if width < _DEEP * layers:
        said.append(
            f"{layers} layers are many for a width of {width}: thin towers learn slowly; with as "
            f"many parameters, fewer and wider layers do better (width / layers is "
            f"{width / layers:.1f}, usual are 16 to 128)"
        )
    if width > _SHALLOW * layers:
        said.append(f"{layers} layers are few for a width of {width}: add layers, take off width")
    if head_dim < _HEAD_DIMS[0]:
        said.append(
            f"heads are only {head_dim} wide ({width} / {config.n_heads}): lower model.n_heads, "
            "usual are heads of 32 to 128"
        )
    if head_dim > _HEAD_DIMS[1]:
        said.append(f"heads are {head_dim} wide: raise model.n_heads, usual are heads of 32 to 128")
    if config.intermediate_size < width:
        said.append(
            f"the feed-forward layer is narrower ({config.intermediate_size}) than the model "
            f"({width}): usual is 8/3 to 4 times the width"
        )
    count = count_parameters(config)
    share = count.embedding / count.total
    if share > _EMBEDDING_SHARE:
        said.append(
            f"{share:.0%} of the parameters only look tokens up: the vocabulary of "
            f"{config.vocab_size:,} is large for a network of this size; lower "
            "tokenizer.vocab_size or widen the model"
        )
    return said
