"""`simulate`, `demo`: seeded traffic, and a small world to look at."""

import argparse

from darkroom.events.data_directory import WorkLock
from darkroom.gateway.commands.console import CommandFailed, Progress, answer, notice
from darkroom.gateway.commands.log_commands import opened_log
from darkroom.gateway.commands.work import supervised
from darkroom.gateway.composition import Darkroom, Gateway
from darkroom.gateway.demo_world import fill
from darkroom.gateway.settings import Settings
from darkroom.gateway.simulation import simulate as append_traffic


def simulate(arguments: argparse.Namespace, settings: Settings) -> int:
    """Append seeded traffic and print the last position."""
    progress = Progress("simulating")
    with opened_log(settings, create=True) as log:
        try:
            position = append_traffic(
                log, seed=arguments.seed, users=arguments.users, events=arguments.events, progress=progress
            )
        except ValueError as error:
            raise CommandFailed(str(error)) from None
        finally:
            progress.end()
    answer(str(position))
    return 0


def demo(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001
    """Fill the demo world, the first time; later it does nothing."""
    with Darkroom(settings, create=True) as darkroom:
        lock = WorkLock(darkroom.directory, "darkroom demo")
        gateway = Gateway(darkroom)
        try:
            if fill(gateway, darkroom.log, notice):
                with supervised(darkroom, "inline") as supervisor:
                    supervisor.catch_up()
        finally:
            gateway.close()
            lock.close()
    return 0
