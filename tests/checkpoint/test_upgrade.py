import pytest
import torch
from sparse_adapter.checkpoint.upgrade import drop_fused_copies, fill_in_adapters, fill_in_versions
from sparse_adapter.modules import has_adapters, is_adapter_key, sparse_weights

from ..conftest import state_copy


def test_only_fused_copies_are_dropped():
    kept = ["encoder.layers.0.self_attn.out_proj.weight", "encoder.layers.0.fc1.weight", "layers.0.fc1_weights"]
    dropped = [f"encoder.layers.11.{n}_{p}" for n in ("in_proj", "out_proj", "fc1", "fc2") for p in ("weight", "bias")]
    state = dict.fromkeys([*kept, *dropped])
    drop_fused_copies(state)
    assert list(state) == kept


def test_fused_copies_of_a_backbone_that_adapters_refer_to_are_dropped(build_bart, monkeypatch, tmp_path):
    stock = build_bart("bart_base").state_dict()
    copies = {f"encoder.layers.0.fc1_{name}": stock[f"encoder.layers.0.fc1.{name}"] for name in ("weight", "bias")}
    monkeypatch.setattr("sparse_adapter.checkpoint.adapter_only.read_state", lambda path: {"model": stock | copies})
    (tmp_path / "backbone.pt").touch()
    model = build_bart(backbone=str(tmp_path / "backbone.pt"))
    adapters = {key: value for key, value in model.state_dict().items() if is_adapter_key(key)}
    model.load_state_dict(adapters, strict=True, model_cfg=model.adapter_args)
    assert model.backbone_is_loaded


def test_versions_are_filled_in_where_there_is_a_final_layer_norm(build_bart):
    model = build_bart(encoder_normalize_before=True)
    state = {key: value for key, value in model.state_dict().items() if not key.endswith(".version")}
    fill_in_versions(model, state)
    assert state["encoder.version"] is model.encoder.version
    assert "decoder.version" not in state  # a decoder without a final layer norm has nothing to lose


def test_a_version_in_the_file_stays(build_bart):
    model = build_bart(encoder_normalize_before=True)
    state = model.state_dict() | {"encoder.version": torch.Tensor([1])}
    fill_in_versions(model, state)
    assert state["encoder.version"] == 1


@pytest.mark.parametrize("compact", [False, True])
def test_a_plain_backbone_gets_the_models_adapters(model, pruned_model, stock_model, compact):
    model = pruned_model if compact else model
    state = dict(stock_model.state_dict())
    assert not has_adapters(state)
    fill_in_adapters(model, state)
    assert has_adapters(state)
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items() if is_adapter_key(k))


@pytest.mark.parametrize("compact", [False, True])
def test_adapters_in_the_file_stay_in_either_form(model, build_bart, compact):
    state = state_copy(model)
    other = build_bart()
    if compact:
        for weight in sparse_weights(other).values():
            weight.prune_(torch.rand(weight.shape) < 0.5)
    before = dict(state)
    fill_in_adapters(other, state)
    assert all(state[key] is value for key, value in before.items()) and len(state) == len(before)


def refusal(model, state) -> str:
    """The one line that loading ``state`` ends with."""
    with pytest.raises(SystemExit) as error:
        model.load_state_dict(state)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_adapters_where_the_model_has_none_are_refused(pruned_model, build_bart):
    text = refusal(build_bart(adapter="none"), state_copy(pruned_model))
    assert "adapters (houlsby) are not those of the model (none; " in text


def test_a_part_of_the_adapters_is_refused(model):
    state = state_copy(model)
    del state["decoder.layers.1.sparse_adapter.houlsby.ffn.up.bias"]
    assert "decoder.layers.1.sparse_adapter.houlsby.ffn.up.bias is in one of them only" in refusal(model, state)


def test_adapters_with_other_options_are_refused(model, build_bart):
    other = build_bart(adapter_layer_norm="none")
    assert "layer_norm_in.bias is in one of them only" in refusal(other, state_copy(model))


@pytest.mark.parametrize("compact", [False, True])
def test_adapters_of_another_size_are_refused(model, pruned_model, build_bart, compact):
    state = state_copy(pruned_model if compact else model)
    text = refusal(build_bart(adapter_bottleneck=4), state)
    assert "down.bias: (8,) and (4,)): use the --adapter-bottleneck that they were trained with" in text
