"""The page itself: what is on it, and which of its parts calls what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..backend.card import DEFAULT_MODEL
from . import job
from . import theme as theme
from .session import Session
from .studio import Studio, notes_on
from .visitors import Visitors


def build(studio: Studio, visitors: Visitors) -> gr.Blocks:
    """The page, not served yet."""
    with gr.Blocks(title="celeb-basis", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        session = gr.State(Session(studio), time_to_live=24 * 3600, delete_callback=Session.end)
        gr.HTML(theme.TITLE)
        with gr.Tabs() as tabs:
            with gr.Tab("Learn", id="learn"):
                learnt, stranger, steps, draw_them = _learn(session, visitors, studio.first.default_train_steps)
            with gr.Tab("Draw", id="draw"):
                chips, prompt = _draw(session, visitors)
            with gr.Tab("People", id="people"):
                added, faces, files, pair, both = _people(session, visitors)
                elsewhere = gr.HTML(theme.in_programs({}))
            with gr.Tab("Model", id="model"):
                chosen = _model(session)

        def everybody(first: str | None, second: str | None, session: Session) -> tuple[Any, ...]:
            tokens = list(session.people)
            if not {first, second} <= set(tokens):
                first, second = (*tokens[-2:], None, None)[:2]
            return (
                theme.chips(tokens),
                gr.Dropdown(choices=tokens, value=first),
                gr.Dropdown(choices=tokens, value=second),
            )

        def portraits(session: Session) -> tuple[list[tuple[Path, str]], list[str]]:
            people = session.people.items()
            return [(person.portrait, token) for token, person in people], [str(p.file) for _, p in people]

        for event in (learnt, *added):
            event.success(everybody, [*pair, session], [chips, *pair], **job.PRIVATE)
            as_api = {"api_name": "people", "api_visibility": "public"} if event is learnt else {}
            event.success(portraits, session, [faces, files], **job.PRIVATE | as_api)
            event.success(lambda session: theme.in_programs(session.in_programs()), session, elsewhere, **job.PRIVATE)

        def to_draw(text: str) -> tuple[gr.Tabs, str]:
            return gr.Tabs(selected="draw"), text

        draw_them.click(
            lambda session: to_draw(f"a photo of {list(session.people)[-1]} on the beach"),
            session,
            [tabs, prompt],
            **job.PRIVATE,
        )

        def together(first: str, second: str, session: Session) -> tuple[gr.Tabs, str]:
            with job.in_one_line():
                session.pair(first, second)
            return to_draw(f"a photo of {first} and {second} on the beach")

        # Errors are shown of what goes through the queue.
        both.click(together, [*pair, session], [tabs, prompt], **job.PRIVATE | {"queue": True})
        chosen.success(
            lambda session: (gr.Button(visible=session.model.name == DEFAULT_MODEL), session.model.default_train_steps),
            session,
            [stranger, steps],
            **job.PRIVATE,
        )
    return page


def _learn(session: gr.State, visitors: Visitors, default_steps: int) -> tuple[Any, gr.Button, gr.Number, gr.Button]:
    """Photo, face, name, fit; returns the fit, the button for a photo, the steps, and what opens the next tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                photo = gr.Image(label="Photo", type="filepath", height=300, min_width=150, buttons=[])
                found = gr.Image(
                    label="The face in it", height=300, min_width=150, buttons=[], interactive=False, format="png"
                )
            with gr.Row():
                stranger = gr.Button("No photo at hand? Take a stranger", size="md")
                largest_face = gr.Checkbox(label="Take the largest of several faces", container=False)
        with gr.Column(scale=2, min_width=300):
            name = gr.Textbox(
                label="Name",
                placeholder="annika",
                info="Lower-case letters, digits, - or _. Prompts write it as <annika>.",
            )
            steps = gr.Number(default_steps, label="Steps", info="0 is instant.", precision=0, minimum=0, maximum=400)
            with gr.Row():
                start = gr.Button("Fit", variant="primary", min_width=120)
                stop = gr.Button("Cancel", interactive=False, min_width=120)
            line = gr.HTML(theme.status("Add a photo of one person."))
            with gr.Row():
                draw_them = gr.Button("Draw pictures →", interactive=False, min_width=120)
                download = gr.DownloadButton("Download identity", interactive=False, min_width=120)
    strip = theme.pictures("How the identity forms", "five")
    # Gradio would open the photo itself; its message on a broken file does not say what to do.
    photo.preprocess = lambda payload: payload.path if payload else None

    def find(photo: str | None, largest_face: bool, session: Session) -> tuple[Any, str]:
        if photo is None:
            return None, theme.status("Add a photo of one person.")
        with job.in_one_line():
            upright, face = session.find(photo, largest_face=largest_face)
            return theme.boxed(upright, face.box), theme.status("Found the face. Name the person, then fit.")

    def fit(
        photo: str | None, name: str, steps: int | None, largest_face: bool, session: Session, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        shown: list[tuple[Path, str]] = []
        with job.in_one_line():
            check = visitors.watch(request.session_hash)
            start = "instant" if session.model.instant_map else "mean person"
            for at in session.fit(photo, name, steps, largest_face=largest_face, check=check):
                if at.preview:
                    shown.append((at.preview, {0: start, 1: "1 step"}.get(at.step, f"{at.step} steps")))
                left = f", {theme.duration(at.seconds_left)} left" if at.seconds_left is not None else ""
                text = f"Step {at.step} of {at.steps}{left}"
                if at.person:
                    text = f"{at.person.identity.placeholder_token} can be named in prompts now."
                yield (
                    theme.status(text, at.step / max(at.steps, 1), done=at.person is not None),
                    shown if at.preview else gr.skip(),
                    str(at.person.file) if at.person else gr.skip(),
                )

    finding = gr.on(
        [photo.change, largest_face.change],
        find,
        [photo, largest_face, session],
        [found, line],
        api_name="find_face",
        show_progress="minimal",
        show_progress_on=found,
    )
    finding.failure(lambda: (None, theme.status("Choose another photo.")), None, [found, line], **job.PRIVATE)
    stranger.click(_stranger, session, photo, api_name="stranger", show_progress="hidden")
    learnt = job.wire(
        [start.click, name.submit], stop, line, fit,
        [photo, name, steps, largest_face, session], [line, strip, download], api_name="fit",
    )  # fmt: skip
    go_on = [draw_them, download]
    learnt.success(
        lambda: [gr.Button(interactive=True), gr.DownloadButton(interactive=True)], None, go_on, **job.PRIVATE
    )
    return learnt, stranger, steps, draw_them


def _stranger(session: Session) -> str:
    with job.in_one_line():
        return str(session.stranger())


def _draw(session: gr.State, visitors: Visitors) -> tuple[gr.HTML, gr.Textbox]:
    """Prompt and pictures; returns the names to click on, and the prompt."""
    prompt = gr.Textbox(
        label="Prompt", lines=2, elem_id="prompt", placeholder="a photo of <annika> on the beach", render=False
    )
    chips = gr.HTML(theme.chips([]), js_on_load=theme.INSERT)
    prompt.render()
    with gr.Row():
        count = gr.Slider(1, 8, 2, step=1, precision=0, label="Pictures", min_width=150)
        steps = gr.Number(0, label="Steps (0: the model's)", precision=0, minimum=0, min_width=140)
        guidance = gr.Number(0, label="Guidance (0: the model's)", minimum=0, step=0.5, min_width=140)
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**53, min_width=110)
        strength = gr.Slider(
            0, 1.25, 1, step=0.05, label="Strength", info="0: the mean person. 1: as learnt.", min_width=150
        )
    apart = gr.Checkbox(label="Keep people apart, each on the side that the prompt says", container=False)
    with gr.Row():
        start = gr.Button("Draw", variant="primary", min_width=120)
        another = gr.Button("Another seed", min_width=120)
        stop = gr.Button("Cancel", interactive=False, min_width=120)
    line = gr.HTML(theme.status("Click a name to put it in the prompt."))
    gallery = theme.pictures(
        "Pictures", "large", allow_preview=True, buttons=["download", "download_all", "fullscreen"]
    )

    def draw(
        prompt: str,
        count: int,
        steps: int | None,
        guidance: float | None,
        seed: int | None,
        apart: bool,
        strength: float,
        session: Session,
        request: gr.Request,
    ) -> Iterator[tuple[str, Any]]:
        pictures: list[Path] = []
        with job.in_one_line():
            check = visitors.watch(request.session_hash)
            numbers = count, steps or None, guidance or None, seed or 0
            for picture in session.draw(prompt, *numbers, apart=apart, strength=strength, check=check):
                pictures.append(picture)
                text = f"{len(pictures)} of {count} pictures"
                if len(pictures) == count and session.studio.keep:
                    text = f"{text}, saved in {session.folder.name}"
                yield theme.status(text, len(pictures) / count, done=len(pictures) == count), list(pictures)

    another.click(None, None, seed, js="() => Math.floor(Math.random() * 1e6)", **job.PRIVATE)
    job.wire(
        [start.click, prompt.submit], stop, line, draw,
        [prompt, count, steps, guidance, seed, apart, strength, session], [line, gallery], api_name="draw",
    )  # fmt: skip
    return chips, prompt


