"""The knobs of preference tuning."""

from pydantic import Field

from tinyllm.config.base import Strict


class PreferenceConfig(Strict):
    """Learn which of two answers is the better one (DPO, arXiv:2305.18290).

    The data are pairs: JSON rows of `prompt`, `chosen` and `rejected`.
    """

    beta: float = Field(default=0.1, gt=0.0, allow_inf_nan=False)
    """How dearly a step away from the model that it starts from is paid for."""

    sft_weight: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Weight of the chosen answer's own loss, in nats a token, beside the preference."""

    max_forgetting: float | None = Field(default=0.02, gt=0.0, allow_inf_nan=False)
    """Stop when the bits per byte of `data.validation` have grown by more than this share; null
    goes on."""
