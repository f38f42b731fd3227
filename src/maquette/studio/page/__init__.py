"""The studio's page, in the languages of `strings`: one address for each, and / leads to the visitor's own."""

import secrets
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse

from maquette.foundation.bundle import PACKAGES
from maquette.studio.engine import Engine
from maquette.studio.learning import Panels
from maquette.studio.page.draw import Draw
from maquette.studio.page.fields import Fields
from maquette.studio.page.help import add_help
from maquette.studio.page.keep import Keep
from maquette.studio.page.learn import Learn
from maquette.studio.page.making import Making
from maquette.studio.page.strings import LANGUAGES, Strings, language_of
from maquette.studio.page.train import Train
from maquette.studio.trainings.run import Trainings

FONT = ["system-ui", "sans-serif"]  # nothing comes from elsewhere
STYLE = Path(__file__).parent / "assets" / "style.css"
SCRIPT = Path(__file__).parent / "assets" / "page.js"


def build(engine: Engine, language: str = "en", trainings: Trainings | None = None) -> gr.Blocks:
    """The page.

    Args:
        trainings: those that it starts and shows; None for a page that does not train.

    Raises `MaquetteError` for a language that it does not speak.
    """
    words = Strings(language)
    with gr.Blocks(
        title=words("title"), analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)
    ) as blocks:
        # where the browser keeps the key of its session; the gallery checks it, so that it needs no secret of its own
        key = gr.BrowserState("", storage_key="maquette-session", secret="maquette")
        gr.Markdown(f"# {words('title')}\n{words('lead')}")
        add_help(words, engine.studio.base.name)
        making = Making(engine, words)
        with gr.Tabs() as tabs:
            with gr.Tab(words("draw"), id="draw"):
                draw = Draw(Fields(engine, words), making, key)
            with gr.Tab(words("keep"), id="keep") as kept:
                keep = Keep(draw, tabs)
            if trainings is not None:
                with gr.Tab(words("train"), id="train"):
                    Train(trainings, draw, tabs)
            if engine.nets and engine.studio.base.name in PACKAGES:
                with gr.Tab(words("learn"), id="learn") as learn:
                    Learn(Panels(engine, trainings), words).entered(learn)

        def enter(known: str | None) -> str:
            session = making.session(known)
            return session.key if session else known or secrets.token_urlsafe(24)

        entered = blocks.load(enter, key, key, api_visibility="private")
        entered.then(keep.kept, key, keep.shown, api_visibility="private")
        blocks.load(draw.offered, None, list(draw.offered()), api_visibility="private")
        kept.select(keep.kept, key, keep.shown, api_visibility="private")
    blocks.queue(default_concurrency_limit=4)
    return blocks


def mount(
    app: FastAPI, engine: Engine, language: str | None = None, trainings: Trainings | None = None
) -> FastAPI:  # fmt: skip
    """Add the page to an application at /en, /ja and /zh; / leads to `language`, or to the browser's.

    Args:
        trainings: as for `build`; their ControlNets are offered.

    Raises `MaquetteError` for a language that the page does not speak.
    """
    fixed = Strings(language).language if language else None
    for net, condition in trainings.nets().items() if trainings else ():
        engine.offer(net, condition)

    @app.get("/", include_in_schema=False)
    def enter(request: Request) -> RedirectResponse:
        return RedirectResponse(f"/{fixed or language_of(request.headers.get('accept-language', ''))}/")

    for name in LANGUAGES:
        app = gr.mount_gradio_app(
            app, build(engine, name, trainings), f"/{name}", theme=_theme(), css_paths=STYLE,
            js=SCRIPT.read_text("utf-8"), footer_links=[], ssr_mode=False, show_error=True,
            max_file_size=engine.limits.picture_bytes,
        )  # fmt: skip
    return app


def _theme() -> gr.themes.Base:
    """Labels are plain words, blocks have thin borders, and all words stand out from what is behind them."""
    theme = gr.themes.Soft(primary_hue="teal", font=FONT, font_mono=["ui-monospace", "monospace"])
    colours = {
        "block_title_background_fill": "none",
        "block_title_text_color": "*body_text_color",
        "block_label_background_fill": "*block_background_fill",
        "block_label_text_color": "*body_text_color",
        "block_label_border_width": "0",
        "block_border_width": "1px",
        "button_primary_background_fill": "*primary_700",
        "button_primary_background_fill_hover": "*primary_800",
        "checkbox_label_background_fill_selected": "*primary_700",
        "checkbox_label_text_color_selected": "white",
    }
    dark = {f"{name}_dark": value for name, value in colours.items()}
    return theme.set(
        **colours, **dark, block_title_text_weight="500", block_label_text_weight="500", block_title_padding="0",
        block_label_shadow="none", color_accent="*primary_700", body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_300", button_secondary_background_fill_hover_dark="*neutral_700",
        input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_300",
    )  # fmt: skip
