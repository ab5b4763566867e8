"""Which of the two ways a model is run: native code on the CPU, or PyTorch."""

from tinyllm.checkpoint import LoadedModel, SpeakingModel
from tinyllm.generation.runner import Runner


def choose_runner(loaded: SpeakingModel) -> Runner:
    """Return what runs a model best where it is; both ways give the same texts.

    Native code takes float32 weights on the CPU, where it can be had.
    """
    from tinyllm.generation.runner_native import NativeRunner

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
