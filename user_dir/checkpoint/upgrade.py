"""What a state dict needs before a model with adapters can load it. All functions work in place."""

import re

from torch import nn

from ..errors import UsageError
from ..modules import MASK_KEY, is_adapter_key, split_adapter_key

# fairseq 0.12.2 saved each encoder layer's weights a second time, under the names of its fused kernel.
_FUSED_COPY = re.compile(r"\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$")


def drop_fused_copies(state_dict: dict) -> None:
    """Remove the duplicates that checkpoints of fairseq 0.12.2 carry."""
    for key in [key for key in state_dict if _FUSED_COPY.search(key)]:
        del state_dict[key]


def fill_in_versions(model: nn.Module, state_dict: dict) -> None:
    """Mark a dict with final layer norms as new: fairseq takes one without ``version`` for an old file.

    It would then drop the final layer norms of the model (transformer_encoder.py, upgrade_state_dict_named).
    """
    for name, buffer in model.named_buffers():
        stack, _, last = name.rpartition(".")
        if last == "version" and name not in state_dict and f"{stack}.layer_norm.weight" in state_dict:
            state_dict[name] = buffer


def fill_in_adapters(model: nn.Module, state_dict: dict) -> None:
    """Give a plain backbone's dict the adapters that the model has now, freshly initialised or pruned.

    Raises:
        UsageError: the dict holds adapters, and not those of the model, or of another size.
    """
    needed = {key: value for key, value in model.state_dict().items() if is_adapter_key(key)}
    held, wanted = ({_parameter(key) for key in keys if is_adapter_key(key)} for keys in (state_dict, needed))
    if not held:
        state_dict.update(needed)
    elif held != wanted:
        raise UsageError(
            f"the checkpoint's adapters ({_families(held)}) are not those of the model ({_families(needed)}; "
            f"{min(held ^ wanted)} is in one of them only): use the --adapter options that it was trained with"
        )
    for key, value in needed.items():
        # Dense and compact weights differ in shape; their biases and layer norms do not.
        if key in wanted and state_dict[key].shape != value.shape:
            raise UsageError(
                f"the checkpoint's adapters have another size than the model's ({key}: {tuple(state_dict[key].shape)} "
                f"and {tuple(value.shape)}): use the --adapter-bottleneck that they were trained with"
            )


def _parameter(key: str) -> str:
    """The key without what differs between a dense and a compact weight."""
    return key.removesuffix(".values").removesuffix(f".{MASK_KEY}")


def _families(keys) -> str:
    return "+".join(sorted({split_adapter_key(key)[1] for key in keys})) or "none"
