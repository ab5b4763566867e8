"""`tinyllm serve`: models over HTTP, in OpenAI's protocol, with a web page."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllm.cli.options import ConfigOption, SetOption
from tinyllm.cli.sampling_options import DeviceOption, DtypeOption

if TYPE_CHECKING:
    from tinyllm.serving.run import Address


def serve(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Files, folders or names of checkpoints. Without any, the newest one found.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            "-c",
            metavar="FILE|NAME",
            help="The same. Repeatable.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen at; any but this machine's own needs TINYLLM_API_KEY.",
            show_default="127.0.0.1",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", help="Port; 0 takes a free one.", show_default="8000"),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Let pages from there use the server, as in https://example.org. Repeatable.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the address as a line of JSON on standard output."),
    ] = False,
) -> None:
    """Serve models over HTTP to OpenAI's clients, and a web page to talk to them.

    Ctrl-C lets requests finish and ends; a second one ends at once.
    """
    from tinyllm.process import sleep_while_waiting

    sleep_while_waiting()  # beside those that draw runs the thread that talks to clients

    from tinyllm.cli.display import reporter
    from tinyllm.config.base import load_config
    from tinyllm.config.serve import ServeConfig
    from tinyllm.serving.run import run

    named = (*(checkpoints or ()), *(checkpoint or ()))
    flags = {
        "checkpoints": named or None,
        "host": host,
        "port": port,
        "cors_origins": tuple(cors_origin) if cors_origin else None,
        "device": device,
        "dtype": dtype,
    }
    chosen = load_config(ServeConfig, config, sets=sets or (), flags=flags)
    say = reporter()

    def listening(address: "Address") -> None:
        places = address.url
        if address.host in ("0.0.0.0", "::"):
            places += f", for other machines at this one's name and port {address.port}"
        say.note(f"serving {', '.join(address.models)} at {places} (Ctrl-C stops it)")
        if as_json:
            _print_address(address)

    run(chosen, say, listening=listening)


def _print_address(address: "Address") -> None:
    import json
    from dataclasses import asdict

    sys.stdout.write(json.dumps(asdict(address)) + "\n")
    sys.stdout.flush()
