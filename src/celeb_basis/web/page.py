"""What is on the page, and which of its parts calls what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from gradio.data_classes import ListFiles

from .. import CelebBasisError, SeveralFacesError
from ..backend.card import DEFAULT_MODEL
from ..limits import MAX_MESSAGE_LENGTH
from ..notation import excerpt
from . import theme
from .session import Person, Session, Studio, default_sampling, describe, missing_parts
from .visitors import Stopped, Visitors

# Long jobs wait in one queue, as two at once would each take twice as long. The page says so.
WAITING = "Starting when no other job is running ..."
STOPPED = "Stopped."
JOB: dict[str, Any] = {"concurrency_id": "job", "concurrency_limit": 1}
PRIVATE: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
MODELS_OWN = "the model's own"


def build(studio: Studio, visitors: Visitors) -> gr.Blocks:
    """Return the page, not served yet."""
    with gr.Blocks(title="celeb-basis", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        session = gr.State(Session(studio), time_to_live=24 * 3600, delete_callback=Session.end)
        title = gr.HTML(theme.title(studio.first.name, describe(studio.first)))
        with gr.Tabs() as tabs:
            with gr.Tab("Learn", id="learn"):
                learnt, stranger, fit_steps, draw_them = _learn(session, visitors, studio.first.default_train_steps)
            with gr.Tab("Draw", id="draw"):
                chips, prompt, sampling = _draw(session, visitors, default_sampling(studio.first))
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
            event.success(everybody, [*pair, session], [chips, *pair], **PRIVATE)
            as_api = {"api_name": "people", "api_visibility": "public"} if event is learnt else {}
            event.success(portraits, session, [faces, files], **PRIVATE | as_api)
            event.success(lambda session: theme.in_programs(session.in_programs()), session, elsewhere, **PRIVATE)

        def to_draw(text: str) -> tuple[gr.Tabs, str]:
            return gr.Tabs(selected="draw"), text

        def draw_last(session: Session) -> tuple[gr.Tabs, str]:
            return to_draw(f"a photo of {[*session.people, 'a person'][-1]} on the beach")

        def draw_both(first: str | None, second: str | None, session: Session) -> tuple[gr.Tabs, str]:
            with _errors_in_one_line():
                session.pair(first, second)
            return to_draw(f"a photo of {first} and {second} on the beach")

        def model_facts(session: Session) -> tuple[Any, ...]:
            model = session.model
            is_miniature = model.name == DEFAULT_MODEL
            head = theme.title(model.name, describe(model))
            return head, gr.Button(visible=is_miniature), model.default_train_steps, *default_sampling(model)

        draw_them.click(draw_last, session, [tabs, prompt], **PRIVATE)
        # Errors are shown of what goes through the queue.
        both.click(draw_both, [*pair, session], [tabs, prompt], **PRIVATE | {"queue": True})
        chosen.success(model_facts, session, [title, stranger, fit_steps, *sampling], **PRIVATE)
    return page


def _learn(session: gr.State, visitors: Visitors, default_steps: int) -> tuple[Any, gr.Button, gr.Number, gr.Button]:
    """Lay out photo, face, name and fit; return the fit, the button for a photo, the steps, and the way to Draw."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                photo = gr.Image(label="Photo", type="filepath", height=300, min_width=150, buttons=[])
                found = gr.Image(
                    label="The face in it", height=300, min_width=150, buttons=[], interactive=False, format="png"
                )
            with gr.Accordion("More photos of the same person", open=False):
                more = gr.File([], show_label=False, file_count="multiple", file_types=["image"], height=140)
            with gr.Row():
                stranger = gr.Button("No photo at hand? Take a stranger", size="md")
                largest_face = gr.Checkbox(label="Take the largest of several faces", container=False)
        with gr.Column(scale=2, min_width=300):
            name = gr.Textbox(
                "", label="Name", placeholder="Annika", info="Prompts write Annika as <annika>, Zoë Łuk as <zoe-luk>."
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
    photo.preprocess = more.preprocess = _where

    def find(photo: str | None, largest_face: bool, session: Session) -> tuple[Any, str]:
        if photo is None:
            return None, theme.status("Add a photo of one person.")
        with _errors_in_one_line():
            upright, face = session.find_face(photo, largest_face=largest_face)
            return theme.boxed(upright, face.box), theme.status("Found the face. Name the person, then fit.")

    def fit(
        photo: str | None,
        name: str,
        steps: int | None,
        largest_face: bool,
        more: list[str] | None,
        session: Session,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        shown: list[tuple[Path, str]] = []
        with _errors_in_one_line():
            check = visitors.watch(request.session_hash)
            begun = "instant" if session.model.instant_map else "mean person"
            progress = session.fit(photo, name, steps, more_photos=more or (), largest_face=largest_face, check=check)
            for at in progress:
                if at.preview:
                    shown.append((at.preview, {0: begun, 1: "1 step"}.get(at.step, f"{at.step} steps")))
                left = f", {theme.duration(at.seconds_left)} left" if at.seconds_left is not None else ""
                text = f"Step {at.step} of {at.steps}{left}"
                if at.person:
                    token = at.person.identity.placeholder_token
                    text = f"{token} can be named in prompts now. {_spelling(name, token)}"
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
    finding.failure(lambda: (None, theme.status("Choose another photo.")), None, [found, line], **PRIVATE)
    stranger.click(_stranger, session, photo, api_name="stranger", show_progress="hidden")
    learnt = _run_as_job(
        [start.click, name.submit], stop, line, fit,
        [photo, name, steps, largest_face, more, session], [line, strip, download], api_name="fit",
    )  # fmt: skip
    go_on = [draw_them, download]
    learnt.success(lambda: [gr.Button(interactive=True), gr.DownloadButton(interactive=True)], None, go_on, **PRIVATE)
    return learnt, stranger, steps, draw_them


def _where(uploaded: Any) -> Any:
    """Return where one or several uploaded files lie.

    Gradio itself would open pictures and compare endings; what it says of a wrong file, also in the log, helps nobody.
    """
    if uploaded is None:
        return None
    return [file.path for file in uploaded] if isinstance(uploaded, ListFiles) else uploaded.path


def _spelling(name: str, token: str) -> str:
    """Return how prompts write a name, where that is not how the visitor wrote it."""
    written = name.strip()
    return "" if written.lower() in ("", token, token[1:-1]) else f"Prompts write {excerpt(written)} as {token}."


def _stranger(session: Session) -> str:
    with _errors_in_one_line():
        return str(session.save_stranger())


def _draw(
    session: gr.State, visitors: Visitors, sampling: tuple[int, float]
) -> tuple[gr.HTML, gr.Textbox, tuple[gr.Number, gr.Number]]:
    """Lay out prompt and pictures; return the names to click on, the prompt, and its steps and guidance."""
    prompt = gr.Textbox(
        "", label="Prompt", lines=2, elem_id="prompt", placeholder="a photo of <annika> on the beach", render=False
    )
    chips = gr.HTML(theme.chips([]), js_on_load=theme.INSERT)
    prompt.render()
    with gr.Row():
        count = gr.Slider(1, 8, 2, step=1, precision=0, label="Pictures", min_width=150)
        with gr.Column(min_width=140):
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**53)
            keep = gr.Checkbox(label="Keep this seed", container=False)
        strength = gr.Slider(
            0, 1.25, 1, step=0.05, label="Strength", info="0: the mean person. 1: as learnt.", min_width=150
        )
    with gr.Accordion("More settings", open=False):
        negative = gr.Textbox("", label="Negative prompt", placeholder="what the pictures should not show")
        with gr.Row():
            steps = gr.Number(sampling[0], label="Steps", precision=0, minimum=0, min_width=140, placeholder=MODELS_OWN)
            guidance = gr.Number(
                sampling[1], label="Guidance", minimum=0, step=0.5, min_width=140, placeholder=MODELS_OWN
            )
    apart = gr.Checkbox(label="Keep people apart, each on the side that the prompt says", container=False)
    with gr.Row():
        start = gr.Button("Draw", variant="primary", min_width=120)
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
        negative: str,
        session: Session,
        request: gr.Request,
    ) -> Iterator[tuple[str, Any]]:
        pictures: list[tuple[Path, str]] = []
        with _errors_in_one_line():
            check = visitors.watch(request.session_hash)
            numbers = count, steps or None, guidance, seed or 0
            drawn = session.draw(
                prompt, *numbers, apart=apart, strength=strength, negative_prompt=negative, check=check
            )
            for picture, own_seed in drawn:
                pictures.append((picture, f"seed {own_seed}"))
                text = f"{len(pictures)} of {count} pictures"
                if done := len(pictures) == count:
                    text += f", saved in {session.folder.name}" if session.studio.keep else ""
                    text += _absence(session, prompt)
                yield theme.status(text, len(pictures) / count, done=done), list(pictures)

    _run_as_job(
        [start.click, prompt.submit], stop, line, draw,
        [prompt, count, steps, guidance, seed, apart, strength, negative, session], [line, gallery], api_name="draw",
        seed=seed, keep_seed=keep,
    )  # fmt: skip
    return chips, prompt, (steps, guidance)


