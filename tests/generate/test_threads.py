"""Two threads with one pipeline: each gets what it would get alone, and the pipeline is as before."""

import threading

import pytest
import torch
from conftest import state_of

from celeb_basis import Face
from celeb_basis.backend.pipeline import hook
from celeb_basis.backend.text_encoders import check_placeholder, placeholders
from celeb_basis.fit.loop import fit_steps
from celeb_basis.fit.recipe import Recipe
from celeb_basis.generate import generate


def together(*deeds):
    """Do things in threads of their own; returns what each returned."""
    results = [None] * len(deeds)
    start = threading.Barrier(len(deeds))

    def run(i, deed):
        start.wait()
        results[i] = deed()

    threads = [threading.Thread(target=run, args=(i, deed)) for i, deed in enumerate(deeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_pictures_are_those_of_one_thread(pipe, ada, bo):
    before = state_of(pipe)

    def draw(person, regions=None):
        prompt = f"a photo of {person.placeholder_token} on the beach"
        return lambda: [
            generate(pipe, prompt, [person], num_inference_steps=2, seed=seed, regions=regions)[0].tobytes()
            for seed in range(3)
        ]

    deeds = [draw(ada), draw(bo), draw(ada, {"<ada>": (0, 0, 0.5, 1)}), draw(bo)]
    assert together(*deeds) == [deed() for deed in deeds]
    assert state_of(pipe) == before


def test_a_fit_is_that_of_one_thread_while_another_draws(pipe, basis, ada):
    from PIL import Image

    face = Face(Image.new("RGB", (64, 64), (200, 90, 40)), (0.0, 0.0, 64.0, 64.0), torch.ones(4) / 2, "r")
    recipe = Recipe(max_train_steps=3, num_train_images=2)

    def fit():
        return list(fit_steps(pipe, basis, [[face]], ["<a>"], recipe))[-1].vectors.numpy().tobytes()

    def draw():
        return [generate(pipe, "a photo of <ada>", [ada], num_inference_steps=2)[0].tobytes() for _ in range(3)]

    assert together(fit, draw) == [fit(), draw()]


def test_placeholders_of_two_threads_do_not_overlap(pipe, ada, bo):
    before = state_of(pipe)

    def name(person):
        def enter():
            for _ in range(20):
                with placeholders(pipe, {person.placeholder_token: person.vectors}):
                    pass
                check_placeholder(pipe, person.placeholder_token)  # nobody else's is left

        return enter

    together(name(ada), name(bo))
    assert state_of(pipe) == before


@pytest.mark.parametrize("after", [False, True])
def test_a_hook_is_gone_wherever_ctrl_c_falls(after):
    """Before the hook is registered, or after it and before its handle comes back."""
    from contextlib import ExitStack

    module = torch.nn.Linear(1, 1)

    class Interrupted(torch.nn.Linear):
        def register_forward_hook(self, *args, **options):
            if after:
                super().register_forward_hook(*args, **options)
            raise KeyboardInterrupt

    module.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt), ExitStack() as undo:
        hook(undo, module.register_forward_hook, lambda *_: None)
    assert not module._forward_hooks


def test_an_exception_between_steps_ends_a_drawing(pipe, ada):
    before, steps = state_of(pipe), []

    def stop():
        steps.append(1)
        if len(steps) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate(pipe, "a photo of <ada>", [ada], num_inference_steps=10, between_steps=stop)
    assert len(steps) == 2 and state_of(pipe) == before
