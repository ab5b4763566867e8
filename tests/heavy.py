"""The modules whose import takes up most of a short run of a command."""

MODULES = [
    "accelerate",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "tinyllm.training.workflow",
    "torch._dynamo",
    "torch.distributed.tensor",
    "torch.fx.experimental.symbolic_shapes",
]