def _absence(session: Session, prompt: str) -> str:
    """Return what to say where there are people and a prompt names none of them."""
    if not session.people or session.named(prompt):
        return ""
    return f". None of your people is in them, as the prompt names nobody: write {[*session.people][-1]} for a person."


def _people(
    session: gr.State, visitors: Visitors
) -> tuple[list[Any], gr.Gallery, gr.Files, list[gr.Dropdown], gr.Button]:
    """Lay out a visitor's people and ways to add more; return the events that add people, and what shows them."""
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
            sample_button = gr.Button("Make them up")
        with gr.Column(min_width=300):
            gr.Markdown("### Load identity files")
            load_name = gr.Textbox("", label="Name", placeholder="leave empty for the file's own")
            load_button = gr.UploadButton("Choose a file", file_types=[".safetensors", ".pt", ".bin"])
            load_button.preprocess = _where
    gr.Markdown("### Two people")
    with gr.Row():
        first = gr.Dropdown(label="From", choices=[], allow_custom_value=True, min_width=130)
        second = gr.Dropdown(label="To", choices=[], allow_custom_value=True, min_width=130)
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
        if spelling := _spelling(name, person.identity.placeholder_token):
            gr.Info(escape(spelling))
        return str(person.file)

    def sample(name: str, seed: int | None, session: Session) -> str:
        with _errors_in_one_line():
            return added(session.sample(name, seed or 0), name)

    def load(file: str | None, name: str, session: Session) -> str:
        with _errors_in_one_line():
            return added(session.load(file, name), name)

    def blend(first: str | None, second: str | None, weight: float, name: str, session: Session) -> str:
        with _errors_in_one_line():
            return added(session.keep_blend(first, second, weight, name), name)

    def between(
        first: str | None, second: str | None, session: Session, request: gr.Request
    ) -> Iterator[tuple[str, Any]]:
        pictures: list[tuple[Path, str]] = []
        with _errors_in_one_line():
            for picture, share in session.draw_between(first, second, visitors.watch(request.session_hash)):
                pictures.append((picture, f"{share:.0%}"))
                yield theme.status(f"From {first} to {second}", share), list(pictures)

    file = gr.File(visible=False)
    events = [
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
    _run_as_job([row_button.click], stop, line, between, [first, second, session], [line, row], api_name="row")
    return events, faces, files, [first, second], both


def _model(session: gr.State) -> Any:
    """Lay out the model, its basis and its instant map; return the event of choosing a model."""
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
    basis.preprocess = instant_map.preprocess = _where
    use = gr.Button("Use this model", variant="primary")
    line = gr.HTML(theme.status(f"{DEFAULT_MODEL} is in use.", done=True))
    made = gr.DownloadButton("Download its basis", interactive=False)

    def choose(name: str, basis: str | None, instant_map: str | None, session: Session) -> tuple[str, str]:
        with _errors_in_one_line():
            file = session.choose_model(name, basis, instant_map)
            return theme.status(". ".join((f"{session.model.name} is in use", *missing_parts(session.model)))), str(
                file
            )

    chosen = gr.on(
        [use.click, name.submit], choose, [name, basis, instant_map, session], [line, made], api_name="model", **JOB
    )
    chosen.success(lambda: gr.DownloadButton(interactive=True), None, made, **PRIVATE)
    return chosen


def _run_as_job(
    triggers: list[Any],
    stop: gr.Button,
    line: gr.HTML,
    work: Any,
    inputs: list[Any],
    outputs: list[Any],
    *,
    api_name: str,
    seed: gr.Number | None = None,
    keep_seed: gr.Checkbox | None = None,
) -> Any:
    """Let a job wait for others, run, and stop when told to; `line` says which. Return its event.

    seed: a number that each run in a browser takes anew, unless `keep_seed` is ticked.
    """
    # In the browser itself, so that the notice appears at once.
    begun = f"[{json.dumps(theme.status(WAITING))}, {{__type__: 'update', interactive: true}}"
    if seed is None:
        start = gr.on(triggers, None, None, [line, stop], js=f"() => {begun}]", **PRIVATE)
    else:
        js = f"(seed, keep) => {begun}, keep ? seed : Math.floor(Math.random() * 1e6)]"
        start = gr.on(triggers, None, [seed, keep_seed], [line, stop, seed], js=js, **PRIVATE)
    running = start.then(work, inputs, outputs, api_name=api_name, show_progress="hidden", **JOB)
    running.success(lambda: gr.Button(interactive=False), None, stop, **PRIVATE)

    def after_failure(said: str) -> tuple[str, gr.Button]:
        # A job that was stopped counts as a failed one. Its last step may be shown after the click on Cancel.
        return theme.status(STOPPED if STOPPED in said or "<progress" in said else ""), gr.Button(interactive=False)

    running.failure(after_failure, line, [line, stop], **PRIVATE)
    stopped = theme.status(STOPPED)
    stop.click(lambda: (stopped, gr.Button(interactive=False)), None, [line, stop], cancels=[running], **PRIVATE)
    return running


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Show errors that a visitor can fix, in one line."""
    try:
        yield
    except SeveralFacesError as error:
        raise as_shown(
            f"{error.count} faces were found: cut the photo to one person, or tick “take the largest of several faces”"
        ) from None
    except Stopped:
        raise as_shown(STOPPED) from None
    except CelebBasisError as error:
        raise as_shown(error.message) from None
    except OSError as error:  # without the path, which is the server's
        raise as_shown(error.strerror or "a file cannot be read or written") from None
    except torch.OutOfMemoryError:
        raise as_shown("there is not enough GPU memory: draw fewer pictures, or choose a smaller model") from None


UPLOAD = re.compile(r"/[0-9a-f]{64}/")  # uploads lie in folders named by their hash
FOLDERS = re.compile(r"(?<![\w.:/<'\"])/(?:[^\s/'\"]++/)++")  # possessive: a text of any form takes linear time


def as_shown(message: str) -> gr.Error:
    """Return an error as visitors see it: one short line without folders of the server, and no HTML."""
    *before, last = UPLOAD.split(" ".join(excerpt(message, MAX_MESSAGE_LENGTH).split()))
    line = "".join(part[: part.rfind(" ") + 1] for part in before) + last
    return gr.Error(escape(FOLDERS.sub("", line), quote=False), duration=20, print_exception=False)
