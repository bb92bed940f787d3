"""``python -m lilliput_client.cli``."""

from lilliput_client.cli.app import main

main()
