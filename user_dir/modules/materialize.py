"""What a module can compute once for inference instead of at every step."""

from torch import nn


class Materializable(nn.Module):
    """A module with a form for inference, which ``train()`` and loading a state dict throw away."""

    def materialize_(self) -> None:
        """Compute the form for inference from the present weights."""
        raise NotImplementedError

    def dematerialize_(self) -> None:
        """Go back to the weights."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "Materializable":
        if mode:
            self.dematerialize_()
        return super().train(mode)

    def _load_from_state_dict(self, *args):
        self.dematerialize_()
        super()._load_from_state_dict(*args)


def materialize_(module: nn.Module) -> None:
    """Bring every outermost ``Materializable`` below ``module`` into its form for inference."""
    if isinstance(module, Materializable):
        module.materialize_()
    else:
        for child in module.children():
            materialize_(child)
