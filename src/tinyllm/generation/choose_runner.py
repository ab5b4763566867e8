"""What runs a model that is in memory already."""

from tinyllm.checkpoint import LoadedModel, SpeakingModel
from tinyllm.generation.runner import Runner
from tinyllm.generation.runner_native import NativeRunner


def choose_runner(loaded: SpeakingModel) -> Runner:
    """Return what runs a model where it is: native code for float32 on the CPU, else PyTorch."""
    if not isinstance(loaded, LoadedModel) or _is_plain(loaded):
        native = NativeRunner.load(loaded)
        if native is not None:
            return native
    from tinyllm.generation.runner_torch import TorchRunner

    network = loaded if isinstance(loaded, LoadedModel) else loaded.to_torch()
    return TorchRunner(network.model)


def _is_plain(loaded: LoadedModel) -> bool:
    """Tell whether a network lies on the CPU in float32."""
    import torch

    parameter = next(loaded.model.parameters())
    return parameter.device.type == "cpu" and parameter.dtype == torch.float32
