"""A pass that ran out of memory, after which fairseq's trainer goes on with the next batch."""

import pytest
import torch
from sparse_adapter.adapters.parallel import ParallelBottleneck

from ..conftest import randomize


@pytest.mark.parametrize("adapter", ["houlsby", "pfeiffer", "parallel", "mam"])
def test_nothing_of_it_is_left(build_bart, batch, adapter):
    model = randomize(build_bart(adapter=adapter))
    smaller = {name: value[:1] for name, value in batch["net_input"].items()}
    expected = model(**smaller)[0]

    def fail(*_) -> None:
        raise RuntimeError("out of memory")

    for layer in (model.encoder.layers[0], model.decoder.layers[1]):
        for module in (layer.fc2, layer.self_attn):  # after what the adapter's own hooks do
            handle = module.register_forward_hook(fail)
            with pytest.raises(RuntimeError, match="out of memory"):
                model(**batch["net_input"])
            handle.remove()
            assert torch.equal(model(**smaller)[0], expected)

    model.encoder.layers[0].fc2.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        model(**batch["net_input"])
    parallel = [module for module in model.modules() if isinstance(module, ParallelBottleneck)]
    assert any(module.kept is not None for module in parallel) is bool(parallel)
    model.encoder.embed_tokens.register_forward_pre_hook(fail)  # at the very start of the next pass
    with pytest.raises(RuntimeError, match="out of memory"):
        model(**smaller)
    assert all(module.kept is None for module in parallel)