def _people(
    session: gr.State, visitors: Visitors
) -> tuple[list[Any], gr.Gallery, gr.Files, list[gr.Dropdown], gr.Button]:
    """This visitor's people and ways to add more; returns the events that add people, and what shows them."""
    with gr.Row(equal_height=False):
        faces = theme.pictures("People", "small", scale=3)
        files = gr.Files(
            label="Identity files to download", interactive=False, scale=2, min_width=280, elem_classes="files"
        )
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.Markdown("### Make somebody up")
            with gr.Row():
                sample_name = gr.Textbox(label="Name", placeholder="mirelle", min_width=120)
                sample_seed = gr.Number(3, label="Seed", precision=0, minimum=0, maximum=2**53, min_width=100)
            sample_button = gr.Button("Make them up")
        with gr.Column(min_width=300):
            gr.Markdown("### Load identity files")
            load_name = gr.Textbox(label="Name", placeholder="leave empty for the file's own")
            load_button = gr.UploadButton("Choose a file", file_types=[".safetensors", ".pt", ".bin"])
    gr.Markdown("### Two people")
    with gr.Row():
        first = gr.Dropdown(label="From", choices=[], allow_custom_value=True, min_width=130)
        second = gr.Dropdown(label="To", choices=[], allow_custom_value=True, min_width=130)
        weight = gr.Slider(0, 1, 0.5, step=0.05, label="Share of the second", min_width=180)
        blend_name = gr.Textbox(label="Name", placeholder="bodil", min_width=120)
    with gr.Row():
        row_button = gr.Button("Show blends", min_width=160)
        stop = gr.Button("Cancel", interactive=False, min_width=100)
        blend_button = gr.Button("Keep this blend", min_width=160)
        both = gr.Button("Both in one picture →", min_width=160)
    line = gr.HTML(theme.status("Choose two people."))
    row = theme.pictures("From one to the other", "five")

    def sample(name: str, seed: int | None, session: Session) -> str:
        with job.in_one_line():
            return str(session.sample(name, seed or 0).file)

    def load(file: str, name: str, session: Session) -> str:
        with job.in_one_line():
            return str(session.load(file, name).file)

    def blend(first: str, second: str, weight: float, name: str, session: Session) -> str:
        with job.in_one_line():
            return str(session.keep_blend(first, second, weight, name).file)

    def between(first: str, second: str, session: Session, request: gr.Request) -> Iterator[tuple[str, Any]]:
        pictures: list[tuple[Path, str]] = []
        with job.in_one_line():
            for picture, share in session.row(first, second, visitors.watch(request.session_hash)):
                pictures.append((picture, f"{share:.0%}"))
                yield theme.status(f"From {first} to {second}", share), list(pictures)

    file = gr.File(visible=False)
    added = [
        gr.on(
            [sample_button.click, sample_name.submit],
            sample,
            [sample_name, sample_seed, session],
            file,
            api_name="sample",
        ),
        load_button.upload(load, [load_button, load_name, session], file, api_name="load"),
        gr.on(
            [blend_button.click, blend_name.submit],
            blend,
            [first, second, weight, blend_name, session],
            file,
            api_name="blend",
        ),
    ]
    job.wire([row_button.click], stop, line, between, [first, second, session], [line, row], api_name="row")
    return added, faces, files, [first, second], both


