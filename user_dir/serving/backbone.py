"""The backbone in memory once: models with adapters that hold its very parameters in place of copies."""

from pathlib import Path

from fairseq.models import BaseFairseqModel
from torch import nn

from ..adapters.lora import LowRank
from ..checkpoint.adapter_only import backbone_fingerprint, fingerprint_of
from ..checkpoint.rebuild import model_arguments
from ..checkpoint.start import check_fits
from ..checkpoint.upgrade import drop_fused_copies, fill_in_versions
from ..errors import UsageError
from ..modules import has_adapters, is_backbone_key, materialize_


class Backbone:
    """A plain pretrained model, and the models with adapters that share its parameters.

    It is what fairseq itself loads, but for files without ``version`` keys: fairseq takes them for old ones and drops
    their final layer norms, with which adapters were trained on them.

    Args:
        path: the backbone's file, for messages.
        state: what is in it.
        task: has the dictionaries.

    Raises:
        UsageError: the file holds adapters, says nothing about its model, or does not fit the dictionaries.
    """

    def __init__(self, path: Path, state: dict, task):
        if has_adapters(state["model"]):
            raise UsageError(f"{path} holds adapters: --backbone is the plain model that they were trained on")
        if state.get("cfg") is None:
            raise UsageError(f"{path} says nothing about its model")
        self.path = path
        self.model = task.build_model(state["cfg"].model, from_checkpoint=True).eval()
        weights = dict(state["model"])
        drop_fused_copies(weights)
        fill_in_versions(self.model, weights)
        check_fits(self.model, weights, str(path))
        try:
            self.model.load_state_dict(weights, strict=True, model_cfg=state["cfg"].model)
        except RuntimeError as error:  # torch's list of missing and unexpected keys
            raise UsageError(f"{path} does not fit its own arguments or the data's: {str(error)[:400]}") from error
        self.parameters = dict(self.model.named_parameters(remove_duplicate=False))
        self._fingerprints: dict[tuple[str, ...], str] = {}

    def with_adapters(self, path: Path, state: dict, task) -> BaseFairseqModel:
        """The model with the adapters of a file, on this backbone's own parameters.

        A second backbone is in memory only while the model is built, as fairseq initialises all that it builds.

        Args:
            path: the adapters' file, for messages.
            state: what is in it: adapters, or adapters and the backbone, which then is only compared.
            task: has the dictionaries.

        Raises:
            UsageError: the file holds no adapters, or those of another backbone.
        """
        if not has_adapters(state["model"]):
            raise UsageError(f"{path} holds no adapters")
        args = model_arguments(state)
        model = task.build_model(args, from_checkpoint=True).eval()
        weights = {key: value for key, value in state["model"].items() if not is_backbone_key(model, key)}
        # The fingerprint is of all that the model has by itself: it may share fewer embeddings than the backbone.
        names = tuple(name for name, _ in model.named_parameters() if is_backbone_key(model, name))
        if names not in self._fingerprints:
            self._fingerprints[names] = backbone_fingerprint(model, self.parameters)
        found, wanted = self._fingerprints[names], fingerprint_of(model, state)
        self._share_with_(model, path)
        # The adapters' dict is then completed with the tensors that the model has, and no file is looked for.
        model.backbone_is_loaded = True
        model.load_state_dict(weights, strict=True, model_cfg=args)
        if wanted and wanted != found:
            raise UsageError(
                f"{self.path} is not the backbone that {path} was trained on: its fingerprint is "
                f"{found[:16]} and the adapters want {wanted[:16]}"
            )
        return model

    def _share_with_(self, model: BaseFairseqModel, path: Path) -> None:
        """Put the backbone's parameters in the place of the model's own."""
        own = {k: v for k, v in model.named_parameters(remove_duplicate=False) if is_backbone_key(model, k)}
        different = sorted(own.keys() ^ self.parameters.keys())
        different += [key for key, held in self.parameters.items() if key in own and own[key].shape != held.shape]
        if different:
            raise UsageError(f"{path} was trained on another architecture than that of {self.path} ({different[0]})")
        for key, parameter in self.parameters.items():
            module, _, name = key.rpartition(".")
            model.get_submodule(module).register_parameter(name, parameter)


def keep_lora_apart_(model: nn.Module) -> None:
    """Undo the merged form that ``prepare_for_inference_`` gave LoRA, which has a copy of every projection.

    What stays is ``W x + (α/r) B A x`` with dense A and B.
    """
    for module in model.modules():
        if isinstance(module, LowRank):
            module.dematerialize_()
            materialize_(module.down)
            materialize_(module.up)
