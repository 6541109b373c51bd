"""python -m sweep ui: MLflow's web page on this project's runs."""

from __future__ import annotations

import argparse

from core.arguments import add_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    parser.add_argument("--port", type=int, default=5000)
    add_flags(parser, "tracking-uri")


def execute(options: argparse.Namespace) -> int:
    """Become MLflow's page."""
    from sweep.commands.mlflow_page import serve

    return serve(options.port, options.tracking_uri)
