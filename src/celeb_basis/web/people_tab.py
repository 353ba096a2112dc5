"""The tabs People and Model: who can be drawn, and by what."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from .. import Model
from . import theme
from .jobs import JOB, PRIVATE, errors_in_one_line, run_as_job, spelling, where
from .session import Person, Session
from .studio import Studio, missing_parts
from .visitors import Visitors

SLIDERS = 6  # traits at most
MOST = 2  # standard deviations, up to which a slider goes


def sliders_of(model: Model) -> list[gr.Slider]:
    """Return the sliders of the traits of which a model's people can have more; what is left of them is hidden."""
    traits = () if model.directions is None else model.directions.traits[:SLIDERS]
    labels = [*(trait.replace("-", " ").capitalize() for trait in traits), *[""] * (SLIDERS - len(traits))]
    return [gr.Slider(-MOST, MOST, 0, step=0.25, label=label, visible=bool(label), min_width=120) for label in labels]


def lay_out_people(
    session: gr.State, visitors: Visitors, first: Model
) -> tuple[list[Any], gr.Gallery, gr.Files, list[gr.Dropdown], gr.Button, list[gr.Slider]]:
    """Lay out a visitor's people and ways to add more.

    Returns the events that change them, what shows them, the way to draw two, and the sliders for traits.
    """
    with gr.Row(equal_height=False):
        faces = theme.pictures("People", "small", scale=3)
        files = gr.Files(
            label="Identity files to download", interactive=False, scale=2, min_width=280, elem_classes="files"
        )
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.Markdown("### Make somebody up")
            with gr.Row():
                sample_name = gr.Textbox("", label="Name", placeholder="Mirelle", min_width=120)
                sample_seed = gr.Number(3, label="Seed", precision=0, minimum=0, maximum=2**53, min_width=100)
            with gr.Row():
                traits = sliders_of(first)
            sample_button = gr.Button("Make them up")
        with gr.Column(min_width=300):
            gr.Markdown("### Load identity files")
            load_name = gr.Textbox("", label="Name", placeholder="leave empty for the file's own")
            load_button = gr.UploadButton("Choose a file", file_types=[".safetensors", ".pt", ".bin"])
            load_button.preprocess = where
        with gr.Column(min_width=300):
            gr.Markdown("### Rename or remove somebody")
            with gr.Row():
                who = gr.Dropdown(label="Person", choices=[], allow_custom_value=True, min_width=120)
                new_name = gr.Textbox("", label="New name", placeholder="Tovik", min_width=120)
            with gr.Row():
                rename_button = gr.Button("Rename", min_width=100)
                remove_button = gr.Button("Remove", min_width=100)
    gr.Markdown("### Two people")
    with gr.Row():
        one = gr.Dropdown(label="From", choices=[], allow_custom_value=True, min_width=130)
        other = gr.Dropdown(label="To", choices=[], allow_custom_value=True, min_width=130)
        weight = gr.Slider(0, 1, 0.5, step=0.05, label="Share of the second", min_width=180)
        blend_name = gr.Textbox("", label="Name", placeholder="Bodil", min_width=120)
    with gr.Row():
        row_button = gr.Button("Show blends", min_width=160)
        stop = gr.Button("Cancel", interactive=False, min_width=100)
        blend_button = gr.Button("Keep this blend", min_width=160)
        both = gr.Button("Both in one picture →", min_width=160)
    line = gr.HTML(theme.status("Choose two people."))
    row = theme.pictures("From one to the other", "five")

    def added(person: Person, name: str) -> str:
        """Return the person's file; tell a visitor where prompts write the name otherwise."""
        if written := spelling(name, person.identity.placeholder_token):
            gr.Info(escape(written))
        return str(person.file)

    def sample(name: str, seed: int | None, *more: Any) -> str:
        *amounts, session = more
        with errors_in_one_line():
            return added(session.sample(name, seed or 0, amounts), name)

    def load(file: str | None, name: str, session: Session) -> str:
        with errors_in_one_line():
            return added(session.load(file, name), name)

    def blend(first: str | None, second: str | None, weight: float, name: str, session: Session) -> str:
        with errors_in_one_line():
            return added(session.keep_blend(first, second, weight, name), name)

    def rename(token: str | None, name: str, session: Session) -> str:
        with errors_in_one_line():
            return added(session.rename(token, name), name)

    def remove(token: str | None, session: Session) -> None:
        with errors_in_one_line():
            session.remove(token)

    def between(
        first: str | None, second: str | None, session: Session, request: gr.Request
    ) -> Iterator[tuple[str, Any]]:
        pictures: list[tuple[Path, str]] = []
        with errors_in_one_line():
            for picture, share in session.draw_between(first, second, visitors.watch(request.session_hash)):
                pictures.append((picture, f"{share:.0%}"))
                yield theme.status(f"From {first} to {second}", share), list(pictures)

    file = gr.File(visible=False)
    events = [
        gr.on(
            [sample_button.click, sample_name.submit],
            sample,
            [sample_name, sample_seed, *traits, session],
            file,
            api_name="sample",
        ),
        load_button.upload(load, [load_button, load_name, session], file, api_name="load"),
        gr.on(
            [blend_button.click, blend_name.submit],
            blend,
            [one, other, weight, blend_name, session],
            file,
            api_name="blend",
        ),
        rename_button.click(rename, [who, new_name, session], file, api_name="rename"),
        remove_button.click(remove, [who, session], file, api_name="remove"),
    ]
    run_as_job([row_button.click], stop, line, between, [one, other, session], [line, row], api_name="row")
    return events, faces, files, [one, other, who], both, traits


def lay_out_model(session: gr.State, studio: Studio) -> Any:
    """Lay out the model, its basis and its instant map; return the event of choosing a model."""
    gr.Markdown(
        "Two small models ship with celeb-basis: the **miniature** of drawn people, and **portraits** of photographed "
        "ones. Which of them is used depends on your photo. Pictures as people know them need a real checkpoint: a hub "
        "id, a folder in diffusers' format, or a .safetensors file on the machine that serves this page. "
        "If you give no basis, one is made from the names of celebrities. "
        "Without an instant map, a fit starts from the mean person."
    )
    name = gr.Dropdown(
        studio.models_here(),
        value=studio.first.name,
        label="Model",
        info="one that is on this machine, or owner/model, a folder, or a .safetensors file",
        allow_custom_value=True,
    )
    with gr.Row():
        basis = gr.File(label="Basis (optional)", file_types=[".safetensors"], height=140)
        instant_map = gr.File(label="Instant map (optional)", file_types=[".safetensors"], height=140)
    basis.preprocess = instant_map.preprocess = where
    use = gr.Button("Use this model", variant="primary")
    line = gr.HTML(theme.status(f"{studio.first.name} is in use.", done=True))
    made = gr.DownloadButton("Download its basis", interactive=False)

    def choose(name: str, basis: str | None, instant_map: str | None, session: Session) -> tuple[str, str]:
        with errors_in_one_line():
            file = session.choose_model(name, basis, instant_map)
            return theme.status(". ".join((f"{session.model.name} is in use", *missing_parts(session.model)))), str(
                file
            )

    chosen = gr.on([use.click], choose, [name, basis, instant_map, session], [line, made], api_name="model", **JOB)
    chosen.success(lambda: gr.DownloadButton(interactive=True), None, made, **PRIVATE)
    return chosen
