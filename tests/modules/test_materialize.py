import pytest
import torch
from sparse_adapter.modules import Materializable, materialize_
from torch import nn


class Product(Materializable):
    """``a · b``, computed once for inference."""

    def __init__(self, inner: nn.Module | None = None):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
        self.inner = inner
        self.ready = None

    def forward(self) -> torch.Tensor:
        return self.a * self.b if self.ready is None else self.ready

    def materialize_(self) -> None:
        self.ready = (self.a * self.b).detach()

    def dematerialize_(self) -> None:
        self.ready = None


@pytest.fixture
def model() -> nn.Module:
    return nn.ModuleDict({"first": Product(), "deep": nn.Sequential(nn.Linear(1, 1), Product())}).eval()


def ready(model: nn.Module) -> list[bool]:
    return [module.ready is not None for module in model.modules() if isinstance(module, Product)]


def test_every_materializable_of_a_model_is_brought_into_its_form(model):
    materialize_(model)
    assert ready(model) == [True, True]
    model["first"].a.data += 1
    assert model["first"]() == 6


def test_a_module_that_is_one_itself():
    module = Product()
    materialize_(module)
    assert module.ready == 6


def test_the_outermost_one_answers_for_those_inside():
    model = nn.Sequential(Product(inner=Product()))
    materialize_(model)
    assert ready(model) == [True, False]


def test_training_goes_back_to_the_weights_and_evaluation_does_not(model):
    materialize_(model)
    model.eval()
    assert ready(model) == [True, True]
    model.train()
    assert ready(model) == [False, False]
    assert model["first"].training


def test_training_reaches_those_inside():
    outer = Product(inner=Product()).eval()
    outer.materialize_()
    outer.inner.materialize_()
    outer.train()
    assert ready(outer) == [False, False]


def test_loading_goes_back_to_the_weights(model):
    state = {key: value + 1 for key, value in model.state_dict().items()}
    materialize_(model)
    model.load_state_dict(state)
    assert ready(model) == [False, False]
    assert model["first"]() == 12


def test_a_class_says_itself_what_its_form_is():
    for method in (Materializable.materialize_, Materializable.dematerialize_):
        with pytest.raises(NotImplementedError):
            method(nn.Module())
