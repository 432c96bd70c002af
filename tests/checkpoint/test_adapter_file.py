"""The two files of an adapter belong together."""

import pytest
import torch
from sparse_adapter.checkpoint.adapter_file import read_adapter_file, write_adapter_file
from sparse_adapter.errors import UsageError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_json_of_another_adapter_is_refused(tmp_path, dtype):
    for name, value in (("one", 1.0), ("other", 1.5)):
        tensors = {"values": torch.full((3, 2), value, dtype=dtype), "indices": torch.arange(6, dtype=torch.int32)}
        sections = {"model": {"_name": "bart_base", "lora_alpha": value}, "task": {}}
        write_adapter_file(tmp_path / f"{name}.safetensors", tensors, sections, {})
    state = read_adapter_file(tmp_path / "one.safetensors")
    assert state["cfg"].model.lora_alpha == 1.0 and state["model"]["values"].dtype == dtype
    (tmp_path / "other.json").rename(tmp_path / "one.json")
    with pytest.raises(UsageError, match="one.safetensors and one.json are not of one adapter"):
        read_adapter_file(tmp_path / "one.safetensors")


def test_files_of_before_say_nothing_of_it(tmp_path):
    path = tmp_path / "a.safetensors"
    write_adapter_file(path, {"values": torch.ones(2)}, {"model": {}, "task": {}}, {})
    text = path.with_suffix(".json").read_text()
    start = text.index(' "tensors_sha256"')
    path.with_suffix(".json").write_text(text[:start] + text[text.index("\n", start) + 1 :])
    assert read_adapter_file(path)["model"]["values"].tolist() == [1, 1]
