"""Secrets and endpoints: the only reader of the environment."""

import os
from functools import cache
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr


class Settings(BaseModel):
    """What comes from `TINYLLM_…` variables and the names that other tools made common."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    hf_endpoint: str = Field(
        default="https://huggingface.co",
        validation_alias=AliasChoices("TINYLLM_HF_ENDPOINT", "HF_ENDPOINT"),
        description="Address of the hub that serves datasets.",
    )
    hf_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TINYLLM_HF_TOKEN", "HF_TOKEN"),
        description="Token for gated datasets on the hub.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        validation_alias="TINYLLM_API_KEY",
        description="Key that clients of `tinyllm serve` must send.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("TINYLLM_OPENAI_API_KEY", "OPENAI_API_KEY"),
        description="Key for servers that are asked for synthetic text.",
    )
    openai_organization: str | None = Field(
        default=None,
        validation_alias="OPENAI_ORG_ID",
        description="Organization that api.openai.com charges, where a key belongs to several.",
    )
    openai_project: str | None = Field(
        default=None,
        validation_alias="OPENAI_PROJECT_ID",
        description="Project that api.openai.com charges.",
    )
    world_size: int = Field(
        default=1,
        ge=1,
        validation_alias="WORLD_SIZE",
        description="Processes that a launcher (torchrun, accelerate) started together.",
    )
    local_world_size: int = Field(
        default=1,
        ge=1,
        validation_alias="LOCAL_WORLD_SIZE",
        description="Those of them on this machine.",
    )
    rank: int = Field(
        default=0,
        ge=0,
        validation_alias="RANK",
        description="This process's number among them.",
    )
    kernels: bool = Field(
        default=True,
        validation_alias="TINYLLM_KERNELS",
        description="Whether native code is compiled and used; `off` runs plain PyTorch.",
    )
    cxx: str | None = Field(
        default=None,
        validation_alias="CXX",
        description="Command of the C++ compiler that builds native code.",
    )
    cache_home: Path | None = Field(
        default=None,
        validation_alias="XDG_CACHE_HOME",
        description="Folder of caches; `~/.cache` when left out.",
    )
    state_home: Path | None = Field(
        default=None,
        validation_alias="XDG_STATE_HOME",
        description="Folder of histories; `~/.local/state` when left out.",
    )


@cache
def settings() -> Settings:
    """Read the environment once. Raises ConfigError for a value that is refused."""
    from pydantic import ValidationError

    from tinyllm.errors import ConfigError

    try:
        return Settings.model_validate({name: x for name, x in os.environ.items() if x})
    except ValidationError as error:
        names = ", ".join(str(details["loc"][0]) for details in error.errors())
        raise ConfigError(f"the environment holds a value that is refused: {names}") from None
