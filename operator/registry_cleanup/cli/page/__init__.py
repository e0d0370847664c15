"""The picture of a plan: one HTML page that needs no network, to be sent to the team that owns the images."""

from registry_cleanup.cli.page.page import render_page as render_page