def _model(session: gr.State) -> Any:
    """The model, its basis and its instant map; returns the event of choosing a model."""
    gr.Markdown(
        "The **miniature** is a small model of drawn people that ships with celeb-basis. It finds drawn faces only. "
        "Photos of real people need a real checkpoint: a hub id, a folder in diffusers' format, or a .safetensors file "
        "on the machine that serves this page. If you give no basis, one is made from the names of celebrities. "
        "Without an instant map, a fit starts from the mean person."
    )
    kinds = f"{DEFAULT_MODEL}, owner/model, a folder, or a .safetensors file"
    name = gr.Textbox(DEFAULT_MODEL, label="Model", info=kinds)
    with gr.Row():
        basis = gr.File(label="Basis (optional)", file_types=[".safetensors"], height=140)
        instant_map = gr.File(label="Instant map (optional)", file_types=[".safetensors"], height=140)
    use = gr.Button("Use this model", variant="primary")
    line = gr.HTML(theme.status(f"{DEFAULT_MODEL} is in use.", done=True))
    made = gr.DownloadButton("Download its basis", interactive=False)

    def choose(name: str, basis: str | None, instant_map: str | None, session: Session) -> tuple[str, str]:
        with job.in_one_line():
            file = session.choose_model(name, basis, instant_map)
            return theme.status(". ".join((f"{session.model.name} is in use", *notes_on(session.model)))), str(file)

    chosen = gr.on(
        [use.click, name.submit], choose, [name, basis, instant_map, session], [line, made], api_name="model", **job.JOB
    )
    chosen.success(lambda: gr.DownloadButton(interactive=True), None, made, **job.PRIVATE)
    return chosen
