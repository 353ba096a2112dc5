"""What is on the page, and which of its parts calls what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..backend.card import DEFAULT_MODEL
from . import theme
from .jobs import PRIVATE, errors_in_one_line, run_as_job, spelling, where
from .people_tab import lay_out_model, lay_out_people
from .session import MAX_RESUMED, Session, Studio, default_sampling, describe
from .visitors import Visitors

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
                chips, prompt, sampling, history = _draw(session, visitors, default_sampling(studio.first))
            with gr.Tab("People", id="people"):
                changed, faces, files, dropdowns, both = lay_out_people(session, visitors)
                elsewhere = gr.HTML(theme.in_programs({}))
            with gr.Tab("Model", id="model"):
                chosen = lay_out_model(session, studio)

        def everybody(first: str | None, second: str | None, who: str | None, session: Session) -> tuple[Any, ...]:
            tokens = list(session.people)
            if not {first, second} <= set(tokens):
                first, second = (*tokens[-2:], None, None)[:2]
            chosen = (first, second, who if who in tokens else None)
            return theme.chips(tokens), *(gr.Dropdown(choices=tokens, value=each) for each in chosen)

        def portraits(session: Session) -> tuple[list[tuple[Path, str]], list[str]]:
            people = session.people.items()
            return [(person.portrait, token) for token, person in people], [str(p.file) for _, p in people]

        # What a browser keeps of its visitor: the name of their folder, which nobody else knows.
        ticket = gr.BrowserState(None, storage_key="celeb-basis", secret="celeb-basis")
        back = page.load(lambda ticket, session: session.resume(ticket), [ticket, session], ticket, **PRIVATE)
        back.success(_history, session, history, **PRIVATE)
        for event in (learnt, back, *changed):
            event.success(everybody, [*dropdowns, session], [chips, *dropdowns], **PRIVATE)
            as_api = {"api_name": "people", "api_visibility": "public"} if event is learnt else {}
            event.success(portraits, session, [faces, files], **PRIVATE | as_api)
            event.success(lambda session: theme.in_programs(session.in_programs()), session, elsewhere, **PRIVATE)

        def to_draw(text: str) -> tuple[gr.Tabs, str]:
            return gr.Tabs(selected="draw"), text

        def draw_last(session: Session) -> tuple[gr.Tabs, str]:
            return to_draw(f"a photo of {[*session.people, 'a person'][-1]} on the beach")

        def draw_both(first: str | None, second: str | None, session: Session) -> tuple[gr.Tabs, str]:
            with errors_in_one_line():
                session.pair(first, second)
            return to_draw(f"a photo of {first} and {second} on the beach")

        def model_facts(session: Session) -> tuple[Any, ...]:
            model = session.model
            is_miniature = model.name == DEFAULT_MODEL
            head = theme.title(model.name, describe(model))
            return head, gr.Button(visible=is_miniature), model.default_train_steps, *default_sampling(model)

        draw_them.click(draw_last, session, [tabs, prompt], **PRIVATE)
        # Errors are shown of what goes through the queue.
        both.click(draw_both, [*dropdowns[:2], session], [tabs, prompt], **PRIVATE | {"queue": True})
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
    photo.preprocess = more.preprocess = where

    def find(photo: str | None, largest_face: bool, session: Session) -> tuple[Any, str]:
        if photo is None:
            return None, theme.status("Add a photo of one person.")
        with errors_in_one_line():
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
        with errors_in_one_line():
            check = visitors.watch(request.session_hash)
            begun = "instant" if session.model.instant_map else "mean person"
            progress = session.fit(photo, name, steps, more_photos=more or (), largest_face=largest_face, check=check)
            for at in progress:
                if at.preview:
                    shown.append((at.preview, {0: begun, 1: "1 step"}.get(at.step, f"{at.step} steps")))
                left = f", {theme.duration(at.seconds_left)} left" if at.seconds_left is not None else ""
                alike = f", likeness {at.likeness:.2f}" if at.likeness is not None else ""
                text = f"Step {at.step} of {at.steps}{alike}{left}"
                if at.person:
                    token = at.person.identity.placeholder_token
                    text = f"{token} can be named in prompts now. {spelling(name, token)}"
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
    learnt = run_as_job(
        [start.click, name.submit], stop, line, fit,
        [photo, name, steps, largest_face, more, session], [line, strip, download], api_name="fit",
    )  # fmt: skip
    go_on = [draw_them, download]
    learnt.success(lambda: [gr.Button(interactive=True), gr.DownloadButton(interactive=True)], None, go_on, **PRIVATE)
    return learnt, stranger, steps, draw_them


def _stranger(session: Session) -> str:
    with errors_in_one_line():
        return str(session.save_stranger())


def _draw(
    session: gr.State, visitors: Visitors, sampling: tuple[int, float]
) -> tuple[gr.HTML, gr.Textbox, tuple[gr.Number, gr.Number], gr.Gallery]:
    """Lay out prompt and pictures; return the names to click on, the prompt, its steps and guidance, the history."""
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

    again = gr.Button("Again with the settings of the chosen picture", interactive=False)
    with gr.Accordion("History", open=False):
        history = theme.pictures("Click a picture to choose it", "small")

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
        with errors_in_one_line():
            check = visitors.watch(request.session_hash)
            numbers = count, steps or None, guidance, seed or 0
            drawn = session.draw(
                prompt, *numbers, apart=apart, strength=strength, negative_prompt=negative, check=check
            )
            for drawing in drawn:
                pictures.append((drawing.file, drawing.caption))
                text = f"{len(pictures)} of {count} pictures"
                if done := len(pictures) == count:
                    text += f", saved in {session.folder.name}" if session.studio.keep else ""
                    text += _absence(session, prompt)
                yield theme.status(text, len(pictures) / count, done=done), list(pictures)

    drawn = run_as_job(
        [start.click, prompt.submit], stop, line, draw,
        [prompt, count, steps, guidance, seed, apart, strength, negative, session], [line, gallery], api_name="draw",
        seed=seed, keep_seed=keep,
    )  # fmt: skip
    for event in (drawn.success, drawn.failure):
        event(_history, session, history, **PRIVATE)
    drawn.success(lambda: gr.Button(interactive=True), None, again, **PRIVATE)

    def choose(event: gr.SelectData, session: Session) -> gr.Button:
        session.choose(session.shown, event.index)
        return gr.Button(interactive=True)

    def choose_earlier(event: gr.SelectData, session: Session) -> gr.Button:
        session.choose(session.history, event.index)
        return gr.Button(interactive=True)

    def settings(session: Session) -> tuple[Any, ...]:
        with errors_in_one_line():
            how = session.settings()
        strengths = [*how.strengths.values(), 1.0]
        numbers = how.num_inference_steps, how.guidance_scale, how.seed
        return how.prompt, *numbers, True, bool(how.regions), strengths[0], how.negative_prompt or ""

    gallery.select(choose, session, again, **PRIVATE)
    history.select(choose_earlier, session, again, **PRIVATE)
    again.click(
        settings,
        session,
        [prompt, steps, guidance, seed, keep, apart, strength, negative],
        **PRIVATE | {"queue": True},
    )
    return chips, prompt, (steps, guidance), history


def _history(session: Session) -> list[tuple[Path, str]]:
    """Return the pictures that a visitor drew, the newest first."""
    return [(file, file.name[:3]) for file in session.history[:MAX_RESUMED]]


def _absence(session: Session, prompt: str) -> str:
    """Return what to say where there are people and a prompt names none of them."""
    if not session.people or session.named(prompt):
        return ""
    return f". None of your people is in them, as the prompt names nobody: write {[*session.people][-1]} for a person."
